# SPDX-License-Identifier: Apache-2.0
"""What a guest releases after its detach has failed: noticed, recorded, and not taken for what is there again."""

import threading

import fixtures
import libvirt
from lxml import etree

from aliasagent import exception
from aliasagent.operations.journal import Journal
from aliasagent.operations.runner import Runner
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.functional.rig import NotLiveYetCase
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy


class LateCase(NotLiveYetCase):
    def wait_released(self, operation: str) -> None:
        self.wait_for(lambda: self.journal.get(operation).released_at is not None, 'it is recorded as released')


class LateTest(LateCase):
    def legacy(self, serial: str) -> str:
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=serial))
        self.inside(guest).unplug.never = True
        return guest

    def test_after_a_restart_nothing_is_released_that_the_guest_has(self) -> None:
        volume = harness.new_id()
        guests = [(self.legacy(volume), volume, 'disk'), *self.guests()]
        operations = []
        for guest, device, _kind in guests:
            operations.append(self.detach(guest, device))
            self.assert_outcome(operations[-1], 'DetachTimeout')
        self.restart_agent()
        self.side.fake.drop_connections()
        for (guest, device, _kind), operation in zip(guests, operations, strict=True):
            self.assert_outcome(self.detach(guest, device), 'DetachTimeout')
            self.assertIsNone(self.journal.get(operation).released_at)
        for (guest, _device, kind), operation in zip(guests, operations, strict=True):
            self.unplug_at_last(guest)
            self.wait_released(operation)
            self.assertEqual(0, self.live_count(guest, kind))

    def test_what_may_go_at_any_moment_is_not_attached(self) -> None:
        """Whether its guest has a user alias for it, and whether the agent was restarted since."""
        for restart in (False, True):
            for aliased in (False, True):
                volume, path = harness.new_id(), self.side.new_file()
                guest = self.side.new_guest(
                    harness.disk_xml(path, 'vdb', serial=volume, alias=f'ua-{volume}' if aliased else '')
                )
                self.inside(guest).unplug.never = True
                detach = self.detach(guest, volume)
                self.assert_outcome(detach, 'DetachTimeout')
                if restart:
                    self.restart_agent()
                self.assert_outcome(self.attach_disk(guest, volume, path), 'GuestBusy', 'at any moment')
                self.assertEqual(0, self.persistent_count(guest, 'disk'))
                self.unplug_at_last(guest)
                self.wait_released(detach)
                self.assert_outcome(self.attach_disk(guest, volume, path), None)
                self.assertEqual((1, 1), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))

    def test_what_was_refused_and_attached_again_is_not_released_with_the_end_of_its_guest(self) -> None:
        for restart in (False, True):
            volume, path = harness.new_id(), self.side.new_file()
            guest = self.side.new_guest()
            self.assert_outcome(self.attach_disk(guest, volume, path), None)
            self.inside(guest).unplug.refuse = 1
            refused = self.detach(guest, volume)
            self.assert_outcome(refused, 'DetachFailed', 'refused')
            self.assert_outcome(self.attach_disk(guest, volume, path), None)
            if restart:
                self.restart_agent()
            self.inside(guest).destroy()
            self.assertTrue(self.side.fake.settle())
            # whatever was to follow has been done when the next operation on this guest is
            self.assert_outcome(self.detach(guest, volume), None)
            self.assertIsNone(self.journal.get(refused).released_at)

    def test_a_detach_that_is_refused_hides_none_that_timed_out(self) -> None:
        guest, volume = self.side.deaf_guest(), harness.new_id()
        self.assert_outcome(self.attach_disk(guest, volume, self.side.new_file()), None)
        timed_out = self.detach(guest, volume)
        self.assert_outcome(timed_out, 'DetachTimeout')
        self.side.fake.fail_next('detachDeviceAlias', errors.error(1, 'no'))
        refused = self.detach(guest, volume)
        self.assert_outcome(refused, 'DetachFailed')
        self.restart_agent()
        self.unplug_at_last(guest)
        self.wait_released(timed_out)
        self.wait_released(refused)

    def test_one_is_noticed_of_a_detach_that_failed_before_it_could_ask_again(self) -> None:
        """Found by the history machine: the guest was asked by an agent that died, and the next one may not ask."""
        for guest, device, _kind in self.guests():
            late = self.detach(guest, device)
            self.wait_asked(late, guest)
            self.inside(guest).migrating = True
            self.restart_agent()
            self.assert_outcome(late, 'GuestBusy')
            self.inside(guest).migrating = False
            self.unplug_at_last(guest)
            self.wait_released(late)

    def test_asked_once_more_for_what_went_late_it_is_done(self) -> None:
        for guest, device, _kind in self.guests():
            late = self.detach(guest, device)
            self.assert_outcome(late, 'DetachTimeout')
            self.unplug_at_last(guest)
            self.wait_released(late)
            self.assert_outcome(self.detach(guest, device), None)
            self.assert_outcome(self.detach(guest, device), 'DeviceNotFound')

    def test_unless_another_client_has_plugged_it_in_again(self) -> None:
        """Found by the history machine: what went late was there again without alias, and was said to be gone."""
        path, device = self.side.new_file(), harness.new_id()
        guest = self.not_live_yet(device, harness.disk_xml(path, 'vdb'))
        late = self.detach(guest, device)
        self.assert_outcome(late, 'DetachTimeout')
        self.unplug_at_last(guest)
        self.wait_released(late)
        sides = int(Side.LIVE | Side.PERSISTENT)
        hotplug.attach(self.inside(guest), harness.disk_xml(path, 'vdb'), sides)
        self.assert_outcome(self.detach(guest, device), 'DeviceConflict', 'may be this device or another one')
        self.assertEqual((1, 1), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))


class AttachedMeanwhileTest(NotLiveYetCase):
    def test_a_release_that_was_seen_before_an_attach_is_not_recorded_after_it(self) -> None:
        """Found by the history machine: the look may be older than the attach that brings the device back."""
        volume, path = harness.new_id(), self.side.new_file()
        guest = self.side.deaf_guest()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        detach = self.detach(guest, volume)
        self.assert_outcome(detach, 'DetachTimeout')
        release, seen, go_on = Runner.release, threading.Event(), threading.Event()

        def slow(runner: Runner, *who: str) -> None:
            seen.set()
            go_on.wait(harness.SOON)
            release(runner, *who)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.runner.Runner.release', slow))
        self.addCleanup(go_on.set)
        # The look finds the device gone, and takes its time to record it.
        self.inside(guest).remove_live(f'ua-{volume}')
        self.assertTrue(seen.wait(harness.SOON))
        attach = self.attach_disk(guest, volume, path)
        self.wait_for(lambda: self.inside(guest).need_live().findall('devices/disk'), 'the disk is there again')
        go_on.set()
        self.assert_outcome(attach, None)
        self.assertIsNone(self.journal.get(detach).released_at)

    def test_a_release_that_an_attach_held_up_is_recorded_when_that_has_failed(self) -> None:
        volume, path = harness.new_id(), self.side.new_file()
        guest = self.side.deaf_guest()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        detach = self.detach(guest, volume)
        self.assert_outcome(detach, 'DetachTimeout')

        def release_first(*_arguments: object) -> None:
            del self.side.fake.before['isPersistent']
            self.inside(guest).remove_live(f'ua-{volume}')
            self.assertTrue(self.side.fake.settle())

        self.side.fake.before['isPersistent'] = release_first
        self.side.fake.fail_next('attachDeviceFlags', errors.error(1, 'no'))
        self.assertIsNotNone(self.wait(self.attach_disk(guest, volume, path)).error_class)
        self.wait_for(lambda: self.journal.get(detach).released_at is not None, 'it is recorded as released')

    def journal_full(self, guest: str, volume: str) -> list[bool]:
        """Have a guest let go of a volume while no release can be recorded, until what is returned is empty."""
        release, full, tried = Journal.release, [True], threading.Event()

        def try_to(journal: Journal, *who: str) -> None:
            if full:
                tried.set()
                raise exception.JournalError(path='x', reason='full')
            release(journal, *who)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.release', try_to))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.late.RETRY_SECONDS', 0.01))
        self.inside(guest).remove_live(f'ua-{volume}')
        self.assertTrue(tried.wait(harness.SOON))
        return full

    def overdue_volume(self) -> tuple[str, str, str, str]:
        """A volume whose guest did not release it in time: guest, volume, path and detach."""
        volume, path = harness.new_id(), self.side.new_file()
        guest = self.side.deaf_guest()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        detach = self.detach(guest, volume)
        self.assert_outcome(detach, 'DetachTimeout')
        return guest, volume, path, detach

    def test_a_release_that_waited_is_not_recorded_once_the_device_is_there_again(self) -> None:
        """Found by the history machine: another client attached it while the disk was full."""
        guest, volume, path, detach = self.overdue_volume()
        full = self.journal_full(guest, volume)
        hotplug.attach(self.inside(guest), harness.disk_xml(path, 'vda', serial=volume), int(Side.LIVE))
        full.clear()
        # An operation of this guest comes after what waits to be written.
        self.wait(self.detach(guest, harness.new_id()))
        self.assertTrue(self.side.fake.settle())
        self.assertIsNone(self.journal.get(detach).released_at)
        self.assertEqual(1, self.live_count(guest, 'disk'))

    def test_a_release_that_waited_is_recorded_if_the_device_is_still_gone(self) -> None:
        guest, volume, _path, detach = self.overdue_volume()
        self.journal_full(guest, volume).clear()
        self.wait_for(lambda: self.journal.get(detach).released_at is not None, 'it is recorded as released')

    def test_a_release_that_waited_is_not_recorded_after_an_attach(self) -> None:
        """Found by the history machine: the release was recorded, and told, after a later attach had begun."""
        guest, volume, path, detach = self.overdue_volume()
        full = self.journal_full(guest, volume)
        attach = self.assert_outcome(self.attach_disk(guest, volume, path), None)
        full.clear()
        self.assertTrue(self.side.fake.settle())
        released_at = self.journal.get(detach).released_at
        assert attach.started_at is not None
        self.assertTrue(released_at is None or released_at <= attach.started_at, released_at)


class GoneOnElsewhereTest(LateCase):
    """What a guest was saved or moved with is not out of it, whatever runs here under its name afterwards."""

    def kept(self, how: str, *, restart: bool, overdue: bool) -> tuple[str, str, str]:
        """A guest that was saved or moved with a device while that was on its way out, or overdue.

        :return: the guest, the volume, and the operation that has failed.
        """
        guest, volume = self.side.deaf_guest(), harness.new_id()
        self.retry_policy = RetryPolicy(timeout=0.05 if overdue else 60.0, attempts=1)
        self.assert_outcome(self.attach_disk(guest, volume, self.side.new_file()), None)
        detach = self.detach(guest, volume)
        if overdue:
            self.assert_outcome(detach, 'DetachTimeout')
        else:
            self.wait_asked(detach, guest)
        if how == 'saved':
            self.save(guest)
        else:
            moved = libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED
            self.inside(guest).stop(*moved)
        words = {'saved': 'saved with it', 'migrated': 'moved to another host'}[how]
        self.assert_outcome(detach, *(('DetachTimeout', '') if overdue else ('DetachFailed', words)))
        self.wait_recorded(detach, how)
        if restart:
            self.restart_agent()
        return guest, volume, detach

    def wait_recorded(self, detach: str, how: str) -> None:
        def recorded() -> bool:
            asked = self.journal.get(detach).asked
            return asked is not None and asked.kept == how

        self.wait_for(recorded, 'it is recorded')

    def save(self, guest: str) -> None:
        self.side.fake.open().lookupByUUIDString(guest).saveFlags(str(self.directory / guest), None, 0)

    def looked_at(self, guest: str) -> None:
        """Wait until whatever was to follow is done."""
        self.assertTrue(self.side.fake.settle())
        looked = self.unplugs._callers.submit(guest, lambda: None)
        assert looked is not None
        self.assertTrue(looked.wait(harness.SOON))

    def test_a_guest_that_is_started_anew_has_released_nothing(self) -> None:
        """Found by the history machine, seed 107507."""
        for how in ('saved', 'migrated'):
            for restart in (False, True):
                for overdue in (False, True):
                    guest, volume, detach = self.kept(how, restart=restart, overdue=overdue)
                    self.inside(guest).start()
                    self.looked_at(guest)
                    self.assertIsNone(self.journal.get(detach).released_at, f'{how}, {restart=}, {overdue=}')
                    # Whoever asks anew is told of the guest that runs now.
                    self.assert_outcome(self.detach(guest, volume), None)

    def test_a_guest_that_goes_on_from_its_save_releases_late(self) -> None:
        for restart in (False, True):
            guest, volume, detach = self.kept('saved', restart=restart, overdue=True)
            self.side.fake.open().restore(str(self.directory / guest))
            self.looked_at(guest)
            self.assertIsNone(self.journal.get(detach).released_at)
            self.assertEqual(1, self.live_count(guest, 'disk'))
            if restart:
                self.restart_agent()
            self.inside(guest).remove_live(f'ua-{volume}')
            self.wait_released(detach)

    def test_what_it_had_released_before_it_was_saved_is_released_once_it_goes_on(self) -> None:
        guest, _volume, detach = self.kept('saved', restart=False, overdue=True)
        with self.side.fake.lock:
            path = str(self.directory / guest)
            uuid, image = self.side.fake.saved[path]
            self.side.fake.saved[path] = (uuid, self.without_disks(image))
        self.side.fake.open().restore(path)
        self.wait_released(detach)

    def without_disks(self, image: str) -> str:
        tree = definition.parse(image, 'domain_definition')
        for disk in tree.findall('devices/disk'):
            disk.getparent().remove(disk)  # type: ignore[union-attr]
        return etree.tostring(tree, encoding='unicode')

    def test_a_detach_that_is_gone_on_with_is_no_success(self) -> None:
        guest, volume = self.side.deaf_guest(), harness.new_id()
        self.retry_policy = RetryPolicy(timeout=60.0, attempts=1)
        self.assert_outcome(self.attach_disk(guest, volume, self.side.new_file()), None)
        detach = self.detach(guest, volume)
        self.wait_asked(detach, guest)
        recorded = threading.Event()
        finish = Journal.finish
        self.useFixture(
            fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.finish', lambda *_args: recorded.set())
        )
        self.save(guest)
        self.assertTrue(recorded.wait(harness.SOON))
        self.kill_agent()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.finish', finish))
        self.inside(guest).start()
        self.start_agent()
        self.assert_outcome(detach, 'DetachFailed', 'was saved with it')
