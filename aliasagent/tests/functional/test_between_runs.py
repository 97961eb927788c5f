# SPDX-License-Identifier: Apache-2.0
"""A guest that is stopped, saved, moved or started while nobody is told, and what is known of its devices then."""

import functools
import time
from collections.abc import Callable
from concurrent import futures

import libvirt

from aliasagent import exception
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.functional.test_contract_driver import OnFake
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy


class BetweenLivesTest(OnFake):
    def setUp(self) -> None:
        super().setUp()
        self.retry_policy = RetryPolicy(timeout=60, attempts=8)

    def inside(self, guest: str) -> FakeGuest:
        """The guest as the hypervisor has it."""
        return self.side.fake.guests[guest]

    def unseen(self, happens: Callable[[], object]) -> None:
        """Let something happen while the agent has no connection."""
        self.side.fake.drop_connections(down=True)
        happens()
        self.side.fake.down = False
        self.assertTrue(self.host.wait_connected(harness.SOON))

    def wait_late(self, guest: str, volume: str) -> None:
        deadline = time.monotonic() + harness.SOON
        while not self.late:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertEqual([(guest, volume)], self.late)

    def requests(self) -> int:
        return sum(1 for name, arguments in self.side.fake.calls if name == 'detachDeviceAlias' and 1 in arguments)

    def nameless(self, serial: str, target: str = 'vdb') -> str:
        """A disk as it was made before aliases."""
        return harness.disk_xml(self.hypervisor.new_file(), target, serial=serial)

    def leaving(self) -> tuple[str, str, 'futures.Future[None]']:
        """A guest, and a volume from before aliases that it does not let go of."""
        volume = harness.new_id()
        guest = self.hypervisor.new_guest(self.nameless(volume), state='started')
        self.inside(guest).unplug.never = True
        pending = self.driver.detach(guest, volume)
        self.assertFalse(pending.done())
        return guest, volume, pending

    def serials(self, guest: str) -> list[str | None]:
        live = self.inside(guest).need_live()
        return [disk.findtext('serial') for disk in live.iterfind('devices/disk')]

    def test_another_volume_that_sits_where_the_old_one_sat_stays(self) -> None:
        guest, _volume, pending = self.leaving()
        other = harness.new_id()

        def restarted_with_another() -> None:
            self.inside(guest).destroy()
            hotplug.attach(self.inside(guest), self.nameless(other), int(Side.PERSISTENT))
            self.inside(guest).start()
            self.inside(guest).unplug.never = False

        self.unseen(restarted_with_another)
        harness.outcome(pending)  # it went with the life that it was in
        self.assertEqual(1, self.requests())
        self.assertIn(other, self.serials(guest))

    def test_another_volume_in_the_same_life_stays(self) -> None:
        guest, _volume, pending = self.leaving()
        other = harness.new_id()

        def replaced() -> None:
            self.inside(guest).remove_live('virtio-disk1', told=False)
            hotplug.attach(self.inside(guest), self.nameless(other), int(Side.LIVE))
            self.inside(guest).unplug.never = False

        self.unseen(replaced)
        harness.outcome(pending)
        self.assertEqual(1, self.requests())
        self.assertIn(other, self.serials(guest))

    def test_what_may_be_another_one_is_neither_gone_nor_asked_for(self) -> None:
        """The disk has another source by now: it, with a snapshot on it, or the next one."""
        volume = harness.new_id()
        guest = self.hypervisor.new_guest(harness.disk_xml(self.hypervisor.new_file(), 'vdb'), state='started')
        (disk,) = self.inside(guest).need_config().findall('devices/disk')
        aliases.set_alias(disk, f'ua-{volume}')
        self.inside(guest).unplug.never = True
        pending = self.driver.detach(guest, volume)

        def another_source() -> None:
            for source in self.inside(guest).need_live().iterfind('devices/disk/source'):
                source.set('file', self.hypervisor.new_file())

        self.unseen(another_source)
        error = self.assertRaises(exception.DeviceConflict, harness.outcome, pending)
        self.assertIn('may be this device or another one', str(error))
        self.assertEqual(1, self.requests())

    def test_a_disk_that_says_whose_it_is_is_that_one_with_another_source(self) -> None:
        guest, volume, pending = self.leaving()

        def snapshot() -> None:
            for source in self.inside(guest).need_live().iterfind('devices/disk/source'):
                source.set('file', self.hypervisor.new_file())
            self.inside(guest).unplug.never = False

        self.unseen(snapshot)
        harness.outcome(pending)
        self.assertNotIn(volume, self.serials(guest))

    def test_a_guest_that_goes_on_elsewhere_or_later_has_the_device(self) -> None:
        saved = libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED, libvirt.VIR_DOMAIN_SHUTOFF_SAVED
        moved = libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED
        for (detail, reason), words in ((saved, 'saved with it'), (moved, 'moved to another host with it')):
            guest, _volume, pending = self.leaving()
            self.unseen(functools.partial(self.inside(guest).stop, detail, reason))
            error = self.assertRaises(exception.DetachFailed, harness.outcome, pending)
            self.assertIn(words, str(error))

    def test_a_device_that_goes_late_and_unseen_is_noticed(self) -> None:
        self.retry_policy = RetryPolicy(timeout=0.05, attempts=1)
        for happens in (FakeGuest.reset, FakeGuest.destroy):
            self.late.clear()
            guest = self.hypervisor.deaf_guest()
            volume = self.attach(guest, bus='virtio')
            self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
            self.unseen(functools.partial(happens, self.inside(guest)))
            self.wait_late(guest, volume)

    def test_a_device_that_is_late_and_still_there_is_not_said_to_be_gone(self) -> None:
        self.retry_policy = RetryPolicy(timeout=0.05, attempts=1)
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
        self.unseen(lambda: None)
        self.assertEqual([], self.late)
        self.inside(guest).reset()
        self.wait_late(guest, volume)

    def test_what_may_go_at_any_moment_is_not_attached(self) -> None:
        self.retry_policy = RetryPolicy(timeout=0.05, attempts=1)
        guest = self.hypervisor.deaf_guest()
        volume = self.attach(guest, bus='virtio')
        self.assertRaises(exception.DetachTimeout, self.detach, guest, volume)
        before = self.xml(guest)
        error = self.assertRaises(exception.GuestBusy, self.attach, guest, volume, bus='virtio')
        self.assertIn('may do so at any moment', str(error))
        self.assert_untouched(guest, before)
        self.inside(guest).reset()
        self.wait_late(guest, volume)
        self.attach(guest, volume, bus='virtio')
        self.assert_on_both(guest, volume)

    def test_what_the_guest_refused_to_release_can_be_attached_again(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume, path = harness.new_id(), self.hypervisor.new_file()
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='virtio'))
        self.inside(guest).unplug.refuse = 1
        self.assertRaises(exception.DetachFailed, self.detach, guest, volume)
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='virtio'))
        self.assert_on_both(guest, volume)


class StartedMeanwhileTest(OnFake):
    """Between the look at a guest that does not run and the change of its persistent config, it is started."""

    def start(self, guest: str) -> None:
        self.side.fake.open().lookupByUUIDString(guest).create()

    def starting(self, guest: str) -> Callable[[DeviceFingerprint], bool]:
        """Starts a guest when its detach begins, once."""
        starts = [guest]

        def begin(_found: DeviceFingerprint) -> bool:
            if starts:
                self.start(starts.pop())
            return False

        return begin

    def test_a_detach_goes_on_with_the_running_guest(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        volume = self.attach(guest)
        harness.outcome(self.driver.detach(guest, volume, begin=self.starting(guest)))
        self.assert_on_both(guest)

    def test_so_does_one_of_a_device_from_before_aliases(self) -> None:
        volume = harness.new_id()
        xml = harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume)
        guest = self.hypervisor.new_guest(xml, state='shut off')
        harness.outcome(self.driver.detach(guest, volume, begin=self.starting(guest)))
        self.assertEqual(set(), self.live(guest).disk_targets() | self.persistent(guest).disk_targets())

    def test_one_of_a_device_that_the_guest_gets_meanwhile_takes_it_out(self) -> None:
        volume, path = harness.new_id(), self.hypervisor.new_file()
        xml = harness.disk_xml(path, 'sdb', serial=volume)
        guest = self.hypervisor.new_guest(state='started')
        inside = self.side.fake.guests[guest]
        hotplug.attach(inside, xml, int(Side.PERSISTENT))
        rest = [Side.LIVE]

        def begin(_found: DeviceFingerprint) -> bool:
            if rest:
                hotplug.attach(inside, xml, int(rest.pop()))
            return False

        harness.outcome(self.driver.detach(guest, volume, begin=begin))
        self.assertEqual(set(), self.live(guest).disk_targets() | self.persistent(guest).disk_targets())

    def test_an_attach_goes_on_with_the_running_guest(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        starts = [guest]
        self.side.fake.before['attachDeviceFlags'] = lambda *_arguments: self.start(starts.pop()) if starts else None
        volume = self.attach(guest)
        self.assert_on_both(guest, volume)
