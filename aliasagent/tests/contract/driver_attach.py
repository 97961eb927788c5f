# SPDX-License-Identifier: Apache-2.0
"""The contract of attach: exactly right, or a clear refusal and nothing changed."""

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.contract.hypervisor import disk
from aliasagent.tests.contract.hypervisor import scsi_hostdev
from aliasagent.virt.guest import Side


class AttachContract(harness.DriverCase):
    def test_a_volume_is_on_both_sides_under_its_alias(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        for bus, prefix in (('virtio', 'vd'), ('scsi', 'sd')):
            volume = self.attach(guest, bus=bus)
            for domain in (self.live(guest), self.persistent(guest)):
                (disk,) = domain.by_alias(f'ua-{volume}')
                self.assertEqual(f'{prefix}a', disk.target)

    def test_an_interface_is_on_both_sides_under_its_alias(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        port = self.attach_port(guest)
        self.assert_on_both(guest, port)

    def test_a_shut_off_guest_gets_it_in_its_persistent_config(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        volume, port = self.attach(guest), self.attach_port(guest)
        self.assertEqual((set(), {volume, port}), self.ids(guest))

    def test_a_transient_guest_gets_it_live(self) -> None:
        guest = self.hypervisor.new_guest(state='transient')
        volume = self.attach(guest)
        self.assertEqual(({volume}, set()), self.ids(guest))

    def test_a_paused_guest_gets_it_on_both_sides(self) -> None:
        guest = self.hypervisor.new_guest(state='paused')
        self.assert_on_both(guest, self.attach(guest))

    def test_two_interfaces_may_have_one_mac(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        mac = harness.new_mac()
        first, second = self.attach_port(guest, mac), self.attach_port(guest, mac)
        self.assert_on_both(guest, first, second)

    def test_a_guest_of_nova_is_left_to_nova_unless_forced(self) -> None:
        for state in ('started', 'shut off', 'transient'):
            guest = self.hypervisor.new_guest(state=state, metadata=harness.NOVA)
            self.manage = 'all'
            volume = self.attach(guest)
            self.manage = 'aliases'
            before = self.xml(guest)
            for attach in (self.attach, self.attach_port):
                refused = self.assertRaises(exception.ManagedByNova, attach, guest)
                self.assertIn(f'instance {guest} is a guest of Nova, and [DEFAULT] manage = aliases', str(refused))
            self.assert_untouched(guest, before)
            self.detach(guest, volume, 'disk')
            self.attach(guest, volume, force=True)
            self.assertIn({volume}, self.ids(guest))

    def test_again_with_the_same_device_changes_nothing(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        connection, port = harness.file_connection(self.hypervisor.new_file()), self.port()
        volume = harness.new_id()
        self.driver.attach(guest, requests.volume(volume, connection, disk_bus='scsi'))
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        self.driver.attach(guest, requests.volume(volume, connection, disk_bus='scsi'))
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)

    def test_another_device_under_the_same_id_is_a_conflict(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume, port = self.attach(guest), self.port()
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        self.assertRaises(exception.DeviceConflict, self.attach, guest, volume)
        other_mac = {**port, 'address': harness.new_mac()}
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, requests.interface(other_mac))
        of_the_volume = {**self.port(), 'id': volume}
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, requests.interface(of_the_volume))
        self.assert_untouched(guest, before)

    def test_the_side_that_lacks_it_gets_it(self) -> None:
        for side in (Side.LIVE, Side.PERSISTENT):
            guest = self.hypervisor.new_guest(state='started')
            volume, path = harness.new_id(), self.hypervisor.new_file()
            xml = harness.disk_xml(path, 'sdc', serial=volume, alias=f'ua-{volume}')
            self.host.guest(guest).attach(xml, side)
            self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='scsi'))
            self.assert_on_both(guest, volume)
            targets = {self.live(guest).by_alias(f'ua-{volume}')[0].target}
            targets.add(self.persistent(guest).by_alias(f'ua-{volume}')[0].target)
            self.assertEqual({'sdc'}, targets)

    def test_a_name_that_is_taken_on_one_side_only_is_not_chosen(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sda'), Side.LIVE)
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sdb'), Side.PERSISTENT)
        volume = self.attach(guest)
        self.assertEqual('sdc', self.live(guest).by_alias(f'ua-{volume}')[0].target)

    def test_a_name_that_leads_to_the_place_of_another_device_is_not_chosen(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        others = (
            scsi_hostdev(unit=1),
            disk('/z', 'sdz', unit=2),
            disk('/y', 'sdy', bus='sata', unit=0),
            disk('/x', 'sdx', bus='sata', unit=3),
        )
        for xml in others:
            self.host.guest(guest).attach(xml, Side.PERSISTENT)
        for bus, names in (('scsi', ('sda', 'sdd')), ('sata', ('sdb', 'sdc', 'sde'))):
            for name in names:
                volume = self.attach(guest, bus=bus)
                self.assertEqual(name, self.persistent(guest).by_alias(f'ua-{volume}')[0].target)

    def test_a_name_that_leads_to_the_place_of_another_disk_of_a_running_guest_is_not_chosen(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        self.host.guest(guest).attach(disk(self.hypervisor.new_file(), 'sdz', unit=0), Side.LIVE)
        self.host.guest(guest).attach(disk(self.hypervisor.new_file(), 'sdy', unit=1), Side.PERSISTENT)
        volume = self.attach(guest)
        self.assertEqual('sdc', self.live(guest).by_alias(f'ua-{volume}')[0].target)

    def test_a_name_that_is_taken_is_refused(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        self.attach(guest, device_name='/dev/sdd')
        before = self.xml(guest)
        self.assertRaises(exception.AttachFailed, self.attach, guest, device_name='/dev/sdd')
        self.assert_untouched(guest, before)

    def test_a_name_that_leads_to_the_place_of_another_device_is_refused_on_sata(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        self.host.guest(guest).attach(disk('/y', 'sdy', bus='sata', unit=0), Side.PERSISTENT)
        before = self.xml(guest)
        error = self.assertRaises(exception.AttachFailed, self.attach, guest, bus='sata', device_name='sda')
        words = 'persistent config, another device has the name sda or the drive address of that name'
        self.assertIn(words, str(error))
        self.assert_untouched(guest, before)

    def test_a_name_that_leads_to_the_place_of_another_scsi_device_does_not_matter(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        self.host.guest(guest).attach(scsi_hostdev(unit=1), Side.PERSISTENT)
        volume = self.attach(guest, device_name='sdb')
        self.assertEqual('sdb', self.persistent(guest).by_alias(f'ua-{volume}')[0].target)

    def test_a_name_of_another_bus_is_bad_input(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        before = self.xml(guest)
        error = self.assertRaises(exception.InvalidInput, self.attach, guest, bus='virtio', device_name='sda')
        self.assertEqual('device_name', error.kwargs['field'])
        self.assert_untouched(guest, before)

    def test_a_missing_file_is_bad_input(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        before = self.xml(guest)
        missing = harness.file_connection(f'{self.hypervisor.new_file()}.missing')
        request = requests.volume(harness.new_id(), missing, disk_bus='scsi')
        error = self.assertRaises(exception.InvalidInput, self.driver.attach, guest, request)
        self.assertEqual('connection_info.data.device_path', error.kwargs['field'])
        self.assert_untouched(guest, before)

    def test_a_missing_bridge_leaves_neither_side(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        before = self.xml(guest)
        error = self.assertRaises(exception.AttachFailed, self.attach_port, guest, bridge='no-such-bridge')
        self.assertIn('no-such-bridge', str(error))
        self.assert_untouched(guest, before)

    def test_no_free_slot_leaves_neither_side(self) -> None:
        guest = self.hypervisor.new_guest(state='started')

        def fill() -> None:
            for _ in range(30):
                self.attach(guest, bus='virtio')

        error = self.assertRaises(exception.AttachFailed, fill)
        self.assertIn('No more available PCI slots', str(error))
        live, persistent = self.ids(guest)
        self.assertEqual(live, persistent)

    def test_an_unknown_guest_is_not_found(self) -> None:
        self.assertRaises(exception.InstanceNotFound, self.attach, harness.new_id())

    def test_a_device_of_the_id_without_alias_is_the_device(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume, path = harness.new_id(), self.hypervisor.new_file()
        self.host.guest(guest).attach(harness.disk_xml(path, 'sdb', serial=volume), Side.LIVE | Side.PERSISTENT)
        before = self.xml(guest)
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='scsi'))
        self.assert_untouched(guest, before)

    def test_a_nameless_device_that_looks_the_same_is_a_conflict(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        port, path = self.port(), self.hypervisor.new_file()
        xml = harness.interface_xml(self.hypervisor.bridge(), port['address'])
        self.host.guest(guest).attach(xml, Side.LIVE | Side.PERSISTENT)
        self.host.guest(guest).attach(harness.disk_xml(path, 'sdb'), Side.LIVE | Side.PERSISTENT)
        before = self.xml(guest)
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, requests.interface(port))
        double = requests.volume(harness.new_id(), harness.file_connection(path), disk_bus='scsi')
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, double)
        self.assert_untouched(guest, before)

    def test_the_list_shows_each_device_once_with_where_it_is(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        both = self.attach(guest)
        persistent, live = harness.new_id(), harness.new_id()
        one = harness.disk_xml(self.hypervisor.new_file(), 'sdf', serial=persistent, alias=f'ua-{persistent}')
        self.host.guest(guest).attach(one, Side.PERSISTENT)
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sdg', serial=live), Side.LIVE)
        shown = {entry.id: entry for entry in self.driver.list_devices(guest) if entry.kind == 'disk'}
        self.assertEqual({both, persistent, live}, set(shown))
        self.assertEqual((True, True, f'ua-{both}', 'sda'), _entry(shown[both]))
        self.assertEqual((False, True, f'ua-{persistent}', 'sdf'), _entry(shown[persistent]))
        self.assertEqual((True, False, None, 'sdg'), _entry(shown[live]))


def _entry(entry: object) -> tuple[object, ...]:
    return tuple(getattr(entry, name) for name in ('live', 'persistent', 'alias', 'target'))
