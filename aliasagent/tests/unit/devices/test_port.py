# SPDX-License-Identifier: Apache-2.0

from typing import Any

from aliasagent import exception
from aliasagent.devices.interface import Interface
from aliasagent.requests.port import AttachInterface
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden

_REQUIRED: dict[str, dict[str, Any]] = {
    'bridge': {'bridge': 'br0'},
    'ovs': {'bridge': 'br-int'},
    'tap': {'devname': 'tap0'},
    'macvtap': {'macvtap_source': 'eth0'},
    'hw_veb': {'pci_slot': '0000:06:12.5'},
    'vhostuser': {'vhostuser_socket': '/run/s'},
}


def build(vif_type: str, **more: Any) -> Interface:
    return interface(
        {'id': golden.PORT, 'address': '52:54:00:AB:CD:EF', 'vif_type': vif_type, **_REQUIRED[vif_type], **more}
    )


def interface(port: dict[str, Any]) -> Interface:
    made = AttachInterface.from_dict({'port': port}).device()
    assert isinstance(made, Interface)
    return made


class PortTestCase(base.TestCase):
    def refused(self, field: str, vif_type: str, **more: Any) -> None:
        error = self.assertRaises(exception.InvalidInput, build, vif_type, **more)
        self.assertEqual(field, error.kwargs['field'])

    def test_what_is_left_out_or_none(self) -> None:
        bare = build('bridge').to_xml()
        nothing = dict.fromkeys(('devname', 'mtu', 'queues', 'bandwidth'))
        self.assertEqual(bare, build('bridge', **nothing).to_xml())
        self.assertEqual(bare, build('bridge', bandwidth={'inbound': None}).to_xml())
        self.assertEqual('virtio', build('bridge').model)
        self.assertEqual('52:54:00:ab:cd:ef', build('bridge').mac)

    def test_the_switch_knows_the_interface_by_its_port(self) -> None:
        self.assertEqual(golden.PORT, build('ovs').interfaceid)
        self.assertEqual(golden.PORT, build('ovs', ovs_interfaceid=None).interfaceid)
        self.assertEqual(golden.DEVICE, build('ovs', ovs_interfaceid=golden.DEVICE.upper()).interfaceid)

    def test_modes(self) -> None:
        self.assertEqual('bridge', build('macvtap').source_mode)
        self.assertEqual('server', build('vhostuser').source_mode)

    def test_a_function_of_the_hosts_card_has_no_model(self) -> None:
        self.assertIsNone(build('hw_veb').model)
        self.assertEqual(
            build('hw_veb').to_xml(),
            interface(
                {'id': golden.PORT, 'address': '52:54:00:ab:cd:ef', 'vif_type': 'hostdev', 'pci_slot': '0000:06:12.5'}
            ).to_xml(),
        )

    def test_a_tap_name_that_libvirt_would_drop_is_refused(self) -> None:
        self.refused('port.devname', 'bridge', devname='vnet7')
        self.refused('port.devname', 'tap', devname='macvtap0')

    def test_queues_are_virtios(self) -> None:
        self.refused('port.queues', 'bridge', queues=2, model='e1000')
        self.assertEqual(('vhost', 2), (build('bridge', queues=2).driver_name, build('bridge', queues=2).queues))

    def test_a_macvtap_is_tagged_in_passthrough_only(self) -> None:
        self.refused('port.vlan', 'macvtap', vlan=5)
        self.assertEqual((5,), build('macvtap', vlan=5, macvtap_mode='passthrough').vlan_tags)
