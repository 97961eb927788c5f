# SPDX-License-Identifier: Apache-2.0
"""Where we lean on what oslo.messaging does not promise."""

import threading
import types
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import conffixture
from oslo_messaging.rpc import server

from aliasagent import context
from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.messaging import notify
from aliasagent.messaging import rpc_server
from aliasagent.tests import base


class InOrderServerTestCase(base.TestCase):
    """``_on_incoming`` is private: should it go, or be called otherwise, this has to fail."""

    def setUp(self) -> None:
        super().setUp()
        self.threads: dict[str, threading.Thread] = {}
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        self.transport = rpc.transport(cfg.CONF)
        self.server = rpc_server.make(self.transport, 'here', [self], in_order=['cast'])

    def remember(self, method: str) -> None:
        self.threads[method] = threading.current_thread()

    def test_the_seam_is_there(self) -> None:
        self.assertIsInstance(self.server, rpc_server.InOrderServer)
        self.assertIn('_on_incoming', vars(server.msg_server.MessageHandlingServer))
        self.server._process_incoming = lambda incoming: self.remember(incoming[0].message['method'])
        self.server.start()
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.stop)
        client = rpc.client(self.transport, '1.0').prepare(server='here')
        for method in ('cast', 'call'):
            client.cast({}, method)
        self.wait_for(lambda: len(self.threads) == 2, 'both are handled')
        self.assertIs(self.server.listener._listen_thread, self.threads['cast'])
        self.assertIsNot(self.server.listener._listen_thread, self.threads['call'])

    def test_a_message_without_a_method(self) -> None:
        seen: list[Any] = []
        self.server._process_incoming = seen.append
        self.server._work_executor = types.SimpleNamespace(submit=lambda function, incoming: function(incoming))
        incoming = [types.SimpleNamespace(message={})]
        self.server._on_incoming(incoming)
        self.assertEqual([incoming], seen)


class DefaultsTestCase(base.TestCase):
    def test_ours_count_unless_the_operator_says_otherwise(self) -> None:
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        rpc.transport(cfg.CONF)
        options = cfg.CONF.oslo_messaging_rabbit
        self.assertEqual((True, 10), (options.amqp_durable_queues, options.rabbit_qos_prefetch_count))
        cfg.CONF.set_override('rabbit_qos_prefetch_count', 5, 'oslo_messaging_rabbit')
        self.addCleanup(cfg.CONF.clear_override, 'rabbit_qos_prefetch_count', 'oslo_messaging_rabbit')
        rpc.transport(cfg.CONF)
        self.assertEqual(5, options.rabbit_qos_prefetch_count)

    def test_no_notifications_without_a_driver(self) -> None:
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        for drivers, wanted in (([], False), (['noop'], False), (['messagingv2'], True)):
            notify.notifier(cfg.CONF, 'here')
            cfg.CONF.set_override('driver', drivers, 'oslo_messaging_notifications')
            self.addCleanup(cfg.CONF.clear_override, 'driver', 'oslo_messaging_notifications')
            self.assertEqual(wanted, notify.notifier(cfg.CONF, 'here') is not None)


class NotifierTestCase(base.TestCase):
    """What oslo.messaging only logs has to reach us, or a notification would be forgotten that was never sent."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        self.configure(driver=['messagingv2', 'log'], topics=['one', 'two'])
        notifier = notify.notifier(cfg.CONF, 'here')
        assert notifier is not None
        self.notifier = notifier
        self.sent: list[str] = []

    def configure(self, **options: list[str]) -> None:
        for name, value in options.items():
            cfg.CONF.set_override(name, value, 'oslo_messaging_notifications')
            self.addCleanup(cfg.CONF.clear_override, name, 'oslo_messaging_notifications')

    def send(self, target: oslo_messaging.Target, *_message: object, **_options: object) -> None:
        self.sent.append(target.topic)

    def test_sent_to_each_topic(self) -> None:
        self.patch(self.notifier.transport._driver, 'send_notification', self.send)
        self.notifier.info(context.RequestContext(), 'it', {})
        self.assertEqual(['one.info', 'two.info'], self.sent)

    def test_what_the_broker_refuses_is_raised_and_the_next_one_is_sent(self) -> None:
        refusals = [oslo_messaging.MessageDeliveryFailure('inequivalent arg')]

        def send(target: oslo_messaging.Target, *_message: object, **_options: object) -> None:
            if refusals:
                raise refusals.pop()
            self.send(target)

        self.patch(self.notifier.transport._driver, 'send_notification', send)
        error = self.assertRaises(
            exception.NotificationNotSent, self.notifier.error, context.RequestContext(), 'it', {}
        )
        self.assertIn('inequivalent arg', str(error))
        self.assertEqual(['two.error'], self.sent)
        self.notifier.error(context.RequestContext(), 'it', {})
        self.assertEqual(['two.error', 'one.error', 'two.error'], self.sent)

    def test_what_fails_in_any_other_driver_is_raised(self) -> None:
        self.configure(driver=['test'])
        notifier = notify.notifier(cfg.CONF, 'here')
        assert notifier is not None
        # It keeps what it gets in a list.
        self.useFixture(fixtures.MonkeyPatch('oslo_messaging.notify._impl_test.NOTIFICATIONS', None))
        self.assertRaises(exception.NotificationNotSent, notifier.info, context.RequestContext(), 'it', {})
