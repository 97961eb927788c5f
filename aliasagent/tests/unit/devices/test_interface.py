# SPDX-License-Identifier: Apache-2.0

from aliasagent.devices import interface
from aliasagent.devices import xml
from aliasagent.tests import base


def read(text: str) -> interface.Interface:
    return interface.Interface(xml.parse(text))


class SourceTestCase(base.TestCase):
    """Both definitions of an interface have one source, and what a running guest's adds does not count."""

    def check(self, source: str | None, *texts: str) -> None:
        for text in texts:
            self.assertEqual(source, read(text).source, text)

    def test_bridge(self) -> None:
        self.check(
            'bridge:br0',
            "<interface type='bridge'><source bridge='br0'/></interface>",
            "<interface type='bridge'><source bridge='br0'/><target dev='vnet0'/><alias name='net0'/></interface>",
            "<interface type='bridge'><source bridge='br0'/><virtualport type='openvswitch'/></interface>",
        )

    def test_network(self) -> None:
        # As libvirt 9.0 writes it: saved, running, and running on a network that is a host's bridge.
        self.check(
            'network:pb1',
            "<interface type='network'><source network='pb1'/></interface>",
            "<interface type='network'><source network='pb1' portid='a0b3984a' bridge='virbr0'/></interface>",
            "<interface type='bridge'><source network='pb1' portid='a0b3984a' bridge='br0'/></interface>",
        )

    def test_ethernet_is_known_by_its_tap(self) -> None:
        self.check('tap:tap0', "<interface type='ethernet'><target dev='tap0' managed='no'/></interface>")
        self.check(
            None,
            "<interface type='ethernet'/>",
            "<interface type='ethernet'><target dev='vnet3'/></interface>",
        )

    def test_direct(self) -> None:
        self.check(
            'direct:eth0',
            "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>",
            "<interface type='direct'><source dev='eth0' mode='bridge'/><target dev='macvtap1'/></interface>",
        )

    def test_hostdev(self) -> None:
        self.check(
            '0000:06:12.5',
            """<interface type='hostdev' managed='yes'><driver name='vfio'/><source>
               <address type='pci' domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source></interface>""",
            """<interface type='hostdev'><source>
               <address type='pci' domain='0' bus='6' slot='18' function='5'/></source></interface>""",
        )
        self.check(None, "<interface type='hostdev'><source/></interface>")

    def test_vhostuser(self) -> None:
        self.check(
            'unix:/run/s', "<interface type='vhostuser'><source type='unix' path='/run/s' mode='client'/></interface>"
        )

    def test_the_rest(self) -> None:
        self.check('vdpa:/dev/vhost-vdpa-0', "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>")
        self.check(None, "<interface type='user'/>", '<interface/>', "<interface type='bridge'><source/></interface>")

    def test_a_bridge_is_no_network_of_that_name(self) -> None:
        texts = (
            "<interface type='bridge'><source bridge='a'/></interface>",
            "<interface type='network'><source network='a'/></interface>",
            "<interface type='direct'><source dev='a'/></interface>",
            "<interface type='ethernet'><target dev='a'/></interface>",
        )
        self.assertEqual(len(texts), len({read(text).source for text in texts}))


class HostAddressTestCase(base.TestCase):
    def test_what_is_set_is_read(self) -> None:
        device = interface.Interface.new()
        device.type = 'hostdev'
        device.host_address = '0000:06:12.5'
        device.host_address = '0000:06:12.6'
        self.assertEqual('0000:06:12.6', device.host_address)
        self.assertEqual(1, len(device.element.findall('source/address')))

    def test_only_of_a_hosts_device(self) -> None:
        text = "<interface type='bridge'><source bridge='b'><address bus='1'/></source></interface>"
        self.assertIsNone(read(text).host_address)


class GeneratedNameTestCase(base.TestCase):
    def test_generated(self) -> None:
        for name in ('vnet0', 'vif1.0', 'macvtap12', 'macvlan3'):
            self.assertTrue(interface.is_generated_name(name), name)
        for name in ('tap0', 'nic0', 'eth0', 'vhu91f04c6a-7c'):
            self.assertFalse(interface.is_generated_name(name), name)
