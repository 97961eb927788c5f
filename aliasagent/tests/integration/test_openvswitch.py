# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch for real: booted guests on a switch whose datapath is in userspace."""

import pathlib
import tempfile
from typing import Any
from typing import ClassVar

from aliasagent import exception
from aliasagent.devices import identity
from aliasagent.reconcile import apply
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt.guest import Side
from sandbox import environment
from sandbox import guest as guests
from sandbox import libvirtd
from sandbox import openvswitch
from sandbox import processes

#: Neutron's name for it; the network is our own, and so are all names.
BRIDGE = 'br-int'
BOTH = Side.LIVE | Side.PERSISTENT


class _SwitchSide(base.RealSide):
    def bridge(self) -> str:
        return BRIDGE


class OpenVSwitchTest(base.OnLibvirt):
    switch: ClassVar[openvswitch.OpenVSwitch]

    @classmethod
    def make_side(cls) -> base.RealSide:
        directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
        variables = openvswitch.environment(directory / 'ovs')
        daemon = libvirtd.Libvirtd(directory / 'libvirt', own_network=True, environment=variables)
        cls.addClassCleanup(daemon.stop, destroy_guests=True)
        daemon.start()
        cls.switch = openvswitch.OpenVSwitch(directory / 'ovs', daemon)
        cls.addClassCleanup(cls.switch.stop)
        cls.switch.start()
        cls.switch.make_bridge(BRIDGE)
        return _SwitchSide(daemon.uri)

    def setUp(self) -> None:
        super().setUp()
        self.uuid = self.side.new_guest()
        self.guest = next(made for made in self.side.made if made.uuid == self.uuid)
        self.mac = harness.new_mac()

    def attach_ovs(self, mac: str | None = None, **more: Any) -> str:
        return self.attach_port(self.uuid, mac or self.mac, vif_type='ovs', **more)

    def attach_old(self) -> str:
        """An interface as it was before aliases: the switch's port knows whose it is, and the alias is libvirt's."""
        port = harness.new_id()
        xml = f"""
<interface type='bridge'>
  <mac address='{self.mac}'/>
  <source bridge='{BRIDGE}'/>
  <virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>
  <model type='virtio'/>
</interface>"""
        self.host.guest(self.uuid).attach(xml, BOTH)
        return port

    def ports(self) -> dict[str | None, openvswitch.Port]:
        """What is plugged into the switch, by whose it says it is."""
        found = self.switch.ports(BRIDGE)
        self.assertEqual(len(found), len({port.iface_id for port in found}))
        return {port.iface_id: port for port in found}

    def assert_plugged(self, *ids: str) -> None:
        """The switch has these ports and uses them, and the guest has as many interfaces with our address."""
        ports = self.ports()
        self.assertEqual(set(ids), set(ports))
        for port in ports.values():
            self.assertEqual((self.mac, self.uuid, None), (port.mac, port.guest, port.error))
        self.assert_seen(len(ids))

    def assert_seen(self, count: int) -> None:
        def has_them(seen: guests.Seen) -> bool:
            return len(seen.nics_with(self.mac)) == len(seen.nics) == count

        self.guest.wait_sees(has_them, what=f'{count} interfaces with the address {self.mac}')

    def test_the_switch_has_the_port_while_the_guest_has_the_interface(self) -> None:
        port = self.attach_ovs()
        self.assert_plugged(port)
        self.assert_on_both(self.uuid, port)
        for domain in (self.live(self.uuid), self.persistent(self.uuid)):
            (interface,) = domain.by_alias(f'ua-{port}')
            parameters = interface.element.find("virtualport[@type='openvswitch']/parameters")
            self.assertEqual(port, None if parameters is None else parameters.get('interfaceid'))
        (live,) = self.live(self.uuid).by_alias(f'ua-{port}')
        self.assertEqual(self.ports()[port].name, live.target)
        self.detach(self.uuid, port, 'interface')
        self.assert_plugged()
        self.assert_on_both(self.uuid)

    def test_of_two_with_one_mac_the_right_one_goes(self) -> None:
        first, second, third = (self.attach_ovs() for _ in range(3))
        self.assert_plugged(first, second, third)
        self.detach(self.uuid, second)
        self.assert_plugged(first, third)
        self.assert_on_both(self.uuid, first, third)
        self.detach(self.uuid, first)
        self.assert_plugged(third)
        self.detach(self.uuid, third)
        self.assert_plugged()

    def test_one_from_before_aliases_is_found_by_its_interfaceid(self) -> None:
        first, second = self.attach_old(), self.attach_old()
        self.assert_plugged(first, second)
        self.assert_on_both(self.uuid)
        before = self.xml(self.uuid)
        self.assertRaises(exception.DeviceNotFound, self.detach, self.uuid, harness.new_id())
        self.attach_ovs(id=first)  # it has it
        self.assert_untouched(self.uuid, before)
        self.detach(self.uuid, first, 'interface')
        self.assert_plugged(second)
        for domain in (self.live(self.uuid), self.persistent(self.uuid)):
            self.assertIsNone(identity.find(domain, first))
            self.assertIsNotNone(identity.find(domain, second))
        self.detach(self.uuid, second)
        self.assert_plugged()

    def test_reconciling_gives_one_from_before_aliases_its_alias(self) -> None:
        first, second = self.attach_old(), self.attach_old()
        self.assertEqual(2, len(apply.reconcile(self.host.guest(self.uuid)).given))
        self.assertEqual((set(), {first, second}), self.ids(self.uuid))
        self.assert_plugged(first, second)
        self.detach(self.uuid, second)
        self.assert_plugged(first)
        self.assertEqual((set(), {first}), self.ids(self.uuid))
        self.detach(self.uuid, first)
        self.assert_plugged()

    def test_a_vlan_is_the_ports_tag(self) -> None:
        tagged, plain = self.attach_ovs(vlan=42), self.attach_ovs(vlan=0)
        ports = self.ports()
        self.assertEqual((42, None), (ports[tagged].tag, ports[plain].tag))
        self.detach(self.uuid, tagged)
        self.assert_plugged(plain)
        self.detach(self.uuid, plain)

    def test_a_port_without_a_vlan_is_in_the_dead_one_until_the_switch_is_told_another(self) -> None:
        port = self.attach_ovs()
        self.assertEqual(4095, self.ports()[port].tag)
        self.switch.vsctl('set', 'Port', self.ports()[port].name, 'tag=7')  # as Neutron's agent does
        before = self.xml(self.uuid)
        self.attach_ovs(id=port)
        self.assert_untouched(self.uuid, before)
        self.assertEqual(7, self.ports()[port].tag)
        self.detach(self.uuid, port)

    def test_a_trunk_carries_its_vlans(self) -> None:
        port = self.attach_ovs(vlan=[10, 20], link_state='down')
        name = self.ports()[port].name
        self.assertEqual('[10, 20]', self.switch.vsctl('get', 'Port', name, 'trunks').strip())
        self.assertIsNone(self.ports()[port].tag)
        self.detach(self.uuid, port)

    def test_the_switch_may_know_the_port_by_another_id(self) -> None:
        known = harness.new_id()
        port = self.attach_ovs(ovs_interfaceid=known)
        self.assert_plugged(known)
        self.assertRaises(exception.DeviceNotFound, self.detach, self.uuid, known)
        self.detach(self.uuid, port)
        self.assert_plugged()

    def test_without_the_bridge_neither_side_has_it(self) -> None:
        before = self.xml(self.uuid)
        error = self.assertRaises(exception.AttachFailed, self.attach_ovs, bridge='br-none')
        self.assertIn('br-none', str(error))
        self.assert_untouched(self.uuid, before)
        self.assert_plugged()

    def test_a_guest_that_is_switched_off_leaves_no_port(self) -> None:
        uuid = self.side.new_guest(state='started')
        port = self.attach_port(uuid, vif_type='ovs')
        self.assertEqual({port}, set(self.ports()))
        domain = self.side.connection.lookupByUUIDString(uuid)
        domain.destroy()
        processes.wait_until(lambda: not self.ports(), 10, 'the port to go')
        domain.create()
        self.assertEqual({port}, set(self.ports()))
        self.assert_on_both(uuid, port)
