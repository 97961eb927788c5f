# SPDX-License-Identifier: Apache-2.0
"""The journal: what it is asked about the past, what it forgets, and what is still to be told."""

import dataclasses
import sqlite3

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.devices.identity import Claim
from aliasagent.operations import journal
from aliasagent.operations import layouts
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import Phase
from aliasagent.operations.model import State
from aliasagent.tests import ids
from aliasagent.tests.ids import GUEST
from aliasagent.tests.unit.operations.test_journal import JournalTestCase
from aliasagent.tests.unit.operations.test_journal import operation
from aliasagent.tests.unit.operations.test_journal import request

OTHER = ids.OTHER_GUEST


#: A device that a running guest was asked for.
LIVE = DeviceFingerprint('boot/7', 'virtio-disk1', 'vdb', Claim('disk', source='/x'))


class SelectTestCase(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        for number, instance in enumerate((GUEST, OTHER, GUEST, OTHER)):
            self.now = 1000.0 + number
            self.journal.accept(operation(str(number), instance=instance))
        self.journal.start('1')
        self.journal.finish('1')
        self.journal.start('2')
        self.journal.finish('2', ValueError('x'))
        self.journal.start('3')

    def ids(self, **filters: object) -> list[str]:
        return [found.id for found in self.journal.select(**filters)]  # type: ignore[arg-type]

    def test_in_the_order_they_came(self) -> None:
        self.assertEqual(['0', '1', '2', '3'], self.ids())

    def test_by_guest(self) -> None:
        self.assertEqual(['0', '2'], self.ids(instance=GUEST))
        self.assertEqual([], self.ids(instance='x'))

    def test_by_state(self) -> None:
        for states, found in (
            ([State.ACCEPTED], ['0']),
            ([State.RUNNING, State.FAILED], ['2', '3']),
            ([State.SUCCEEDED], ['1']),
        ):
            self.assertEqual(found, self.ids(states=states))

    def test_by_time(self) -> None:
        self.assertEqual(['2', '3'], self.ids(since=1002.0))
        self.assertEqual(['0', '1'], self.ids(until=1002.0))
        self.assertEqual(['1'], self.ids(since=1001.0, until=1002.0))

    def test_the_newest(self) -> None:
        self.assertEqual(['2', '3'], self.ids(limit=2))
        self.assertEqual(['0'], self.ids(limit=1, states=[State.ACCEPTED]))


class PruneTestCase(JournalTestCase):
    def left(self) -> list[str]:
        return [found.id for found in self.journal.select()]

    def finished(self, *names: str) -> None:
        for name in names:
            self.journal.accept(operation(name))
            self.journal.start(name)
            self.journal.finish(name)

    def test_by_age(self) -> None:
        self.finished('old')
        self.now += 100
        self.finished('new')
        self.assertEqual(1, self.journal.prune(99, 10))
        self.assertEqual(['new'], self.left())

    def test_by_count(self) -> None:
        self.finished('a', 'b', 'c')
        self.assertEqual(1, self.journal.prune(1000, 2))
        self.assertEqual(['b', 'c'], self.left())
        self.assertEqual(2, self.journal.prune(1000, 0))
        self.assertEqual([], self.left())

    def test_more_than_at_once(self) -> None:
        journal._BATCH, before = 3, journal._BATCH
        self.addCleanup(setattr, journal, '_BATCH', before)
        names = [str(number) for number in range(10)]
        self.finished(*names)
        self.assertEqual(8, self.journal.prune(1000, 2))
        self.assertEqual(names[-2:], self.left())

    def test_what_is_not_done_is_never_forgotten(self) -> None:
        self.journal.accept(operation('accepted'))
        self.journal.accept(operation('running'))
        self.journal.start('running')
        self.now += 1000
        self.assertEqual(0, self.journal.prune(1, 0))
        self.assertEqual(2, len(self.journal.unfinished()))


class AttachedTestCase(JournalTestCase):
    def do(self, name: str, action: Action, device: str, error: Exception | None = None) -> None:
        self.journal.accept(operation(name, action=action, device=device))
        self.journal.start(name, LIVE if action in DETACHES else None)
        self.journal.finish(name, error)

    def attached(self) -> list[str]:
        return [found.id for found in self.journal.attached(GUEST)]

    def test_what_was_attached_and_not_detached_since(self) -> None:
        self.do('1', Action.ATTACH_VOLUME, 'a')
        self.do('2', Action.ATTACH_INTERFACE, 'b')
        self.do('3', Action.DETACH_VOLUME, 'a')
        self.assertEqual(['2'], self.attached())
        self.do('4', Action.ATTACH_VOLUME, 'a')
        self.assertEqual(['2', '4'], self.attached())
        self.do('5', Action.DETACH, 'b')
        self.assertEqual(['4'], self.attached())

    def test_an_attach_that_failed_or_is_not_done(self) -> None:
        self.do('1', Action.ATTACH_VOLUME, 'a', ValueError('x'))
        self.journal.accept(operation('2', device='b'))
        self.journal.accept(operation('3', device='c'))
        self.journal.start('3')
        self.assertEqual([], self.attached())

    def test_a_detach_that_failed_leaves_it(self) -> None:
        self.do('1', Action.ATTACH_VOLUME, 'a')
        self.do('2', Action.DETACH_VOLUME, 'a', exception.DetachFailed(instance=GUEST, device='a', reason='x'))
        self.assertEqual(['1'], self.attached())
        self.journal.release(GUEST, 'a')
        self.assertEqual([], self.attached())

    def overdue(self) -> list[str]:
        return [found.id for found in self.journal.overdue()]

    def test_a_detach_that_was_given_up_is_overdue_until_the_device_goes(self) -> None:
        timeout = exception.DetachTimeout(instance=GUEST, device='a', attempts=1, timeout='1', left='')
        self.do('1', Action.DETACH_VOLUME, 'a', timeout)
        self.do('2', Action.DETACH, 'b', timeout)
        self.do('3', Action.DETACH, 'c', exception.DetachFailed(instance=GUEST, device='c', reason='x'))
        self.assertEqual(['1', '2', '3'], self.overdue())
        self.do('4', Action.DETACH_VOLUME, 'a', timeout)
        self.assertEqual(['1', '2', '3', '4'], self.overdue())
        self.journal.release(GUEST, 'b')
        self.assertEqual(['1', '3', '4'], self.overdue())
        self.do('5', Action.ATTACH_VOLUME, 'a', exception.GuestBusy(instance=GUEST, reason='x'))
        self.assertEqual(['1', '3', '4'], self.overdue())
        self.do('6', Action.ATTACH_VOLUME, 'a')
        self.assertEqual(['3'], self.overdue())
        self.do('7', Action.DETACH, 'c')
        self.assertEqual([], self.overdue())

    def test_what_the_running_guest_was_not_asked_for_is_not_overdue(self) -> None:
        self.journal.accept(operation('1', action=Action.DETACH), operation('2', action=Action.DETACH))
        self.journal.start('1', DeviceFingerprint(persistent=Claim('disk')))
        for name in ('1', '2'):
            self.journal.finish(name, exception.DetachFailed(instance=GUEST, device='vol', reason='x'))
        self.assertEqual([], self.overdue())

    def test_what_an_older_release_gave_up_is_overdue(self) -> None:
        self.journal.accept(operation('1', action=Action.DETACH))
        self.journal.start('1')
        error = exception.DetachTimeout(instance=GUEST, device='vol', attempts=1, timeout='1', left='')
        self.journal.finish('1', error)
        self.assertEqual(['1'], self.overdue())

    def test_a_release_after_the_next_attach_is_not_recorded(self) -> None:
        self.do('1', Action.DETACH, 'a', exception.DetachFailed(instance=GUEST, device='a', reason='refused'))
        self.do('2', Action.ATTACH_VOLUME, 'a')
        self.journal.release(GUEST, 'a')
        self.assertIsNone(self.journal.get('1').released_at)

    def test_what_is_known_last_of_a_device(self) -> None:
        self.do('1', Action.DETACH, 'a', exception.DetachFailed(instance=GUEST, device='a', reason='x'))
        self.assertIsNone(self.journal.released(GUEST, 'a'))
        self.journal.release(GUEST, 'a')
        self.assertIsNotNone(self.journal.released(GUEST, 'a'))
        self.do('2', Action.DETACH, 'a', exception.DeviceNotFound(instance=GUEST, device='a'))
        self.assertIsNotNone(self.journal.released(GUEST, 'a'))
        self.do('3', Action.ATTACH_VOLUME, 'a')
        self.assertIsNone(self.journal.released(GUEST, 'a'))

    def test_what_a_detach_found_survives(self) -> None:
        self.journal.accept(operation('1', action=Action.DETACH))
        self.journal.start('1', LIVE)
        later = dataclasses.replace(LIVE, run='boot/8')
        self.journal.found('1', later)
        self.journal.start('1')
        self.journal.close()
        self.journal = self.open()
        self.assertEqual(later, self.journal.get('1').asked)

    def test_a_detach_that_is_not_done_leaves_it(self) -> None:
        """It is the detach itself that asks whose the device is."""
        self.do('1', Action.ATTACH_VOLUME, 'a')
        self.journal.accept(operation('2', action=Action.DETACH, device='a'))
        self.assertEqual(['1'], self.attached())
        self.journal.start('2', LIVE)
        self.assertEqual(['1'], self.attached())
        self.journal.finish('2')
        self.assertEqual([], self.attached())

    def test_of_another_guest(self) -> None:
        self.do('1', Action.ATTACH_VOLUME, 'a')
        self.assertEqual([], self.journal.attached(OTHER))


class NoticesTestCase(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal.close()
        self.journal = Journal(self.path, notices=True, clock=lambda: self.now)
        self.addCleanup(self.journal.close)

    def told(self) -> list[tuple[str, Phase]]:
        return [(notice.operation.id, notice.phase) for notice in self.journal.notices()]

    def test_the_life_of_an_operation(self) -> None:
        self.journal.accept(operation())
        self.assertEqual([], self.told())
        self.journal.start('one')
        self.assertTrue(self.journal.noticed.is_set())
        self.assertEqual([('one', Phase.START)], self.told())
        self.journal.finish('one')
        self.assertEqual([('one', Phase.START), ('one', Phase.END)], self.told())
        self.journal.sent(self.journal.notices()[0])
        self.assertEqual([('one', Phase.END)], self.told())

    def test_the_start_is_told_once(self) -> None:
        self.journal.accept(operation())
        self.journal.start('one')
        self.journal.start('one')
        self.assertEqual([('one', Phase.START)], self.told())

    def test_what_ends_before_work_on_it_began_began_then(self) -> None:
        self.journal.accept(operation())
        self.now += 1
        self.journal.finish('one', ValueError('x'))
        self.assertEqual([('one', Phase.START), ('one', Phase.ERROR)], self.told())
        found = self.journal.get('one')
        self.assertEqual((1, self.now, self.now), (found.attempts, found.started_at, found.finished_at))

    def test_errors_and_a_late_release(self) -> None:
        self.journal.accept(operation('refused', state=State.FAILED, error='x'))
        self.journal.accept(operation('one', action=Action.DETACH))
        self.journal.start('one', LIVE)
        self.journal.finish('one', ValueError('x'))
        self.journal.release(GUEST, 'vol')
        self.assertEqual(
            [('refused', Phase.ERROR), ('one', Phase.START), ('one', Phase.ERROR), ('one', Phase.RELEASED)],
            self.told(),
        )

    def test_they_survive(self) -> None:
        self.journal.accept(operation('refused', state=State.FAILED))
        self.journal.close()
        self.journal = self.open()
        self.assertEqual([('refused', Phase.ERROR)], self.told())

    def test_what_is_to_be_told_is_not_forgotten(self) -> None:
        self.journal.accept(operation('refused', state=State.FAILED))
        self.now += 1000
        self.assertEqual(0, self.journal.prune(1, 0))
        self.journal.sent(self.journal.notices()[0])
        self.assertEqual(1, self.journal.prune(1, 0))

    def test_a_journal_of_which_nobody_tells_keeps_nothing_for_it(self) -> None:
        self.journal.close()
        self.journal = self.open()
        self.journal.accept(operation('refused', state=State.FAILED))
        self.assertEqual([], self.told())


class LayoutTestCase(JournalTestCase):
    def test_an_older_one_is_brought_up_to_date(self) -> None:
        path = f'{self.path}.old'
        with sqlite3.connect(path) as database:
            database.executescript(f'{layouts.LAYOUTS[0]} PRAGMA user_version = 1;')
            database.execute(
                'INSERT INTO operations (id, action, instance, device, arguments, state, accepted_at, attempts) '
                "VALUES ('one', 'detach', ?, 'vol', '{}', 'accepted', 1.0, 0)",
                (GUEST,),
            )
        database.close()
        brought = self.open(path)
        self.assertEqual(['one'], [found.id for found in brought.unfinished()])
        self.assertEqual([], brought.notices())

    def test_a_damaged_one_is_refused_with_words_that_help_and_left_as_it_is(self) -> None:
        for number in range(200):
            self.journal.accept(operation(str(number), request=request('y' * 500)))
        self.journal.close()
        with open(self.path, 'r+b') as file:
            file.seek(8192)
            file.write(b'\xff' * 40960)
        with open(self.path, 'rb') as file:
            damaged = file.read()
        error = self.assertRaises(exception.JournalError, Journal, self.path)
        self.assertIn(self.path, str(error))
        self.assertIn('move the file away', str(error))
        with open(self.path, 'rb') as file:
            self.assertEqual(damaged, file.read())
