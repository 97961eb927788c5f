# SPDX-License-Identifier: Apache-2.0
"""Calls that hang, and those about other guests beside them."""

import functools
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests import on_fake
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import FakeConnect
from aliasagent.tests.fakes.libvirt import errors as fake_errors
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host


class HangingTestCase(on_fake.HostTestCase):
    max_calls = 16

    def setUp(self) -> None:
        self.opened: list[FakeConnect] = []
        self.told: list[events.Event] = []
        super().setUp()
        self.host.subscribe(self.told.append)
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        self.hanging: list[str] = []
        self.stuck: set[str] = set()
        self.fake.before['detachDeviceAlias'] = self.hang

    def connect(self, **more: Any) -> Host:
        return super().connect(max_calls=self.max_calls, **more)

    def open(self, uri: str) -> Any:
        self.opened.append(self.fake.open(uri))
        return self.opened[-1]

    def hang(self, instance: str, _alias: str, _side: int) -> None:
        if instance in self.stuck:
            self.hanging.append(instance)
            self.go_on.wait(base.PATIENCE)

    def guest(self) -> str:
        return self.fake.add_guest(harness.disk_xml('/disk', 'sda', alias='ua-disk')).uuid

    def detach(self, instance: str) -> 'futures.Future[None]':
        """Ask a guest for its disk, from a thread of its own."""
        return self.aside(lambda: self.host.guest(instance).detach('ua-disk', Side.LIVE))

    def aside(self, call: Callable[[], None]) -> 'futures.Future[None]':
        future: futures.Future[None] = futures.Future()

        def run() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - it is the outcome
                future.set_exception(error)
            else:
                future.set_result(None)

        threading.Thread(target=run, daemon=True).start()
        return future

    def hang_up(self, count: int) -> list['futures.Future[None]']:
        """Have QEMU answer nothing any more for so many guests, each of which is asked for its disk."""
        guests = [self.guest() for _ in range(count)]
        self.stuck.update(guests)
        before = len(self.hanging)
        detaches = [self.detach(instance) for instance in guests]
        self.wait_for(lambda: len(self.hanging) == before + count, 'the calls to hang')
        return detaches

    def under_way(self) -> dict[FakeConnect, int]:
        """How many calls, on each connection."""
        return dict(self.host._current()._calls)

    def assert_served(self, instance: str) -> None:
        """Everything that is done with a guest is done at once."""
        guest = self.host.guest(instance)
        self.assertIsNotNone(guest.definitions().live)
        guest.detach('ua-disk', Side.PERSISTENT)
        guest.detach('ua-disk', Side.LIVE)
        self.assertIn(instance, [one.uuid for one in self.host.guests()])
        self.assertEqual('QEMU', self.host.version().driver)


class ConnectionsTestCase(HangingTestCase):
    def test_one_thread_needs_one_connection(self) -> None:
        for _ in range(20):
            self.assert_served(self.guest())
        self.assertEqual(1, len(self.opened))

    def test_no_call_is_made_beside_another_one(self) -> None:
        """libvirt 9.0 may not notice it for seconds."""
        detaches = self.hang_up(3)
        self.assert_served(self.guest())
        self.assertEqual([1, 1, 1, 0], list(self.under_way().values()))
        self.go_on.set()
        for detach in detaches:
            self.assertIsNone(detach.result(base.PATIENCE))
        self.assert_served(self.guest())
        self.assertEqual(dict.fromkeys(self.opened, 0), self.under_way())
        self.assertEqual(4, len(self.opened))

    def test_a_thread_keeps_its_connection_while_no_other_thread_has_it(self) -> None:
        (detach,) = self.hang_up(1)
        guest = self.host.guest(self.guest())
        self.go_on.set()
        self.assertIsNone(detach.result(base.PATIENCE))
        with self.host.call() as connection:
            self.assertIs(self.opened[1], connection)
        self.fake.before['lookupByUUIDString'] = self.unexpected
        self.assertIsNotNone(guest.definitions().live)

    def test_a_guest_is_looked_up_once_while_its_own_connection_is_in_use(self) -> None:
        guest = self.host.guest(self.guest())
        connections = self.host._current()

        def read() -> None:
            """Read the guest from a new thread, which has had no connection yet."""
            self.assertIsNone(self.aside(lambda: self.assertIsNotNone(guest.live_text())).result(base.PATIENCE))

        with connections.calls(2):
            read()
        own = connections.take([connections.first])
        self.assertIs(connections.first, own)
        self.fake.before['lookupByUUIDString'] = self.unexpected
        read()
        connections.give_back(own)
        read()
        self.assertEqual(3, len(self.opened))

    def test_a_guest_that_is_gone_is_not_found_by_an_earlier_look_up(self) -> None:
        guest = self.host.guest(self.guest())
        self.hang_up(1)
        self.assertTrue(guest.is_active())
        other = self.fake.open().lookupByUUIDString(guest.uuid)
        other.undefine()
        other.destroy()
        self.assertRaises(exception.InstanceNotFound, guest.is_active)

    def unexpected(self, *_arguments: object) -> None:
        self.fail('the guest is looked up again')

    def test_guests_listed_in_a_row_are_read_at_the_same_time_without_a_look_up(self) -> None:
        instances = [self.guest() for _ in range(8)]
        listed = self.host.listed(spread=4)
        self.assertEqual(instances, [each.guest.uuid for each in listed])
        self.assertEqual(4, len(self.opened))
        self.fake.before['lookupByUUIDString'] = self.unexpected
        for begin in range(0, 8, 4):
            all_read = threading.Barrier(4)

            def read(guest: Guest, all_read: threading.Barrier = all_read) -> None:
                self.fake.before['XMLDesc'] = lambda *_arguments: all_read.wait(base.PATIENCE)
                guest.saved_text()

            reads = [self.aside(functools.partial(read, each.guest)) for each in listed[begin : begin + 4]]
            for each in reads:
                self.assertIsNone(each.result(base.PATIENCE))

    def test_guests_are_listed_over_one_connection_while_many_calls_are_under_way(self) -> None:
        self.hang_up(self.max_calls // 2)
        instance = self.guest()
        self.fake.calls.clear()
        self.assertIn(instance, [each.guest.uuid for each in self.host.listed(spread=4)])
        self.assertEqual(2, self.fake.count('listAllDomains'))
        self.assertEqual(self.max_calls // 2, self.host._current()._under_way)

    def test_a_connection_that_cannot_be_opened_for_want_of_a_thread_takes_no_room(self) -> None:
        self.hang_up(1)
        for _ in range(self.max_calls):
            self.fake.fail_next('open', RuntimeError("can't start new thread"))
            self.assertRaises(RuntimeError, self.host.version)
        self.assertEqual(1, self.host._current()._under_way)

    def test_a_guest_that_was_looked_up_before_is_asked_by_another_connection(self) -> None:
        instance = self.guest()
        guest = self.host.guest(instance)
        self.hang_up(1)
        guest.detach('ua-disk', Side.LIVE)
        self.assertEqual(2, len(self.opened))

    def test_events_come_once(self) -> None:
        instance = self.guest()
        self.hang_up(5)
        self.host.guest(instance).detach('ua-disk', Side.LIVE)
        removed = events.DeviceRemoved(instance, 'ua-disk')
        self.wait_for(lambda: removed in self.told, 'the removal')
        self.fake.settle()
        self.assertEqual(1, self.told.count(removed))
        self.assertIs(self.opened[0], self.host.connection())

    def test_a_further_connection_is_closed_when_it_was_idle(self) -> None:
        self.hang_up(1)
        instance = self.guest()
        guest = self.host.guest(instance)
        self.go_on.set()
        self.wait_for(lambda: sum(self.under_way().values()) == 0, 'the calls to end')
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.connections.IDLE', 0.0))
        self.assertTrue(guest.is_active())  # it was looked up over the other one
        self.assertFalse(self.opened[1].closed)
        self.assertIsNone(self.aside(lambda: self.assertIsNotNone(self.host.version())).result(base.PATIENCE))
        self.wait_for(lambda: self.opened[1].closed, 'the other connection to be closed')
        self.assertEqual([self.opened[0]], self.fake.connections)

    def test_all_are_closed_with_the_first_and_made_anew(self) -> None:
        detaches = self.hang_up(6)
        self.opened[0].dead = True
        self.assertFalse(self.host.is_alive())
        self.wait_for(lambda: self.opened[1].closed, 'the other connection to be closed')
        self.assertTrue(self.host.wait_connected(base.PATIENCE))
        self.assert_served(self.guest())
        self.go_on.set()
        for detach in detaches[:1]:
            self.assertIsInstance(detach.exception(base.PATIENCE), exception.HypervisorError)
        self.assertEqual(7, len(self.opened))

    def test_a_further_connection_that_is_lost_leaves_the_others(self) -> None:
        self.hang_up(1)
        (lost,) = self.hang_up(1)
        self.opened[1].dead = True
        self.go_on.set()
        self.assertIsInstance(lost.exception(base.PATIENCE), errors.ConnectionLost)
        self.assertTrue(self.host.is_alive())
        self.assertNotIn(self.opened[1], self.under_way())
        self.assertIsNone(self.detach(self.guest()).result(base.PATIENCE))

    def test_a_migration_over_one_that_is_lost_is_not_said_to_have_failed(self) -> None:
        self.hang_up(1)
        guest = self.host.guest(self.guest())

        def lose(*_arguments: object) -> None:
            self.opened[1].dead = True
            raise fake_errors.cut_off()

        self.fake.before['migrateToURI3'] = lose
        self.assertRaises(exception.HypervisorUnavailable, guest.migrate, 'qemu+tls://there/system', {}, 0)

    def test_without_a_further_connection_the_first_is_used(self) -> None:
        self.hang_up(1)
        self.fake.fail_next('open', fake_errors.cannot_connect())
        self.assert_served(self.guest())
        self.assertIn('no other can be opened', self.log.output)

    def test_a_stop_does_not_wait_for_calls_that_hang(self) -> None:
        self.hang_up(6)
        closing, close = threading.Event(), FakeConnect.close

        def hangs(connection: FakeConnect) -> int:
            closing.set()
            self.go_on.wait(base.PATIENCE)
            return close(connection)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.tests.fakes.libvirt.FakeConnect.close', hangs))
        stopping = self.aside(self.host.close)
        self.assertIsNone(stopping.result(5))
        self.assertTrue(closing.wait(base.PATIENCE))


class BoundTestCase(HangingTestCase):
    max_calls = 6

    def test_more_calls_than_the_bound_are_not_made(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.virt.connections.WAIT', 0.05))
        detaches = self.hang_up(6)
        error = self.assertRaises(exception.HypervisorUnavailable, self.host.guest, self.guest())
        self.assertIn('6 calls wait for libvirt already', str(error))
        self.go_on.set()
        for detach in detaches:
            self.assertIsNone(detach.result(base.PATIENCE))
        self.assert_served(self.guest())
