# SPDX-License-Identifier: Apache-2.0
"""Network interfaces (libvirt, formatdomain, "Network interfaces")."""

from collections.abc import Iterable

from lxml import etree

from aliasagent.devices import base
from aliasagent.devices import pci
from aliasagent.devices import properties

#: Prefixes of the tap names that libvirt generates for a running guest and does not keep in the persistent config.
_GENERATED_NAMES = ('vnet', 'vif', 'macvtap', 'macvlan')


def is_generated_name(name: str) -> bool:
    """Return whether libvirt takes a tap's name for a generated one, and does not keep it."""
    return name.startswith(_GENERATED_NAMES)


class Interface(base.Device):
    """A network interface of any type."""

    tag = 'interface'

    type = properties.text('@type')
    managed = properties.yes_no('@managed')
    mac = properties.text('mac/@address')
    model = properties.text('model/@type')
    #: In bytes.
    mtu = properties.integer('mtu/@size')

    bridge = properties.text('source/@bridge')
    network = properties.text('source/@network')
    source_dev = properties.text('source/@dev')
    #: Of a macvtap: vepa, bridge, private, passthrough. Of a vhost-user socket: client, server.
    source_mode = properties.text('source/@mode')
    source_type = properties.text('source/@type')
    source_path = properties.text('source/@path')
    target_dev = properties.text('target/@dev')
    target_managed = properties.yes_no('target/@managed')

    virtualport_type = properties.text('virtualport/@type')
    interfaceid = properties.text('virtualport/parameters/@interfaceid')
    vlan_trunk = properties.yes_no('vlan/@trunk')
    link_state = properties.text('link/@state')

    driver_name = properties.text('driver/@name')
    queues = properties.integer('driver/@queues')
    #: Whether the device's reads and writes go through the guest's IOMMU.
    iommu = properties.on_off('driver/@iommu')
    boot_order = properties.integer('boot/@order')

    #: Average and peak in KiB/s, burst in KiB; inbound is traffic to the guest.
    inbound_average = properties.integer('bandwidth/inbound/@average')
    inbound_peak = properties.integer('bandwidth/inbound/@peak')
    inbound_burst = properties.integer('bandwidth/inbound/@burst')
    outbound_average = properties.integer('bandwidth/outbound/@average')
    outbound_peak = properties.integer('bandwidth/outbound/@peak')
    outbound_burst = properties.integer('bandwidth/outbound/@burst')

    @property
    def host_address(self) -> str | None:
        """Return the PCI address on the host of an SR-IOV function, ``0000:06:12.5``; None for other types."""
        return pci.read(self.element.find('source/address')) if self.type == 'hostdev' else None

    @host_address.setter
    def host_address(self, address: str) -> None:
        pci.write(self.child_made('source'), address, type_needed=True)

    @property
    def vlan_tags(self) -> tuple[int, ...]:
        """Return the VLANs of the port: none if untagged, one, or all VLANs of a trunk."""
        tags = (tag.get('id', '') for tag in self.element.iterfind('vlan/tag'))
        return tuple(int(tag) for tag in tags if tag.isdecimal())

    @vlan_tags.setter
    def vlan_tags(self, tags: Iterable[int]) -> None:
        found = self.child('vlan')
        if found is not None:
            self.remove(found)
        for tag in tags:
            etree.SubElement(self.child_made('vlan'), 'tag', id=str(tag))

    @property
    def target(self) -> str | None:
        return self.target_dev

    @property
    def source(self) -> str | None:
        """Return the interface's source as one text, which is the same in each of the interface's definitions.

        The text is ``bridge:br0``, ``network:default``, ``direct:eth0``, ``unix:/run/socket``, ``tap:tap0``, or a PCI
        address.
        """
        if (network := self.network) is not None:
            # In a live definition libvirt adds the network's bridge and shows the resulting type.
            return f'network:{network}'
        match self.type:
            case 'hostdev':
                return self.host_address
            case 'vhostuser':
                return _word('unix', self.source_path)
            case 'ethernet':
                name = self.target_dev
                return _word('tap', name) if name is not None and not is_generated_name(name) else None
            case 'bridge':
                return _word('bridge', self.bridge)
            case _:
                return _word(self.type or 'device', self.source_dev)

    def describe(self) -> str:
        words = [super().describe(), f'with MAC {self.mac}' if self.mac else '']
        return ' '.join(word for word in words if word)


def _word(what: str, name: str | None) -> str | None:
    return None if name is None else f'{what}:{name}'
