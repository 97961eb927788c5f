# SPDX-License-Identifier: Apache-2.0
"""An oslo.messaging that is not the known one is refused (issue 13, number 16)."""

import types
from typing import Any
from unittest import mock

import fixtures
from oslo_config import cfg
from oslo_messaging import conffixture
from oslo_messaging import server as base_server
from oslo_messaging._drivers import amqpdriver
from oslo_messaging.rpc import server

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.cmd import compute
from aliasagent.messaging import known
from aliasagent.messaging import rpc_parts
from aliasagent.messaging import rpc_server
from aliasagent.tests import base


class OtherListener(amqpdriver.RpcAMQPListener):
    """A listener that a driver of another release could have."""


class PartsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'kombu+memory://'
        self.transport = rpc.transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)

    def replace(self, owner: type, name: str, new: Any) -> None:
        patch = mock.patch.object(owner, name, new, create=True)
        patch.start()
        self.addCleanup(patch.stop)

    def check(self) -> None:
        known.check()
        rpc_parts.check(self.transport)

    def assert_refused(self, words: str) -> None:
        refused = self.assertRaises(known.UnknownMessaging, self.check)
        self.assertIn(words, str(refused))
        self.assertIn('requirements.txt', str(refused))

    def test_the_installed_one_is_known(self) -> None:
        self.check()

    def test_a_part_that_is_not_there(self) -> None:
        def renamed(_self: object, incoming: object) -> None:
            """What _on_incoming is called in another release."""

        self.replace(base_server.MessageHandlingServer, '_handle', renamed)
        on_incoming = base_server.MessageHandlingServer._on_incoming
        self.addCleanup(setattr, base_server.MessageHandlingServer, '_on_incoming', on_incoming)
        del base_server.MessageHandlingServer._on_incoming
        self.assert_refused('there is no oslo_messaging.server.MessageHandlingServer._on_incoming')

    def test_a_part_with_other_parameters(self) -> None:
        def listen(self: object, message: object, batch: object) -> None:
            """As if messages came in batches."""

        self.replace(amqpdriver.RpcAMQPListener, '__call__', listen)
        self.assert_refused('RpcAMQPListener.__call__ takes (self, message, batch), not (self, message)')

    def test_a_listener_that_acknowledges_in_another_place(self) -> None:
        before = amqpdriver.AMQPListener.__call__

        def call(self: Any, message: Any) -> None:
            message.acknowledge()
            before(self, message)

        self.replace(amqpdriver.AMQPListener, '__call__', call)
        self.assert_refused('a message was acknowledged, received, handled, acknowledged')

    def test_a_message_that_acknowledges_itself_before_it_is_handled(self) -> None:
        self.replace(amqpdriver.AMQPIncomingMessage, 'acknowledge', lambda self: self.message.acknowledge())
        self.assert_refused('a message was received, acknowledged, handled, acknowledged')

    def test_a_server_that_does_not_handle_it_there_and_then(self) -> None:
        def process(self: object, incoming: object) -> None:
            """As if it went into a queue."""

        self.replace(server.RPCServer, '_process_incoming', process)
        self.assert_refused('a message was received, acknowledged, not received, handled, acknowledged')

    def test_a_listener_that_cannot_be_made(self) -> None:
        def initialize(self: Any, driver: Any, conn: Any) -> None:
            self.conn, self.incoming = conn, []
            conn.declare()

        self.replace(amqpdriver.AMQPListener, '__init__', initialize)
        self.assert_refused("a message cannot be handled (AttributeError: 'NoneType' object has no attribute")

    def test_a_listener_of_another_class_is_refused_and_closed(self) -> None:
        made = rpc_server.make(self.transport, 'here', [self], in_order=['cast'])
        closed: list[str] = []
        for poller in (OtherListener(types.SimpleNamespace(prefetch_size=1), None), None):
            listener = types.SimpleNamespace(_poll_style_listener=poller, cleanup=lambda: closed.append('closed'))
            self.replace(server.RPCServer, '_create_listener', lambda _self, found=listener: found)
            refused = self.assertRaises(known.UnknownMessaging, made._create_listener)
            self.assertIn(f'its listener is {type(poller).__module__}.{type(poller).__name__}', str(refused))
        self.assertEqual(['closed'] * 2, closed)

    def test_the_agent_does_not_start(self) -> None:
        self.replace(amqpdriver.AMQPIncomingMessage, 'acknowledge', lambda self: self.message.acknowledge())
        journal = f'{self.make_directory()}/journal.sqlite'
        conf.CONF.set_override('journal', journal, 'operations')
        self.addCleanup(conf.CONF.clear_override, 'journal', 'operations')
        self.useFixture(fixtures.MonkeyPatch('aliasagent.observe.reports.Reports.start', lambda _self: None))
        self.useFixture(fixtures.MonkeyPatch('oslo_log.log.setup', lambda *_args: None))
        self.addCleanup(conf.CONF.reset)
        self.assertEqual(1, compute.main([]))
        self.assertRegex(self.log.output, r'The agent cannot start: oslo\.messaging \S+ is unknown to this release')
