# SPDX-License-Identifier: Apache-2.0
"""A connection to the broker that breaks during a request, and what is then said of the request."""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import fixtures

from aliasagent.client import ComputeAPI
from aliasagent.client import sending
from aliasagent.context import RequestContext
from aliasagent.tests.fakes import broker as fake
from aliasagent.tests.unit.client import base


class BrokenTestCase(base.BrokerCase):
    """A connection that breaks is made again."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.client.amqp.time.sleep', lambda _seconds: None))

    def test_between_two_requests(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        api = self.api()
        for _ in range(3):
            api.list_instances(RequestContext())
            api.detach(RequestContext(), 'guest', 'device')
            self.broker.drop()
        self.assertEqual(3, len(self.broker.named('connection.open')))
        # the answers come to the queue that the client began with
        self.assertEqual(1, len({sent.arguments[1] for sent in self.broker.named('queue.declare')}))

    def test_before_the_answer(self) -> None:
        def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
            if len(agent.requests) == 1:
                self.broker.drop()
                self.wait_for(lambda: len(self.broker.named('basic.consume')) == 2, 'the next connection')
            return fake.result(['after all'])

        agent = fake.FakeAgent(self.broker, 'here', answer)
        self.assertEqual(['after all'], self.api().list_instances(RequestContext()))

    def test_a_broker_that_goes_before_the_answer(self) -> None:
        def answer(_request: dict[str, Any]) -> Iterator[dict[str, Any]]:
            yield {'result': None, 'failure': None, 'ending': False}
            # The client has the confirmation of its request, too, which was sent before.
            self.wait_for(lambda: bool(self.broker.named('basic.ack')), 'the beginning of the answer')
            self.broker.close()

        fake.FakeAgent(self.broker, 'here', answer)
        error = self.assertRaises(sending.NoAnswer, self.api(timeout=4).list_instances, RequestContext())
        self.assertIn('Connection refused', str(error))
        self.assertTrue(error.may_have_arrived)

    def test_a_broker_that_goes_before_it_confirms_the_request(self) -> None:
        def requests(api: ComputeAPI) -> tuple[Callable[[], Any], ...]:
            return (
                lambda: api.list_instances(RequestContext()),
                lambda: api.detach(RequestContext(), 'guest', 'device'),
            )

        for number in range(2):
            broker = self.start_broker()
            broker.without = {'confirm'}
            agent = fake.FakeAgent(broker, 'here', lambda _request: [])
            request = requests(self.api(broker.url, timeout=4))[number]
            with futures.ThreadPoolExecutor(1) as pool:
                failed = pool.submit(request)
                self.wait_for(lambda: bool(agent.requests), 'the request')  # noqa: B023
                broker.close()
            error = failed.exception()
            assert isinstance(error, sending.BrokerError), error
            self.assertIn('Connection refused', str(error))
            self.assertTrue(error.may_have_arrived)

    def test_a_broker_that_has_gone(self) -> None:
        fake.FakeAgent(self.broker, 'here')
        api = self.api(timeout=4)
        api.list_instances(RequestContext())
        self.broker.stop()
        error = self.assertRaises(sending.BrokerError, api.list_instances, RequestContext())
        self.assertIn('Connection refused', str(error))

    def test_another_broker(self) -> None:
        other = self.start_broker()
        for broker in (self.broker, other):
            fake.FakeAgent(broker, 'here')
        api = self.api(f'{self.broker.url.removesuffix("/")},guest:guest@127.0.0.1:{other.port}/')
        for _ in range(3):
            api.list_instances(RequestContext())
            for broker in (self.broker, other):
                broker.drop()
        self.assertEqual([True, True], [bool(broker.named('basic.publish')) for broker in (self.broker, other)])
