# SPDX-License-Identifier: Apache-2.0
"""The connection to the hypervisor, when it is lost at the worst moment."""

import threading
from typing import Any

import fixtures

from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import FakeConnect
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.virt import events
from aliasagent.virt.host import Host

#: Seconds for which a test may interfere with a connection that is left alone.
SETTLE = 1.0


class HostTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.opened: list[FakeConnect] = []
        self.told: list[events.Event] = []

    def open(self, uri: str) -> Any:
        self.opened.append(self.fake.open(uri))
        return self.opened[-1]

    def start(self, settle: float = 0.0) -> Host:
        host = Host(self.fake.URI, reconnect_interval=0.01, settle=settle, opener=self.open)
        host.subscribe(self.told.append)
        host.start()
        self.addCleanup(host.close)
        return host

    def assert_of_use(self, host: Host, number: int) -> None:
        """The connection of that number is the one that is used, and events come by it."""
        self.wait_for(lambda: len(self.opened) == number and host.is_connected, 'the connection')
        self.assertIs(self.opened[-1], host.connection())
        self.assertTrue(host.is_alive())
        self.wait_for(lambda: events.Reconnected() in self.told, 'the word of the connection')
        guest = self.fake.add_guest()
        defined = events.LifecycleChanged(guest.uuid, events.Lifecycle.DEFINED)
        self.wait_for(lambda: defined in self.told, 'an event of a guest')

    def test_lost_while_it_is_left_alone(self) -> None:
        host = self.start(settle=SETTLE)
        self.assert_of_use(host, 1)
        self.fake.drop_connections()
        self.wait_for(lambda: len(self.opened) == 2, 'the second connection')
        self.told.clear()
        self.fake.drop_connections()
        self.assert_of_use(host, 3)
        self.assertEqual(1, self.told.count(events.Reconnected()))
        self.assertTrue(self.opened[1].closed)
        self.assertIn('before it was used', self.log.output)

    def test_lost_before_it_is_published(self) -> None:
        def lose(*_arguments: object) -> None:
            if self.fake.count('domainEventRegisterAny') == 4:
                self.fake.drop_connections()
                self.assertTrue(self.fake.event_clock.idle(base.PATIENCE))

        # The last of these is the last that a connection is asked for before it is published.
        self.fake.after['domainEventRegisterAny'] = lose
        self.assert_of_use(self.start(), 2)
        self.assertTrue(self.opened[0].closed)

    def test_lost_while_it_is_published(self) -> None:
        """After it was seen to stand, and before it can be given up."""
        alive = FakeConnect.isAlive
        looks: list[int] = []

        def is_alive(connection: FakeConnect) -> int:
            looks.append(alive(connection))
            if len(looks) == 1:
                self.fake.drop_connections()
                self.fake.event_clock.idle(base.PATIENCE)
            return looks[-1]

        self.useFixture(fixtures.MonkeyPatch('aliasagent.tests.fakes.libvirt.FakeConnect.isAlive', is_alive))
        self.assert_of_use(self.start(), 2)
        self.assertTrue(self.opened[0].closed)

    def test_a_defect_is_not_the_last_attempt(self) -> None:
        def fail(name: str, error: Exception) -> None:
            del self.fake.before[name]
            raise error

        for name, error in (
            ('open', RuntimeError("can't start new thread")),
            ('domainEventRegisterAny', KeyError('a defect')),
        ):
            self.fake.before[name] = lambda *_arguments, name=name, error=error: fail(name, error)
        self.assertTrue(self.start().wait_connected(base.PATIENCE))
        self.assertEqual({}, self.fake.before)
        self.assertEqual([True, False], [connection.closed for connection in self.opened])
        self.assertIn('Unexpected error while connecting to the hypervisor', self.log.output)

    def test_closed_as_a_connection_is_about_to_be_made(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        class Lost(threading.Event):
            def clear(self) -> None:
                begun.set()
                go_on.wait(base.PATIENCE)
                super().clear()

        host = Host(self.fake.URI, opener=self.open)
        host._lost = Lost()
        host.start()
        self.assertTrue(begun.wait(base.PATIENCE))
        closing = threading.Thread(target=host.close, daemon=True)
        closing.start()
        self.wait_for(host._lost.is_set, 'the close to begin')
        go_on.set()
        closing.join(base.PATIENCE)
        self.assertFalse(closing.is_alive())
