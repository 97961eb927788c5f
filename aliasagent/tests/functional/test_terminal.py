# SPDX-License-Identifier: Apache-2.0
"""What the command writes to a terminal, and what to a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from unittest import mock

from aliasagent.tests import base
from aliasagent.tests.unit.shell import base as shell

COLUMNS = 80
#: Runs the command with each line that it is given, and with an agent that takes its time.
SCRIPT = """
import os, sys
from aliasagent.shell import main
from aliasagent.shell.remote import agent
from aliasagent.tests.unit.shell import test_formats

class API(test_formats.API):
    def list_instances(self, ctxt):
        guests = super().list_instances(ctxt)
        return guests + [guests[0] | {'name': os.environ['GUEST']}] if 'GUEST' in os.environ else guests

for line in sys.argv[1:]:
    api = API(*['running'] * 5, 'succeeded')
    main.AliasAgentApp.__init__.__defaults__ = (lambda options: agent.Agent(api, timeout=60),)
    code = main.main(line.split())
    if code:
        sys.exit(code)
"""
WAIT = f'volume detach web1 {shell.VOLUME} --wait'


class TerminalTestCase(base.TestCase):
    def command(self, *lines: str) -> tuple[list[str], dict[str, str]]:
        """How to run it, and with which environment."""
        told_elsewhere = ('COLUMNS', 'LINES', 'CLIFF_FIT_WIDTH', 'CLIFF_MAX_TERM_WIDTH', 'NO_COLOR')
        environment = {name: value for name, value in os.environ.items() if name not in told_elsewhere}
        return [sys.executable, '-W', 'ignore', '-c', SCRIPT, *lines], {**environment, 'TERM': 'xterm-256color'}

    def on_a_terminal(self, *lines: str) -> str:
        """All that it writes to a terminal."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('HHHH', 24, COLUMNS, 0, 0))
        command, environment = self.command(*lines)
        with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
            os.close(its)
            said = b''
            try:
                while piece := os.read(ours, 65536):
                    said += piece
            except OSError:
                # so a terminal ends on Linux when nobody has it open any more
                pass
            finally:
                os.close(ours)
        self.assertEqual(0, process.returncode, said.decode())
        return said.decode()

    def piped(self, *lines: str) -> tuple[str, str]:
        """What it writes to standard output and error."""
        command, environment = self.command(*lines)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout, done.stderr

    def test_a_person_sees_tables_that_fit_and_how_far_it_is(self) -> None:
        said = self.on_a_terminal('operation list', WAIT)
        table, _line, rest = said.partition('\r\n\r')
        lines = table.splitlines()
        self.assertLess(10, len(lines))
        self.assertIn('accepted', lines[1])
        self.assertGreaterEqual(COLUMNS, max(map(len, lines)), table)
        self.assertRegex(rest, r'running: 00:0\d')
        self.assertIn('succeeded', rest.rpartition('running: ')[2])

    def test_a_program_sees_the_outcome_only(self) -> None:
        said, errors = self.piped('operation list', f'{WAIT} -f value -c state', 'reconcile web1')
        self.assertEqual('', errors)
        lines = said.splitlines()
        self.assertLess(COLUMNS, len(lines[0]))
        self.assertIn('succeeded', lines)

    def test_a_reader_that_has_ended(self) -> None:
        """As after "| head -1": no word, and the exit code of what SIGPIPE ends (issue 13, number 28)."""
        # of a long help argparse itself does not say that it was not written
        for line, codes in (('operation list', {141}), ('--help', {0, 141})):
            command, environment = self.command(line)
            ours, its = os.pipe()
            os.close(ours)
            with os.fdopen(its, 'wb') as closed:
                done = subprocess.run(
                    command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60, env=environment, check=False
                )
            self.assertEqual('', done.stderr, line)
            self.assertIn(done.returncode, codes, line)

    def test_a_name_that_the_output_has_no_characters_for(self) -> None:
        """It is escaped, as the format wants it (issue 13, number 28)."""
        with mock.patch.dict(os.environ, PYTHONIOENCODING='ascii', GUEST='web\u00e9'):
            said, errors = self.piped(*(f'guest list -f {name}' for name in ('table', 'json', 'yaml')))
        self.assertEqual('', errors)
        for shown in (r'| web\xe9 |', r'"name": "web\u00e9"', r'name: "web\xE9"'):
            self.assertIn(shown, re.sub(' +', ' ', said))

    def test_no_colours_in_a_pipe(self) -> None:
        said, errors = self.piped(WAIT, 'operation list', 'reconcile web1', 'help volume attach', '--help')
        self.assertIn('exit codes', said)
        self.assertIsNone(re.search(r'[\x1b\r]', said + errors), said + errors)
