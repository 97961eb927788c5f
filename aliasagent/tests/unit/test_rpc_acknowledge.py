# SPDX-License-Identifier: Apache-2.0
"""When the broker is told that it need not keep a message any more."""

import threading
import types
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import conffixture
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import impl_rabbit

from aliasagent import context
from aliasagent import rpc
from aliasagent import rpc_server
from aliasagent.tests import base


class Message(dict[str, Any]):
    """A message as the driver for RabbitMQ hands it on."""

    def __init__(self, method: str, said: list[str], error: Exception | None = None) -> None:
        super().__init__(method=method, args={})
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
        self.server = rpc.server(self.transport, 'here', [self], in_order=['cast'])

    def start(self) -> Any:
        self.server.start()
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.stop)
        return self.server.listener._poll_style_listener

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
        raise rpc_server.NotTaken

    def test_it_cannot_be_acknowledged(self) -> None:
        self.server._process_incoming = lambda _incoming: self.said.append('handled')
        self.deliver(Message('cast', self.said, ConnectionResetError('gone')))
        self.assertEqual(['handled', 'acknowledged'], self.said)

    def test_as_it_comes_if_it_goes_to_the_pool(self) -> None:
        self.server._work_executor = types.SimpleNamespace(submit=lambda *_work: self.said.append('in the pool'))
        self.deliver(Message('call', self.said))
        self.assertEqual(['in the pool'], self.said)
        listener = self.start()
        listener.incoming = []
        for method, said in (('call', ['acknowledged']), ('cast', [])):
            self.said.clear()
            listener(Message(method, self.said))
            self.assertEqual(said, self.said)

    def test_what_comes_again_is_handled_again(self) -> None:
        listener = self.start()
        self.assertIsInstance(listener, amqpdriver.AMQPListener)
        listener.incoming = []
        for _time in range(2):
            listener(Message('cast', self.said) | {'_unique_id': 'x'})
        self.assertEqual(2, len(listener.incoming))

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
            fixtures.MonkeyPatch('aliasagent.rpc_server.LOG.warning', lambda *_words: seen.append(context.current()))
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
