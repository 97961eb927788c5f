# SPDX-License-Identifier: Apache-2.0
"""The programs and a configuration that they cannot understand: a line says why, and nothing of a password."""

import logging
import os
import pathlib
import subprocess
import sys

import fixtures

from aliasagent import conf
from aliasagent.context import RequestContext
from aliasagent.operations import lock
from aliasagent.tests import base
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent

#: A part of a password.
MARK = 'x7Qm-hush'
#: What each program is called by, what it is asked, and what it ends with.
PROGRAMS = (
    ('aliasagent.cmd.compute', (), 1),
    ('aliasagent.cmd.status', ('health', '--timeout', '1'), 2),
    ('aliasagent.shell', ('--debug', 'guest', 'list'), 2),
)


class ProgramsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.make_directory()) / 'a.conf'

    def run_program(self, module: str, *arguments: str) -> tuple[int, str]:
        """What it ends with, and all that it says."""
        start = 'from aliasagent.shell import main as program' if module == 'aliasagent.shell' else ''
        start = start or f'import {module} as program'
        done = subprocess.run(
            [
                *(sys.executable, '-W', 'ignore', '-c', f'import sys; {start}; sys.exit(program.main())'),
                *('--config-file', str(self.path), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def test_the_agent_ends_with_1_and_a_line(self) -> None:
        log = self.path.parent / 'no' / 'log'
        for text, words in (
            (None, f'Failed to find some config files: {self.path}'),
            ('garbage\n', f'{self.path}:1: '),
            ('[DEFAULT]\nhost = bad host!\n', '[DEFAULT] Value for option host'),
            ('[operations]\nmax_waiting = 4k\n', f'[operations] Value for option max_waiting from {self.path} is not'),
            ('[oslo_messaging_rabbit]\nheartbeat_rate = often\n', '[oslo_messaging_rabbit] Value for option'),
            ('[DEFAULT]\ntransport_url = nodriver://\n', 'transport_url: Failed to load transport driver "nodriver"'),
            (f'[DEFAULT]\nlog_file = {log}\n', 'the log cannot be written: [Errno 2]'),
            (f'[DEFAULT]\nlog_config_append = {log}\n', f'Error loading logging config {log}'),
            (
                f'[DEFAULT]\ntransport_url = fake:/\n[ceph]\nuser = cinder\nkeyring = {log}\n',
                f'[ceph] keyring: {log} cannot be read: No such file or directory',
            ),
        ):
            if text is not None:
                self.path.write_text(text)
            code, said = self.run_program('aliasagent.cmd.compute')
            self.assertEqual(1, code, said)
            self.assertNotIn('Traceback', said)
            (line,) = (line for line in said.splitlines() if 'stevedore' not in line)
            self.assertIn(f'The agent cannot start: {words}', line)

    def test_a_second_agent_on_one_journal_ends_with_1_and_a_line(self) -> None:
        """Issue 13, number 15."""
        journal = self.path.parent / 'journal.sqlite'
        held = lock.JournalLock(str(journal))
        self.addCleanup(held.release)
        self.path.write_text(f'[DEFAULT]\ntransport_url = fake:/\n[operations]\njournal = {journal}\n')
        code, said = self.run_program('aliasagent.cmd.compute')
        self.assertEqual(1, code, said)
        (line,) = said.splitlines()
        self.assertIn(f'The agent cannot start: the journal {journal} cannot be used: another agent works', line)
        self.assertIn(f'process {os.getpid()} on ', line)
        self.assertFalse(journal.exists())

    def test_no_program_tells_a_part_of_the_password(self) -> None:
        self.path.write_text(f'[DEFAULT]\ndebug = true\ntransport_url = rabbit://nova:{MARK}#x@broker:5672/\n')
        for module, arguments, expected in PROGRAMS:
            code, said = self.run_program(module, *arguments)
            self.assertEqual(expected, code, said)
            self.assertNotIn(MARK, said)
            self.assertIn('transport_url is not valid', said)


class ReloadTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        self.logged = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        super().setUp()
        self.file = self.directory / 'a.conf'
        self.file.write_text('[unplug]\ntimeout = 21\n')
        conf.CONF(['--config-file', str(self.file)], project='aliasagent')

    def reload(self, text: str) -> str:
        """What is logged when the agent is to read this again."""
        self.file.write_text(text)
        before = len(self.logged.output)
        self.services[0]._reload()
        return str(self.logged.output[before:])

    def test_what_can_be_understood_takes_the_place_of_the_old(self) -> None:
        self.assertIn('Reloaded the mutable options', self.reload('[unplug]\ntimeout = 30\n'))
        self.assertEqual(30.0, conf.CONF.unplug.timeout)

    def test_what_cannot_does_not_and_the_agent_works_on(self) -> None:
        for text, words in (
            ('[unplug]\ntimeout = 20s\n', f'[unplug] Value for option timeout from {self.file} is not valid'),
            ('[operations]\nmax_waiting = 4k\n', '[operations] Value for option max_waiting'),
            ('[allowed]\npaths = dev/disk\n', '[allowed] Value for option paths'),
            ('[DEFAULT]\ndebug = perhaps\n', '[DEFAULT] Value for option debug'),
            ('garbage\n', f'{self.file}:1: '),
        ):
            said = self.reload(text)
            self.assertEqual(1, len(said.splitlines()), said)
            self.assertIn(f'The options could not be reloaded; the agent keeps the previous ones: {words}', said)
            self.assertEqual(21.0, conf.CONF.unplug.timeout)
        guest, volume, ctxt = self.side.new_guest(), harness.new_id(), RequestContext()
        connection = harness.file_connection(self.side.new_file())
        self.api().attach_volume(ctxt, guest, volume, connection, disk_bus='scsi')
        self.assertEqual('succeeded', self.wait(self.api(), ctxt.operation_id)['state'])
