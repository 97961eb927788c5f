# SPDX-License-Identifier: Apache-2.0
"""A record ends with its truth, and one thread that cannot be started, or one guest that hangs, stops no other."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator
from unittest import mock

import libvirt

from aliasagent import exception
from aliasagent.operations.lanes import Lanes
from aliasagent.operations.moves import Moves
from aliasagent.reconcile.apply import Draft
from aliasagent.requests.actions import Action
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt import callers
from aliasagent.virt import deadlines
from aliasagent.virt import migrate

_LUN = """
<disk type='network' device='lun'>
  <driver name='qemu' type='raw'/>
  <source protocol='iscsi' name='iqn.2010-01.com.array:one/1'><host name='10.0.0.5' port='3260'/></source>
  <target dev='sdb' bus='scsi'/>
</disk>"""


def _block(path: str, target: str) -> str:
    return f"""
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='{path}'/>
  <target dev='{target}' bus='virtio'/>
  <serial>DATA</serial>
</disk>"""


@contextlib.contextmanager
def _no_thread_once() -> Iterator[None]:
    """The next thread cannot be started: the host has no room for one more."""
    start, failed = threading.Thread.start, list[threading.Thread]()

    def fail_once(thread: threading.Thread) -> None:
        if not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch('threading.Thread.start', fail_once):
        yield


class RecordsTest(RigCase):
    def test_a_lun_number_is_another_volumes_tomorrow(self) -> None:
        guest, volume = self.side.new_guest(), harness.new_id()
        target = {'target_portal': '10.0.0.5:3260', 'target_iqn': 'iqn.2010-01.com.array:one', 'target_lun': 1}
        attach = self.ask(
            Action.ATTACH_VOLUME,
            guest,
            volume,
            volume_id=volume,
            connection_info={'driver_volume_type': 'iscsi', 'data': target},
            disk_bus='scsi',
            device_type='lun',
        )
        self.assert_outcome(attach, None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceAlias(f'ua-{volume}', 3)
        self.assertTrue(self.side.fake.settle())
        domain.attachDeviceFlags(_LUN, 3)  # another volume, to which the array gave the number
        self.reconciler.run()
        self.assertEqual([], self.inside(guest).aliases(live=False))
        self.assertIsNotNone(self.wait(self.detach(guest, volume)).error_class)
        self.assertEqual((1, 1), (self.live_count(guest, 'disk'), self.persistent_count(guest, 'disk')))

    def test_a_serial_that_is_no_id_is_another_volumes_tomorrow(self) -> None:
        guest, volume = self.side.new_guest(_block('/dev/sdb', 'vdb')), harness.new_id()
        inventory = {'volumes': [{'id': volume, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceFlags(_block('/dev/sdb', 'vdb'), 3)
        self.assertTrue(self.side.fake.settle())
        domain.attachDeviceFlags(_block('/dev/sdc', 'vdc'), 3)
        self.assertIsNotNone(self.wait(self.detach(guest, volume)).error_class)
        self.assertEqual((1, 1), (self.live_count(guest, 'disk'), self.persistent_count(guest, 'disk')))

    def test_a_pass_goes_by_what_is_known_when_it_writes(self) -> None:
        guest, volume, path = self.side.new_guest(), harness.new_id(), self.side.new_file()
        self.assert_outcome(self.attach_disk(guest, volume, path), None)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.attachDeviceFlags(harness.disk_xml(self.side.new_file(), 'vdc', serial=harness.new_id()), 3)
        begun: list[Draft] = []
        self.reconciler._looks.clear()
        self.reconciler._begin(self.host.guest(guest), begun)
        self.assert_outcome(self.detach(guest, volume), None)
        domain.attachDeviceFlags(harness.disk_xml(path, 'vda'), 3)
        for draft in begun:
            self.reconciler._finish(draft, [])
        self.assertNotIn(f'ua-{volume}', self.inside(guest).aliases(live=False))

    def test_an_inventory_settles_an_attach_too(self) -> None:
        owner, named = harness.new_id(), harness.new_id()
        guest = self.side.new_guest(harness.disk_xml(f'/srv/volume-{named}', 'vdb'))
        inventory = {'volumes': [{'id': owner, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        self.assert_outcome(self.attach_disk(guest, named, self.side.new_file()), None)

    def test_what_an_inventory_alone_vouches_for_is_not_taken_for_attached(self) -> None:
        """What it said ends with an attach, and a detach would find nothing any more."""
        volume, path = harness.new_id(), self.side.new_file()
        guest = self.side.new_guest(harness.disk_xml(path, 'vdb'), state='transient')
        inventory = {'volumes': [{'id': volume, 'target': 'vdb'}]}
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=inventory), None)
        words = 'is it, as the earlier inventory says, and has no alias'
        self.assert_outcome(self.attach_disk(guest, volume, path), 'DeviceConflict', words)
        self.assert_outcome(self.detach(guest, volume), None)
        self.assertEqual(0, self.live_count(guest, 'disk'))


class MovesTest(RigCase):
    def legacy(self) -> str:
        return self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=harness.new_id()))

    def relive(self, guest: str) -> list[pathlib.Path]:
        """The files that are left."""
        self.wait(self.ask(Action.RECONCILE_LIVE, guest, '', inventory=None))
        return list((self.directory / 'save').glob('*'))

    def written(self, _instance: str, path: str, *_more: object) -> None:
        pathlib.Path(path).write_bytes(b'LibvirtQemudSave')

    def lose(self, guest: str) -> None:
        """Somebody starts the guest anew, and the connection is lost."""
        self.inside(guest).start()
        self.side.fake.drop_connections()
        raise harness.libvirt_error(libvirt.VIR_ERR_NO_CONNECT, 'connection lost')

    def test_the_memory_of_a_guest_that_was_started_anew_is_kept(self) -> None:
        guest = self.legacy()

        def saved(instance: str, path: str, *_more: object) -> None:
            self.written(instance, path)
            self.side.fake.after.clear()
            self.lose(guest)

        self.side.fake.after['saveFlags'] = saved
        self.assertNotEqual([], self.relive(guest))

    def test_also_if_that_was_before_it_was_restored(self) -> None:
        guest = self.legacy()
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=None), None)

        def restored(*_arguments: object) -> None:
            self.side.fake.before.clear()
            self.lose(guest)

        self.side.fake.after['saveFlags'] = self.written
        self.side.fake.before['restoreFlags'] = restored
        self.assertNotEqual([], self.relive(guest))

    def test_a_guest_that_was_started_anew_at_the_destination_has_not_moved(self) -> None:
        other = FakeHypervisor('other')
        self.addCleanup(other.stop)
        guest = self.side.new_guest(state='transient')
        self.inside(guest).power_off()
        other.add_guest(xml=domain_xml('there', guest))
        with mock.patch.object(self.host, 'open_other', lambda _uri: other.open()):
            self.assertRaises(exception.HypervisorError, migrate.follow, self.host, guest, 'qemu+tls://other/system')

    def test_a_guest_that_has_moved_and_is_defined_still_is_not_here(self) -> None:
        guest = self.side.new_guest()
        self.inside(guest).stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
        error = self.assertRaises(
            exception.HypervisorError, migrate.follow, self.host, guest, 'qemu+tls://other/system'
        )
        self.assertNotIn('is still here', str(error))

    def test_a_migration_takes_along_what_the_guest_has_when_it_begins(self) -> None:
        lun = """<disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/disk/by-id/{}'/>
            <target dev='sdb' bus='scsi'/></disk>"""
        guest = self.side.new_guest(lun.format('one'))
        domain = self.side.fake.open().lookupByUUIDString(guest)
        given: dict[str, object] = {}

        def begin() -> None:
            """The journal's disk was full for an hour."""
            domain.detachDeviceFlags(lun.format('one'), 3)
            self.assertTrue(self.side.fake.settle())
            domain.attachDeviceFlags(lun.format('two'), 3)

        self.side.fake.before['migrateToURI3'] = lambda _guest, _uri, parameters, _flags: given.update(parameters)

        def rewrite(*_definitions: object) -> dict[str, str]:
            return {'ua-any': 'for this test'}

        with contextlib.suppress(exception.HypervisorError):
            migrate.migrate(self.host, guest, 'qemu+tls://other/system', rewrite, begin=begin)
        self.assertNotIn('by-id/one', str(given))


class OthersTest(RigCase):
    def test_a_thread_that_cannot_be_started_costs_no_more_than_its_job(self) -> None:
        gone = threading.Event()
        lanes, moves, guests, due = Lanes(4), Moves(1), callers.GuestCallers(), deadlines.Deadlines()
        self.addCleanup(lanes.close)
        self.addCleanup(due.close)
        for submit in (
            lambda done: lanes.submit('guest', done),
            moves.submit,
            lambda done: guests.submit('guest', done),
            lambda done: due.call_in(0.0, done),
        ):
            gone.clear()
            with _no_thread_once(), contextlib.suppress(RuntimeError):
                submit(lambda: None)
            submit(gone.set)
            self.assertTrue(gone.wait(5.0), submit)

    def test_a_guest_that_hangs_holds_up_no_other_in_a_pass(self) -> None:
        hung, gate = self.side.new_guest(), threading.Event()
        self.assertTrue(self.side.fake.settle())
        self.reconciler.run()
        self.addCleanup(gate.set)

        def hang(instance: str, *_flags: object) -> None:
            if instance == hung:
                gate.wait(harness.SOON)

        self.side.fake.before['XMLDesc'] = hang
        others = [harness.new_id() for _ in range(40)]
        for number, guest in enumerate(others):
            disk = harness.disk_xml(self.side.new_file(), 'vdb', serial=harness.new_id())
            self.side.fake.load_guest(domain_xml(f'guest-{number}', guest, disk))
        threading.Thread(target=self.reconciler.run, daemon=True).start()
        self.wait_for(
            lambda: all(self.inside(guest).aliases(live=False) for guest in others), 'all others are reconciled'
        )
