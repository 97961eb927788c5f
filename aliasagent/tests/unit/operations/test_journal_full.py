# SPDX-License-Identifier: Apache-2.0
"""The journal finds no room: it says so, keeps what it has, and goes on as soon as there is room again."""

import os
import pathlib
import sqlite3
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.requests.detach import DetachDevice
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.unit.operations import test_journal


def operation(number: int, size: int = 0) -> Operation:
    return Operation(str(number), Action.DETACH, GUEST, f'vol-{number}', DetachDevice('y' * size))


class FullTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'journal.sqlite'
        self.journal = Journal(str(self.path))

    def test_no_room_for_a_while(self) -> None:
        self.addCleanup(self.journal.close)
        self.journal.accept(operation(1))
        database = self.journal._db
        (pages,) = database.execute('PRAGMA page_count').fetchone()
        database.execute(f'PRAGMA max_page_count = {pages}')
        for number in range(2, 5):
            error = self.assertRaises(exception.JournalError, self.journal.accept, operation(number, 100_000))
            self.assertIn('full', str(error))
            self.assertFalse(self.journal.has(str(number)))
        database.execute('PRAGMA max_page_count = 1000000')
        self.assertTrue(self.journal.accept(operation(5, 100_000))[0].is_new)
        self.assertEqual(['1', '5'], [found.id for found in self.journal.unfinished()])

    def test_what_could_not_be_committed_is_not_there(self) -> None:
        self.journal.close()
        self.journal = Journal(str(self.path), notices=True)
        self.addCleanup(self.journal.close)
        self.journal.accept(operation(1))
        database = self.journal._db

        class Refusing:
            """A connection of which one commit fails, and leaves its transaction open."""

            refuse = True
            in_transaction = property(lambda _self: database.in_transaction)

            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement == 'COMMIT' and self.refuse:
                    Refusing.refuse = False
                    raise sqlite3.OperationalError('disk I/O error')
                return database.execute(statement, *values)

            def close(self) -> None:
                database.close()

        self.journal._db = Refusing()  # type: ignore[assignment]
        self.assertRaises(exception.JournalError, self.journal.accept, operation(2))
        self.assertFalse(self.journal.has('2'))
        self.assertTrue(self.journal.accept(operation(2))[0].is_new)

    def test_what_is_wrong_with_a_damaged_one_is_said_in_one_line(self) -> None:
        for number in range(300):
            self.journal.accept(operation(number, 500))
        self.journal.close()
        with self.path.open('r+b') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size // 4)
            file.write(bytes(range(256)) * (size // 512))
        error = self.assertRaises(exception.JournalError, Journal, str(self.path))
        self.assertNotIn('\n', str(error))
        self.assertIn('move the file away', str(error))


class _FullAtCommit:
    """A database whose disk is full when a transaction is to end."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.full = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == 'COMMIT' and self.full:
            raise sqlite3.OperationalError('database or disk is full')
        return self._database.execute(statement, *values)


class FullDiskTestCase(test_journal.JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        # With notices, a change has several statements.
        self.journal = Journal(self.journal.path, notices=True)
        self.addCleanup(self.journal.close)

    def test_a_transaction_that_cannot_end_is_taken_back_and_the_next_one_begins(self) -> None:
        database = _FullAtCommit(self.journal._db)
        self.journal._db = database  # type: ignore[assignment]
        self.assertRaises(exception.JournalError, self.journal.accept, test_journal.operation())
        self.assertRaises(exception.JournalError, self.journal.accept, test_journal.operation())
        database.full = False
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'one')
        self.assertTrue(self.journal.accept(test_journal.operation())[0].is_new)
        self.assertEqual('one', self.journal.get('one').id)
