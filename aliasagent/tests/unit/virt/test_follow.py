# SPDX-License-Identifier: Apache-2.0
"""A migration that an earlier process began, on two fake hosts: it has succeeded if that is proven, and else not."""

import threading
from collections.abc import Callable
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.virt import destination
from aliasagent.virt import jobs
from aliasagent.virt import migrate

DEST = 'qemu+tls://there.example.org/system'


class FollowTestCase(on_fake.HostTestCase):
    look = 'jobStats'

    def setUp(self) -> None:
        super().setUp()
        for module in (migrate, destination):
            self.patch(module, '_INTERVAL', 0.001)
        self.patch(migrate, '_EVENT_WAIT', 0.2)
        self.there = FakeHypervisor('there')
        self.addCleanup(self.there.stop)
        self.opened: list[str] = []
        #: What happens when a connection to the other host is closed, if not what always does.
        self.closing: Callable[[], object] | None = None

    def open(self, uri: str) -> Any:
        if uri == self.fake.URI:
            return self.fake.open(uri)
        self.opened.append(uri)
        connection = self.there.open(uri)
        if self.closing is not None:
            self.patch(connection, 'close', self.closing)
        return connection

    def moving(self, *, persistent: bool = False) -> FakeGuest:
        guest = self.fake.add_guest(persistent=persistent)
        guest.migrating = True
        return guest

    def arrive(self, guest: FakeGuest) -> FakeGuest:
        there = self.there.add_guest(instance_uuid=guest.uuid)
        there.reason = libvirt.VIR_DOMAIN_RUNNING_MIGRATED
        return there

    def follow(self, guest: FakeGuest, dest_uri: str = DEST) -> None:
        migrate.follow(self.host, guest.uuid, dest_uri)

    def fails(self, guest: FakeGuest, dest_uri: str = DEST) -> str:
        error = self.assertRaises(exception.HypervisorError, self.follow, guest, dest_uri)
        self.assertFalse(isinstance(error, exception.HypervisorUnavailable), str(error))
        return str(error)

    def wait_left(self) -> None:
        self.wait_for(lambda: not self.there.connections, 'the connection to the destination is closed')

    def test_libvirt_says_that_it_has_left(self) -> None:
        for persistent in (False, True):
            guest = self.moving(persistent=persistent)
            self.after_looks(guest.migrate_away)
            self.follow(guest)
        self.assertEqual([], self.opened)

    def test_one_that_ended_here_has_not_arrived(self) -> None:
        guest = self.moving()
        self.after_looks(guest.power_off)
        self.assertIn('and it does not run at the destination either: it ended', self.fails(guest))
        self.assertEqual([DEST], self.opened)
        self.wait_left()

    def test_one_that_was_stopped_and_undefined_here_has_not_arrived(self) -> None:
        guest = self.moving(persistent=True)

        def remove() -> None:
            guest.destroy()
            self.fake.open().lookupByUUIDString(guest.uuid).undefine()

        self.after_looks(remove)
        self.assertIn('it ended', self.fails(guest))

    def test_one_that_left_while_nobody_listened_is_found_at_the_destination(self) -> None:
        for persistent in (False, True):
            guest = self.moving(persistent=persistent)
            guest.migrate_away()
            self.arrive(guest)
            self.wait_events()
            self.follow(guest)
        self.assertEqual([DEST, DEST], self.opened)
        self.wait_left()

    def test_one_that_is_stopped_there_has_not_arrived(self) -> None:
        guest = self.moving()
        guest.power_off()
        self.there.add_guest(instance_uuid=guest.uuid, running=False)
        self.assertIn('and it does not run at the destination either', self.fails(guest))

    def test_one_that_was_started_anew_there_may_not_have_moved(self) -> None:
        guest = self.moving()
        guest.power_off()
        there = self.there.add_guest(instance_uuid=guest.uuid)
        for change in (None, there.suspend, there.resume):
            if change is not None:
                change()
            words = self.fails(guest)
            self.assertIn('whether it arrived is not known', words)
            self.assertIn('it may be a new start', words)

    def test_one_that_has_left_and_was_not_undefined_here(self) -> None:
        for reason, words in (
            (libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED, 'is shut off here because it was migrated, and it does not run at'),
            (libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, 'does not report why, and it does not run at the destination either'),
        ):
            guest = self.moving(persistent=True)
            guest.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, reason)
            self.wait_events()
            self.assertIn(words, self.fails(guest))
            self.arrive(guest)
            self.follow(guest)
            self.assertIn(f'Instance {guest.uuid} has moved to another host, and is still defined', self.log.output)

    def test_a_destination_that_cannot_be_asked(self) -> None:
        self.there.down = True
        guest = self.moving()
        guest.migrate_away()
        self.wait_events()
        words = self.fails(guest)
        self.assertIn('whether it arrived is not known', words)
        self.assertIn('check the destination', words)

    def test_one_that_is_still_arriving_there(self) -> None:
        guest = self.moving()
        guest.power_off()
        there = self.arrive(guest)
        self.there.before['jobStats'] = lambda *_arguments: setattr(there, 'migrating', True)
        self.assertIn('is not known', self.fails(guest))

    def test_a_destination_that_does_not_answer(self) -> None:
        self.patch(destination, '_SECONDS', 0.05)
        end = threading.Event()
        self.addCleanup(end.set)
        self.there.before['open'] = lambda *_arguments: end.wait(base.PATIENCE)
        guest = self.moving()
        guest.power_off()
        self.assertIn('does not answer within', self.fails(guest))

    def test_a_destination_that_goes_away_when_it_has_answered(self) -> None:
        self.patch(destination, '_SECONDS', 1.0)
        end = threading.Event()
        self.addCleanup(end.set)

        def fail() -> None:
            raise errors.closed_connection('virConnectClose')

        for closing in (fail, lambda: end.wait(base.PATIENCE)):
            self.closing = closing
            guest = self.moving()
            guest.migrate_away()
            self.arrive(guest)
            self.wait_events()
            self.follow(guest)

    def test_one_that_would_run_in_this_process_or_names_a_program(self) -> None:
        guest = self.moving()
        guest.power_off()
        for uri in ('qemu:///embed?root=/x', 'qemu+ssh://there/system?command=/bin/sh'):
            self.assertIn('is not known', self.fails(guest, uri))
        self.assertEqual([], self.opened)

    def test_one_that_stays(self) -> None:
        guest = self.moving(persistent=True)
        self.after_looks(lambda: setattr(guest, 'migrating', False))
        self.assertIn('the guest is still here', self.fails(guest))
        guest = self.moving(persistent=True)
        self.after_looks(guest.power_off)
        self.assertIn('the guest is still here', self.fails(guest))

    def test_odd_answers_do_not_end_that(self) -> None:
        guest = self.moving()
        self.fake.fail_next('jobStats', errors.lock_timeout())
        self.fake.fail_next('jobStats', errors.internal('cannot say'))
        # At its arrival it has no job any more, or is stopped, and is gone a moment later.
        self.fake.fail_next('jobStats', errors.not_running())
        self.after_looks(guest.migrate_away)
        self.follow(guest)

    def test_nothing_is_known_of_one_while_the_hypervisor_is_away(self) -> None:
        guest = self.moving()
        self.after_looks(lambda: self.fake.drop_connections(down=True))
        self.assertRaises(exception.HypervisorUnavailable, self.follow, guest)

    def test_it_ends_at_once_when_the_agent_stops(self) -> None:
        self.patch(migrate, '_INTERVAL', 600.0)
        guest = self.moving()
        self.after_looks(lambda: None)
        ended = threading.Event()

        def follow() -> None:
            self.assertRaises(jobs.Stopping, self.follow, guest)
            ended.set()

        threading.Thread(target=follow, daemon=True).start()
        self.wait_for(lambda: self.fake.count('jobStats'), 'a look')
        self.host.end_waits()
        self.assertTrue(ended.wait(base.PATIENCE))
