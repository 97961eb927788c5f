# SPDX-License-Identifier: Apache-2.0
"""The durable record of operations."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.journal import VERSION
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.requests import catalog
from aliasagent.requests.base import Request
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST


def request(volume_id: str, name: str = 'a') -> Request:
    info = {'driver_volume_type': 'rbd', 'data': {'name': name, 'hosts': ['b'], 'ports': [1]}}
    return catalog.parse(Action.ATTACH_VOLUME, {'volume_id': volume_id, 'connection_info': info})


def operation(operation_id: str = 'one', **values: Any) -> Operation:
    return dataclasses.replace(
        Operation(operation_id, Action.ATTACH_VOLUME, GUEST, 'vol', request('vol', 'ä')), **values
    )


class JournalTestCase(base.TestCase):
    """A journal in a file, with a clock that is set by hand."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 1000.0
        self.count = 0
        self.path = str(pathlib.Path(self.make_directory(), 'journal.sqlite'))
        self.journal = self.open()

    def open(self, path: str | None = None) -> Journal:
        journal = Journal(path or self.path, clock=lambda: self.now)
        self.addCleanup(journal.close)
        return journal


class RecordTestCase(JournalTestCase):
    def test_what_was_accepted_is_there(self) -> None:
        (accepted,) = self.journal.accept(operation(request_id='req-1'))
        self.assertTrue(accepted.is_new)
        self.assertEqual(accepted.record, self.journal.get('one'))
        self.assertEqual(operation(request_id='req-1', accepted_at=1000.0), self.journal.get('one'))

    def test_accepted_again_it_is_the_first_that_counts(self) -> None:
        self.journal.accept(operation())
        self.journal.start('one')
        asked = operation(request=request('other'), device='other')
        ((known, is_new),) = self.journal.accept(asked)
        self.assertFalse(is_new)
        self.assertEqual(('vol', State.RUNNING), (known.device, known.state))
        self.assertEqual(known, self.journal.get('one'))
        self.assertEqual(1, len(self.journal.unfinished()))

    def test_from_acceptance_to_success(self) -> None:
        self.journal.accept(operation())
        self.now = 1001.0
        self.journal.start('one')
        running = self.journal.get('one')
        self.assertEqual((State.RUNNING, 1001.0, None, 1), _times(running))
        self.assertFalse(running.is_finished)
        self.now = 1002.0
        self.journal.finish('one')
        done = self.journal.get('one')
        self.assertEqual((State.SUCCEEDED, 1001.0, 1002.0, 1), _times(done))
        self.assertEqual((None, None), (done.error_class, done.error))
        self.assertTrue(done.is_finished)

    def test_from_acceptance_to_failure(self) -> None:
        self.journal.accept(operation())
        self.journal.start('one')
        self.journal.finish('one', exception.DeviceNotFound(instance=GUEST, device='vol'))
        done = self.journal.get('one')
        self.assertEqual((State.FAILED, 'DeviceNotFound'), (done.state, done.error_class))
        self.assertEqual(f'instance {GUEST} has no device vol', done.error)
        self.assertTrue(done.is_finished)

    def test_begun_again_after_a_restart(self) -> None:
        self.journal.accept(operation())
        self.journal.start('one')
        self.now = 2000.0
        self.journal.start('one')
        self.assertEqual((State.RUNNING, 1000.0, None, 2), _times(self.journal.get('one')))

    def test_what_was_refused_is_finished_from_the_start(self) -> None:
        self.journal.accept(operation(state=State.FAILED, error_class='InvalidInput', error='x: is missing'))
        refused = self.journal.get('one')
        self.assertEqual((State.FAILED, None, 1000.0, 0), _times(refused))
        self.assertEqual(('InvalidInput', 'x: is missing'), (refused.error_class, refused.error))
        self.assertEqual([], self.journal.unfinished())

    def test_a_device_that_went_after_its_detach_had_failed(self) -> None:
        for name, action in (('a', Action.DETACH), ('b', Action.DETACH_VOLUME), ('c', Action.ATTACH_VOLUME)):
            self.journal.accept(operation(name, action=action))
            self.journal.start(name, DeviceFingerprint(run='boot/7', alias='net0'))
            self.journal.finish(name, exception.DetachFailed(instance=GUEST, device='vol', reason='x'))
        self.journal.accept(operation('d', action=Action.DETACH, device='other'))
        self.journal.finish('d', ValueError('x'))
        self.now = 3000.0
        self.journal.release(GUEST, 'vol')
        self.assertEqual([3000.0, 3000.0, None, None], [self.journal.get(name).released_at for name in 'abcd'])
        self.journal.release(GUEST, 'unknown')
        self.journal.release('unknown', 'vol')

    def test_unfinished_in_the_order_they_came(self) -> None:
        for name in ('z', 'a', 'm', 'b'):
            self.journal.accept(operation(name))
        self.journal.start('m')
        self.journal.start('a')
        self.journal.finish('a')
        self.assertEqual(
            [('z', State.ACCEPTED), ('m', State.RUNNING), ('b', State.ACCEPTED)],
            [(each.id, each.state) for each in self.journal.unfinished()],
        )

    def test_what_was_never_accepted(self) -> None:
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'other')

    @given(st.text(), st.text())
    def test_any_text_can_be_kept(self, words: str, request_id: str) -> None:
        """Texts come from messages and from the hypervisor; a record must not be lost for a character in it."""
        name = str(self.count)
        self.count += 1
        self.journal.accept(operation(name, request=request('vol', words), request_id=request_id))
        self.journal.finish(name, exception.HypervisorError(action='x', reason=words))
        kept = self.journal.get(name)
        self.assertEqual(request('vol', words), kept.request)
        self.assertIsNotNone(kept.error)

    def test_a_lone_surrogate_loses_no_record(self) -> None:
        self.journal.accept(operation(request_id='\ud800', error='\udfff', device='\ud800'))
        self.journal.finish('one', exception.HypervisorError(action='x', reason='a\ud800b'))
        self.assertEqual(State.FAILED, self.journal.get('one').state)


class CrashTestCase(JournalTestCase):
    def test_all_is_there_after_it_was_closed(self) -> None:
        self._fill()
        expected = [self.journal.get(name) for name in 'abcd']
        self.journal.close()
        again = self.open()
        self.assertEqual(expected, [again.get(name) for name in 'abcd'])
        self.assertEqual(['a', 'b'], [each.id for each in again.unfinished()])

    def test_all_is_there_though_it_was_never_closed(self) -> None:
        self._fill()
        again = self.open()
        self.assertEqual(['a', 'b'], [each.id for each in again.unfinished()])
        self.assertEqual(self.journal.get('d'), again.get('d'))

    def test_all_that_was_accepted_is_there_after_a_kill(self) -> None:
        script = textwrap.dedent("""
            import sys
            from aliasagent.operations.journal import Journal
            from aliasagent.operations.model import Operation
            from aliasagent.actions import Action
            journal = Journal(sys.argv[1])
            for number in range(100000):
                journal.accept(Operation(str(number), Action.DETACH, 'guest', 'device', None))
                print(number, flush=True)
        """)
        with subprocess.Popen([sys.executable, '-c', script, self.path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _line in range(20):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = 20 + len([line for line in process.stdout.read().splitlines() if line])
        kept = [each.id for each in self.open().unfinished()]
        # The last may be in though nobody was told.
        self.assertGreaterEqual(len(kept), said - 1)
        self.assertEqual([str(number) for number in range(len(kept))], kept)

    def _fill(self) -> None:
        for name in 'abcd':
            self.journal.accept(operation(name))
        for name in 'bcd':
            self.journal.start(name)
        self.journal.finish('c')
        self.journal.finish('d', ValueError('x'))


class UnusableFileTestCase(JournalTestCase):
    def assert_unusable(self, path: str, *words: str) -> None:
        error = self.assertRaises(exception.JournalError, Journal, path)
        for word in (path, *words):
            self.assertIn(word, str(error))

    def test_another_layout(self) -> None:
        self.journal.close()
        for version in (VERSION + 1, -1):
            with sqlite3.connect(self.path) as database:
                database.execute(f'PRAGMA user_version = {version}')
            database.close()
            self.assert_unusable(self.path, str(version), str(VERSION))

    def test_a_path_that_cannot_be(self) -> None:
        directory = self.make_directory()
        self.assert_unusable(directory)
        self.assert_unusable(f'{directory}/not/there')
        self.assert_unusable('/proc/journal')

    def test_a_file_that_is_something_else(self) -> None:
        path = pathlib.Path(self.make_directory(), 'notes')
        path.write_text('buy milk\n' * 1000)
        self.assert_unusable(str(path))
        self.assertEqual('buy milk\n' * 1000, path.read_text())

    def test_a_file_without_its_table(self) -> None:
        self.journal.close()
        with sqlite3.connect(self.path) as database:
            database.execute('DROP TABLE operations')
        database.close()
        self.assert_unusable(self.path, 'no such table')

    def test_a_table_that_goes_while_the_journal_is_open(self) -> None:
        with sqlite3.connect(self.path) as database:
            database.execute('DROP TABLE operations')
        database.close()
        self.assertRaises(exception.JournalError, self.journal.accept, operation())
        self.assertRaises(exception.JournalError, self.journal.get, 'one')
        self.assertRaises(exception.JournalError, self.journal.unfinished)

    def test_after_it_was_closed(self) -> None:
        self.journal.close()
        for method, arguments in (
            (self.journal.accept, (operation(),)),
            (self.journal.start, ('one',)),
            (self.journal.finish, ('one',)),
            (self.journal.get, ('one',)),
            (self.journal.unfinished, ()),
        ):
            error = self.assertRaises(exception.JournalError, method, *arguments)
            self.assertTrue(error.retryable)
        self.journal.close()

    def test_a_record_that_makes_no_sense(self) -> None:
        self.journal.accept(operation())
        for column, value in (('state', 'lost'), ('action', 'dance'), ('arguments', '{')):
            with sqlite3.connect(self.path) as database:
                database.execute("UPDATE operations SET state = 'accepted', action = 'detach', arguments = '{}'")
                database.execute(f'UPDATE operations SET {column} = ?', (value,))
            database.close()
            self.assertRaises(exception.JournalError, self.journal.get, 'one')

    def test_after_an_error_it_can_be_used_again(self) -> None:
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'one')
        self.assertTrue(self.journal.accept(operation())[0].is_new)

    def test_others_cannot_read_what_may_hold_secrets(self) -> None:
        self.journal.accept(operation())
        for name in os.listdir(os.path.dirname(self.path)):
            mode = os.stat(os.path.join(os.path.dirname(self.path), name)).st_mode
            self.assertEqual(0, mode & 0o077, name)


class ReadersTestCase(JournalTestCase):
    """Who reads does not wait for who writes, nor the other way round."""

    def test_no_reader_waits_for_a_write(self) -> None:
        self.journal.accept(operation())
        with self.journal.transaction() as db, concurrent.futures.ThreadPoolExecutor(1) as pool:
            db.execute("UPDATE operations SET state = 'running'")
            reads = pool.submit(lambda: (self.journal.get('one').state, self.journal.has('one')))
            # What is not committed may never have been.
            self.assertEqual((State.ACCEPTED, True), reads.result(base.PATIENCE))
        self.assertEqual(State.RUNNING, self.journal.get('one').state)

    def test_no_write_waits_for_a_reader(self) -> None:
        self.journal.accept(operation())
        with self.journal.reading() as reader:
            rows = reader.execute('SELECT id FROM operations')
            self.assertEqual(('one',), next(rows))
            self.journal.accept(operation('two'))
            # The reader has what there was when it began; the next one has it all.
            self.assertEqual([], rows.fetchall())
        self.assertTrue(self.journal.has('two'))

    def test_a_reader_cannot_write(self) -> None:
        self.journal.accept(operation())
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(self.journal.reading())
            self.assertRaises(sqlite3.OperationalError, reader.execute, 'DELETE FROM operations')
        self.assertTrue(self.journal.has('one'))

    def test_many_at_once_leave_few_connections(self) -> None:
        self.journal.accept(operation())
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(self.journal.reading()) for _ in range(20)]
            self.assertEqual(20, len(set(map(id, readers))))
        kept = self.journal._readers
        assert kept is not None
        self.assertEqual(4, len(kept))
        with self.journal.reading() as reader:
            self.assertIn(reader, readers)

    def test_one_that_fails_is_not_used_again(self) -> None:
        error = self.assertRaises(exception.JournalError, self.fail_to_read)
        self.assertIn('no such table', str(error))
        self.assertEqual([], self.journal._readers)
        self.assertEqual([], self.journal.unfinished())

    def fail_to_read(self) -> None:
        with self.journal.reading() as reader:
            reader.execute('SELECT 1 FROM absent')

    def test_one_in_use_when_the_journal_is_closed(self) -> None:
        with self.journal.reading() as reader:
            self.journal.close()
        self.assertRaises(sqlite3.ProgrammingError, reader.execute, 'SELECT 1')


class StatementsTestCase(JournalTestCase):
    """Each change waits once for the disk, and has no statement that it can do without."""

    def statements(self, change: Callable[[], object]) -> list[str]:
        """Return the first words of the statements that a change writes with."""
        traced: list[str] = []
        self.journal._db.set_trace_callback(traced.append)
        change()
        self.journal._db.set_trace_callback(None)
        # SQLite traces a statement once more when it fires a trigger, and a trigger's statement as a comment.
        return [statement.split()[0] for statement in dict.fromkeys(traced) if not statement.startswith('--')]

    def test_without_notices_each_has_one(self) -> None:
        for new in ([operation()], [operation('2'), operation('3')]):
            accept = functools.partial(self.journal.accept, *new)
            self.assertEqual(['BEGIN', 'INSERT', 'COMMIT'], self.statements(accept))
        self.assertEqual(['UPDATE'], self.statements(lambda: self.journal.start('one')))
        self.assertEqual(['UPDATE'], self.statements(lambda: self.journal.finish('one')))
        self.assertFalse(self.journal._db.in_transaction)

    def test_with_notices_each_is_one_transaction(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path, notices=True)
        self.addCleanup(self.journal.close)
        for change in (
            lambda: self.journal.accept(operation()),
            lambda: self.journal.start('one'),
            lambda: self.journal.finish('one'),
        ):
            first, *_, last = self.statements(change)
            self.assertEqual(('BEGIN', 'COMMIT'), (first, last))

    def test_no_operation_to_start_or_finish(self) -> None:
        self.assertRaises(exception.OperationNotFound, self.journal.start, 'one')
        self.assertRaises(exception.OperationNotFound, self.journal.finish, 'one')

    def test_none_is_recorded_if_one_of_them_cannot_be_answered(self) -> None:
        """Those that were recorded, and came again, would be taken for known ones and not be run."""
        self.journal.accept(operation('known'))
        self.journal._db.execute("UPDATE operations SET state = 'nonsense' WHERE id = 'known'")
        self.assertRaises(exception.JournalError, self.journal.accept, operation('new'), operation('known'))
        self.assertFalse(self.journal.has('new'))
        self.assertTrue(self.journal.accept(operation('new'))[0].is_new)

    def test_several_with_one_id(self) -> None:
        first, second = operation(), operation(device='another')
        accepted = self.journal.accept(first, operation('two'), second)
        self.assertEqual([True, True, False], [one.is_new for one in accepted])
        self.assertEqual(['vol', 'vol', 'vol'], [one.record.device for one in accepted])
        self.assertEqual(['one', 'two'], [one.id for one in self.journal.unfinished()])


class ManyThreadsTestCase(JournalTestCase):
    def test_one_record_for_one_id(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: self.journal.accept(operation(str(number % 10))), range(100)))
        self.assertEqual(10, sum(accepted.is_new for (accepted,) in answers))
        self.assertEqual(10, len(self.journal.unfinished()))

    def test_each_has_its_own_end(self) -> None:
        def work(number: int) -> None:
            name = str(number)
            self.journal.accept(operation(name, request=request(name)))
            self.journal.start(name)
            self.journal.finish(name, ValueError(name) if number % 2 else None)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(60)))
        self.assertEqual([], self.journal.unfinished())
        for number in range(60):
            done = self.journal.get(str(number))
            self.assertEqual(request(str(number)), done.request)
            self.assertEqual(str(number) if number % 2 else None, done.error)


def _times(of: Operation) -> tuple[State, float | None, float | None, int]:
    return of.state, of.started_at, of.finished_at, of.attempts
