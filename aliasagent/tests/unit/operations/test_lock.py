# SPDX-License-Identifier: Apache-2.0
"""Two agents never work on one journal (issue 13, number 15)."""

import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys

from aliasagent import exception
from aliasagent.operations import inspection
from aliasagent.operations import lock
from aliasagent.operations.journal import Journal
from aliasagent.tests import base

#: Another agent, as far as the journal sees it.
HOLDER = """
import sys
from aliasagent.operations.journal import Journal
from aliasagent.operations.lock import JournalLock
held = JournalLock(sys.argv[1])
journal = Journal(sys.argv[1])
print('held', flush=True)
sys.stdin.read()
"""


class JournalLockTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = f'{self.make_directory()}/journal.sqlite'

    def take(self, path: str | None = None) -> lock.JournalLock:
        taken = lock.JournalLock(path or self.path)
        self.addCleanup(taken.release)
        return taken

    def start_holder(self) -> 'subprocess.Popen[str]':
        holder = subprocess.Popen(
            [sys.executable, '-c', HOLDER, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(holder.communicate)
        self.addCleanup(holder.kill)
        assert holder.stdout is not None
        self.assertEqual('held\n', holder.stdout.readline())
        return holder

    def test_a_second_agent_is_refused_and_the_first_one_named(self) -> None:
        holder = self.start_holder()
        refused = self.assertRaises(exception.JournalError, self.take)
        for words in (self.path, f'process {holder.pid} on {socket.gethostname()}', '[operations] journal'):
            self.assertIn(words, str(refused))

    def test_it_is_gone_with_the_process_that_is_killed(self) -> None:
        holder = self.start_holder()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        self.take()

    def test_it_is_free_after_release(self) -> None:
        self.take().release()
        self.take()

    def test_a_link_to_the_journal_is_the_same_journal(self) -> None:
        link = f'{self.make_directory()}/link'
        os.symlink(self.path, link)
        self.take()
        self.assertRaises(exception.JournalError, self.take, link)

    def test_another_journal_beside_it_is_another(self) -> None:
        self.take()
        self.take(f'{self.path}2')

    def test_a_holder_that_did_not_write_itself_down(self) -> None:
        self.take()
        pathlib.Path(self.path + lock.SUFFIX).write_text('')
        self.assertIn('an unknown process', str(self.assertRaises(exception.JournalError, self.take)))

    def test_a_directory_that_is_not_there(self) -> None:
        refused = self.assertRaises(exception.JournalError, self.take, '/nowhere/at/all')
        self.assertIn('No such file or directory', str(refused))

    def test_the_locks_of_sqlite_are_not_disturbed(self) -> None:
        """A process that opens and closes the lock file, or is refused, leaves a transaction locked."""
        journal = Journal(self.path)
        self.addCleanup(journal.close)
        self.take()
        with journal._transaction():
            self.assertRaises(exception.JournalError, self.take)
            write = 'import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")'
            done = subprocess.run([sys.executable, '-c', write, self.path], capture_output=True, text=True, check=False)
            self.assertIn(f'{sqlite3.OperationalError.__name__}: database is locked', done.stderr)

    def test_an_inspection_needs_no_lock(self) -> None:
        self.start_holder()
        found = inspection.inspect(self.path)
        assert found is not None
        self.assertTrue(found.is_known)

    def test_an_inspection_makes_no_lock(self) -> None:
        Journal(self.path).close()
        inspection.inspect(self.path)
        self.assertFalse(os.path.exists(self.path + lock.SUFFIX))
