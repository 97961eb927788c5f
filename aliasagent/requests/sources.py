# SPDX-License-Identifier: Apache-2.0
"""The sources of volumes: a class for each form of Cinder's ``connection_info``.

A ``driver_volume_type`` that QEMU connects to by itself has a class here. For any other type, even one that is not
listed here, the source is the block device that os-brick made for the volume.
"""

import abc
import dataclasses
import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import ClassVar
from typing import Self

from aliasagent import exception
from aliasagent.allowed import rules
from aliasagent.devices.disk import Disk
from aliasagent.devices.disk import Host
from aliasagent.requests import base
from aliasagent.requests import schema as parts
from aliasagent.requests.base import Defaults

_PATH = parts.string('absolute-path')
_TCP_PORT: parts.Schema = {'type': ['integer', 'string'], 'minimum': 1, 'maximum': 65535, 'format': 'tcp-port'}
_FILE_FORMAT: parts.Schema = {'enum': [None, 'raw', 'qcow2']}
_CONNECT = "connect the volume to the agent's host first, as os-brick does, and give the device_path that results"
_MOUNT = "mount the share on the agent's host first, as os-brick does, and give the path of the volume's file there"
_DEVICE: parts.Schema = {
    'properties': {'device_path': parts.hinted(_PATH, _CONNECT)},
    'required': ['device_path'],
}
_HAS_DEVICE: parts.Schema = parts.given('device_path')
_SECRET_HINT = 'give the UUID of a libvirt secret that has the password; or c' + _CONNECT[1:]
_DATA = 'connection_info.data'


class Source(abc.ABC):
    """The location of a volume's data."""

    #: The schema of ``connection_info['data']``.
    schema: ClassVar[parts.Schema]

    @classmethod
    @abc.abstractmethod
    def read(cls, info: base.Json) -> Self:
        """Read the source from a valid ``connection_info``."""

    @abc.abstractmethod
    def to_data(self) -> base.Json:
        """Return the source's members of ``connection_info['data']``."""

    def beside_data(self) -> base.Json:
        """Return the source's members beside ``data``."""
        return {}

    def completed(self, _defaults: Defaults) -> Self:
        """Return the source with what it leaves to the agent (:meth:`aliasagent.requests.base.Request.completed`)."""
        return self

    @abc.abstractmethod
    def needs(self) -> list[rules.Need]:
        """List the paths, sockets and hosts that the source names."""

    @abc.abstractmethod
    def write(self, disk: Disk) -> None:
        """Set the source of a disk.

        :raises InvalidInput: parts of the source contradict each other.
        """

    @property
    def local_path(self) -> str | None:
        """Return the path on this host that must exist before the attach; None for a network source."""
        return None


@dataclasses.dataclass(frozen=True)
class FileSource(Source):
    """A file on this host."""

    schema: ClassVar = {
        'properties': {
            'device_path': parts.hinted(_PATH, "give the path of the volume's file"),
            'format': _FILE_FORMAT,
        },
        'required': ['device_path'],
    }

    device_path: str
    format: str | None = None

    @classmethod
    def read(cls, info: base.Json) -> Self:
        return base.of_members(cls, info['data'])

    def to_data(self) -> base.Json:
        return base.members(self)

    def needs(self) -> list[rules.Need]:
        is_image = self.format not in (None, 'raw')
        return [rules.Need(f'{_DATA}.device_path', rules.PATHS, self.device_path, is_image)]

    def write(self, disk: Disk) -> None:
        disk.type = 'file'
        disk.source_file = self.device_path
        disk.driver_type = self.format or 'raw'

    @property
    def local_path(self) -> str:
        return self.device_path


@dataclasses.dataclass(frozen=True)
class NfsSource(Source):
    """A file on an NFS share that os-brick has mounted, if the request has no ``device_path``."""

    schema: ClassVar = {
        'properties': {'format': _FILE_FORMAT},
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {'export': parts.string('name'), 'name': parts.string('file-name')},
            'required': ['export', 'name'],
        },
    }

    export: str
    name: str
    mount_point_base: str
    format: str | None = None

    @classmethod
    def read(cls, info: base.Json) -> Self:
        return base.of_members(cls, {**info['data'], 'mount_point_base': info['mount_point_base']})

    def to_data(self) -> base.Json:
        return {name: value for name, value in base.members(self).items() if name != 'mount_point_base'}

    def beside_data(self) -> base.Json:
        return {'mount_point_base': self.mount_point_base}

    def needs(self) -> list[rules.Need]:
        is_image = self.format not in (None, 'raw')
        return [rules.Need('connection_info.mount_point_base', rules.PATHS, self.local_path, is_image)]

    def write(self, disk: Disk) -> None:
        disk.type = 'file'
        disk.source_file = self.local_path
        disk.driver_type = self.format or 'raw'

    @property
    def local_path(self) -> str:
        """Return the path of the file: os-brick mounts a share below the base, in a directory named by an MD5."""
        share = hashlib.md5(self.export.encode(), usedforsecurity=False).hexdigest()
        return '/'.join((self.mount_point_base.rstrip('/'), share, self.name))


@dataclasses.dataclass(frozen=True)
class BlockSource(Source):
    """A block device of this host, which os-brick has made for the volume."""

    schema: ClassVar = _DEVICE

    device_path: str

    @classmethod
    def read(cls, info: base.Json) -> Self:
        return base.of_members(cls, info['data'])

    def to_data(self) -> base.Json:
        return base.members(self)

    def needs(self) -> list[rules.Need]:
        return [rules.Need(f'{_DATA}.device_path', rules.PATHS, self.device_path)]

    def write(self, disk: Disk) -> None:
        disk.type = 'block'
        disk.source_block = self.device_path

    @property
    def local_path(self) -> str:
        return self.device_path


@dataclasses.dataclass(frozen=True)
class IscsiSource(Source):
    """A LUN of an iSCSI target that QEMU logs in to."""

    schema: ClassVar = {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {
                'target_portal': parts.string('portal'),
                'target_iqn': parts.string('iscsi-name'),
                'target_lun': {'type': ['integer', 'string'], 'minimum': 0, 'maximum': 16383, 'format': 'lun'},
                'auth_method': {'enum': [None, '', 'CHAP']},
                'auth_username': parts.nullable(parts.string('name')),
                'secret_uuid': parts.nullable(base.UUID),
            },
            'required': ['target_portal', 'target_iqn', 'target_lun'],
            'allOf': parts.by(
                'auth_method',
                {
                    # The agent ignores the password: QEMU gets it from libvirt, as the secret with this UUID.
                    'CHAP': {
                        'properties': {
                            'auth_username': {'type': 'string'},
                            'secret_uuid': parts.hinted({'type': 'string'}, _SECRET_HINT),
                        },
                        'required': ['auth_username', 'secret_uuid'],
                    }
                },
            ),
        },
    }

    target_portal: str
    target_iqn: str
    target_lun: int
    auth_method: str | None = None
    auth_username: str | None = None
    secret_uuid: str | None = None

    @classmethod
    def read(cls, info: base.Json) -> Self:
        data = info['data']
        return base.of_members(
            cls, {**data, 'target_lun': int(data['target_lun']), 'auth_method': data.get('auth_method') or None}
        )

    def to_data(self) -> base.Json:
        return base.members(self)

    def needs(self) -> list[rules.Need]:
        host = self.target_portal.rpartition(':')[0].strip('[]')
        return [rules.Need(f'{_DATA}.target_portal', rules.STORAGE_HOSTS, host)]

    def write(self, disk: Disk) -> None:
        disk.type = 'network'
        disk.source_protocol = 'iscsi'
        disk.source_name = f'{self.target_iqn}/{self.target_lun}'
        name, _, port = self.target_portal.rpartition(':')
        disk.add_host(Host(name.strip('[]'), port))
        if self.auth_method is not None:
            _set_auth(disk, 'iscsi', self.auth_username, self.secret_uuid)


@dataclasses.dataclass(frozen=True)
class RbdSource(Source):
    """A Ceph RBD image."""

    schema: ClassVar = {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {
                'name': parts.string('name'),
                'hosts': {'type': ['array', 'null'], 'items': parts.string('host'), 'maxItems': 64},
                'ports': {'type': ['array', 'null'], 'items': _TCP_PORT, 'maxItems': 64},
                'auth_enabled': {'type': ['boolean', 'null']},
                'auth_username': parts.nullable(parts.string('name')),
                'secret_type': {'enum': [None, 'ceph']},
                'secret_uuid': parts.nullable(base.UUID),
            },
            'required': ['name'],
        },
    }

    name: str
    hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    auth_enabled: bool = False
    auth_username: str | None = None
    secret_uuid: str | None = None

    @classmethod
    def read(cls, info: base.Json) -> Self:
        data = info['data']
        hosts, ports = data.get('hosts') or (), data.get('ports') or ()
        return base.of_members(cls, {**data, 'hosts': tuple(hosts), 'ports': tuple(map(str, ports))})

    def to_data(self) -> base.Json:
        lists = {name: list(value) for name in ('hosts', 'ports') if (value := getattr(self, name))}
        return base.members(self) | lists

    def completed(self, defaults: Defaults) -> Self:
        if not self.auth_enabled:
            return self
        username = self.auth_username or defaults.ceph_user
        secret_uuid = self.secret_uuid or defaults.ceph_secret_uuid
        for field, value, option in (
            ('auth_username', username, 'user'),
            ('secret_uuid', secret_uuid, 'secret_uuid'),
        ):
            if not value:
                raise exception.InvalidInput(
                    field=f'{_DATA}.{field}',
                    reason=f"is missing, and the agent's option [ceph] {option} is not set: set [ceph] user and "
                    'keyring; or set this option, after the key of the Ceph user is defined as a libvirt secret on the '
                    'host; or give the field',
                )
        if not self.secret_uuid and defaults.ceph_key_user not in (None, username):
            raise exception.InvalidInput(
                field=f'{_DATA}.auth_username',
                reason=f"is {username}, and the agent's option [ceph] keyring gives QEMU the key of the Ceph user "
                f'{defaults.ceph_key_user}: set [ceph] user and keyring to this user, or give the secret_uuid of a '
                'libvirt secret that has the key',
            )
        return dataclasses.replace(self, auth_username=username, secret_uuid=secret_uuid)

    def needs(self) -> list[rules.Need]:
        return [
            rules.Need(f'{_DATA}.hosts.{index}', rules.STORAGE_HOSTS, name.strip('[]'))
            for index, name in enumerate(self.hosts)
        ]

    def write(self, disk: Disk) -> None:
        if self.ports and len(self.ports) != len(self.hosts):
            raise exception.InvalidInput(
                field=f'{_DATA}.ports', reason=f'there are {len(self.ports)} ports for {len(self.hosts)} hosts'
            )
        disk.type = 'network'
        disk.source_protocol = 'rbd'
        disk.source_name = self.name
        for index, name in enumerate(self.hosts):
            disk.add_host(Host(name.strip('[]'), self.ports[index] if self.ports else None))
        if self.auth_enabled:
            _set_auth(disk, 'ceph', self.auth_username, self.secret_uuid)


@dataclasses.dataclass(frozen=True)
class NbdSource(Source):
    """An export of an NBD server, by host or by a socket of this host."""

    schema: ClassVar = {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {'export': parts.nullable(parts.string('name'))},
            'if': {'required': ['socket']},
            'then': {'properties': {'socket': _PATH}},
            'else': {
                'properties': {'host': parts.string('host'), 'port': parts.nullable(_TCP_PORT)},
                'required': ['host'],
            },
        },
    }

    export: str | None = None
    socket: str | None = None
    host: str | None = None
    port: str | None = None

    @classmethod
    def read(cls, info: base.Json) -> Self:
        data = info['data']
        if 'socket' in data:
            return cls(data.get('export'), socket=data['socket'])
        port = data.get('port')
        return cls(data.get('export'), host=data['host'], port=None if port is None else str(port))

    def to_data(self) -> base.Json:
        return base.members(self)

    def needs(self) -> list[rules.Need]:
        if self.socket is not None:
            return [rules.Need(f'{_DATA}.socket', rules.SOCKETS, self.socket)]
        return [rules.Need(f'{_DATA}.host', rules.STORAGE_HOSTS, self._host)]

    def write(self, disk: Disk) -> None:
        disk.type = 'network'
        disk.source_protocol = 'nbd'
        disk.source_name = self.export
        if self.socket is not None:
            disk.add_host(Host(transport='unix', socket=self.socket))
        else:
            disk.add_host(Host(self._host, self.port))

    @property
    def _host(self) -> str:
        assert self.host is not None
        return self.host.strip('[]')


#: The types whose ``device_path`` is a file of a file system that must be mounted.
_SHARES = ('nfs', 'gpfs', 'quobyte', 'smbfs', 'vzstorage')
_FILES = ('file', *_SHARES)
_SHARE: parts.Schema = {
    **FileSource.schema,
    'properties': {**FileSource.schema['properties'], 'device_path': parts.hinted(_PATH, _MOUNT)},
}
#: The types that do not need a ``device_path``.
_REMOTE: Mapping[str, type[Source]] = {'nfs': NfsSource, 'iscsi': IscsiSource, 'rbd': RbdSource, 'nbd': NbdSource}

#: The schema of ``connection_info['data']``, by ``driver_volume_type``.
SCHEMAS: dict[str, parts.Schema] = {
    'file': FileSource.schema,
    **dict.fromkeys(_SHARES, _SHARE),
    **dict.fromkeys(('local', 'fibre_channel'), BlockSource.schema),
    **{kind: source.schema for kind, source in _REMOTE.items()},
}


def _by_kind(schemas: Mapping[str, parts.Schema], place: Callable[[parts.Schema], parts.Schema]) -> list[parts.Schema]:
    """Return the conditions by which each type has its own members, and any other type a block device.

    :param place: puts the schema of these members where a ``connection_info`` has them.
    """
    return [
        *parts.by('driver_volume_type', {kind: place(schema) for kind, schema in schemas.items()}),
        {
            'if': {
                'properties': {'driver_volume_type': {'not': {'enum': list(schemas)}}},
                'required': ['driver_volume_type'],
            },
            'then': place(BlockSource.schema),
        },
    ]


#: The conditions of a ``connection_info`` with ``data``.
CONDITIONS: list[parts.Schema] = [
    *_by_kind(SCHEMAS, lambda schema: {'properties': {'data': schema}}),
    {
        # Without ``device_path``, the agent derives the path of an NFS file from os-brick's mount point.
        'if': {
            'properties': {'driver_volume_type': {'const': 'nfs'}, 'data': {'not': _HAS_DEVICE}},
            'required': ['driver_volume_type', 'data'],
        },
        'then': {'properties': {'mount_point_base': _PATH}, 'required': ['mount_point_base']},
    },
]
#: The conditions of a ``connection_info`` without ``data``, as Cinder's attachments API answers it. Its
#: ``mount_point_base`` is a directory of Cinder's host, so the agent does not derive a path from it.
FLAT_CONDITIONS: list[parts.Schema] = _by_kind({**SCHEMAS, 'nfs': _SHARE}, lambda schema: schema)


def of(info: base.Json) -> Source:
    """Read the source of a volume from a valid ``connection_info``."""
    kind = info['driver_volume_type']
    if info['data'].get('device_path') is None:
        return _REMOTE[kind].read(info)
    return FileSource.read(info) if kind in _FILES else BlockSource.read(info)


def _set_auth(disk: Disk, secret_type: str, username: str | None, secret_uuid: str | None) -> None:
    disk.auth_username = username
    disk.auth_secret_type = secret_type
    disk.auth_secret_uuid = base.lower(secret_uuid)
