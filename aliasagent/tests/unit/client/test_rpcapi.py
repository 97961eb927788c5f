# SPDX-License-Identifier: Apache-2.0
"""Clients and agents of neighbouring versions: on the fake transport, and by each sender on a broker of the tests."""

import functools
import unittest
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import conffixture

from aliasagent import client
from aliasagent import exception
from aliasagent import rpc as old_rpc
from aliasagent.actions import Action
from aliasagent.client import ComputeAPI
from aliasagent.client import amqp
from aliasagent.client import brokers
from aliasagent.client import options
from aliasagent.client import rpc
from aliasagent.client import sending
from aliasagent.compute import rpcapi as old_rpcapi
from aliasagent.context import RequestContext
from aliasagent.messaging import rpc_server
from aliasagent.shell.remote import messaging
from aliasagent.tests import base
from aliasagent.tests.fakes import broker as fake

#: The methods that each version brought, and arguments for them.
METHODS: dict[str, dict[str, tuple[Any, ...]]] = {
    '1.0': {
        'attach_volume': ('guest', 'volume', {}),
        'attach_interface': ('guest', {}),
        'detach_volume': ('guest', 'volume'),
        'detach_interface': ('guest', 'port'),
        'detach': ('guest', 'device'),
        'list_instances': (),
        'list_devices': ('guest',),
        'get_operation': ('operation',),
    },
    '1.1': {'attach_hostdev': ('guest', 'device', {})},
    '1.2': {
        'reconcile_instance': ('guest',),
        'reconcile_plan': ('guest',),
        'reconcile_status': (),
        'reconcile_live': ('guest',),
        'reconcile_live_estimate': ('guest',),
        'live_migrate': ('guest', 'qemu:///system'),
        'migration_progress': ('guest',),
        'abort_migration': ('guest',),
    },
    '1.3': {'submit': ('detach',), 'list_operations': ()},
    '1.4': {},
    '1.5': {'list_connections': (), 'remove_connection': ('guest', 'device'), 'get_volume_connector': ()},
}
VERSIONS = tuple(METHODS)
#: The casts that can be forced, since 1.4.
FORCED = {
    name: arguments
    for names in METHODS.values()
    for name, arguments in names.items()
    if name in ('attach_volume', 'attach_interface', 'attach_hostdev', 'reconcile_live', 'live_migrate')
}
#: What a submitted attach needs in agents before 1.5.
DESCRIBED: dict[str, Any] = {'connection_info': {}, 'port': {}}
TOPICS = (rpc.TOPIC, rpc.ALT_TOPIC)


def ask(method: str, arguments: dict[str, Any], api: ComputeAPI) -> None:
    getattr(api, method)(RequestContext(), 'guest', **arguments)


def submit(method: str, arguments: dict[str, Any], api: ComputeAPI) -> None:
    api.submit(RequestContext(), method, instance_uuid='guest', **arguments)


class OldPlacesTestCase(base.TestCase):
    def test_what_documents_promised_is_still_there(self) -> None:
        self.assertIs(client.ComputeAPI, old_rpcapi.ComputeAPI)
        self.assertIs(client.transport, old_rpc.transport)


class Recorder:
    """An agent of some version. It has every method, so that nothing but the version refuses one."""

    def __init__(self, version: str) -> None:
        self.target = oslo_messaging.Target(version=version)
        self.asked: list[str] = []
        #: The messages that were received, by method.
        self.given: dict[str, dict[str, Any]] = {}
        for method in (name for names in METHODS.values() for name in names):
            setattr(self, method, self._method(method))

    def _method(self, name: str) -> Any:
        def method(_ctxt: object, **arguments: object) -> None:
            self.asked.append(name)
            self.given[name] = arguments

        return oslo_messaging.expose(method)


class VersionsCase(base.TestCase):
    """Tests of one sender."""

    def setUp(self) -> None:
        super().setUp()
        self.transport = self.open(self.make_url())
        self.sender: sending.Sender = self.make_sender()

    def open(self, url: str) -> oslo_messaging.Transport:
        """The transport of the agents."""
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = url
        transport = rpc.transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        return transport

    def make_url(self) -> str:
        return 'fake:/'

    def make_sender(self) -> sending.Sender:
        return rpc.Messaging(self.transport)

    def agent(self, version: str, topics: tuple[str, ...] = TOPICS) -> Recorder:
        """Start an agent, on a host of its version's name."""
        recorder = Recorder(version)
        for topic in topics:
            server = rpc_server.make(self.transport, version, [recorder], topic=topic, in_order=Action)
            server.start()
            self.addCleanup(server.wait)
            self.addCleanup(server.stop)
        return recorder

    def api(self, host: str, cap: str | None = None) -> ComputeAPI:
        return ComputeAPI(self.sender, host, timeout=10, version_cap=cap)

    def ask(self, api: ComputeAPI, methods: dict[str, tuple[Any, ...]]) -> None:
        for method, arguments in methods.items():
            getattr(api, method)(RequestContext(), *arguments)

    def test_a_client_that_is_pinned_asks_agents_of_that_version_for_what_they_know(self) -> None:
        for number, cap in enumerate(VERSIONS):
            # the topic for calls came with 1.3
            recorder = self.agent(cap, TOPICS if cap >= '1.3' else (rpc.TOPIC,))
            api = self.api(cap, cap)
            known = {name: it for version in VERSIONS[: number + 1] for name, it in METHODS[version].items()}
            later = {name: it for version in VERSIONS[number + 1 :] for name, it in METHODS[version].items()}
            self.ask(api, known)
            self.wait_for(lambda: set(recorder.asked) == set(known), f'what {cap} knows')  # noqa: B023
            for method, arguments in later.items():
                self.assertFalse(api.can(method))
                error = self.assertRaises(
                    exception.Unsupported, getattr(api, method), RequestContext(), *arguments
                )
                self.assertIn(f'{method} is not supported: it needs version ', str(error))
                self.assertIn(f'[upgrade_levels] compute allows none after {cap}', str(error))
            self.assertTrue(all(map(api.can, known)))
            # a call after them all: nothing else has come
            api.list_instances(RequestContext())
            self.assertEqual(set(known), set(recorder.asked))

    def test_what_is_not_forced_is_a_message_of_before(self) -> None:
        recorder = self.agent('1.3')
        api = self.api('1.3', '1.3')
        for method, arguments in FORCED.items():
            getattr(api, method)(RequestContext(), *arguments, force=False)
            api.submit(RequestContext(), method, force=False, **DESCRIBED)
            self.assertEqual(DESCRIBED, recorder.given['submit']['operation']['arguments'])
        self.wait_for(lambda: set(FORCED) <= set(recorder.given), 'all of them')
        for method in FORCED:
            self.assertNotIn('force', recorder.given[method])

    def test_what_is_forced_is_for_agents_that_know_it(self) -> None:
        recorder = self.agent('1.4')
        older, newer = self.api('1.4', '1.3'), self.api('1.4', '1.4')
        for method, arguments in FORCED.items():
            for sent, them in ((method, arguments), ('submit', (method,))):
                more = {'force': True} | (DESCRIBED if sent == 'submit' else {})
                error = self.assertRaises(exception.Unsupported, getattr(older, sent), RequestContext(), *them, **more)
                self.assertIn(f'{sent} with force is not supported: it needs version 1.4 of the contract', str(error))
                self.assertEqual({}, recorder.given)
                getattr(newer, sent)(RequestContext(), *them, **more)
                self.wait_for(lambda: recorder.given, sent)
                (given,) = recorder.given.values()
                self.assertIs(True, given.get('operation', {}).get('arguments', given)['force'])
                recorder.given.clear()
        self.assertEqual(2 * len(FORCED), len(recorder.asked))

    def test_an_agent_that_does_not_know_force_is_said_to_be_older(self) -> None:
        recorder = self.agent('1.3')
        api = self.api('1.3')
        error = self.assertRaises(exception.Unsupported, api.submit, RequestContext(), 'attach_hostdev', force=True)
        self.assertIn('submit with force is not supported: it needs version 1.4 of the contract, and the', str(error))
        self.assertEqual([], recorder.asked)

    def test_an_attach_by_id_alone_is_for_agents_that_can_ask_the_cloud(self) -> None:
        recorder = self.agent('1.5')
        older, newer = self.api('1.5', '1.4'), self.api('1.5', '1.5')
        for method, left_out, arguments in (
            ('attach_volume', 'connection_info', {'volume_id': 'volume'}),
            ('attach_interface', 'port', {'port_id': 'port'}),
        ):
            for send in (
                functools.partial(ask, method, arguments),
                functools.partial(submit, method, arguments),
            ):
                error = self.assertRaises(exception.Unsupported, send, older)
                self.assertIn(f'without {left_out} is not supported: it needs version 1.5', str(error))
                self.assertEqual({}, recorder.given)
                send(newer)
                self.wait_for(lambda: recorder.given, method)
                (given,) = recorder.given.values()
                found = given.get('operation', {}).get('arguments', given)
                self.assertEqual(arguments, {name: found.get(name) for name in arguments})
                self.assertNotIn(left_out, found)
                recorder.given.clear()

    def test_a_newer_agent_does_what_an_older_client_asks(self) -> None:
        recorder = self.agent('1.6')
        for cap in (None, '1.5', '1.6', '1.7'):
            recorder.asked.clear()
            for methods in METHODS.values():
                self.ask(self.api('1.6', cap), methods)
            everything = {name for names in METHODS.values() for name in names}
            self.wait_for(lambda: set(recorder.asked) == everything, 'all of it')  # noqa: B023

    def test_an_older_agent_that_is_asked_too_much_is_said_to_be_older(self) -> None:
        recorder = self.agent('1.2')
        api = self.api('1.2')
        for method, arguments in METHODS['1.3'].items():
            error = self.assertRaises(exception.Unsupported, getattr(api, method), RequestContext(), *arguments)
            self.assertIn('it needs version 1.3 of the contract, and the agent on host 1.2 is too old', str(error))
        self.assertEqual([], recorder.asked)

    def test_an_agent_with_another_contract_is_said_to_be_one(self) -> None:
        self.agent('2.0')
        self.assertRaises(exception.Unsupported, self.api('2.0').list_instances, RequestContext())


class FakeTransportTestCase(VersionsCase):
    def test_what_there_is_has_a_version(self) -> None:
        ours = {name for name in vars(ComputeAPI) if not name.startswith('_')} - {'can', 'VERSION'}
        self.assertEqual(ours, {name for names in METHODS.values() for name in names})
        self.assertEqual(ComputeAPI.VERSION, VERSIONS[-1])

    def test_a_client_takes_a_transport_too(self) -> None:
        recorder = self.agent('1.3')
        ComputeAPI(self.transport, '1.3', timeout=10).list_instances(RequestContext())
        self.assertEqual(['list_instances'], recorder.asked)

    def test_a_client_of_oslo_messaging_is_prepared_once_per_topic_and_version(self) -> None:
        self.agent('1.3')
        made: list[tuple[str, str]] = []
        make = rpc.client

        def client(transport: Any, version: str, *, topic: str, **more: Any) -> Any:
            made.append((topic, version))
            return make(transport, version, topic=topic, **more)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.client.rpc.client', client))
        for _ in range(3):
            self.ask(self.api('1.3'), METHODS['1.0'] | METHODS['1.3'])
        self.assertEqual([('compute', '1.0'), ('compute-alt', '1.0'), ('compute-alt', '1.3')], sorted(made))


class BrokerVersionsCase(VersionsCase):
    """With a broker, which knows whether an agent listens."""

    def make_url(self) -> str:
        self.broker = fake.Broker()
        self.broker.__enter__()
        self.addCleanup(self.broker.stop)
        return self.broker.url

    def test_an_agent_that_has_one_topic(self) -> None:
        for version in ('1.0', '1.1', '1.2'):
            recorder = self.agent(version, (rpc.TOPIC,))
            api = self.api(version)
            for known in VERSIONS[: VERSIONS.index(version) + 1]:
                self.ask(api, METHODS[known])
            expected = {name for known in VERSIONS[: VERSIONS.index(version) + 1] for name in METHODS[known]}
            self.wait_for(lambda: set(recorder.asked) == expected, f'what {version} knows')  # noqa: B023
            for method, arguments in METHODS['1.3'].items():
                error = self.assertRaises(exception.Unsupported, getattr(api, method), RequestContext(), *arguments)
                self.assertIn(f'the agent on host {version} is too old', str(error))

    def test_no_agent(self) -> None:
        for method in (self.api('nowhere').list_instances, lambda ctxt: self.api('nowhere').detach(ctxt, 'x', 'y')):
            self.assertRaises(self.sender.undeliverable, method, RequestContext())


class BrokenOnce(sending.Sender):
    """A sender whose connection breaks during the request by the first topic; no agent listens on either topic then."""

    undeliverable = sending.Undeliverable
    refused = (sending.RemoteError,)

    def __init__(self) -> None:
        self.topics: list[str] = []

    def cast(self, request: sending.Request) -> None:
        raise NotImplementedError

    def call(self, request: sending.Request, _timeout: float | None = None) -> None:
        self.topics.append(request.topic)
        raise sending.Undeliverable('no agent listens', may_have_arrived=len(self.topics) == 1)

    def is_unsupported(self, _error: Exception) -> bool:
        return False


class BrokenOnceTestCase(base.TestCase):
    def test_what_may_have_arrived_by_the_first_topic_is_not_forgotten(self) -> None:
        sender = BrokenOnce()
        api = ComputeAPI(sender, 'host')
        error = self.assertRaises(sending.Undeliverable, api.list_instances, RequestContext())
        self.assertEqual((['compute-alt', 'compute'], True), (sender.topics, error.may_have_arrived))


class AmqpTestCase(BrokerVersionsCase):
    def make_sender(self) -> sending.Sender:
        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], default_config_files=[])
        conf.set_override('transport_url', self.broker.url)
        sender = amqp.Amqp(brokers.read(conf))
        self.addCleanup(sender.close)
        return sender


class MessagingTestCase(BrokerVersionsCase):
    """The command by oslo.messaging, around the sender of control planes."""

    def make_sender(self) -> sending.Sender:
        return messaging.Messaging(self.transport)


def load_tests(loader: unittest.TestLoader, _tests: object, _pattern: object) -> unittest.TestSuite:
    """Leave out the classes that only hold the tests of others."""
    cases = (OldPlacesTestCase, BrokenOnceTestCase, FakeTransportTestCase, AmqpTestCase, MessagingTestCase)
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
