# SPDX-License-Identifier: Apache-2.0
"""Attach a volume: Cinder's ``connection_info``, and the disk that it stands for.

What is read is what Cinder's drivers send and what os-brick and Nova add: ``data.device_path`` once the host is
connected, ``multiattach`` beside ``data``. A password or keyring in it is never written anywhere; what QEMU must log in
with is named by the UUID of a secret that libvirt holds (libvirt, formatsecret).
"""

import dataclasses
from typing import ClassVar
from typing import Self

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import qos
from aliasagent.devices import targets
from aliasagent.devices.disk import Disk
from aliasagent.requests import base
from aliasagent.requests import schema as parts
from aliasagent.requests import sources

#: The buses that each kind of device can be on.
BUSES = {
    'disk': ('virtio', 'scsi', 'sata', 'usb'),
    'lun': ('scsi',),
    'cdrom': ('scsi', 'sata', 'usb'),
}
#: With these QEMU goes past the host's page cache, without which there is no native I/O.
_DIRECT_CACHES = ('none', 'directsync')
#: Cinder's specs are texts; an administrator's script may well send numbers.
_LIMIT: parts.Schema = {'type': ['integer', 'string', 'null'], 'minimum': 0, 'format': 'number'}
#: What QEMU takes: a power of two.
_BLOCK_SIZE: parts.Schema = {'enum': [None, *(512 << shift for shift in range(13))]}

CONNECTION_INFO: parts.Schema = {
    'type': 'object',
    'properties': {
        'driver_volume_type': parts.string('name'),
        'data': {
            'type': 'object',
            'properties': {
                'access_mode': {'enum': [None, 'rw', 'ro']},
                'discard': {'type': ['boolean', 'null']},
                'multiattach': {'type': ['boolean', 'null']},
                'logical_block_size': _BLOCK_SIZE,
                'physical_block_size': _BLOCK_SIZE,
                'qos_specs': {'type': ['object', 'null'], 'properties': dict.fromkeys(qos.KEYS, _LIMIT)},
                'encrypted': {'type': ['boolean', 'null']},
                # Of what Cinder tells about a volume's encryption, and the libvirt secret that holds its passphrase.
                'encryption': {
                    'type': ['object', 'null'],
                    'properties': {'provider': {'enum': ['luks']}, 'secret_uuid': base.UUID},
                    'required': ['provider', 'secret_uuid'],
                },
            },
        },
        'serial': {'type': ['string', 'null']},
        'multiattach': {'type': ['boolean', 'null']},
        'mount_point_base': parts.nullable(parts.string('absolute-path')),
        # Ours: how QEMU is to handle the disk.
        'disk': parts.nullable(
            parts.whole(
                {},
                {
                    'cache': {'enum': ['none', 'writeback', 'writethrough', 'directsync', 'unsafe']},
                    'io': {'enum': ['native', 'threads', 'io_uring']},
                    'iothread': parts.integer(1, 2**31 - 1),
                    # The most that QEMU's virtio devices have.
                    'queues': parts.integer(1, 1024),
                    'boot_order': parts.integer(1, 2**31 - 1),
                },
            )
        ),
    },
    'required': ['driver_volume_type', 'data'],
    'allOf': sources.CONDITIONS,
}


@dataclasses.dataclass(frozen=True)
class Encryption:
    """What decrypts a volume: the format, and the libvirt secret that holds the passphrase."""

    provider: str
    secret_uuid: str


@dataclasses.dataclass(frozen=True)
class DiskOptions:
    """How QEMU is to handle the disk."""

    cache: str | None = None
    io: str | None = None
    iothread: int | None = None
    queues: int | None = None
    boot_order: int | None = None


@dataclasses.dataclass(frozen=True)
class ConnectionInfo:
    """What an agent uses of a ``connection_info``. Cinder's drivers send more, and call a secret what they like."""

    driver_volume_type: str
    source: sources.Source
    access_mode: str | None = None
    discard: bool | None = None
    multiattach: bool = False
    logical_block_size: int | None = None
    physical_block_size: int | None = None
    qos_specs: dict[str, int] | None = None
    encrypted: bool = False
    encryption: Encryption | None = None
    disk: DiskOptions = DiskOptions()

    @classmethod
    def from_dict(cls, info: base.Json) -> Self:
        """Read a ``connection_info`` that is valid by :data:`CONNECTION_INFO`."""
        data = info['data']
        specs, encryption = data.get('qos_specs'), data.get('encryption')
        return cls(
            driver_volume_type=info['driver_volume_type'],
            source=sources.of(info),
            access_mode=data.get('access_mode'),
            discard=data.get('discard'),
            multiattach=bool(info.get('multiattach') or data.get('multiattach')),
            logical_block_size=data.get('logical_block_size'),
            physical_block_size=data.get('physical_block_size'),
            qos_specs=None if specs is None else _limits(specs),
            encrypted=bool(data.get('encrypted')),
            encryption=None if encryption is None else base.known(Encryption, encryption),
            disk=base.known(DiskOptions, info.get('disk') or {}),
        )

    def to_dict(self) -> base.Json:
        """Return it as Cinder has it."""
        plain = dataclasses.replace(self, encryption=None, disk=DiskOptions(), multiattach=False)
        data = base.members(plain)
        del data['driver_volume_type'], data['source']
        if self.encryption is not None:
            data['encryption'] = base.members(self.encryption)
        info: base.Json = {'driver_volume_type': self.driver_volume_type, 'data': {**data, **self.source.to_data()}}
        info |= {'multiattach': True} if self.multiattach else {}
        info |= {'disk': options} if (options := base.members(self.disk)) else {}
        return info | self.source.beside_data()


def _limits(specs: base.Json) -> dict[str, int]:
    return {key: int(value) for key in qos.KEYS if (value := specs.get(key)) is not None}


@dataclasses.dataclass(frozen=True)
class AttachVolume(base.Attach):
    """Plug a volume into a guest."""

    action: ClassVar = Action.ATTACH_VOLUME
    schema: ClassVar = parts.whole(
        {**base.INSTANCE, 'volume_id': base.DEVICE_ID, 'connection_info': CONNECTION_INFO},
        {
            'device_name': parts.nullable(parts.string('device-name')),
            'disk_bus': {'enum': [None, 'virtio', 'scsi', 'sata', 'usb']},
            'device_type': {'enum': ['disk', 'lun', 'cdrom']},
        },
    )

    volume_id: str
    connection_info: ConnectionInfo
    #: ``/dev/vdb`` or the like; chosen from what is free if None.
    device_name: str | None = None
    #: By ``device_name`` if None.
    disk_bus: str | None = None
    device_type: str = 'disk'

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        return base.known(
            cls,
            {
                **arguments,
                'volume_id': base.normal(arguments['volume_id']),
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
        """The name that was asked for, as libvirt has it."""
        return None if self.device_name is None else targets.split(self.device_name)

    @property
    def bus(self) -> str:
        """The bus that was asked for, by its name or by that of the disk; else the one for this type."""
        return self.disk_bus or targets.default_bus(self.target, self.device_type)

    def needs(self) -> list[rules.Need]:
        return self.connection_info.source.needs()

    def decided(self) -> dict[str, str]:
        """List the disk's properties that the request decides, each with its field.

        What the data are and what the guest may do to them is decided even if nothing is said: it is a raw, unencrypted
        disk then that the guest may write, and has alone.
        """
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

        :param target: what to call it in the guest.
        :raises InvalidInput: the parts of the request do not go together.
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
            # A LUN is the device itself, and answers for its serial and sizes; libvirt refuses them here.
            disk.serial = self.volume_id
            disk.logical_block_size = info.logical_block_size
            disk.physical_block_size = info.physical_block_size
        disk.alias = alias.make(self.volume_id)
        return disk


def _set_encryption(disk: Disk, info: ConnectionInfo) -> None:
    if info.encryption is None:
        if info.encrypted:
            # The guest would see what is encrypted as an empty disk, and write over it.
            raise exception.InvalidInput(field='connection_info.data.encryption', reason='the volume is encrypted')
        return
    if disk.device == 'lun':
        raise exception.InvalidInput(field='device_type', reason='an encrypted volume cannot be a LUN')
    disk.encryption_format = info.encryption.provider
    # The secret's kind, not the secret.
    disk.encryption_secret_type = 'passphrase'  # nosec B105
    disk.encryption_secret_uuid = info.encryption.secret_uuid.lower()


def _set_driver(disk: Disk, options: DiskOptions) -> None:
    """Say how QEMU handles the disk; by default as in Nova."""
    disk.cache = options.cache or 'none'
    disk.io = options.io
    if disk.io is not None and disk.type == 'network':
        raise exception.InvalidInput(field='connection_info.disk.io', reason='is for files and block devices')
    if disk.io == 'native' and disk.cache not in _DIRECT_CACHES:
        raise exception.InvalidInput(
            field='connection_info.disk.io', reason=f'native needs cache {" or ".join(_DIRECT_CACHES)}'
        )
    if disk.io is None and disk.type == 'block' and disk.cache in _DIRECT_CACHES:
        disk.io = 'native'
    disk.boot_order = options.boot_order
    disk.iothread = options.iothread
    if disk.iothread is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(
            field='connection_info.disk.iothread', reason=f'a disk on bus {disk.bus} has none, on virtio it has'
        )
    disk.queues = options.queues
    if disk.queues is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(
            field='connection_info.disk.queues', reason=f'a disk on bus {disk.bus} has one, on virtio it has several'
        )


def _set_shareable(disk: Disk, info: ConnectionInfo) -> None:
    if not info.multiattach:
        return
    if disk.driver_type != 'raw' or disk.cache != 'none':
        raise exception.InvalidInput(
            field='connection_info.multiattach', reason='a disk is shared only if it is raw and not cached'
        )
    disk.shareable = True


def _check_lun(disk: Disk) -> None:
    if disk.type != 'block' and disk.source_protocol != 'iscsi':
        raise exception.InvalidInput(
            field='device_type', reason='only a block device or an iSCSI target can be passed through as a LUN'
        )
