# SPDX-License-Identifier: Apache-2.0
"""Clients and agents of neighbouring versions, on the fake transport."""

from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import conffixture

from aliasagent import client
from aliasagent import exception
from aliasagent import rpc as old_rpc
from aliasagent.actions import Action
from aliasagent.client import ComputeAPI
from aliasagent.client import rpc
from aliasagent.compute import rpcapi as old_rpcapi
from aliasagent.context import RequestContext
from aliasagent.messaging import rpc_server
from aliasagent.tests import base

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
}
VERSIONS = tuple(METHODS)
TOPICS = (rpc.TOPIC, rpc.ALT_TOPIC)


class OldPlacesTestCase(base.TestCase):
    def test_what_documents_promised_is_still_there(self) -> None:
        self.assertIs(client.ComputeAPI, old_rpcapi.ComputeAPI)
        self.assertIs(client.transport, old_rpc.transport)


class Recorder:
    """An agent of some version. It has every method, so that nothing but the version refuses one."""

    def __init__(self, version: str) -> None:
        self.target = oslo_messaging.Target(version=version)
        self.asked: list[str] = []
        for method in (name for names in METHODS.values() for name in names):
            setattr(self, method, self._method(method))

    def _method(self, name: str) -> Any:
        def method(_ctxt: object, **_arguments: object) -> None:
            self.asked.append(name)

        return oslo_messaging.expose(method)


class VersionsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF)).transport_url = 'fake:/'
        self.transport = rpc.transport(cfg.CONF)

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
        return ComputeAPI(self.transport, host, timeout=10, version_cap=cap)

    def ask(self, api: ComputeAPI, methods: dict[str, tuple[Any, ...]]) -> None:
        for method, arguments in methods.items():
            getattr(api, method)(RequestContext(), *arguments)

    def test_what_there_is_has_a_version(self) -> None:
        ours = {name for name in vars(ComputeAPI) if not name.startswith('_')} - {'can', 'VERSION'}
        self.assertEqual(ours, {name for names in METHODS.values() for name in names})
        self.assertEqual(ComputeAPI.VERSION, VERSIONS[-1])

    def test_a_client_that_is_pinned_asks_agents_of_that_version_for_what_they_know(self) -> None:
        for number, cap in enumerate(VERSIONS):
            # the topic for calls came with the last version
            recorder = self.agent(cap, TOPICS if cap == '1.3' else (rpc.TOPIC,))
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

    def test_a_newer_agent_does_what_an_older_client_asks(self) -> None:
        recorder = self.agent('1.4')
        for cap in (None, '1.3', '1.4', '1.5'):
            recorder.asked.clear()
            for methods in METHODS.values():
                self.ask(self.api('1.4', cap), methods)
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
