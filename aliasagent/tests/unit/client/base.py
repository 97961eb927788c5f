# SPDX-License-Identifier: Apache-2.0
"""A broker in the process of the tests, and clients of it."""

from typing import Any

from oslo_config import cfg

from aliasagent.client import ComputeAPI
from aliasagent.client import amqp
from aliasagent.client import brokers
from aliasagent.client import options
from aliasagent.tests import base
from aliasagent.tests.fakes import broker as fake


class BrokerCase(base.TestCase):
    """Tests with a broker in this process."""

    def setUp(self) -> None:
        super().setUp()
        self.broker = self.start_broker()

    def start_broker(self, **more: Any) -> fake.Broker:
        broker = fake.Broker(**more)
        broker.__enter__()
        self.addCleanup(broker.stop)
        return broker

    def sender(self, url: str = '', **rabbit: Any) -> amqp.Amqp:
        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], default_config_files=[])
        conf.set_override('transport_url', url or self.broker.url)
        for name, value in rabbit.items():
            conf.set_override(name, value, group=options.RABBIT)
        sender = amqp.Amqp(brokers.read(conf))
        self.addCleanup(sender.close)
        return sender

    def api(self, url: str = '', *, timeout: int = 5, **rabbit: Any) -> ComputeAPI:
        return ComputeAPI(self.sender(url, **rabbit), 'here', timeout=timeout)
