# SPDX-License-Identifier: Apache-2.0
"""From a request for a device of the host to that device."""

from collections.abc import Callable
from typing import Any

from aliasagent.devices import alias
from aliasagent.devices.hostdev import Hostdev

Request = dict[str, Any]


def host_device(device_id: str, hostdev: Request) -> Hostdev:
    """The device of the host that is asked for, with its alias.

    :param hostdev: valid by :data:`aliasagent.compute.schemas.HOSTDEV`.
    :raises InvalidInput: the id cannot be part of an alias.
    """
    device = Hostdev.new()
    device.mode = 'subsystem'
    device.type = hostdev['type']
    _SOURCES[hostdev['type']](device, hostdev)
    device.alias = alias.make(device_id)
    return device


def decided(hostdev: Request) -> dict[str, str]:
    """The device's properties that a request decides, each with its field."""
    names = {'managed': 'managed', 'driver': 'driver_name', 'model': 'model'}
    return {names[field]: f'hostdev.{field}' for field in names if field in hostdev}


def _pci(device: Hostdev, hostdev: Request) -> None:
    # Managed: libvirt takes it from the host's driver and gives it back.
    device.managed = hostdev.get('managed', True)
    device.driver_name = hostdev.get('driver')
    device.host_address = hostdev['address']


def _mdev(device: Hostdev, hostdev: Request) -> None:
    device.model = hostdev.get('model', 'vfio-pci')
    device.mdev_uuid = hostdev['uuid'].lower()


def _usb(device: Hostdev, hostdev: Request) -> None:
    if 'vendor' in hostdev:
        device.usb_vendor = _hexadecimal(hostdev['vendor'])
        device.usb_product = _hexadecimal(hostdev['product'])
    else:
        device.source_bus = hostdev['bus']
        device.usb_device = hostdev['device']


def _scsi(device: Hostdev, hostdev: Request) -> None:
    device.scsi_adapter = hostdev['adapter']
    device.source_bus = hostdev['bus']
    device.scsi_target = hostdev['target']
    device.scsi_unit = hostdev['unit']


def _hexadecimal(text: str) -> str:
    """``1D6B`` or ``0x1d6b`` as libvirt has it: ``0x1d6b``."""
    return f'0x{int(text, 16):04x}'


#: How the source of each type is written.
_SOURCES: dict[str, Callable[[Hostdev, Request], None]] = {
    'pci': _pci,
    'mdev': _mdev,
    'usb': _usb,
    'scsi': _scsi,
}
