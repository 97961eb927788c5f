# SPDX-License-Identifier: Apache-2.0
"""Messages that a real broker has sent already are handled together."""

import contextlib
import pathlib
import tempfile
import threading
from collections.abc import Iterator

import oslo_messaging
import testtools

from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.messaging import rpc_server
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import processes


class Endpoint:
    """Has the first one wait, so that others come meanwhile."""

    target = oslo_messaging.Target(version='1.0')

    def __init__(self) -> None:
        self.together_with: list[list[int]] = []
        self.go_on = threading.Event()

    @oslo_messaging.expose
    def detach(self, _ctxt: object, number: int) -> None:
        self.together_with[-1].append(number)
        self.go_on.wait(harness.SOON)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        self.together_with.append([])
        yield

    @property
    def handled(self) -> list[int]:
        return [number for numbers in self.together_with for number in numbers]


class TogetherTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        parts = environment.read()
        self.host_name = pathlib.Path(tempfile.mkdtemp(dir=parts.directory)).name
        self.transport = base.open_transport(self, parts.rabbit_url)

    @contextlib.contextmanager
    def serve(self) -> Iterator[Endpoint]:
        endpoint = Endpoint()
        server = rpc_server.make(
            self.transport, self.host_name, [endpoint], in_order=['detach'], together=endpoint.together
        )
        server.start()
        try:
            yield endpoint
        finally:
            endpoint.go_on.set()
            server.stop()
            server.wait()

    def test_in_order_and_each_once(self) -> None:
        client = rpc.client(self.transport, '1.0').prepare(server=self.host_name)
        numbers = list(range(30))
        with self.serve() as endpoint:
            for number in numbers:
                client.cast(RequestContext(), 'detach', number=number)
            processes.wait_until(lambda: endpoint.handled, harness.SOON, 'the first one')
            endpoint.go_on.set()
            processes.wait_until(lambda: len(endpoint.handled) == len(numbers), harness.SOON, 'all of them')
        self.assertEqual(numbers, endpoint.handled)
        # The broker sends no more than 10 before it is told of one.
        self.assertIn(max(map(len, endpoint.together_with)), range(2, 11))
        with self.serve() as another:
            client.cast(RequestContext(), 'detach', number=99)
            processes.wait_until(lambda: another.handled, harness.SOON, 'the one that was sent last')
        self.assertEqual([99], another.handled)
