# SPDX-License-Identifier: Apache-2.0
"""The requests to attach a volume: with Cinder's ``connection_info``, or without it, so that the agent asks Cinder.

Cinder has two forms of ``connection_info``: with members in ``data``, and with all members on one level. The agent
reads both into the same type, and writes the one with ``data``.

The agent reads the members of Cinder's drivers, and those that os-brick and Nova add: ``device_path`` once the host is
connected, ``multiattach`` beside ``data``. The agent never writes a password or keyring of ``connection_info``. QEMU
logs in with a secret that libvirt has, and that the request names by UUID (libvirt, formatsecret).
"""

import dataclasses
from typing import ClassVar
from typing import Self

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import names
from aliasagent.devices import qos
from aliasagent.devices import targets
from aliasagent.devices.disk import Disk
from aliasagent.requests import base
from aliasagent.requests import schema as parts
from aliasagent.requests import sources

#: The possible buses of each ``device_type``.
BUSES = {
    'disk': ('virtio', 'scsi', 'sata', 'usb'),
    'lun': ('scsi',),
    'cdrom': ('scsi', 'sata', 'usb'),
}
#: The cache modes that bypass the host's page cache; native I/O needs one of them.
_DIRECT_CACHES = ('none', 'directsync')
#: Cinder's specs are texts; an operator's script may send numbers.
_LIMIT: parts.Schema = {'type': ['integer', 'string', 'null'], 'minimum': 0, 'format': 'number'}
#: QEMU accepts powers of two. Some of Cinder's drivers send texts.
_BLOCK_SIZES = [512 << shift for shift in range(13)]
_BLOCK_SIZE: parts.Schema = {
    'type': ['integer', 'string', 'null'],
    'enum': [None, *_BLOCK_SIZES, *map(str, _BLOCK_SIZES)],
}

_DATA: parts.Schema = {
    'access_mode': {'enum': [None, 'rw', 'ro']},
    'discard': {'type': ['boolean', 'null']},
    'multiattach': {'type': ['boolean', 'null']},
    'logical_block_size': _BLOCK_SIZE,
    'physical_block_size': _BLOCK_SIZE,
    'qos_specs': {'type': ['object', 'null'], 'properties': dict.fromkeys(qos.KEYS, _LIMIT)},
    'encrypted': {'type': ['boolean', 'null']},
    # Cinder's description of a volume's encryption, with the libvirt secret that has the passphrase.
    'encryption': {
        'type': ['object', 'null'],
        'properties': {'provider': {'enum': ['luks']}, 'secret_uuid': base.UUID},
        'required': ['provider', 'secret_uuid'],
    },
}
#: The members that are beside ``data``.
_BESIDE: parts.Schema = {
    'driver_volume_type': parts.string('name'),
    'serial': {'type': ['string', 'null']},
    'multiattach': {'type': ['boolean', 'null']},
    # Not Cinder's, but the agent's: QEMU's options for the disk.
    'disk': parts.nullable(
        parts.whole(
            {},
            {
                'cache': {'enum': ['none', 'writeback', 'writethrough', 'directsync', 'unsafe']},
                'io': {'enum': ['native', 'threads', 'io_uring']},
                'iothread': parts.integer(1, 2**31 - 1),
                # The maximum of QEMU's virtio devices.
                'queues': parts.integer(1, 1024),
                'boot_order': parts.integer(1, 2**31 - 1),
            },
        )
    ),
}
#: As ``initialize_connection`` returns it, and Nova keeps it.
_NESTED: parts.Schema = {
    'properties': {
        'data': {'type': 'object', 'properties': _DATA},
        'mount_point_base': parts.nullable(parts.string('absolute-path')),
    },
    'allOf': sources.CONDITIONS,
}
#: As the attachments API answers it: all members on one level.
_FLAT: parts.Schema = {'properties': _DATA, 'allOf': sources.FLAT_CONDITIONS}

CONNECTION_INFO: parts.Schema = {
    'type': 'object',
    'properties': _BESIDE,
    'required': ['driver_volume_type'],
    'if': {'required': ['data']},
    'then': _NESTED,
    'else': _FLAT,
}


def _with_data(info: base.Json) -> base.Json:
    """Return a ``connection_info`` in the form with ``data``, whichever form it has."""
    if 'data' in info:
        return info
    return {**{name: info[name] for name in _BESIDE if name in info}, 'data': info}


@dataclasses.dataclass(frozen=True)
class Encryption:
    """The encryption of a volume: the format, and the libvirt secret that has the passphrase."""

    provider: str
    secret_uuid: str


@dataclasses.dataclass(frozen=True)
class DiskOptions:
    """QEMU's options for the disk."""

    cache: str | None = None
    io: str | None = None
    iothread: int | None = None
    queues: int | None = None
    boot_order: int | None = None


@dataclasses.dataclass(frozen=True)
class ConnectionInfo:
    """The members of a ``connection_info`` that the agent uses. Others can have secrets, under any name."""

    driver_volume_type: str
    source: sources.Source
    access_mode: str | None = None
    discard: bool | None = None
    multiattach: bool = False
    logical_block_size: int | None = None
    physical_block_size: int | None = None
    qos_specs: dict[str, int] | None = dataclasses.field(default=None, hash=False)
    encrypted: bool = False
    encryption: Encryption | None = None
    disk: DiskOptions = DiskOptions()

    @classmethod
    def from_dict(cls, info: base.Json) -> Self:
        """Read a ``connection_info`` that is valid by :data:`CONNECTION_INFO`."""
        info = _with_data(info)
        data = info['data']
        specs, encryption = data.get('qos_specs'), data.get('encryption')
        return cls(
            driver_volume_type=info['driver_volume_type'],
            source=sources.of(info),
            access_mode=data.get('access_mode'),
            discard=data.get('discard'),
            multiattach=bool(info.get('multiattach') or data.get('multiattach')),
            logical_block_size=_whole_number(data.get('logical_block_size')),
            physical_block_size=_whole_number(data.get('physical_block_size')),
            qos_specs=None if specs is None else _limits(specs),
            encrypted=bool(data.get('encrypted')),
            encryption=None if encryption is None else base.of_members(Encryption, encryption),
            disk=base.of_members(DiskOptions, info.get('disk') or {}),
        )

    def to_dict(self) -> base.Json:
        """Return the ``connection_info`` in the form with ``data``."""
        plain = dataclasses.replace(self, encryption=None, disk=DiskOptions(), multiattach=False)
        data = base.members(plain)
        del data['driver_volume_type'], data['source']
        if self.encryption is not None:
            data['encryption'] = base.members(self.encryption)
        info: base.Json = {'driver_volume_type': self.driver_volume_type, 'data': {**data, **self.source.to_data()}}
        info |= {'multiattach': True} if self.multiattach else {}
        info |= {'disk': options} if (options := base.members(self.disk)) else {}
        return info | self.source.beside_data()


def _whole_number(value: int | str | None) -> int | None:
    return None if value is None else int(value)


def _limits(specs: base.Json) -> dict[str, int]:
    return {key: int(value) for key in qos.KEYS if (value := specs.get(key)) is not None}


@dataclasses.dataclass(frozen=True)
class AttachVolume(base.Attach):
    """Plug a volume into a guest."""

    action: ClassVar = Action.ATTACH_VOLUME
    schema: ClassVar = parts.whole(
        {**base.INSTANCE, 'volume_id': base.DEVICE_ID},
        {
            'connection_info': CONNECTION_INFO,
            'device_name': parts.nullable(parts.string('device-name')),
            'disk_bus': {'enum': [None, 'virtio', 'scsi', 'sata', 'usb']},
            'device_type': {'enum': ['disk', 'lun', 'cdrom']},
            **base.FORCE,
        },
    )

    volume_id: str
    connection_info: ConnectionInfo
    #: A name such as ``/dev/vdb``; the agent chooses a free one if None.
    device_name: str | None = None
    #: The bus; derived from ``device_name`` if None.
    disk_bus: str | None = None
    device_type: str = 'disk'
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        """Read a request from arguments that are valid by its schema.

        :raises InvalidInput: the ``connection_info`` is another volume's.
        """
        volume_id = base.normal(arguments['volume_id'])
        _check_volume(volume_id, arguments['connection_info'])
        return base.of_members(
            cls,
            {
                **arguments,
                'volume_id': volume_id,
                'connection_info': ConnectionInfo.from_dict(arguments['connection_info']),
            },
        )

    def to_dict(self) -> base.Json:
        return base.members(self) | {'connection_info': self.connection_info.to_dict()}

    @property
    def device_id(self) -> str:
        return self.volume_id

    @property
    def target(self) -> str | None:
        """Return the requested name without ``/dev/``; None if the request names none."""
        return None if self.device_name is None else targets.split(self.device_name)

    @property
    def bus(self) -> str:
        """Return the requested bus, else the bus of the requested name, else the default for the type."""
        return self.disk_bus or targets.default_bus(self.target, self.device_type)

    def needs(self) -> list[rules.Need]:
        return self.connection_info.source.needs()

    def completed(self, defaults: base.Defaults) -> Self:
        source = self.connection_info.source.completed(defaults)
        return dataclasses.replace(self, connection_info=dataclasses.replace(self.connection_info, source=source))

    def decided(self) -> dict[str, str]:
        """Return the disk's properties that the request decides, each with its field."""
        # Format, encryption, write access and sharing are decided even if the request does not have these fields: the
        # disk is then raw, unencrypted, writable and not shared.
        info = self.connection_info
        fields = {
            'device': 'device_type',
            'driver_type': 'connection_info.data.format',
            'encryption': 'connection_info.data.encryption',
            'readonly': 'connection_info.data.access_mode',
            'shareable': 'connection_info.multiattach',
            'serial': 'serial',
        }
        if self.disk_bus is not None:
            fields['bus'] = 'disk_bus'
        if self.device_name is not None:
            fields['target_dev'] = 'device_name'
        for name in ('discard', 'logical_block_size', 'physical_block_size'):
            if getattr(info, name) is not None:
                fields[name] = f'connection_info.data.{name}'
        if info.qos_specs is not None:
            fields |= {name: f'connection_info.data.qos_specs.{name}' for name in qos.KEYS}
        return fields | {name: f'connection_info.disk.{name}' for name in base.members(info.disk)}

    def disk(self, *, target: str, bus: str) -> Disk:
        """Build the volume's disk, with its alias.

        :param target: the disk's name in the guest.
        :raises InvalidInput: parts of the request contradict each other.
        """
        if bus not in BUSES[self.device_type]:
            buses = ' or '.join(BUSES[self.device_type])
            raise exception.InvalidInput(field='disk_bus', reason=f'a {self.device_type} is on bus {buses}, not {bus}')
        info = self.connection_info
        disk = Disk.new()
        disk.device = self.device_type
        disk.driver_name = 'qemu'
        disk.driver_type = 'raw'
        info.source.write(disk)
        disk.target_dev = target
        disk.bus = bus
        disk.discard = 'unmap' if info.discard else None
        disk.readonly = info.access_mode == 'ro' or self.device_type == 'cdrom'
        for limit, value in qos.limits(info.qos_specs or {}).items():
            setattr(disk, limit, value)
        _set_encryption(disk, info)
        _set_driver(disk, info.disk)
        _set_shareable(disk, info)
        if self.device_type == 'lun':
            _check_lun(disk)
        else:
            # A LUN reports its own serial and block sizes, and libvirt refuses these elements for it.
            disk.serial = self.volume_id
            disk.logical_block_size = info.logical_block_size
            disk.physical_block_size = info.physical_block_size
        disk.alias = alias.make(self.volume_id)
        return disk


@dataclasses.dataclass(frozen=True)
class AttachCinderVolume(base.AttachById):
    """Plug a volume into a guest, for which the agent makes the attachment in Cinder.

    This is the request to attach a volume without ``connection_info``, since version 1.5 of the contract.
    """

    action: ClassVar = Action.ATTACH_VOLUME
    schema: ClassVar = AttachVolume.schema
    connects: ClassVar = 'volume'

    volume_id: str
    device_name: str | None = None
    disk_bus: str | None = None
    device_type: str = 'disk'
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return base.of_members(cls, {**arguments, 'volume_id': base.normal(arguments['volume_id'])})

    def to_dict(self) -> base.Json:
        return base.members(self)

    @property
    def device_id(self) -> str:
        return self.volume_id

    def completed(self, defaults: base.Defaults) -> Self:
        if defaults.without_cinder is not None:
            raise exception.InvalidInput(field='connection_info', reason=f'is missing, and {defaults.without_cinder}')
        return self

    def with_connection(self, connection_info: base.Json) -> base.Json:
        """Return the arguments of the request to attach the volume with this ``connection_info``."""
        return self.to_dict() | {'connection_info': connection_info}


def _check_volume(volume_id: str, info: base.Json) -> None:
    """Refuse a ``connection_info`` that has another volume's UUID."""
    # Most of Cinder's drivers write ``volume_id``, and Nova writes the id as ``serial``. The names in a source prove
    # nothing: Cinder keeps the id of a volume that it migrates, and not the names.
    for field, members in (('connection_info', info), ('connection_info.data', info.get('data', {}))):
        for name in ('volume_id', 'serial'):
            other = members.get(name)
            if isinstance(other, str) and names.is_uuid(other) and base.normal(other) != volume_id:
                raise exception.InvalidInput(
                    field=f'{field}.{name}', reason=f'is of volume {other}, not of the requested volume {volume_id}'
                )


def _set_encryption(disk: Disk, info: ConnectionInfo) -> None:
    if info.encryption is None:
        if info.encrypted:
            # The guest would see the encrypted data as an empty disk, and overwrite them.
            raise exception.InvalidInput(
                field='connection_info.data.encryption',
                reason='is missing, and the volume is encrypted: give the provider luks, and the secret_uuid of a '
                'libvirt secret that has the passphrase',
            )
        return
    if disk.device == 'lun':
        raise exception.InvalidInput(field='device_type', reason='an encrypted volume cannot be a LUN')
    disk.encryption_format = info.encryption.provider
    # The type of the secret, not the secret.
    disk.encryption_secret_type = 'passphrase'  # nosec B105
    disk.encryption_secret_uuid = info.encryption.secret_uuid.lower()


def _set_driver(disk: Disk, options: DiskOptions) -> None:
    """Set QEMU's options for the disk, with Nova's defaults."""
    disk.cache = options.cache or 'none'
    disk.io = options.io
    if disk.io is not None and disk.type == 'network':
        raise exception.InvalidInput(field='connection_info.disk.io', reason='applies only to files and block devices')
    if disk.io == 'native' and disk.cache not in _DIRECT_CACHES:
        raise exception.InvalidInput(
            field='connection_info.disk.io', reason=f'native needs cache {" or ".join(_DIRECT_CACHES)}'
        )
    if disk.io is None and disk.type == 'block' and disk.cache in _DIRECT_CACHES:
        disk.io = 'native'
    disk.boot_order = options.boot_order
    disk.iothread = options.iothread
    if disk.iothread is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(field='connection_info.disk.iothread', reason=f'needs bus virtio, not {disk.bus}')
    disk.queues = options.queues
    if disk.queues is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(field='connection_info.disk.queues', reason=f'needs bus virtio, not {disk.bus}')


def _set_shareable(disk: Disk, info: ConnectionInfo) -> None:
    if not info.multiattach:
        return
    if disk.driver_type != 'raw' or disk.cache != 'none':
        raise exception.InvalidInput(
            field='connection_info.multiattach', reason='a shared disk must be raw and not cached'
        )
    disk.shareable = True


def _check_lun(disk: Disk) -> None:
    if disk.type != 'block' and disk.source_protocol != 'iscsi':
        raise exception.InvalidInput(
            field='device_type', reason='only a block device or an iSCSI target can be passed through as a LUN'
        )
