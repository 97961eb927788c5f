# SPDX-License-Identifier: Apache-2.0
"""``aliasagent-status`` as a command, on the real parts."""

import json
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
from typing import Any
from typing import ClassVar

import testtools
from kombu import connection as kombu_connection

from aliasagent.client import rpc
from aliasagent.operations import journal
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import libvirtd
from sandbox import processes
from sandbox.agent import Agent


class StatusTest(testtools.TestCase):
    daemon: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.daemon = base.own_daemon(cls)

    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        self.host_name = self.directory.name
        self.agent = self.new_agent(self.daemon.uri, self.parts.rabbit_url)
        self.addCleanup(self.agent.kill)

    def new_agent(self, libvirt_uri: str, rabbit_url: str) -> Agent:
        agent = Agent(
            self.directory / 'agent', host=self.host_name, rabbit_url=rabbit_url, libvirt_uri=libvirt_uri
        )
        agent.write_config()
        return agent

    def ask(self, *words: str) -> tuple[int, str]:
        command = [sys.executable, '-m', 'aliasagent.cmd.status', '--config-file', str(self.agent.config), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertNotIn('Traceback', done.stdout + done.stderr)
        return done.returncode, done.stdout

    def check(self) -> tuple[int, dict[str, tuple[int, str]]]:
        code, out = self.ask('upgrade', 'check', '-f', 'json', '--timeout', '3')
        return code, {it['check']: (it['result'], str(it['details'])) for it in json.loads(out)['checks']}

    def health(self, *words: str) -> tuple[int, dict[str, Any]]:
        code, out = self.ask('health', '-f', 'json', *words)
        return code, {what: it['trouble'] for what, it in json.loads(out).items() if not it['well']}

    def test_all_is_well(self) -> None:
        self.agent.start()
        self.assertEqual((0, {}), self.health())
        self.assertEqual((0, 'healthy'), (self.ask('health')[0], self.ask('health')[1].split()[-1]))
        _code, found = self.check()
        # in a container the tests may not see the host's mounts
        self.assertLessEqual({name for name, (result, _words) in found.items() if result}, {'Host mounts'})
        self.assertIn('fit', found['Queues'][1])
        self.assertIn(f'layout {journal.VERSION}', found['Journal'][1])

    def test_the_agent_is_not_there(self) -> None:
        code, trouble = self.health()
        self.assertEqual((1, {'agent', 'queue'}), (code, set(trouble)))
        self.assertEqual('no agent listens under this name', trouble['agent'])

    def test_the_agent_hangs(self) -> None:
        self.agent.start()
        self.agent.signal(signal.SIGSTOP)
        code, trouble = self.health('--timeout', '2')
        self.agent.signal(signal.SIGCONT)
        self.assertEqual((1, {'agent', 'queue'}), (code, set(trouble)))

    def test_neither_broker_nor_hypervisor_is_there(self) -> None:
        port = processes.free_port()
        self.agent = self.new_agent(
            f'qemu+unix:///system?socket={self.directory}/none', f'rabbit://guest:secret@127.0.0.1:{port}/'
        )
        code, trouble = self.health('--timeout', '1')
        self.assertEqual((1, {'hypervisor', 'broker', 'agent', 'queue'}), (code, set(trouble)))
        code, found = self.check()
        self.assertEqual(2, code)
        good = {name for name, (result, _words) in found.items() if result == 0}
        # Whether the host's mounts can be seen depends on where the tests run.
        self.assertEqual({'Journal', 'Nova and Neutron', 'Cinder'}, good - {'Host mounts'})
        self.assertNotIn('secret', str(found) + str(trouble))

    def test_a_journal_of_a_newer_release(self) -> None:
        db = sqlite3.connect(self.agent.journal)
        db.execute(f'PRAGMA user_version = {journal.VERSION + 1}')
        db.close()
        code, found = self.check()
        self.assertEqual((2, 2), (code, found['Journal'][0]))

    def test_a_queue_that_is_in_the_way(self) -> None:
        make: Any = kombu_connection.Connection
        queue = f'{rpc.TOPIC}.{self.host_name}'
        with make(self.parts.rabbit_url.replace('rabbit:', 'amqp:', 1)) as connection:
            channel = connection.channel()
            # As after any start of an agent: with all of them not durable, oslo.messaging would make do.
            channel.exchange_declare(rpc.EXCHANGE, 'topic', durable=True, auto_delete=False)
            channel.queue_declare(queue, durable=False, auto_delete=False)
            self.addCleanup(self.delete, queue)
            code, found = self.check()
            self.assertEqual((2, 2), (code, found['Queues'][0]))
            self.assertIn(queue, found['Queues'][1])
            # what is looked at is not changed, and what is not there is not made
            channel.queue_declare(queue, passive=True)
            alternative = f'{rpc.ALT_TOPIC}.{self.host_name}'
            self.assertRaises(
                connection.channel_errors, channel.queue_declare, alternative, passive=True
            )
        # as the agent finds, too
        self.agent.begin()
        self.agent.wait_said("inequivalent arg 'durable'")
        self.assertNotIn('Ready:', self.agent.said())

    def delete(self, queue: str) -> None:
        make: Any = kombu_connection.Connection
        with make(self.parts.rabbit_url.replace('rabbit:', 'amqp:', 1)) as connection:
            connection.channel().queue_delete(queue)
