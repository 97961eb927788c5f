# SPDX-License-Identifier: Apache-2.0
"""The agent, its broker and its hypervisor speak TLS, and know each other by certificates."""

import json
import pathlib
import tempfile
from typing import ClassVar

import testtools

from aliasagent import conf
from aliasagent.status import broker as status_broker
from aliasagent.tests.integration import base
from sandbox import certificates
from sandbox import environment
from sandbox import libvirtd
from sandbox import rabbitmq
from sandbox import tour
from sandbox.agent import Agent
from sandbox.agent import Options


class TlsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        self.authority = certificates.Authority(self.directory / 'authority')
        self.other = certificates.Authority(self.directory / 'other')
        # The agent's: its certificate is good; whom it trusts is somebody else, to begin with.
        self.own = self.directory / 'own'
        self.own.mkdir()
        self.trusted = self.own / 'cacert.pem'
        self.other.sign(self.trusted)
        self.certificate, self.key = self.authority.issue('client', 'agent.example.org')
        for path in (self.certificate, self.key):
            (self.own / path.name).write_bytes(path.read_bytes())

    def agent(self, rabbit_url: str, libvirt_uri: str, options: Options | None = None) -> Agent:
        agent = Agent(
            self.directory / 'agent',
            host=self.directory.name,
            rabbit_url=rabbit_url,
            libvirt_uri=libvirt_uri,
            options=options,
        )
        self.addCleanup(agent.kill)
        return agent

    def assert_serves(self, agent: Agent) -> None:
        """The command, with the agent's configuration, comes the same way."""
        self.assertEqual([], json.loads(tour.CommandLine(agent.config).run('guest', 'list', '-f', 'json')))


class HypervisorTest(TlsTest):
    def test_a_hypervisor_of_an_unknown_authority_is_waited_for(self) -> None:
        daemon = libvirtd.Libvirtd(self.directory / 'libvirt', authority=self.authority)
        self.addCleanup(daemon.stop, destroy_guests=True)
        daemon.start()
        agent = self.agent(self.parts.rabbit_url, f'{daemon.tls_uri}?pkipath={self.own}')
        agent.begin()
        agent.wait_said(f'Waiting for the hypervisor at {daemon.tls_uri}')
        (line,) = [line for line in agent.said().splitlines() if 'Waiting for the hypervisor' in line]
        self.assertIn("The certificate hasn't got a known issuer", line)
        self.assertNotIn('Connected to the hypervisor', agent.said())
        self.authority.sign(self.trusted)
        agent.wait_said('Ready: serving host')
        self.assert_serves(agent)


class BrokerTest(TlsTest):
    libvirt_uri: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.libvirt_uri = base.own_daemon(cls).uri

    def test_a_broker_of_an_unknown_authority_is_waited_for(self) -> None:
        broker = rabbitmq.RabbitMQ(self.directory / 'rabbitmq', self.authority)
        self.addCleanup(broker.kill)
        broker.start()
        url = broker.tls_url.replace('guest:guest@', 'guest:guest-of-all@')
        broker.control('change_password', 'guest', 'guest-of-all')
        agent = self.agent(
            url,
            self.libvirt_uri,
            {
                'oslo_messaging_rabbit': {
                    'ssl': True,
                    'ssl_ca_file': self.trusted,
                    'ssl_cert_file': self.certificate,
                    'ssl_key_file': self.key,
                    # seconds between two attempts, by how much more each time
                    'rabbit_retry_interval': 1,
                    'rabbit_retry_backoff': 0,
                }
            },
        )
        agent.begin()
        agent.wait_said('Waiting for the message broker at rabbit://localhost:')
        agent.wait_said('certificate verify failed')
        self.assertNotIn('Ready:', agent.said())
        # and aliasagent-status says so too
        conf.CONF(['--config-file', str(agent.config)], project='aliasagent')
        self.addCleanup(conf.CONF.reset)
        asked = status_broker.Broker(conf.CONF, 5)
        self.assertIn('certificate verify failed', str(self.assertRaises(status_broker.BrokerError, asked.unreachable)))
        self.authority.sign(self.trusted)
        agent.wait_said('Ready: serving host')
        self.assert_serves(agent)
        self.assertEqual([], asked.unreachable())
        self.assertNotIn('guest-of-all', agent.said())
