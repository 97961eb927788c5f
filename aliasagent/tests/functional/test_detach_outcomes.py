# SPDX-License-Identifier: Apache-2.0
"""What the agent says of a detach is true, whatever happens to it, to the connection or to the guest meanwhile."""

import copy
import functools
from collections.abc import Callable

import fixtures
import libvirt

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.journal import Journal
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.functional.rig import NotLiveYetCase
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy


class RestartTest(NotLiveYetCase):
    def test_a_detach_over_a_restart_is_no_success_while_the_guest_has_the_device(self) -> None:
        for guest, device, kind in self.guests():
            self.retry_policy = RetryPolicy(timeout=60, attempts=1)
            operation = self.detach(guest, device)
            self.wait_asked(operation, guest)
            self.assertEqual(0, self.persistent_count(guest, kind))
            self.retry_policy = RetryPolicy(timeout=0.1, attempts=2)
            self.restart_agent()
            self.assert_outcome(operation, 'DetachTimeout', 'still in the running guest')
            self.assertEqual(1, self.live_count(guest, kind))

    def test_what_only_its_alias_in_the_persistent_config_proved_is_gone_on_with(self) -> None:
        """Found by the history machine: it was a conflict, as only its source was named after it by then."""
        device = harness.new_id()
        path = self.directory / f'volume-{device}'
        path.touch()
        guest = self.not_live_yet(device, harness.disk_xml(str(path), 'vdb'))
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        operation = self.detach(guest, device)
        self.wait_asked(operation, guest)
        self.retry_policy = RetryPolicy(timeout=0.1, attempts=2)
        self.restart_agent()
        self.assert_outcome(operation, 'DetachTimeout', 'still in the running guest')

    def test_and_one_when_the_guest_has_let_go(self) -> None:
        for guest, device, kind in self.guests():
            self.retry_policy = RetryPolicy(timeout=60, attempts=1)
            operation = self.detach(guest, device)
            self.wait_asked(operation, guest)
            self.kill_agent()
            self.unplug_at_last(guest)
            self.start_agent()
            self.assert_outcome(operation, None)
            self.assertEqual(0, self.live_count(guest, kind))

    def test_a_connection_that_is_lost_in_the_persistent_removal_makes_no_success(self) -> None:
        for guest, device, kind in self.guests():
            lost = [True]

            def lose(lost: list[bool], _instance: str, _alias: str, flags: int) -> None:
                if flags & Side.PERSISTENT and lost:
                    lost.clear()
                    self.side.fake.drop_connections()
                    raise errors.error(libvirt.VIR_ERR_NO_CONNECT, 'connection lost')

            self.side.fake.after['detachDeviceAlias'] = functools.partial(lose, lost)
            operation = self.detach(guest, device)
            self.assert_outcome(operation, 'DetachTimeout', 'gone from the persistent config and still in the running')
            self.assertEqual((0, 1), (self.persistent_count(guest, kind), self.live_count(guest, kind)))

    def test_after_a_timeout_it_can_be_asked_for_again(self) -> None:
        for restart in (False, True):
            for guest, device, kind in self.guests():
                first = self.detach(guest, device)
                self.assert_outcome(first, 'DetachTimeout')
                if restart:
                    self.restart_agent()
                self.assert_outcome(self.detach(guest, device), 'DetachTimeout')
                self.assertIsNone(self.journal.get(first).released_at)
                self.inside(guest).unplug.never = False
                self.assert_outcome(self.detach(guest, device), None)
                self.assertEqual(0, self.live_count(guest, kind))


class KnownTest(RigCase):
    """What the agent knows of a device settles what the device's own evidence cannot."""

    def test_a_migrated_volume_that_this_agent_attached_can_be_detached(self) -> None:
        """Cinder keeps its id, and it lies in what is named after another one."""
        volume, other = harness.new_id(), harness.new_id()
        path = self.directory / f'volume-{other}'
        path.touch()
        guest = self.side.new_guest()
        self.assert_outcome(self.attach_disk(guest, volume, str(path)), None)
        self.assert_outcome(self.detach(guest, other), 'DeviceNotFound')
        self.restart_agent()
        self.assert_outcome(self.detach(guest, volume), None)
        self.assertEqual((0, 0), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))

    def test_one_that_another_client_attached_can_be_when_an_inventory_says_so(self) -> None:
        volume, other = harness.new_id(), harness.new_id()
        path = self.directory / f'volume-{other}'
        path.touch()
        guest = self.side.new_guest(harness.disk_xml(str(path), 'vdb', serial=volume, alias=f'ua-{volume}'))
        for device in (volume, other):
            done = self.assert_outcome(self.detach(guest, device), 'DeviceConflict', volume)
            self.assertIn(other, done.error or '')
        inventory = {'volumes': [{'id': volume, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        self.restart_agent()
        self.assert_outcome(self.detach(guest, volume), None)


class FullDiskTest(RigCase):
    """A detach cannot begin for a while, and its guest does not wait for that."""

    def setUp(self) -> None:
        super().setUp()
        self.retry_policy = RetryPolicy(timeout=harness.SOON, attempts=1)

    def full_until(self, done: Callable[[], None]) -> None:
        """Have no detach begin before something was done."""
        start, rest = Journal.start, [done]

        def begin(
            journal: Journal, operation_id: str, asked: DeviceFingerprint | None = None, *, synced: bool = True
        ) -> None:
            if asked is not None and rest:
                rest.pop()()
                raise exception.JournalError(path='x', reason='full')
            start(journal, operation_id, asked, synced=synced)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.journal.Journal.start', begin))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.runner.RETRY_SECONDS', 0.01))

    def test_another_volume_in_the_same_place_stays(self) -> None:
        volume, other = harness.new_id(), harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=volume))
        inside = self.inside(guest)

        def another_volume() -> None:
            inside.destroy()
            config = inside.need_config()
            (disk,) = config.findall('devices/disk')
            disk.getparent().remove(disk)  # type: ignore[union-attr]
            hotplug.attach(inside, harness.disk_xml(self.side.new_file(), 'vdb', serial=other), int(Side.PERSISTENT))
            inside.start()

        self.full_until(another_volume)
        self.assert_outcome(self.detach(guest, volume), None)
        for definition in (inside.need_live(), inside.need_config()):
            self.assertEqual([other], [serial.text for serial in definition.iterfind('devices/disk/serial')])

    def test_a_connection_that_was_made_anew_meanwhile_is_used(self) -> None:
        """Found by the history machine: the error of the old connection was taken for one of the hypervisor's."""

        def made_anew() -> None:
            self.side.fake.drop_connections()
            self.wait_for(lambda: self.side.fake.connections, 'the next connection')
            self.assertTrue(self.host.wait_connected(harness.SOON))

        volume = harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=volume))
        self.full_until(made_anew)
        self.assert_outcome(self.detach(guest, volume), None)

    def test_a_guest_that_was_started_meanwhile_is_asked(self) -> None:
        volume = harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=volume), state='shut off')
        self.full_until(self.inside(guest).start)
        self.assert_outcome(self.detach(guest, volume), None)
        self.assertEqual((0, 0), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))


class SavedTest(RigCase):
    """A guest that goes on from a file has the devices that it had."""

    def test_a_device_of_a_saved_guest_is_not_said_to_be_gone(self) -> None:
        volume = harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=volume))
        before = copy.deepcopy(self.inside(guest).need_config())
        self.side.fake.open().lookupByUUIDString(guest).saveFlags(str(self.directory / 'saved'), None, 0)
        self.assert_outcome(self.detach(guest, volume), 'GuestBusy', 'saved with its devices')
        self.assertEqual(
            len(before.findall('devices/disk')), len(self.inside(guest).need_config().findall('devices/disk'))
        )

    def test_nor_one_of_a_guest_of_which_libvirt_has_forgotten_how_it_stopped(self) -> None:
        guest, volume = self.side.deaf_guest(), harness.new_id()
        self.assert_outcome(self.attach_disk(guest, volume, self.side.new_file()), None)
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        operation = self.detach(guest, volume)
        self.wait_asked(operation, guest)
        self.kill_agent()
        self.side.fake.open().lookupByUUIDString(guest).saveFlags(str(self.directory / 'saved'), None, 0)
        self.inside(guest).reason = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
        self.start_agent()
        self.assert_outcome(operation, 'DetachFailed', 'does not report how the guest stopped')

    def test_what_was_put_back_by_another_client_is_not_said_to_be_gone(self) -> None:
        guest, volume = self.side.deaf_guest(), harness.new_id()
        self.assert_outcome(self.attach_disk(guest, volume, self.side.new_file()), None)
        stale = self.side.fake.open().lookupByUUIDString(guest).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.retry_policy = RetryPolicy(timeout=60, attempts=1)
        operation = self.detach(guest, volume)
        self.wait_asked(operation, guest)
        self.side.fake.open().defineXML(stale)
        self.inside(guest).remove_live(f'ua-{volume}')
        self.assert_outcome(operation, 'DetachFailed', 'put it into the persistent config again')


class NeverReleasedTest(RigCase):
    """A device that no running guest releases is refused before anything changes."""

    def test_it_stays_in_the_persistent_config(self) -> None:
        in_use = self.side.new_guest(harness.disk_xml(self.side.new_file(), 'sda'))
        shared = self.side.new_guest("<filesystem><source dir='/srv'/><target dir='srv'/></filesystem>")
        serial = self.side.new_guest("<serial type='null'><target type='isa-serial' port='0'/></serial>")
        for guest, kind, error in (
            (in_use, "controller[@type='scsi']", 'DeviceConflict'),
            (shared, 'filesystem', 'Unsupported'),
            (serial, 'serial', 'Unsupported'),
        ):
            device = harness.new_id()
            for definition in (self.inside(guest).need_live(), self.inside(guest).need_config()):
                element = definition.find(f'devices/{kind}')
                assert element is not None
                aliases.set_alias(element, f'ua-{device}')
            self.assert_outcome(self.ask(Action.DETACH, guest, device, device_id=device), error)
            self.assertEqual((1, 1), (self.persistent_count(guest, kind), self.live_count(guest, kind)))
