# SPDX-License-Identifier: Apache-2.0
"""When the broker is told that it need not keep a message any more."""

import contextlib
import socket
import threading
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import conffixture
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import common
from oslo_messaging._drivers import impl_rabbit

from aliasagent import context
from aliasagent.client import rpc
from aliasagent.messaging import rpc_server
from aliasagent.tests import base


class Message(dict[str, Any]):
    """A message as the driver for RabbitMQ hands it on."""

    def __init__(
        self, method: str, said: list[str], error: Exception | None = None, number: int | None = None
    ) -> None:
        super().__init__(method=method, args={} if number is None else number)
        self.said = said
        self.error = error

    def acknowledge(self) -> None:
        self.said.append('acknowledged')
        if self.error is not None:
            raise self.error


class AcknowledgeTestCase(base.TestCase):
    """The listener is private: should it go, or acknowledge elsewhere, this has to fail."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        # The driver for RabbitMQ, on a broker in this process's memory.
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'kombu+memory://'
        self.transport = rpc.transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)
        self.server = rpc_server.make(self.transport, 'here', [self], in_order=['cast'])

    def start(self) -> Any:
        self.server.start()
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.stop)
        return self.server.listener._poll_style_listener

    def listener(self) -> Any:
        """A listener that listens only when it is told to."""
        listener = self.server._create_listener()._poll_style_listener
        self.addCleanup(listener.cleanup)
        return listener

    def remember_acknowledged(self) -> None:
        acknowledge = impl_rabbit.RabbitMessage.acknowledge

        def remember(message: Any) -> None:
            self.said.append('acknowledged')
            acknowledge(message)

        self.useFixture(fixtures.MonkeyPatch(f'{impl_rabbit.__name__}.RabbitMessage.acknowledge', remember))

    def deliver(self, message: Message) -> None:
        self.server._on_incoming([types.SimpleNamespace(message=message)])

    def test_after_it_was_handled(self) -> None:
        self.server._process_incoming = lambda _incoming: self.said.append('handled')
        self.deliver(Message('cast', self.said))
        self.assertEqual(['handled', 'acknowledged'], self.said)

    def test_not_if_the_endpoint_did_not_take_it(self) -> None:
        self.remember_acknowledged()
        self.start()
        client = rpc.client(self.transport, '1.0').prepare(server='here')
        for _number in range(2):
            client.cast({}, 'cast')
        self.wait_for(lambda: len(self.said) > 1, 'both are handled')
        self.server.stop()
        self.assertEqual(['not taken'] * 2, self.said)

    @oslo_messaging.expose
    def cast(self, _ctxt: Any) -> None:
        """An endpoint that cannot take it now."""
        self.said.append('not taken')
        raise rpc_server.NotAccepted

    def test_it_cannot_be_acknowledged(self) -> None:
        self.server._process_incoming = lambda _incoming: self.said.append('handled')
        self.deliver(Message('cast', self.said, ConnectionResetError('gone')))
        self.assertEqual(['handled', 'acknowledged'], self.said)

    def test_as_it_comes_if_it_goes_to_the_pool(self) -> None:
        self.server._work_executor = types.SimpleNamespace(submit=lambda *_work: self.said.append('in the pool'))
        self.deliver(Message('call', self.said))
        self.assertEqual(['in the pool'], self.said)
        listener = self.listener()
        for method, said in (('call', ['acknowledged']), ('cast', [])):
            self.said.clear()
            listener(Message(method, self.said))
            self.assertEqual(said, self.said)

    def test_what_comes_again_is_handled_again(self) -> None:
        listener = self.listener()
        self.assertIsInstance(listener, amqpdriver.AMQPListener)
        for _time in range(2):
            listener(Message('cast', self.said) | {'_unique_id': 'x'})
        self.assertEqual(2, len(listener.incoming))

    def handle_with_more(self, *more: Message, together: Any = contextlib.nullcontext) -> None:
        """Deliver a cast, when these are here behind it; of each is said what came of it."""
        listener = self.listener()
        behind = [types.SimpleNamespace(message=message) for message in more]
        listener.next_here = lambda: behind.pop(0) if behind else None
        self.server._process_incoming = lambda incoming: self.said.append(f'handled {incoming[0].message["args"]}')
        self.server._work_executor = types.SimpleNamespace(submit=lambda *_work: self.said.append('in the pool'))
        self.server.listener = types.SimpleNamespace(_poll_style_listener=listener)
        self.server.together = together
        self.deliver(Message('cast', self.said, number=0))
        while behind:
            self.server._on_incoming([behind.pop(0)])

    @contextlib.contextmanager
    def say_together(self) -> Iterator[None]:
        self.said.append('begin')
        yield
        self.said.append('end')

    def test_those_that_are_here_together(self) -> None:
        more = [Message('cast', self.said, number=number) for number in (1, 2)]
        self.handle_with_more(*more, together=self.say_together)
        handled = [f'handled {number}' for number in range(3)]
        self.assertEqual(['begin', *handled, 'end', *['acknowledged'] * 3], self.said)

    def test_so_many_together_at_most(self) -> None:
        most = rpc_server._MOST_TOGETHER
        more = [Message('cast', self.said, number=number) for number in range(1, most + 2)]
        self.handle_with_more(*more, together=self.say_together)
        handled = [f'handled {number}' for number in range(most + 2)]
        first, second = handled[:most], handled[most:]
        self.assertEqual(['begin', *first, 'end', *['acknowledged'] * most], self.said[: 2 * most + 2])
        self.assertEqual(['begin', *second, 'end', *['acknowledged'] * 2], self.said[2 * most + 2 :])

    def test_what_goes_to_the_pool_not_before_those_that_came_first(self) -> None:
        self.handle_with_more(Message('call', self.said), Message('cast', self.said, number=2))
        first, second = (['handled 0', 'acknowledged'], ['handled 2', 'acknowledged'])
        self.assertEqual([*first, 'in the pool', *second], self.said)

    def test_none_of_those_together_if_one_was_not_taken(self) -> None:
        @contextlib.contextmanager
        def not_taken() -> Iterator[None]:
            yield
            raise rpc_server.NotAccepted

        self.handle_with_more(Message('cast', self.said, number=1), together=not_taken)
        self.assertEqual(['handled 0', 'handled 1'], self.said)

    def test_whether_the_next_one_is_here(self) -> None:
        listener = self.listener()
        here, there = socket.socketpair()
        self.addCleanup(there.close)
        channel = types.SimpleNamespace(connection=types.SimpleNamespace(sock=here))
        consumed: list[object] = []

        def consume(timeout: float) -> None:
            if not consumed:
                raise common.Timeout  # only a part of it
            listener.incoming.append(consumed.pop())

        with mock.patch.object(listener, 'conn', types.SimpleNamespace(channel=channel, consume=consume)):
            self.assertIsNone(listener.next_here())
            there.send(b'x')
            self.assertIsNone(listener.next_here())
            consumed.append('a message')
            self.assertEqual('a message', listener.next_here())
            listener.incoming = ['another']
            self.assertEqual('another', listener.next_here())
            here.close()
            self.assertIsNone(listener.next_here())
            channel.connection = None
            self.assertIsNone(listener.next_here())

    def test_over_the_whole_way(self) -> None:
        self.remember_acknowledged()
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def handle(_incoming: Any) -> None:
            self.said.append('handled')
            go_on.wait()

        self.server._process_incoming = handle
        self.start()
        client = rpc.client(self.transport, '1.0').prepare(server='here')
        for _number in range(2):
            client.cast({}, 'cast')
        self.wait_for(lambda: self.said, 'the first one is handled')
        self.assertEqual(['handled'], self.said)
        go_on.set()
        self.wait_for(lambda: len(self.said) == 4, 'both are acknowledged')
        self.assertEqual(['handled', 'acknowledged'] * 2, self.said)

    def test_whose_it_is_that_will_come_again(self) -> None:
        ctxt = context.RequestContext()
        seen: list[object] = []
        self.server._process_incoming = lambda _incoming: None
        message = Message('cast', self.said, ConnectionResetError('gone'))
        self.useFixture(
            fixtures.MonkeyPatch(
                'aliasagent.messaging.rpc_server.LOG.warning', lambda *_words: seen.append(context.current())
            )
        )
        with context.bound(None):
            self.server._on_incoming([types.SimpleNamespace(message=message, ctxt=ctxt.to_dict())])
            self.assertIsNone(context.current())
        self.assertEqual([ctxt.operation_id], [getattr(it, 'operation_id', None) for it in seen])

    def test_whether_it_is_connected(self) -> None:
        self.assertFalse(self.server.is_connected)
        listener = self.start()
        self.wait_for(lambda: self.server.is_connected, 'it is connected')
        # NOTE: these are no public parts, either.
        connection = listener.conn.connection.connection
        self.useFixture(fixtures.MonkeyPatch('kombu.connection.Connection.connected', False))
        self.assertFalse(self.server.is_connected)
        self.assertFalse(connection.connected)
