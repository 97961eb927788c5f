# SPDX-License-Identifier: Apache-2.0
"""Moves that the agent or the connection does not see to their end, from the journal to the guest of the fake."""

import pathlib
import threading
from unittest import mock

from aliasagent.actions import Action
from aliasagent.allowed.rules import Bounds
from aliasagent.operations import knowledge
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.moves import Moves
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import catalog
from aliasagent.requests.guest import LiveMigrate
from aliasagent.requests.guest import ReconcileLive
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests import on_fake
from aliasagent.tests.contract import requests
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.ids import VOLUME
from aliasagent.virt import jobs
from aliasagent.virt import saved_guest

NOBODY = ids.GUEST
DISK = (
    "<disk type='file' device='disk'><source file='/disk'/><target dev='sda' bus='scsi'/>"
    f'<serial>{VOLUME}</serial></disk>'
)


class InterruptedMovesTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(jobs, '_INTERVAL', 0.005)
        self.directory = pathlib.Path(self.make_directory()).resolve()
        self.fake.after['saveFlags'] = self.write
        self.journal, self.runner = self.start()

    def start(self) -> tuple[Journal, Runner]:
        journal = Journal(str(self.directory / 'journal'))
        self.addCleanup(journal.close)
        queues = GuestQueues(2)
        self.addCleanup(queues.close)
        self.moves = Moves(2)
        self.relocation = Relocation(
            self.host,
            str(self.directory),
            lambda guest: knowledge.records(journal.attached(guest)),
            within=Bounds.everything,
        )
        driver = mock.Mock(wait_connected=self.host.wait_connected)
        runner = Runner(
            journal,
            queues,
            driver,
            mock.Mock(),
            self.relocation,
            mock.Mock(),
            moves=self.moves,
            reconnect_timeout=lambda: base.PATIENCE,
        )
        self.addCleanup(runner.close)
        return journal, runner

    def start_next_agent(self) -> None:
        """Start an agent that finds the journal of one that has ended."""
        self.host = self.connect()
        self.journal, self.runner = self.start()
        self.runner.recover()

    def write(self, _uuid: str, path: str, *_more: object) -> None:
        """What libvirt does: the file is there once the guest is saved."""
        pathlib.Path(path).write_text('memory')

    def cut(self, method: str) -> None:
        """In the next call of a method the connection is lost."""

        def drop(*_arguments: object) -> None:
            del self.fake.before[method]
            self.fake.drop_connections()
            raise errors.cut_off()

        self.fake.before[method] = drop

    def outcome(self, action: Action, instance: str, *, killed: bool = False) -> Operation:
        """What becomes of an operation.

        :param killed: the agent began it, was killed, and is started again.
        """
        request = catalog.parse(action, {'dest_uri': 'qemu+tls://there/system'})
        operation = Operation(f'{action}-{instance}', action, instance, '', request)
        if killed:
            self.journal.accept(operation)
            self.journal.start(operation.id)
            self.runner.recover()
        else:
            self.runner.accept(operation)
        self.wait_for(lambda: self.journal.get(operation.id).is_finished, 'the end')
        return self.journal.get(operation.id)

    def assert_relived(self, guest: FakeGuest, done: Operation) -> None:
        self.assertEqual((State.SUCCEEDED, None), (done.state, done.error))
        self.assertEqual([f'ua-{VOLUME}'], self.fake.guests[guest.uuid].aliases())
        self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_a_guest_that_never_was_here_has_not_arrived_elsewhere(self) -> None:
        self.cut('lookupByUUIDString')
        done = self.outcome(Action.LIVE_MIGRATE, NOBODY)
        self.assertEqual((State.FAILED, 'InstanceNotFound'), (done.state, done.error_class))

    def test_the_connection_is_lost_as_the_save_ends(self) -> None:
        guest = self.fake.add_guest(DISK)

        def drop(uuid: str, path: str, *_more: object) -> None:
            self.fake.after['saveFlags'] = self.write
            self.write(uuid, path)
            self.fake.drop_connections()
            raise errors.cut_off()

        self.fake.after['saveFlags'] = drop
        self.assert_relived(guest, self.outcome(Action.RECONCILE_LIVE, guest.uuid))

    def test_libvirtd_goes_on_with_the_save(self) -> None:
        guest = self.fake.add_guest(DISK)
        path = self.directory / f'{guest.uuid}.relive'
        there: list[bool] = []

        def end() -> None:
            there.append(path.exists())
            guest.end_save()

        def save(*_arguments: object) -> None:
            del self.fake.before['saveFlags']
            guest.begin_save(str(path))
            path.write_text('half of it')
            threading.Timer(0.2, end).start()
            self.fake.drop_connections()
            raise errors.cut_off()

        self.fake.before['saveFlags'] = save
        self.assert_relived(guest, self.outcome(Action.RECONCILE_LIVE, guest.uuid))
        self.assertEqual([True], there)
        self.assertEqual(1, self.fake.count('saveFlags'))

    def test_the_agent_is_killed_between_save_and_restore(self) -> None:
        guest = self.fake.add_guest(DISK)
        self.assertTrue(self.fake.settle())
        self.host.guest(guest.uuid).save(str(self.directory / f'{guest.uuid}.relive'))
        done = self.outcome(Action.RECONCILE_LIVE, guest.uuid, killed=True)
        self.assert_relived(guest, done)
        self.assertEqual(2, done.attempts)

    def test_a_transient_guest_that_may_have_run_since_is_not_restored(self) -> None:
        """The agent was killed; an operator restored the guest by hand, and it has ended since."""
        guest = self.fake.add_guest(DISK, persistent=False)
        path = self.directory / f'{guest.uuid}.transient.relive'
        self.host.guest(guest.uuid).save(str(path))
        self.fake.open().restoreFlags(str(path), None, 0)
        self.fake.guests[guest.uuid].power_off()
        self.fake.calls.clear()
        done = self.outcome(Action.RECONCILE_LIVE, guest.uuid, killed=True)
        self.assertEqual((State.FAILED, 'HypervisorError'), (done.state, done.error_class))
        self.assertIn(f'"virsh restore {path}"', str(done.error))
        self.assertEqual([path], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('restoreFlags'))

    def test_the_agent_is_killed_while_libvirtd_saves(self) -> None:
        for persistent, name in ((True, '.relive'), (False, '.transient.relive')):
            guest = self.fake.add_guest(DISK, persistent=persistent)
            path = self.directory / f'{guest.uuid}{name}'
            guest.begin_save(str(path))
            path.write_text('half of it')
            threading.Timer(0.2, guest.end_save).start()
            self.assert_relived(guest, self.outcome(Action.RECONCILE_LIVE, guest.uuid, killed=True))

    def test_a_transient_guest_that_has_ended_did_not_migrate(self) -> None:
        guest = self.fake.add_guest(DISK, persistent=False)
        guest.power_off()
        done = self.outcome(Action.LIVE_MIGRATE, guest.uuid, killed=True)
        self.assertEqual((State.FAILED, 'HypervisorError'), (done.state, done.error_class))
        self.assertIn('and it does not run at the destination either: it ended', str(done.error))

    def test_a_stop_leaves_a_migration_to_libvirt_and_the_next_agent_follows_it(self) -> None:
        guest = self.fake.add_guest(DISK)
        guest.migrating = True
        operation = Operation('one', Action.LIVE_MIGRATE, guest.uuid, '', LiveMigrate('qemu+tls://there/system'))
        self.journal.accept(operation)
        self.journal.start('one')
        self.runner.recover()
        self.wait_for(lambda: self.fake.count('jobStats'), 'it is followed')
        self.relocation.end_waits()
        self.wait_for(lambda: not self.moves._running, 'nothing to wait any more')
        self.runner.close()
        self.assertEqual(State.RUNNING, self.journal.get('one').state)
        self.host.close()
        self.start_next_agent()
        self.wait_for(lambda: 'one' in self.runner._begun, 'it is followed')
        guest.migrate_away()
        self.wait_for(lambda: self.journal.get('one').is_finished, 'the end')
        self.assertEqual(State.SUCCEEDED, self.journal.get('one').state)

    def test_the_agent_stops_between_save_and_restore(self) -> None:
        guest = self.fake.add_guest(DISK)
        stopped = threading.Event()

        def stop(*_arguments: object) -> None:
            del self.fake.before['saveImageGetXMLDesc']
            self.runner.close()
            self.host.close()
            stopped.set()

        self.fake.before['saveImageGetXMLDesc'] = stop
        operation = Operation('one', Action.RECONCILE_LIVE, guest.uuid, '', ReconcileLive())
        self.runner.accept(operation)
        self.assertTrue(stopped.wait(base.PATIENCE))
        self.wait_for(lambda: not self.moves._running, 'nothing to run any more')
        self.assertEqual(State.RUNNING, self.journal.get('one').state)
        self.assertFalse(guest.active)
        self.start_next_agent()
        self.wait_for(lambda: self.journal.get('one').is_finished, 'the end')
        self.assert_relived(guest, self.journal.get('one'))

    def test_what_the_agent_attached_itself_it_knows(self) -> None:
        guest = self.fake.add_guest(DISK.replace(f'<serial>{VOLUME}</serial>', ''), persistent=False)
        info = {'driver_volume_type': 'file', 'data': {'device_path': '/disk'}}
        request = requests.volume(VOLUME, info)
        self.journal.accept(Operation('attach', Action.ATTACH_VOLUME, guest.uuid, VOLUME, request))
        self.journal.finish('attach')
        self.assert_relived(guest, self.outcome(Action.RECONCILE_LIVE, guest.uuid))
