# SPDX-License-Identifier: Apache-2.0
"""From Cinder's ``connection_info`` to a disk."""

from collections.abc import Callable
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices.disk import Disk

Data = dict[str, Any]


def disk_for_volume(
    volume_id: str, connection_info: Data, *, target: str, bus: str, device_type: str = 'disk'
) -> Disk:
    """The disk of a volume, with its alias.

    :param connection_info: valid by :data:`aliasagent.compute.contract.CONNECTION_INFO`.
    :raises InvalidInput: the parts do not go together.
    """
    kind, data = connection_info['driver_volume_type'], connection_info['data']
    disk = Disk.new()
    disk.device = device_type
    disk.driver_name = 'qemu'
    disk.driver_type = 'raw'
    disk.cache = 'none'
    _SOURCES[kind](disk, data)
    disk.target_dev = target
    disk.bus = bus
    if device_type == 'lun':
        _check_lun(disk)
    else:
        # A LUN is the device itself, and answers for its serial; libvirt refuses one here.
        disk.serial = volume_id
    if data.get('access_mode') == 'ro' or device_type == 'cdrom':
        disk.readonly = True
    disk.alias = alias.make(volume_id)
    return disk


def _check_lun(disk: Disk) -> None:
    if disk.bus != 'scsi':
        raise exception.InvalidInput(field='disk_bus', reason=f'a LUN is passed through on bus scsi, not {disk.bus}')
    if disk.type == 'file':
        raise exception.InvalidInput(field='device_type', reason='a file cannot be passed through as a LUN')


def _file(disk: Disk, data: Data) -> None:
    disk.type = 'file'
    disk.source_file = data['device_path']
    disk.driver_type = data.get('format', 'raw')
    disk.discard = 'unmap' if data.get('discard') else None


def _block(disk: Disk, data: Data) -> None:
    disk.type = 'block'
    disk.source_block = data['device_path']
    disk.io = 'native'
    disk.discard = 'unmap' if data.get('discard') else None


#: How the source of each ``driver_volume_type`` is written.
_SOURCES: dict[str, Callable[[Disk, Data], None]] = {
    'file': _file,
    'local': _block,
}


def local_path(connection_info: Data) -> str | None:
    """The path on this host that has to be there before the disk can be attached; None if the source is elsewhere."""
    path = connection_info['data'].get('device_path')
    return path if isinstance(path, str) else None
