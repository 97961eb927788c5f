# SPDX-License-Identifier: Apache-2.0
"""The whole agent in this process: the fake transport, the fake hypervisor, and everything between them."""

from unittest import mock

import fixtures
import oslo_messaging
from oslo_messaging import conffixture
from oslo_messaging._drivers import impl_fake

from aliasagent import conf
from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.compute.service import ComputeService
from aliasagent.tests.contract import agent
from aliasagent.tests.contract import agent_operations
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import base
from aliasagent.virt.host import Host


class FakeAgentCase(base.FakeSideCase, agent.AgentCase):
    host_name = 'first'

    def setUp(self) -> None:
        super().setUp()
        self.services: list[ComputeService] = []
        messaging = self.useFixture(conffixture.ConfFixture(conf.CONF))
        messaging.transport_url = 'fake:/'
        oslo_messaging.get_notification_transport(conf.CONF)  # registers its options
        conf.CONF([], project='aliasagent', default_config_files=[])
        self.addCleanup(conf.CONF.reset)
        # NOTE: the fake driver's exchanges belong to the class, so that tests would hear each other.
        self.addCleanup(impl_fake.FakeExchangeManager.cleanup)
        self.set_up_driver()
        self.start_agent(self.host_name)
        self.transport = rpc.transport(conf.CONF)

    def start_agent(self, host: str) -> None:
        for name, value, group in (
            ('host', host, None),
            ('journal', str(self.directory / f'{host}.sqlite'), 'operations'),
            ('save_directory', str(self.directory / 'save'), 'reconcile'),
            ('driver', ['messagingv2'], 'oslo_messaging_notifications'),
            ('paths', [str(self.directory), '/no/such'], 'allowed'),
            ('bridges', [self.side.bridge()], 'allowed'),
        ):
            conf.CONF.set_override(name, value, group)
            self.addCleanup(conf.CONF.clear_override, name, group)
        hypervisor = Host(self.side.uri, reconnect_interval=0.05, opener=self.side.open)
        service = ComputeService(conf.CONF, host=hypervisor)
        self.services.append(service)
        service.start()
        self.addCleanup(service.stop)
        self.assertTrue(service._ready.wait(harness.SOON))
        self.assertIsNone(service._failure)


class StartTest(FakeAgentCase):
    """What an agent says and refuses at its start."""

    def test_a_second_agent_on_the_same_journal_is_refused(self) -> None:
        """Issue 13, number 15."""
        refused = self.assertRaises(exception.JournalError, self.start_agent, self.host_name)
        self.assertIn('another agent works with it', str(refused))

    def test_a_stopped_agent_leaves_its_journal_to_the_next(self) -> None:
        self.services[0].stop()
        self.start_agent(self.host_name)

    def test_mounts_that_are_not_those_of_the_host_are_logged(self) -> None:
        logged = self.useFixture(fixtures.FakeLogger())
        with mock.patch('aliasagent.allowed.mounts.doubt', autospec=True, return_value='it runs elsewhere'):
            self.start_agent('second')
        self.assertIn("The host's mounts are unknown: it runs elsewhere", logged.output)


class AgentTest(agent.AgentContract, FakeAgentCase):
    """From a message to a guest's devices."""


class OperationsTest(agent_operations.OperationsContract, FakeAgentCase):
    """What is said of the requests that were made."""
