# SPDX-License-Identifier: Apache-2.0
"""The command as a process of its own, with a broker and an agent of the tests."""

import json
import signal
import subprocess
import sys
from typing import Any

from aliasagent.tests import base
from aliasagent.tests.fakes import broker as fake

GUEST: dict[str, Any] = {
    'uuid': '9d3bb5a4-6e0f-4f0c-8a2e-3f1d8f2b7c10',
    'name': 'web1',
    'state': 'running',
    'persistent': True,
}
#: Runs the command, and writes to standard error which packages it has loaded.
SCRIPT = """
import signal
import sys
from aliasagent.shell.main import main
# Shells start programs in the background so that they ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
code = main()
print('loaded', *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


class ProcessTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.broker = fake.Broker()
        self.broker.__enter__()
        self.addCleanup(self.broker.stop)

    def start(self, *argv: str, url: str = '') -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, '-c', SCRIPT, '--host', 'here', '--transport-url', url or self.broker.url, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        return process

    def run_command(self, *argv: str, **more: Any) -> tuple[int, str, str]:
        process = self.start(*argv, **more)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def assert_fails(self, code: int, words: str, *argv: str, **more: Any) -> None:
        found, _stdout, stderr = self.run_command(*argv, **more)
        self.assertEqual(code, found, stderr)
        self.assertIn(words, stderr)

    def test_what_it_loads(self) -> None:
        fake.FakeAgent(self.broker, 'here', lambda _request: fake.result([GUEST]))
        code, stdout, stderr = self.run_command('guest', 'list', '-f', 'json')
        self.assertEqual((0, [GUEST]), (code, json.loads(stdout)))
        loaded = set(stderr.split())
        self.assertIn('amqp', loaded)
        slow = {'oslo_messaging', 'oslo_service', 'kombu', 'eventlet', 'jsonschema', 'libvirt', 'lxml', 'tqdm'}
        self.assertEqual(set(), loaded & slow)
        self.assertEqual(1, len(self.broker.named('connection.close')))

    def test_what_only_oslo_messaging_does(self) -> None:
        fake.FakeAgent(self.broker, 'here', lambda _request: fake.result([GUEST]))
        # a pool of another size, which has no other effect here
        url = f'{self.broker.url}?rpc_conn_pool_size=20'
        code, stdout, stderr = self.run_command('guest', 'list', '-f', 'json', url=url)
        self.assertEqual((0, [GUEST]), (code, json.loads(stdout)), stderr)
        self.assertIn(' oslo_messaging ', stderr)

    def test_errors(self) -> None:
        self.assert_fails(3, 'no agent for host here listens', 'guest', 'list')
        self.assert_fails(
            3, 'the message broker cannot be reached (127.0.0.1:1: ', 'guest', 'list', url='rabbit://127.0.0.1:1/'
        )
        url = self.broker.url.replace(':guest@', ':wrong@')
        self.assert_fails(3, 'refused: ', 'guest', 'list', url=url)
        self.assertEqual([], self.broker.named('connection.open')[1:])
        fake.FakeAgent(self.broker, 'here', lambda _request: [])
        self.assert_fails(3, 'host here did not answer within 1 s', '--timeout', '1', 'guest', 'list')

    def test_interrupted(self) -> None:
        """The process ends at once, and not when the time for the answer is over."""
        for url in (self.broker.url, f'{self.broker.url}?rpc_conn_pool_size=20'):
            agent = fake.FakeAgent(self.broker, 'here', lambda _request: [])
            detach = ('volume', 'detach', GUEST['uuid'], GUEST['uuid'], '--wait')
            process = self.start('--timeout', '600', *detach, url=url)
            self.wait_for(lambda: bool(agent.requests), 'the request')  # noqa: B023
            process.send_signal(signal.SIGINT)
            _stdout, stderr = process.communicate(timeout=60)
            self.assertEqual(130, process.returncode, stderr)
            self.assertIn('interrupted while the request was being sent; the agent may have accepted it', stderr)
            self.broker.queues.clear()
