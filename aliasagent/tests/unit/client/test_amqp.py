# SPDX-License-Identifier: Apache-2.0
"""The sender that does without oslo.messaging sends what oslo.messaging sends, and understands what agents answer."""

import pathlib
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import fixtures
import oslo_messaging
import trustme
from amqp import basic_message
from kombu import compression
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_messaging import conffixture

from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.client import options
from aliasagent.client import rpc
from aliasagent.client import sending
from aliasagent.context import RequestContext
from aliasagent.tests.fakes import broker as fake
from aliasagent.tests.unit.client import base

#: What differs from one run to the next: ids, ports and the process in the name of the connection.
RANDOM = re.compile(r'[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}')
#: A message with all that JSON has.
CONNECTION = {'driver_volume_type': 'iscsi', 'data': {'a': [1, 2.5, None, True, {}], 'b': 'é \u2028 "\\" \U0001f600'}}


class WireTestCase(base.BrokerCase):
    """Byte by byte, but for ids."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = self.broker.url
        self.config = self.useFixture(config_fixture.Config(cfg.CONF))

    def messaging(self, **rabbit: Any) -> ComputeAPI:
        rpc.set_defaults(cfg.CONF)
        for name in cfg.CONF[options.RABBIT]:
            cfg.CONF.clear_override(name, group=options.RABBIT)
        self.config.config(group=options.RABBIT, **rabbit)
        transport = rpc.transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        return ComputeAPI(transport, 'here', timeout=5)

    def sent(self, api: ComputeAPI, requests: Callable[[ComputeAPI], None]) -> dict[str, list[Any]]:
        """What a client sends for some requests: by method, without ids."""
        self.broker.sent.clear()
        self.broker.exchanges.clear()
        requests(api)
        found: dict[str, list[Any]] = {}
        for it in self.broker.sent:
            text = RANDOM.sub('ID', repr((it.arguments, it.properties, it.body)))
            if it.name == 'connection.start-ok':
                text = re.sub(r"'connection_name': '[^']*'", '', text)
            # oslo.messaging has a connection to receive and another one to send, and sends heartbeats
            shown = found.setdefault(it.name, [])
            if it.name != 'connection.tune-ok' and (it.name == 'basic.publish' or text not in shown):
                shown.append(text)
        for name in ('basic.ack', 'channel.close', 'connection.close'):
            found.pop(name, None)
        return found

    def assert_same(self, requests: Callable[[ComputeAPI], None], **rabbit: Any) -> dict[str, list[Any]]:
        theirs = self.sent(self.messaging(**rabbit), requests)
        ours = self.sent(self.api(**rabbit), requests)
        self.assertEqual(theirs, ours)
        return ours

    def test_calls_and_casts(self) -> None:
        agent = fake.FakeAgent(self.broker, 'here')

        def requests(api: ComputeAPI) -> None:
            ctxt = RequestContext(global_request_id='req-8d0e8c4c-6f0e-4b8f-9f6e-0f3d4f1d2b10')
            api.list_instances(ctxt)
            api.attach_volume(ctxt, 'guest', 'volume', CONNECTION, '/dev/vdb')
            api.submit(ctxt, 'attach_volume', instance_uuid='guest', connection_info=CONNECTION)
            # more than one frame
            api.reconcile_plan(ctxt, 'guest', {'volumes': ['x' * 300_000]})

        sent = self.assert_same(requests)
        self.assertEqual(4, len(sent['basic.publish']))
        self.assertEqual(8, len(agent.requests))
        self.assertIn("'aliasagent', 'compute-alt.here', True", sent['basic.publish'][0])
        self.assertIn("'aliasagent', 'compute.here', True", sent['basic.publish'][1])

    def test_no_agent(self) -> None:
        def requests(api: ComputeAPI) -> None:
            for ask in (api.list_instances, lambda ctxt: api.detach(ctxt, 'guest', 'device')):
                self.assertRaises((sending.Undeliverable, oslo_messaging.MessageUndeliverable), ask, RequestContext())

        # the call to both topics, and the cast
        self.assertEqual(3, len(self.assert_same(requests)['basic.publish']))

    def test_queues(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        for rabbit in (
            {'amqp_durable_queues': False, 'rabbit_qos_prefetch_count': 0, 'rabbit_transient_queues_ttl': 0},
            {'amqp_auto_delete': True, 'rabbit_login_method': 'PLAIN', 'rabbit_transient_queues_ttl': 60},
            {'rabbit_quorum_queue': True, 'amqp_durable_queues': False, 'rabbit_quorum_delivery_limit': 7},
            {
                'rabbit_transient_quorum_queue': True,
                'rabbit_quorum_delivery_limit': 3,
                'rabbit_quorum_max_memory_bytes': 1000,
                'rabbit_quorum_max_memory_length': 10,
            },
        ):
            with self.subTest(rabbit=rabbit):
                self.assert_same(lambda api: api.list_instances(RequestContext()), **rabbit)  # type: ignore[arg-type]

    def test_an_exchange_that_is_not_durable(self) -> None:
        fake.FakeAgent(self.broker, 'here')

        def requests(api: ComputeAPI) -> None:
            self.broker.exchanges['aliasagent'] = False
            api.list_instances(RequestContext())

        self.assertEqual(2, len(self.assert_same(requests)['exchange.declare']))


class AnswersTestCase(base.BrokerCase):
    def ask(self, *answers: dict[str, Any], timeout: int = 5) -> Any:
        fake.FakeAgent(self.broker, 'here', lambda _request: list(answers))
        return self.api(timeout=timeout).list_instances(RequestContext())

    def test_a_result(self) -> None:
        self.assertEqual([CONNECTION], self.ask(*fake.result([CONNECTION])))

    def test_a_result_and_its_end_apart(self) -> None:
        first = {'result': [1], 'failure': None, 'ending': False}
        self.assertEqual([1], self.ask(first, {**first, 'result': None, 'ending': True}))

    def test_a_large_result(self) -> None:
        self.assertEqual(['x' * 500_000], self.ask(*fake.result(['x' * 500_000])))

    def test_an_error_of_the_agent(self) -> None:
        answer = fake.failure('InstanceNotFound', 'aliasagent.exception', 'words', instance='web')
        error = self.assertRaises(exception.InstanceNotFound, self.ask, *answer)
        self.assertEqual(('instance web is not on this host', {'instance': 'web'}), (str(error), error.kwargs))

    def test_another_error(self) -> None:
        for name, module, details in (
            ('KeyError', 'builtins', {}),
            ('NoSuchMethod', 'oslo_messaging.rpc.dispatcher', {}),
            ('system', 'os', {}),
            # of another version of the agent
            ('InstanceAsleep', 'aliasagent.exception', {'instance': 'web'}),
            ('InstanceNotFound', 'aliasagent.exception', {'guest': 'web'}),
            ('public', 'aliasagent.exception', {}),
            ('ClassVar', 'aliasagent.exception', {}),
        ):
            self.broker.queues.clear()
            answer = fake.failure(name, module, 'words', **details)
            error = self.assertRaises(sending.RemoteError, self.ask, *answer)
            self.assertEqual((name, 'words'), (error.kind, error.text))

    def test_an_agent_that_is_too_old(self) -> None:
        answer = fake.failure('UnsupportedVersion', 'oslo_messaging.rpc.dispatcher', 'words')
        error = self.assertRaises(exception.Unsupported, self.ask, *answer)
        self.assertIn('the agent on host here is too old', str(error))

    def test_an_answer_that_cannot_be_read(self) -> None:
        for body in (b'nonsense', b'[]', b'{"oslo.message": "nonsense"}', b'{"oslo.message": "[]"}'):

            def encode(_content: object, properties: bytes, body: bytes = body) -> tuple[bytes, bytes]:
                return properties, body

            fake.FakeAgent(self.broker, 'here', encode=encode)
            error = self.assertRaises(sending.RemoteError, self.api().list_instances, RequestContext())
            self.assertIn('cannot be read', str(error))
            self.broker.queues.clear()

    def test_a_compressed_answer(self) -> None:
        """An agent may compress what a client does not."""
        def encode(content: dict[str, Any], properties: bytes) -> tuple[bytes, bytes]:
            compress: Any = compression.compress
            compressed, kind = compress(fake.encode(content, properties)[1], 'gzip')
            message = basic_message.Message(
                content_type='application/json', content_encoding='utf-8', application_headers={'compression': kind}
            )
            return message._serialize_properties(), compressed

        fake.FakeAgent(self.broker, 'here', lambda _request: fake.result(['large']), encode)
        self.assertEqual(['large'], self.api().list_instances(RequestContext()))

    def test_no_answer(self) -> None:
        begin = time.monotonic()
        self.assertRaises(sending.NoAnswer, self.ask, timeout=1)
        self.assertGreater(5, time.monotonic() - begin)

    def test_a_late_answer_is_not_that_of_the_next_question(self) -> None:
        late: list[dict[str, Any]] = []

        def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
            if not late:
                late.append({**fake.result(['late'])[0], '_msg_id': request['_msg_id']})
                return []
            return [late[0], *fake.result(['in time'])]

        fake.FakeAgent(self.broker, 'here', answer)
        api = self.api(timeout=1)
        self.assertRaises(sending.NoAnswer, api.list_instances, RequestContext())
        self.assertEqual(['in time'], api.list_instances(RequestContext()))


class BrokersTestCase(base.BrokerCase):
    def test_one_connection_for_all_requests(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        sender = self.sender()
        api = ComputeAPI(sender, 'here', timeout=5)
        for _ in range(3):
            api.list_instances(RequestContext())
            api.detach(RequestContext(), 'guest', 'device')
        for name in ('connection.open', 'channel.open', 'queue.declare', 'basic.consume'):
            self.assertEqual(1, len(self.broker.named(name)), name)
        sender.close()
        sender.close()
        self.assertEqual(1, len(self.broker.named('connection.close')))

    def test_the_first_broker_that_is_there(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        for _ in range(5):
            url = f'rabbit://guest:guest@127.0.0.1:1,guest:guest@127.0.0.1:{self.broker.port},guest:guest@127.0.0.1:2/'
            self.api(url).list_instances(RequestContext())

    def test_no_broker(self) -> None:
        error = self.assertRaises(sending.BrokerUnreachable, self.sender('rabbit://127.0.0.1:1,127.0.0.2:2/').connect)
        for address in ('127.0.0.1:1', '127.0.0.2:2'):
            self.assertIn(f'{address}: Connection refused', str(error))
        error = self.assertRaises(sending.BrokerUnreachable, self.sender('rabbit://[::1]:2/').connect)
        self.assertIn('::1:2: ', str(error))

    def test_a_broker_that_says_nothing(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.client.amqp.CONNECT_SECONDS', 0.2))
        self.broker.without = {'start'}
        error = self.assertRaises(sending.BrokerUnreachable, self.sender().connect)
        self.assertIn(f'127.0.0.1:{self.broker.port}: no answer within 0.2 s', str(error))

    def test_a_wrong_password(self) -> None:
        url = self.broker.url.replace('guest@', 'x7Qm-hush@')
        error = self.assertRaises(sending.BrokerError, self.sender(url).connect)
        self.assertNotIsInstance(error, sending.BrokerUnreachable)
        self.assertIn('ACCESS_REFUSED - Login was refused', str(error))
        self.assertNotIn('x7Qm-hush', str(error))
        # more to the point than that another is not there
        error = self.assertRaises(sending.BrokerError, self.sender(url.replace('@', '@127.0.0.1:1,x:x7@')).connect)
        self.assertIn('ACCESS_REFUSED', str(error))

    def test_percent_encoding(self) -> None:
        broker = self.start_broker(password='p@ss/:%#,é')
        fake.FakeAgent(broker, 'here')
        url = f'rabbit://us%40er:p%40ss%2F%3A%25%23%2C%C3%A9@localhost:{broker.port}/virtual%20host'
        self.api(url).list_instances(RequestContext())
        (opened,) = broker.named('connection.open')
        self.assertEqual('virtual host', opened.arguments[0])
        self.assertIn('us@er', str(broker.named('connection.start-ok')[0].arguments))

    def test_a_broker_that_does_not_confirm(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        self.broker.without = {'confirm'}
        error = self.assertRaises(sending.BrokerSilent, self.api(timeout=1).list_instances, RequestContext())
        self.assertTrue(error.may_have_arrived)

    def test_a_broker_that_accepts_no_messages(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        self.broker.without = {'accept'}
        error = self.assertRaises(sending.BrokerError, self.api().detach, RequestContext(), 'guest', 'device')
        self.assertIn('did not accept the message', str(error))
        self.assertFalse(error.may_have_arrived)
        self.broker.without = {'confirm'}
        api = self.api(timeout=1)
        api._sender.connect()  # type: ignore[attr-defined]
        (client,) = [client for client in self.broker.clients if client.is_open][-1:]
        client.send(0, (10, 60), 's', 'low on memory')
        error = self.assertRaises(sending.BrokerError, api.list_instances, RequestContext())
        self.assertIn('it accepts no messages now: connection blocked', str(error))
        # It may read the message later.
        self.assertTrue(error.may_have_arrived)


class TlsTestCase(base.BrokerCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert('localhost').configure_cert(context)
        self.authority.configure_trust(context)
        self.context = context
        self.broker = self.start_broker(context=context)
        fake.FakeAgent(self.broker, 'here')
        self.directory = pathlib.Path(self.make_directory())

    def ask(self, host: str = 'localhost', authority: trustme.CA | None = None, **files: Any) -> None:
        path = self.directory / 'authority.pem'
        (authority or self.authority).cert_pem.write_to_path(str(path))
        url = f'rabbit://guest:guest@{host}:{self.broker.port}/'
        self.api(url, ssl=True, ssl_ca_file=str(path), **files).list_instances(RequestContext())

    def test_a_broker_of_a_known_authority(self) -> None:
        self.ask()

    def test_a_broker_of_an_unknown_authority(self) -> None:
        error = self.assertRaises(sending.BrokerError, self.ask, authority=trustme.CA())
        self.assertNotIsInstance(error, sending.BrokerUnreachable)
        self.assertIn('certificate verify failed', str(error))

    def test_a_broker_with_another_name(self) -> None:
        error = self.assertRaises(sending.BrokerError, self.ask, '127.0.0.1')
        self.assertIn('certificate verify failed: IP address mismatch', str(error))
        # as by oslo.messaging, which cannot tell which name belongs to which of several brokers
        self.ask('127.0.0.1:1,guest:guest@127.0.0.1')

    def test_a_client_with_a_certificate(self) -> None:
        self.context.verify_mode = ssl.CERT_REQUIRED
        issued = self.authority.issue_cert('client')
        certificate, key = self.directory / 'cert.pem', self.directory / 'key.pem'
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        self.ask(ssl_cert_file=certificate, ssl_key_file=key)
        self.assertRaises(sending.BrokerError, self.ask)

    def test_a_client_without_tls(self) -> None:
        self.assertRaises(sending.BrokerUnreachable, self.sender().connect)
