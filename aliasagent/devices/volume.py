# SPDX-License-Identifier: Apache-2.0
"""From Cinder's ``connection_info`` to a disk.

What is read is what Cinder's drivers send and what os-brick and Nova add: ``data.device_path`` once the host is
connected, ``multiattach`` beside ``data``. A password or keyring in it is never written anywhere; what QEMU must log in
with is named by the UUID of a secret that libvirt holds (libvirt, formatsecret).
"""

import hashlib
from collections.abc import Callable
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import qos
from aliasagent.devices.disk import Disk
from aliasagent.devices.disk import Host

Data = dict[str, Any]

#: The buses that each kind of device can be on.
BUSES = {
    'disk': ('virtio', 'scsi', 'sata', 'usb'),
    'lun': ('scsi',),
    'cdrom': ('scsi', 'sata', 'usb'),
}
#: With these QEMU goes past the host's page cache, without which there is no native I/O.
_DIRECT_CACHES = ('none', 'directsync')


def disk_for_volume(volume_id: str, connection_info: Data, *, target: str, bus: str, device_type: str = 'disk') -> Disk:
    """The disk of a volume, with its alias.

    :param connection_info: valid by :data:`aliasagent.compute.schemas.CONNECTION_INFO`.
    :raises InvalidInput: the parts do not go together.
    """
    if bus not in BUSES[device_type]:
        raise exception.InvalidInput(
            field='disk_bus', reason=f'a {device_type} is on bus {" or ".join(BUSES[device_type])}, not {bus}'
        )
    data = connection_info['data']
    disk = Disk.new()
    disk.device = device_type
    disk.driver_name = 'qemu'
    disk.driver_type = 'raw'
    _source(connection_info)(disk, connection_info)
    disk.target_dev = target
    disk.bus = bus
    disk.discard = 'unmap' if data.get('discard') else None
    disk.readonly = data.get('access_mode') == 'ro' or device_type == 'cdrom'
    for limit, value in qos.limits(data.get('qos_specs') or {}).items():
        setattr(disk, limit, value)
    _set_encryption(disk, data)
    _set_driver(disk, connection_info.get('disk') or {})
    _set_shareable(disk, connection_info)
    if device_type == 'lun':
        _check_lun(disk)
    else:
        # A LUN is the device itself, and answers for its serial and sizes; libvirt refuses them here.
        disk.serial = volume_id
        disk.logical_block_size = data.get('logical_block_size')
        disk.physical_block_size = data.get('physical_block_size')
    disk.alias = alias.make(volume_id)
    return disk


def local_path(connection_info: Data) -> str | None:
    """The path on this host that has to be there before the disk can be attached; None if the source is elsewhere."""
    is_socket = connection_info['driver_volume_type'] == 'nbd' and 'device_path' not in connection_info['data']
    return None if is_socket else next(iter(host_paths(connection_info).values()), None)


def host_paths(connection_info: Data) -> dict[str, str]:
    """The paths on this host that a volume is behind, by the field that names them."""
    kind, data = connection_info['driver_volume_type'], connection_info['data']
    if kind == 'nfs' and 'device_path' not in data:
        return {'connection_info.mount_point_base': _nfs_path(connection_info)}
    name = 'socket' if kind == 'nbd' and 'device_path' not in data else 'device_path'
    path = data.get(name)
    return {f'connection_info.data.{name}': path} if isinstance(path, str) else {}


def is_block(connection_info: Data) -> bool:
    """Whether the volume is a block device of this host."""
    return _source(connection_info) is _block


def decided(connection_info: Data, device_name: str | None, disk_bus: str | None) -> dict[str, str]:
    """The disk's properties that a request decides, each with its field.

    What the data are and what the guest may do to them is decided even if nothing is said: it is a raw, unencrypted
    disk then that the guest may write, and has alone.
    """
    data, options = connection_info['data'], connection_info.get('disk') or {}
    fields = {
        'device': 'device_type',
        'driver_type': 'connection_info.data.format',
        'encryption': 'connection_info.data.encryption',
        'readonly': 'connection_info.data.access_mode',
        'shareable': 'connection_info.multiattach',
        'serial': 'serial',
    }
    if disk_bus is not None:
        fields['bus'] = 'disk_bus'
    if device_name is not None:
        fields['target_dev'] = 'device_name'
    for name in ('discard', 'logical_block_size', 'physical_block_size'):
        if data.get(name) is not None:
            fields[name] = f'connection_info.data.{name}'
    if data.get('qos_specs') is not None:
        fields |= {name: f'connection_info.data.qos_specs.{name}' for name in qos.KEYS}
    return fields | {name: f'connection_info.disk.{name}' for name in options}


def is_image(connection_info: Data) -> bool:
    """Whether QEMU looks for more in a volume than the guest's data."""
    kind: object = connection_info['data'].get('format')
    return kind not in (None, 'raw')


def _set_encryption(disk: Disk, data: Data) -> None:
    encryption = data.get('encryption')
    if encryption is None:
        if data.get('encrypted'):
            # The guest would see what is encrypted as an empty disk, and write over it.
            raise exception.InvalidInput(field='connection_info.data.encryption', reason='the volume is encrypted')
        return
    if disk.device == 'lun':
        raise exception.InvalidInput(field='device_type', reason='an encrypted volume cannot be a LUN')
    disk.encryption_format = encryption['provider']
    # The secret's kind, not the secret.
    disk.encryption_secret_type = 'passphrase'  # nosec B105
    disk.encryption_secret_uuid = encryption['secret_uuid'].lower()


def _set_driver(disk: Disk, options: Data) -> None:
    """How QEMU handles the disk; by default as in Nova."""
    disk.cache = options.get('cache', 'none')
    disk.io = options.get('io')
    if disk.io is not None and disk.type == 'network':
        raise exception.InvalidInput(field='connection_info.disk.io', reason='is for files and block devices')
    if disk.io == 'native' and disk.cache not in _DIRECT_CACHES:
        raise exception.InvalidInput(
            field='connection_info.disk.io', reason=f'native needs cache {" or ".join(_DIRECT_CACHES)}'
        )
    if disk.io is None and disk.type == 'block' and disk.cache in _DIRECT_CACHES:
        disk.io = 'native'
    disk.boot_order = options.get('boot_order')
    disk.iothread = options.get('iothread')
    if disk.iothread is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(
            field='connection_info.disk.iothread', reason=f'a disk on bus {disk.bus} has none, on virtio it has'
        )
    disk.queues = options.get('queues')
    if disk.queues is not None and disk.bus != 'virtio':
        raise exception.InvalidInput(
            field='connection_info.disk.queues', reason=f'a disk on bus {disk.bus} has one, on virtio it has several'
        )


def _set_shareable(disk: Disk, connection_info: Data) -> None:
    if not (connection_info.get('multiattach') or connection_info['data'].get('multiattach')):
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


def _file(disk: Disk, connection_info: Data) -> None:
    disk.type = 'file'
    disk.source_file = connection_info['data']['device_path']
    disk.driver_type = connection_info['data'].get('format') or 'raw'


def _nfs(disk: Disk, connection_info: Data) -> None:
    disk.type = 'file'
    disk.source_file = _nfs_path(connection_info)
    disk.driver_type = connection_info['data'].get('format') or 'raw'


def _nfs_path(connection_info: Data) -> str:
    """Where os-brick says the file is, else where it mounts the share: below the base, by the MD5 of its name."""
    data = connection_info['data']
    if 'device_path' in data:
        return str(data['device_path'])
    share = hashlib.md5(data['export'].encode(), usedforsecurity=False).hexdigest()
    return '/'.join((connection_info['mount_point_base'].rstrip('/'), share, data['name']))


def _block(disk: Disk, connection_info: Data) -> None:
    disk.type = 'block'
    disk.source_block = connection_info['data']['device_path']


def _iscsi(disk: Disk, connection_info: Data) -> None:
    data = connection_info['data']
    disk.type = 'network'
    disk.source_protocol = 'iscsi'
    disk.source_name = f'{data["target_iqn"]}/{data["target_lun"]}'
    name, _, port = data['target_portal'].rpartition(':')
    disk.add_host(Host(name.strip('[]'), port))
    if data.get('auth_method'):
        _set_auth(disk, data, 'iscsi')


def _rbd(disk: Disk, connection_info: Data) -> None:
    data = connection_info['data']
    hosts, ports = data.get('hosts') or [], data.get('ports') or []
    if ports and len(ports) != len(hosts):
        raise exception.InvalidInput(
            field='connection_info.data.ports', reason=f'there are {len(ports)} of them for {len(hosts)} hosts'
        )
    disk.type = 'network'
    disk.source_protocol = 'rbd'
    disk.source_name = data['name']
    for index, name in enumerate(hosts):
        disk.add_host(Host(name.strip('[]'), str(ports[index]) if ports else None))
    if data.get('auth_enabled'):
        _set_auth(disk, data, 'ceph')


def _nbd(disk: Disk, connection_info: Data) -> None:
    data = connection_info['data']
    disk.type = 'network'
    disk.source_protocol = 'nbd'
    disk.source_name = data.get('export')
    if 'socket' in data:
        disk.add_host(Host(transport='unix', socket=data['socket']))
    else:
        port = data.get('port')
        disk.add_host(Host(data['host'].strip('[]'), None if port is None else str(port)))


def _set_auth(disk: Disk, data: Data, secret_type: str) -> None:
    disk.auth_username = data['auth_username']
    disk.auth_secret_type = secret_type
    disk.auth_secret_uuid = data['secret_uuid'].lower()


#: How the source of each ``driver_volume_type`` is written that QEMU can reach by itself.
_SOURCES: dict[str, Callable[[Disk, Data], None]] = {'iscsi': _iscsi, 'rbd': _rbd, 'nbd': _nbd}
#: Of these the path is a file's. Of all others, also of those that are not known here, it is a block device's: os-brick
#: makes one of whatever it connects the host to.
_FILES: dict[str, Callable[[Disk, Data], None]] = {
    'file': _file,
    'nfs': _nfs,
    **dict.fromkeys(('gpfs', 'quobyte', 'smbfs', 'vzstorage'), _file),
}


def _source(connection_info: Data) -> Callable[[Disk, Data], None]:
    kind = connection_info['driver_volume_type']
    if kind in _FILES:
        return _FILES[kind]
    return _block if 'device_path' in connection_info['data'] else _SOURCES[kind]
