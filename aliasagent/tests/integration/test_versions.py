# SPDX-License-Identifier: Apache-2.0
"""This client and agents from before it, on a real broker: it alone tells that a topic has no listener."""

import pathlib
import tempfile

import oslo_messaging
import testtools

from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.messaging import rpc_server
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import processes


class OldAgent:
    """An agent of 1.2: it has one topic, and neither ``submit`` nor ``list_operations``."""

    target = oslo_messaging.Target(version='1.2')

    def __init__(self) -> None:
        self.told: list[str] = []

    @oslo_messaging.expose
    def list_instances(self, _ctxt: object) -> list[object]:
        return []

    @oslo_messaging.expose
    def detach(self, _ctxt: object, instance_uuid: str, device_id: str) -> None:
        self.told.append(f'{instance_uuid} {device_id}')

    @oslo_messaging.expose
    def reconcile_instance(self, _ctxt: object, instance_uuid: str, inventory: object) -> None:
        self.told.append(instance_uuid)


class OlderAgentTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        parts = environment.read()
        self.host_name = pathlib.Path(tempfile.mkdtemp(dir=parts.directory)).name
        self.transport = base.open_transport(self, parts.rabbit_url)
        self.agent = OldAgent()
        server = rpc_server.make(self.transport, self.host_name, [self.agent])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)

    def test_it_is_asked_for_what_it_knows_and_is_said_to_be_too_old_for_the_rest(self) -> None:
        for cap in (None, '1.2'):
            api = ComputeAPI(self.transport, self.host_name, timeout=10, version_cap=cap)
            self.agent.told.clear()
            self.assertEqual([], api.list_instances(RequestContext()))
            api.detach(RequestContext(), 'guest', 'device')
            api.reconcile_instance(RequestContext(), 'guest')
            processes.wait_until(lambda: len(self.agent.told) == 2, harness.SOON, 'both casts')
            self.assertEqual({'guest device', 'guest'}, set(self.agent.told))
            for call in (lambda: api.submit(RequestContext(), 'detach'), lambda: api.list_operations(RequestContext())):  # noqa: B023
                error = self.assertRaises(exception.Unsupported, call)
                self.assertIn('it needs version 1.3 of the contract', str(error))
            self.assertEqual(2, len(self.agent.told))
