# SPDX-License-Identifier: Apache-2.0
"""The contract of detach: the right device, or none."""

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy

BOTH = Side.LIVE | Side.PERSISTENT


class DetachContract(harness.DriverCase):
    def test_each_kind_goes_from_both_sides(self) -> None:
        guest = self.hypervisor.new_guest()
        stays = self.attach(guest)
        virtio, scsi, port = self.attach(guest, bus='virtio'), self.attach(guest), self.attach_port(guest)
        going = [virtio, scsi, port]
        while going:
            self.detach(guest, going.pop(0))
            self.assert_on_both(guest, stays, *going)
        self.detach(guest, stays)
        self.assert_on_both(guest)

    def test_four_interfaces_with_one_mac_go_one_by_one(self) -> None:
        guest = self.hypervisor.new_guest()
        mac = harness.new_mac()
        ports = [self.attach_port(guest, mac) for _ in range(4)]
        for port in (ports[2], ports[0], ports[3], ports[1]):
            self.detach(guest, port, 'interface')
            ports.remove(port)
            self.assert_on_both(guest, *ports)

    def test_a_shut_off_guest_loses_it_from_its_persistent_config(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        volume, port = self.attach(guest), self.attach_port(guest)
        self.detach(guest, volume)
        self.assertEqual((set(), {port}), self.ids(guest))

    def test_a_transient_guest_loses_it_live(self) -> None:
        guest = self.hypervisor.new_guest(state='transient')
        self.detach(guest, self.attach(guest))
        self.assertEqual((set(), set()), self.ids(guest))

    def test_a_paused_guest_loses_a_scsi_disk(self) -> None:
        guest = self.hypervisor.new_guest(state='paused')
        self.detach(guest, self.attach(guest))
        self.assert_on_both(guest)

    def test_a_saved_guest_goes_on_with_its_devices_and_is_left_alone_until_then(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume = self.attach(guest)
        domain = self.host.connection().lookupByUUIDString(guest)
        domain.managedSave()
        before = self.xml(guest)
        for change in (self.attach, self.attach_port, lambda guest: self.detach(guest, volume)):
            error = self.assertRaises(exception.GuestBusy, change, guest)
            self.assertIn('managedsave-remove', str(error))
        self.assert_untouched(guest, before)
        domain.create()
        self.assert_on_both(guest, volume)
        self.detach(guest, volume)
        self.assert_on_both(guest)

    def test_what_is_not_there_is_not_found(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        self.attach(guest)
        before = self.xml(guest)
        self.assertRaises(exception.DeviceNotFound, self.detach, guest, harness.new_id())
        self.assertRaises(exception.InstanceNotFound, self.detach, harness.new_id(), harness.new_id())
        self.assert_untouched(guest, before)

    def test_another_kind_is_a_conflict(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume = self.attach(guest)
        before = self.xml(guest)
        self.assertRaises(exception.DeviceConflict, self.detach, guest, volume, 'interface')
        self.assert_untouched(guest, before)

    def test_a_disk_from_before_aliases_goes_by_its_serial(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume = harness.new_id()
        xml = harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume)
        self.host.guest(guest).attach(xml, BOTH)
        self.detach(guest, volume)
        self.assertEqual(set(), self.live(guest).disk_targets() | self.persistent(guest).disk_targets())

    def test_a_disk_with_its_alias_on_one_side_only_goes_from_both(self) -> None:
        """As after reconcile: the persistent config has the alias, the running guest still the driver's."""
        guest = self.hypervisor.new_guest(state='started')
        volume, path = harness.new_id(), self.hypervisor.new_file()
        self.host.guest(guest).attach(harness.disk_xml(path, 'sdb'), Side.LIVE)
        self.host.guest(guest).attach(harness.disk_xml(path, 'sdb', alias=f'ua-{volume}'), Side.PERSISTENT)
        self.detach(guest, volume)
        self.assertEqual(set(), self.live(guest).disk_targets() | self.persistent(guest).disk_targets())

    def test_an_interface_from_before_aliases_is_known_by_its_mac_on_the_other_side(self) -> None:
        guest = self.hypervisor.new_guest()
        port, mac, bridge = harness.new_id(), harness.new_mac(), self.hypervisor.bridge()
        self.host.guest(guest).attach(harness.interface_xml(bridge, mac), Side.LIVE)
        self.host.guest(guest).attach(harness.interface_xml(bridge, mac, alias=f'ua-{port}'), Side.PERSISTENT)
        self.detach(guest, port)
        left = [device.kind for domain in (self.live(guest), self.persistent(guest)) for device in domain.devices()]
        self.assertNotIn('interface', left)

    def test_an_interface_from_before_aliases_is_known_by_its_tap_and_the_metadata(self) -> None:
        port, other = harness.new_id(), harness.new_id()
        metadata = (
            "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:ports>"
            f"<nova:port uuid='{other}'/><nova:port uuid='{port}'/></nova:ports></nova:instance>"
        )
        guest = self.hypervisor.new_guest(state='shut off', metadata=metadata)
        bridge = self.hypervisor.bridge()
        for whose in (other, port):
            xml = harness.interface_xml(bridge, harness.new_mac(), target=f'tap{whose[:11]}')
            self.host.guest(guest).attach(xml, Side.PERSISTENT)
        self.detach(guest, port, 'interface')
        (left,) = (device for device in self.persistent(guest).devices() if device.kind == 'interface')
        self.assertEqual(f'tap{other[:11]}', left.target)

    def test_interfaces_that_cannot_be_told_apart_are_all_left_alone(self) -> None:
        """The persistent config knows whose they are, the running guest does not, and they have one MAC."""
        guest = self.hypervisor.new_guest(state='started')
        mac, bridge = harness.new_mac(), self.hypervisor.bridge()
        ports = [harness.new_id() for _ in range(2)]
        for port in ports:
            self.host.guest(guest).attach(harness.interface_xml(bridge, mac), Side.LIVE)
            self.host.guest(guest).attach(harness.interface_xml(bridge, mac, alias=f'ua-{port}'), Side.PERSISTENT)
        before = self.xml(guest)
        self.assertRaises(exception.AmbiguousDevice, self.detach, guest, ports[0])
        self.assert_untouched(guest, before)

    def test_a_mac_that_another_device_has_is_no_evidence_across_the_sides(self) -> None:
        """Live there are X and a nameless Y with X's MAC; the one that is persistent may be either's."""
        guest = self.hypervisor.new_guest(state='started')
        mac, bridge, wanted = harness.new_mac(), self.hypervisor.bridge(), harness.new_id()
        self.host.guest(guest).attach(harness.interface_xml(bridge, mac, alias=f'ua-{wanted}'), Side.LIVE)
        self.host.guest(guest).attach(harness.interface_xml(bridge, mac), BOTH)
        before = self.xml(guest)
        self.assertRaises(exception.AmbiguousDevice, self.detach, guest, wanted)
        self.assert_untouched(guest, before)

    def test_the_wrong_disk_trap(self) -> None:
        """Volume X is asked for; Y sits at the name that was X's. Nothing goes."""
        guest = self.hypervisor.new_guest(state='started')
        wanted = self.attach(guest, device_name='sdb')
        self.detach(guest, wanted)
        claimed, unknown = harness.new_id(), ''
        for other, target in ((claimed, 'sdb'), (unknown, 'sdc')):
            xml = harness.disk_xml(
                self.hypervisor.new_file(), target, serial=other, alias=f'ua-{other}' if other else ''
            )
            self.host.guest(guest).attach(xml, BOTH)
        before = self.xml(guest)
        self.assertRaises(exception.DeviceNotFound, self.detach, guest, wanted)
        self.assert_untouched(guest, before)

    def test_two_candidates_are_refused_and_both_named(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume = harness.new_id()
        for target in ('sdb', 'sdc'):
            self.host.guest(guest).attach(
                harness.disk_xml(self.hypervisor.new_file(), target, serial=volume), BOTH
            )
        before = self.xml(guest)
        error = self.assertRaises(exception.AmbiguousDevice, self.detach, guest, volume)
        self.assertIn('sdb', str(error))
        self.assertIn('sdc', str(error))
        self.assert_untouched(guest, before)

    def test_a_guest_that_never_answers(self) -> None:
        """Bounded attempts, a clear failure, and the persistent config as the failure says."""
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        self.retry_policy = RetryPolicy(timeout=0.5, attempts=2)
        error = self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
        self.assertEqual(
            ('2', '0.5', 'it is gone from the persistent config and still in the running guest'),
            tuple(error.kwargs[name] for name in ('attempts', 'timeout', 'left')),
        )
        self.assertEqual(({volume}, set()), self.ids(guest))
        self.assertEqual([], self.late)
