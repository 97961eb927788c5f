# SPDX-License-Identifier: Apache-2.0
"""Devices of the host in a guest (libvirt, formatdomain, "Host device assignment")."""

from aliasagent.devices import base
from aliasagent.devices import pci
from aliasagent.devices import properties


class Hostdev(base.Device):
    """A PCI, USB, SCSI or mediated device of the host."""

    tag = 'hostdev'

    mode = properties.text('@mode')
    type = properties.text('@type')
    managed = properties.yes_no('@managed')
    model = properties.text('@model')
    driver_name = properties.text('driver/@name')

    mdev_uuid = properties.text('source/address/@uuid')
    usb_vendor = properties.text('source/vendor/@id')
    usb_product = properties.text('source/product/@id')
    usb_device = properties.integer('source/address/@device')
    scsi_adapter = properties.text('source/adapter/@name')
    scsi_target = properties.integer('source/address/@target')
    scsi_unit = properties.integer('source/address/@unit')
    #: The bus of a USB or SCSI device; :attr:`host_address` has that of a PCI device.
    source_bus = properties.integer('source/address/@bus')

    @property
    def host_address(self) -> str | None:
        """Return the PCI address on the host, ``0000:06:12.5``; None for other types."""
        return pci.read(self.element.find('source/address')) if self.type == 'pci' else None

    @host_address.setter
    def host_address(self, address: str) -> None:
        pci.write(self.child_made('source'), address)

    @property
    def drive_bus(self) -> str | None:
        return 'scsi' if self.type == 'scsi' else None

    @property
    def source(self) -> str | None:
        """Return the device of the host as one text, which is the same in each of the device's definitions.

        The text is a PCI address; an mdev's UUID; ``usb:1d6b:0002``, else ``usb:3.14`` (a live definition has both, if
        the request named vendor and product); or ``scsi:scsi_host0:0:0:0``.
        """
        match self.type:
            case 'pci':
                return self.host_address
            case 'mdev':
                return self.mdev_uuid.lower() if self.mdev_uuid is not None else None
            case 'usb':
                return self._usb_source()
            case 'scsi':
                return self._scsi_source()
            case _:
                return None

    def _usb_source(self) -> str | None:
        if self.usb_vendor is not None and self.usb_product is not None:
            return f'usb:{_usb_id(self.usb_vendor)}:{_usb_id(self.usb_product)}'
        parts = self._address('bus', 'device')
        return None if parts is None else f'usb:{".".join(parts)}'

    def _scsi_source(self) -> str | None:
        source = self.element.find('source')
        if source is not None and source.get('protocol') is not None:  # QEMU's own initiator
            return f'{source.get("protocol")}:{source.get("name", "")}'
        parts = self._address('bus', 'target', 'unit')
        if self.scsi_adapter is None or parts is None:
            return None
        return ':'.join(('scsi', self.scsi_adapter, *parts))

    def _address(self, *names: str) -> list[str] | None:
        address = self.element.find('source/address')
        if address is None:
            return None
        values = [address.get(name, '0') for name in names]
        return [value.lstrip('0') or '0' if value.isdecimal() else value for value in values]


def _usb_id(text: str) -> str:
    """Return a vendor's or product's number as lsusb prints it: four hexadecimal digits."""
    try:
        return f'{int(text, 0):04x}'
    except ValueError:
        return text
