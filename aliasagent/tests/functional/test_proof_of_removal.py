# SPDX-License-Identifier: Apache-2.0
"""What is not seen any more in the way it was known is not proven to be gone; what was read before a wait is old."""

import threading
import time
from typing import Any
from unittest import mock

import fixtures

from aliasagent.allowed import paths
from aliasagent.operations.journal import Journal
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional.rig import NotLiveYetCase
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy


class GoneTest(NotLiveYetCase):
    def snapshot(self, guest: str) -> None:
        """The running guest writes to another file from now on."""
        source = self.inside(guest).need_live().find('devices/disk/source')
        assert source is not None
        source.set('file', self.side.new_file())

    def save(self, guest: str) -> str:
        path = str(self.directory / 'saved-by-hand')
        self.side.fake.open().lookupByUUIDString(guest).saveFlags(path)
        self.assertTrue(self.side.fake.settle())
        return path

    def restore(self, path: str) -> None:
        self.side.fake.open().restoreFlags(path, None, 0)
        self.assertTrue(self.side.fake.settle())

    def assert_not_released(self, guest: str, device: str, late: str, kind: str) -> None:
        again = self.wait(self.detach(guest, device))
        self.assertEqual(1, self.live_count(guest, kind))
        self.assertIsNone(self.journal.get(late).released_at)
        self.assertIsNotNone(again.error_class, 'it is said to be detached')

    def test_a_snapshot_and_a_restore_are_no_release(self) -> None:
        for restart in (False, True):
            volume = harness.new_id()
            guest = self.not_live_yet(volume, harness.disk_xml(self.side.new_file(), 'vdb'))
            late = self.detach(guest, volume)
            self.assert_outcome(late, 'DetachTimeout')
            self.snapshot(guest)
            path = self.save(guest)
            if restart:
                self.restart_agent()
            self.restore(path)
            self.assert_not_released(guest, volume, late, 'disk')

    def test_nor_are_they_the_success_of_a_detach_that_is_taken_up(self) -> None:
        volume = harness.new_id()
        guest = self.not_live_yet(volume, harness.disk_xml(self.side.new_file(), 'vdb'))
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        detach = self.detach(guest, volume)
        self.wait_asked(detach, guest)
        self.kill_agent()
        self.snapshot(guest)
        self.restore(self.save(guest))
        self.retry_policy = RetryPolicy(timeout=0.1, attempts=2)
        self.start_agent()
        done = self.wait(detach)
        self.assertEqual(1, self.live_count(guest, 'disk'))
        self.assertIsNotNone(done.error_class, 'it is said to be detached')

    def test_a_number_of_a_run_that_comes_again_is_another_run(self) -> None:
        port, mac = harness.new_id(), harness.new_mac()
        guest = self.side.new_guest(
            harness.interface_xml('br-fake', harness.new_mac()) + harness.interface_xml('br-fake', mac)
        )
        inside = self.inside(guest)
        (_one, two) = inside.need_config().findall('devices/interface')
        aliases.set_alias(two, f'ua-{port}')
        inside.remove_live('net0')  # by another client: the second one is net0 when the guest is restored
        inside.unplug.never = True
        late = self.detach(guest, port)
        self.assert_outcome(late, 'DetachTimeout')
        number, path = inside.id, self.save(guest)
        self.side.fake.drop_connections()
        self.assertTrue(self.host.wait_connected(harness.SOON))
        self.side.fake._ids = number - 1  # libvirtd counts anew from the highest that runs
        self.restore(path)
        self.assert_not_released(guest, port, late, 'interface')

    def test_another_source_and_no_alias_are_no_absence_from_the_persistent_config(self) -> None:
        volume = harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', alias=f'ua-{volume}'))
        inside = self.inside(guest)

        def lose(_instance: str, _alias: str, flags: int) -> None:
            if flags & Side.PERSISTENT:
                self.side.fake.before.clear()
                disk = inside.need_config().find('devices/disk')
                assert disk is not None
                for found in disk.findall('alias'):
                    disk.remove(found)
                for source in disk.findall('source'):
                    source.set('file', self.side.new_file())
                self.side.fake.drop_connections()
                raise errors.error(38, 'connection lost')

        self.side.fake.before['detachDeviceAlias'] = lose
        done = self.wait(self.detach(guest, volume))
        self.assertEqual(1, self.persistent_count(guest, 'disk'))
        self.assertIsNotNone(done.error_class, 'it is said to be detached')

    def test_the_name_of_another_source_is_no_reason_to_say_that_it_is_there(self) -> None:
        for state in ('running', 'shut off'):
            volume = harness.new_id()
            guest = self.side.new_guest(
                harness.disk_xml(self.side.new_file(), 'vdb', serial=volume, alias=f'ua-{volume}')
                + harness.disk_xml(f'/backups/volume-{volume}.qcow2', 'vdc'),
                state=state,
            )
            self.assert_outcome(self.detach(guest, volume), None)


class OneOnlyTest(NotLiveYetCase):
    def test_a_detach_takes_out_one_device(self) -> None:
        """Not the next one that says it is the same: a disk whose volume Nova has swapped keeps the old serial."""
        for state in ('running', 'shut off'):
            volume = harness.new_id()
            guest = self.side.new_guest(
                harness.disk_xml(self.side.new_file(), 'vdb', alias=f'ua-{volume}')
                + harness.disk_xml(self.side.new_file(), 'vdc', serial=volume),
                state=state,
            )
            done = self.wait(self.detach(guest, volume))
            live = self.live_count(guest, 'disk') if state == 'running' else 1
            self.assertEqual((1, 1), (live, self.persistent_count(guest, 'disk')), f'{state}: {done.error}')


class AskedTest(NotLiveYetCase):
    """What an earlier process has asked a guest for, and this one could not go on with."""

    def asked(self) -> tuple[str, str, str, str]:
        guest, volume, path = self.side.deaf_guest(), harness.new_id(), self.side.new_file()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        detach = self.detach(guest, volume)
        self.wait_asked(detach, guest)
        self.kill_agent()
        return guest, volume, path, detach

    def test_a_detach_that_fails_when_it_is_taken_up_may_still_come_true(self) -> None:
        guest, volume, path, detach = self.asked()
        self.inside(guest).migrating = True
        self.start_agent()
        self.assert_outcome(detach, 'GuestBusy')
        self.inside(guest).migrating = False
        self.assert_outcome(self.attach_disk(guest, volume, path), 'GuestBusy', 'at any moment')

    def test_and_its_release_is_told(self) -> None:
        guest, volume, _path, detach = self.asked()
        self.inside(guest).migrating = True
        self.start_agent()
        self.assert_outcome(detach, 'GuestBusy')
        self.inside(guest).migrating = False
        self.inside(guest).remove_live(f'ua-{volume}')
        self.wait_for(lambda: self.journal.get(detach).released_at is not None, 'it is recorded as released')

    def test_so_may_one_of_which_libvirt_refused_a_later_attempt(self) -> None:
        guest, volume, path = self.side.deaf_guest(), harness.new_id(), self.side.new_file()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        asked: list[int] = []

        def refuse(_instance: str, _alias: str, flags: int) -> None:
            if flags & Side.LIVE:
                asked.append(flags)
                if len(asked) > 1:
                    raise errors.error(1, 'internal error: no')

        self.side.fake.before['detachDeviceAlias'] = refuse
        self.assert_outcome(self.detach(guest, volume), 'DetachFailed')
        self.side.fake.before.clear()
        self.restart_agent()
        self.assert_outcome(self.attach_disk(guest, volume, path), 'GuestBusy', 'at any moment')


class ReadBeforeTest(NotLiveYetCase):
    def test_a_record_that_takes_long_makes_what_was_read_old(self) -> None:
        volume, other, guest = (harness.new_id() for _ in range(3))
        # As libvirtd finds it at its start: no event tells of it, and no pass has come here yet.
        self.side.fake.load_guest(
            domain_xml('from-disk', guest, harness.disk_xml(self.side.new_file(), 'vdb', serial=volume))
        )
        start, there, go_on = Journal.start, threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def slow(journal: Journal, operation: str, *asked: Any, **synced: Any) -> None:
            there.set()
            go_on.wait(harness.SOON)
            start(journal, operation, *asked, **synced)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.start', slow))
        detach = self.detach(guest, volume)
        self.assertTrue(there.wait(harness.SOON))
        time.sleep(1.0)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceFlags(harness.disk_xml('any', 'vdb'), int(Side.PERSISTENT))
        domain.attachDeviceFlags(harness.disk_xml(self.side.new_file(), 'vdb', serial=other), int(Side.PERSISTENT))
        go_on.set()
        self.wait(detach)
        self.assertEqual(1, self.persistent_count(guest, 'disk'), 'the disk of another volume is gone')

    def test_what_came_while_an_attach_was_checked_is_seen(self) -> None:
        guest, volume, path = self.side.new_guest(), harness.new_id(), self.side.new_file()
        check, domain = paths.check, self.side.fake.open().lookupByUUIDString(guest)

        def slow(*arguments: object) -> None:
            domain.attachDeviceFlags(harness.disk_xml(path, 'vdq', alias='ua-another'), 3)
            check(*arguments)  # type: ignore[arg-type]

        with mock.patch.object(paths, 'check', slow):
            self.assert_outcome(self.attach_disk(guest, volume, path), 'DeviceConflict', 'ua-another')
        self.assertEqual(1, self.live_count(guest, 'disk'))
