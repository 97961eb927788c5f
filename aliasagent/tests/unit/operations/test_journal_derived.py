# SPDX-License-Identifier: Apache-2.0
"""The journal: queries that take as long after many operations as after few, and what they are derived from."""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations import layouts
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import OTHER_GUEST
from aliasagent.tests.unit.operations.test_journal import JournalTestCase
from aliasagent.tests.unit.operations.test_journal import operation

LIVE = DeviceFingerprint('boot/7', 'virtio-disk1', 'vdb')
CHANGES = sorted(ATTACHES | DETACHES)
_numbers = itertools.count()

#: A change: the action, the device, and whether it fails, ends before the one before it, or is released late.
_CHANGE = st.tuples(
    st.sampled_from([*CHANGES, Action.RECONCILE_INSTANCE]),
    st.sampled_from('abA'),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def attached(journal: Journal, guest: str) -> list[str]:
    """What is attached by all that the journal has: the reference for what it derives."""
    last: dict[str, Operation] = {}
    for it in journal.select(instance=guest):
        done = it.state is State.SUCCEEDED or (it.action in DETACHES and it.released_at is not None)
        if done and it.action in ATTACHES | DETACHES:
            last.pop(it.device, None)  # so that the last ones are in their order
            last[it.device] = it
    return [it.id for it in last.values() if it.action in ATTACHES]


class DerivedCase(JournalTestCase):
    def do(self, action: Action, device: str = 'a', error: Exception | None = None, guest: str = GUEST) -> str:
        name = f'{next(_numbers)}'
        self.journal.accept(operation(name, action=action, device=device, instance=guest))
        self.journal.start(name, LIVE if action in DETACHES else None)
        self.journal.finish(name, error)
        return name

    def attached(self) -> list[str]:
        return [it.id for it in self.journal.attached(GUEST)]


class AttachedTestCase(DerivedCase):
    """The table of what is attached says what all operations say."""

    @given(st.lists(_CHANGE, max_size=12))
    @settings(max_examples=60)
    def test_whatever_happened_in_whatever_order(self, changes: list[tuple[Action, str, bool, bool, bool]]) -> None:
        guest = f'guest-{next(_numbers)}'
        running: list[tuple[str, Exception | None]] = []
        for action, device, fails, waits, late in changes:
            name = f'{next(_numbers)}'
            self.journal.accept(operation(name, action=action, device=device, instance=guest))
            self.journal.start(name, LIVE if action in DETACHES else None)
            error = exception.DetachFailed(instance=guest, device=device, reason='x') if fails else None
            running.append((name, error))
            while running and not waits:
                self.journal.finish(*running.pop())
            if late:
                self.journal.release(guest, device)
            self.assertEqual(attached(self.journal, guest), [it.id for it in self.journal.attached(guest)])
        self.assertEqual([], self.journal.attached(OTHER_GUEST))

    def test_what_is_pruned_is_not_attached(self) -> None:
        one, two = self.do(Action.ATTACH_VOLUME), self.do(Action.ATTACH_INTERFACE, 'b')
        self.assertEqual([one, two], self.attached())
        self.assertEqual(1, self.journal.prune(1000, 1))
        self.assertEqual([two], self.attached())
        self.assertEqual(1, self.journal.prune(1000, 0))
        self.assertEqual([(0,)], self.journal._db.execute('SELECT count(*) FROM attached').fetchall())

    def test_actions_are_told_apart_by_their_names(self) -> None:
        """The triggers of the file do that, of each release that has written it."""
        self.assertEqual(ATTACHES, {action for action in Action if action.startswith('attach')})
        self.assertEqual(ATTACHES | DETACHES, {action for action in Action if 'tach' in action})


class OtherReleasesTestCase(DerivedCase):
    """An older release leaves files without what is derived, and uses those with it."""

    def as_older(self, *statements: str) -> None:
        """Have an older release write: it knows nothing of what is derived."""
        self.journal.close()
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)
        self.journal = self.open()

    def make_older(self) -> None:
        """Leave the file as an older release would have."""
        self.as_older('DROP TRIGGER attached_changes', 'DROP TRIGGER attached_pruned', 'DROP TABLE attached')

    def test_a_file_of_an_older_release(self) -> None:
        self.do(Action.ATTACH_VOLUME, 'a')
        kept = [self.do(Action.ATTACH_VOLUME, 'a'), self.do(Action.ATTACH_INTERFACE, 'b')]
        self.do(Action.ATTACH_VOLUME, 'c')
        self.do(Action.DETACH, 'c')
        self.do(Action.DETACH, 'b', exception.DetachFailed(instance=GUEST, device='b', reason='x'))
        self.do(Action.ATTACH_VOLUME, 'd')
        self.do(Action.DETACH, 'd', exception.DetachFailed(instance=GUEST, device='d', reason='x'))
        self.journal.release(GUEST, 'd')
        other = self.do(Action.ATTACH_VOLUME, 'a', guest=OTHER_GUEST)
        self.make_older()
        self.assertEqual(kept, self.attached())
        self.assertEqual([other], [it.id for it in self.journal.attached(OTHER_GUEST)])
        self.do(Action.DETACH, 'a')
        self.assertEqual(kept[1:], self.attached())

    def test_files_of_each_older_layout(self) -> None:
        for number in range(1, len(layouts.LAYOUTS) + 1):
            path = f'{self.path}.{number}'
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.executescript(''.join(layouts.LAYOUTS[:number]) + f'PRAGMA user_version = {number};')
                database.execute(
                    'INSERT INTO operations (id, action, instance, device, arguments, state, accepted_at, attempts) '
                    "VALUES ('one', 'attach_volume', ?, 'vol', 'null', 'succeeded', 1.0, 1)",
                    (GUEST,),
                )
                database.commit()
            brought = self.open(path)
            self.assertEqual(['one'], [it.id for it in brought.attached(GUEST)])
            names = {name for (name,) in brought._db.execute('SELECT name FROM sqlite_master')}
            self.assertEqual(set(), layouts.ADDED.keys() - names)

    def test_an_older_release_can_go_on_with_the_file(self) -> None:
        """It finds its own layout, and what it writes is in what is derived."""
        first, second = self.do(Action.ATTACH_VOLUME, 'a'), self.do(Action.ATTACH_VOLUME, 'b')
        (version,) = self.journal._db.execute('PRAGMA user_version').fetchone()
        self.assertEqual(4, version)
        self.journal.accept(operation('detach', action=Action.DETACH, device='a'))
        self.journal.accept(operation('attach', device='c'))
        self.as_older("UPDATE operations SET state = 'succeeded' WHERE id IN ('detach', 'attach')")
        self.assertEqual([second, 'attach'], self.attached())
        self.as_older(f"DELETE FROM operations WHERE id IN ('{first}', '{second}')")
        self.assertEqual(['attach'], self.attached())


class LengthTestCase(DerivedCase):
    """How much SQLite has to do for a query, in steps of its virtual machine."""

    def steps(self, database: Callable[[], sqlite3.Connection], query: Callable[[], object]) -> int:
        query()  # so that a connection is there, and knows the tables
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        database().set_progress_handler(step, 1)
        query()
        database().set_progress_handler(None, 1)
        self.assertGreater(count, 5)
        return count

    def reader(self) -> sqlite3.Connection:
        readers = self.journal._readers
        assert readers is not None
        (reader,) = readers
        return reader

    def all_steps(self) -> dict[str, int]:
        journal = self.journal
        reads: dict[str, Callable[[], object]] = {
            'attached': lambda: journal.attached(GUEST),
            'released': lambda: journal.released(GUEST, 'a'),
            'overdue': lambda: journal.overdue(GUEST, 'a'),
            'get': lambda: journal.get('last'),
            'has': lambda: journal.has('last'),
            'unfinished': journal.unfinished,
            'select': lambda: journal.select(instance=GUEST, limit=5),
        }
        steps = {name: self.steps(self.reader, read) for name, read in reads.items()}
        steps['release'] = self.steps(lambda: journal._db, lambda: journal.release(GUEST, 'a'))
        steps['start'] = self.steps(lambda: journal._db, lambda: journal.start('last'))
        steps['finish'] = self.steps(lambda: journal._db, lambda: journal.finish('last'))
        return steps

    def test_no_query_of_a_request_grows_with_the_operations_of_its_guest(self) -> None:
        self.journal.accept(operation('last', device='last'), operation('waits', device='waits'))
        for _number in range(5):
            self.do(Action.ATTACH_VOLUME)
            self.do(Action.DETACH)
        self.all_steps()  # it finishes the last one
        few = self.all_steps()
        for _number in range(200):
            self.do(Action.ATTACH_VOLUME)
            self.do(Action.DETACH)
        self.assertEqual(few, self.all_steps())
