# SPDX-License-Identifier: Apache-2.0
"""Devices of the host that a guest holds (libvirt, formatdomain, "Host device assignment")."""

from aliasagent.devices import base
from aliasagent.devices import properties
from aliasagent.devices import xml


def pci_address(element: xml.Element | None) -> str | None:
    """A ``<address domain= bus= slot= function=>`` as ``0000:06:12.5``; None if it is none."""
    if element is None:
        return None
    try:
        domain, bus, slot, function = (int(element.get(name, '0'), 0) for name in ('domain', 'bus', 'slot', 'function'))
    except ValueError:
        return None
    return f'{domain:04x}:{bus:02x}:{slot:02x}.{function:x}'


class Hostdev(base.Device):
    """A PCI, USB, SCSI or mediated device of the host."""

    tag = 'hostdev'

    mode = properties.text('@mode')
    type = properties.text('@type')
    managed = properties.yes_no('@managed')
    model = properties.text('@model')
    mdev_uuid = properties.text('source/address/@uuid')

    @property
    def host_address(self) -> str | None:
        """The PCI address on the host, ``0000:06:12.5``; None for other types."""
        return pci_address(self.element.find('source/address')) if self.type == 'pci' else None

    @property
    def source(self) -> str | None:
        """What the device is on the host, in one word."""
        return self.host_address or self.mdev_uuid
