# SPDX-License-Identifier: Apache-2.0
"""A message that is not as it must be is refused by one clear error, and holds nobody up."""

import threading
import types
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_messaging import conffixture
from oslo_messaging._drivers import amqpdriver
from oslo_messaging.rpc import dispatcher

from aliasagent import context
from aliasagent.client import rpc
from aliasagent.messaging import rpc_server
from aliasagent.tests import base


class Endpoint:
    target = oslo_messaging.Target(version='1.3')

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    @oslo_messaging.expose
    def order(self, _ctxt: context.RequestContext, /, **arguments: Any) -> str:
        self.seen.append(arguments)
        return 'done'

    def hidden(self, _ctxt: context.RequestContext) -> None:
        raise AssertionError('it was called')


class CheckedTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        self.endpoint = Endpoint()
        self.server = rpc_server.make(rpc.transport(cfg.CONF), 'here', [self.endpoint], in_order=['order'])
        self.logger = self.useFixture(fixtures.FakeLogger('aliasagent.messaging.rpc_server'))

    def dispatch(self, message: dict[str, Any], *, call: bool = False, client_timeout: Any = None) -> Any:
        incoming = types.SimpleNamespace(
            message=message, ctxt={}, client_timeout=client_timeout, orig_msg_id='1' if call else None
        )
        return self.server.dispatcher.dispatch(incoming)

    def refused(self, message: dict[str, Any], **more: Any) -> BaseException:
        expected = self.assertRaises(dispatcher.ExpectedException, self.dispatch, message, **more)
        error: BaseException = expected.exc_info[1]
        return error

    def test_what_is_as_it_must_be(self) -> None:
        for version in ('1.0', '1.3', '1.2.9', '1.3.0'):
            self.assertEqual('done', self.dispatch({'method': 'order', 'args': {'a': 1}, 'version': version}))
        self.assertEqual('done', self.dispatch({'method': 'order'}))
        self.assertEqual('', self.logger.output)

    def test_versions_that_are_not_served_here(self) -> None:
        versions: tuple[Any, ...] = ('1.4', '1.99', '2.0', '0.9', '1.3.1', 'x', '', '1', '1.x', '1.0.x', '-1.0', None)
        for version in (*versions, 1, 1.0, [1, 0], {}):
            error = self.refused({'method': 'order', 'version': version})
            self.assertIsInstance(error, dispatcher.UnsupportedVersion)
            self.assertIn(version if version == '1.99' else 'order', str(error))

    def test_methods_that_are_not_there(self) -> None:
        for method in ('hidden', 'target', '__init__', 'x' * 70_000, 'a\nb', None, 7, ['order'], {'order': 1}):
            error = self.refused({'method': method})
            self.assertIsInstance(error, dispatcher.NoSuchMethod)
            self.assertNotIn('\n', str(error))
            self.assertLess(len(str(error)), 200)
        self.assertIsInstance(self.refused({}), dispatcher.NoSuchMethod)

    def test_a_namespace(self) -> None:
        namespaces: tuple[Any, ...] = ('x', 7, [], {})
        for namespace in namespaces:
            error = self.refused({'method': 'order', 'namespace': namespace})
            self.assertIsInstance(error, dispatcher.UnsupportedVersion)

    def test_it_is_logged_once_if_nobody_waits_for_the_answer(self) -> None:
        self.refused({'method': 'hidden'}, call=True)
        self.assertEqual('', self.logger.output)
        self.refused({'method': 'hidden'})
        self.assertEqual(1, len(self.logger.output.splitlines()))

    def test_arguments_that_have_no_names_are_for_the_endpoint_to_refuse(self) -> None:
        for arguments in (None, 7, [1], 'x', True):
            self.dispatch({'method': 'order', 'args': arguments})
            self.assertEqual({'args': arguments}, self.endpoint.seen.pop())

    def test_names_that_are_pythons_own(self) -> None:
        for name in ('self', 'ctxt', 'method'):
            self.dispatch({'method': 'order', 'args': {name: 1}})
            self.assertEqual({name: 1}, self.endpoint.seen.pop())

    def test_no_thread_is_left_that_tells_a_patient_caller(self) -> None:
        before = threading.active_count()
        timeouts: tuple[Any, ...] = (2, 3600, 10**9, 'x', [1], {}, -1, True)
        for timeout in timeouts:
            self.refused({'method': 'hidden'}, call=True, client_timeout=timeout)
            self.refused({'method': 'order', 'version': '9.0'}, call=True, client_timeout=timeout)
            self.assertEqual('done', self.dispatch({'method': 'order'}, call=True, client_timeout=timeout))
        self.assertEqual(before, threading.active_count())


class PoolTestCase(base.TestCase):
    """What is handled in the thread that takes messages in must not be able to hold it up."""

    def test_whoever_waits_for_an_answer_may_be_gone(self) -> None:
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        server = rpc_server.make(rpc.transport(cfg.CONF), 'here', [Endpoint()], in_order=['order'])
        in_pool: list[Any] = []
        handled: list[Any] = []
        server._work_executor = types.SimpleNamespace(submit=lambda _function, incoming: in_pool.append(incoming))
        server._process_incoming = handled.append
        cast = [types.SimpleNamespace(message={'method': 'order'}, orig_msg_id=None)]
        call = [types.SimpleNamespace(message={'method': 'order'}, orig_msg_id='1')]
        odd = [types.SimpleNamespace(message={'method': ['order']}, orig_msg_id=None)]
        for incoming in (cast, call, odd):
            server._on_incoming(incoming)
        self.assertEqual(([cast], [call, odd]), (handled, in_pool))


class ListenerTestCase(base.TestCase):
    """The driver's listener is private: should it read a context otherwise, this has to fail."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'kombu+memory://'
        transport = rpc.transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        server = rpc_server.make(transport, 'here', [Endpoint()], in_order=['order'])
        self.listener = server._create_listener()._poll_style_listener
        self.addCleanup(self.listener.conn.close)
        self.said: list[str] = []

    def take(self, **message: Any) -> Any:
        said = self.said

        class Message(dict[str, Any]):
            def acknowledge(self) -> None:
                said.append('acknowledged')

        self.assertIsInstance(self.listener, amqpdriver.RpcAMQPListener)
        self.listener(Message(message))
        return self.listener.incoming.pop()

    def test_a_context_that_it_would_stumble_over(self) -> None:
        deep: Any = 'x'
        for _ in range(900):
            deep = [deep]
        for method in ('order', 'question'):
            ids = {'_context_operation_id': 'mine', '_context_request_id': None}
            taken = self.take(method=method, _context_self='x', _context_deep=deep, _context_more={'a': 1}, **ids)
            self.assertEqual(('mine', None), (taken.ctxt['operation_id'], taken.ctxt['request_id']))
            self.assertNotIn('deep', taken.ctxt)

    def test_only_casts_are_acknowledged_late(self) -> None:
        self.take(method='order')
        self.assertEqual([], self.said)
        for message in ({'method': 'question'}, {'method': ['order']}, {}, {'method': 'order', '_msg_id': '1'}):
            self.take(**message)
        self.assertEqual(['acknowledged'] * 4, self.said)


class ContextTestCase(base.TestCase):
    def test_the_log_names_the_request_that_is_handled(self) -> None:
        serializer = rpc.ContextSerializer()
        for request in ('req-1', 'req-2'):
            serializer.deserialize_context({'request_id': request})
            current = oslo_context.get_current()
            assert current is not None
            self.assertEqual(request, current.request_id)

    def test_an_id_that_is_none(self) -> None:
        for value in ('a\nb', '\ud800', 'x' * 256, '\x1b[2J'):
            arrived = context.RequestContext.from_dict({'request_id': value, 'global_request_id': value})
            self.assertNotIn(value, (arrived.request_id, arrived.global_request_id))
