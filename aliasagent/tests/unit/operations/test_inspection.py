# SPDX-License-Identifier: Apache-2.0
"""A journal looked into from outside."""

import os
import pathlib
import sqlite3

from aliasagent import exception
from aliasagent.operations import inspection
from aliasagent.operations import journal
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation


class InspectionTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.make_directory()
        self.path = f'{self.directory}/odd ?#%20 name.sqlite'

    def make(self, *ids: str, closed: bool = True) -> None:
        made = journal.Journal(self.path)
        for id_ in ids:
            made.accept(operation(id_))
        if ids:
            made.finish(ids[0])
        if closed:
            made.close()
        else:
            self.addCleanup(made.close)

    def set_version(self, version: int) -> None:
        db = sqlite3.connect(self.path)
        db.execute(f'PRAGMA user_version = {version}')
        db.close()

    def test_none_is_no_error(self) -> None:
        self.assertIsNone(inspection.inspect(self.path))
        self.assertEqual([], os.listdir(self.directory))

    def test_while_no_agent_runs_it_leaves_nothing_behind(self) -> None:
        self.make('one', 'two', 'three')
        before = pathlib.Path(self.path).read_bytes()
        self.assertEqual(inspection.Inspection(journal.VERSION, 2), inspection.inspect(self.path))
        self.assertEqual([os.path.basename(self.path)], os.listdir(self.directory))
        self.assertEqual(before, pathlib.Path(self.path).read_bytes())

    def test_while_an_agent_writes_it_sees_what_is_not_in_the_file_yet(self) -> None:
        self.make('one', 'two', closed=False)
        self.assertEqual(inspection.Inspection(journal.VERSION, 1), inspection.inspect(self.path))

    def test_a_layout_is_told_and_left_as_it_is(self) -> None:
        self.make('one', 'two')
        for version, known in ((1, True), (journal.VERSION, True), (journal.VERSION + 1, False)):
            self.set_version(version)
            for _time in range(2):
                found = inspection.inspect(self.path)
                assert found is not None
                self.assertEqual((version, known), (found.version, found.is_known))

    def test_what_is_no_journal_is_an_error(self) -> None:
        pathlib.Path(self.path).write_bytes(b'no database at all, but long enough to have a header of its own' * 40)
        self.assertRaises(exception.JournalError, inspection.inspect, self.path)

    def test_a_database_of_somebody_else_is_an_error(self) -> None:
        self.set_version(1)
        self.assertRaises(exception.JournalError, inspection.inspect, self.path)

    def test_a_damaged_one_is_an_error(self) -> None:
        self.make(*map(str, range(200)))
        data = bytearray(pathlib.Path(self.path).read_bytes())
        data[4096:16384] = os.urandom(12288)
        pathlib.Path(self.path).write_bytes(data)
        self.assertRaises(exception.JournalError, inspection.inspect, self.path)
