# SPDX-License-Identifier: Apache-2.0
"""The whole agent as its own process, on a real RabbitMQ, real libvirt and booted guests."""

import pathlib
import tempfile

from aliasagent.tests.contract import agent
from aliasagent.tests.contract import agent_operations
from aliasagent.tests.integration import base
from sandbox.agent import Agent


class RealAgentCase(base.OnLibvirt, agent.AgentCase):
    @classmethod
    def make_side(cls) -> base.RealSide:
        return base.RealSide(base.own_daemon(cls).uri)

    def setUp(self) -> None:
        super().setUp()
        parts = self.side.parts
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=parts.directory))
        # Hosts are named after the directory, for all tests share the broker.
        self.host_name = self.directory.name
        self.transport = base.open_transport(self, parts.rabbit_url)
        self.start_agent('')

    def start_agent(self, host: str) -> None:
        process = Agent(
            self.directory / (host or 'first'),
            host=host or self.host_name,
            rabbit_url=self.side.parts.rabbit_url,
            libvirt_uri=self.side.uri,
            options={'oslo_messaging_notifications': {'driver': 'messagingv2'}},
        )
        process.start()
        self.addCleanup(process.stop)


class AgentTest(agent.AgentContract, RealAgentCase):
    """From a message to a guest's devices."""


class OperationsTest(agent_operations.OperationsContract, RealAgentCase):
    """What is said of the requests that were made."""
