# SPDX-License-Identifier: Apache-2.0
"""No more than may wait, and none before the journal has it."""

import threading
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.operations.intake import Intake
from aliasagent.operations.model import Accepted
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation


class StubRunner:
    """Takes what it is told to take."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int | None]] = []
        self.error: Exception | None = None
        self.asked = 0
        self.writes = 0
        #: How many it takes at once.
        self.room = 7
        #: What it has a defect for.
        self.breaks = ''
        #: Records of other requests.
        self.known: dict[str, Operation] = {}

    def accept(self, *wanted: Operation, most: int | None = None) -> list[Accepted]:
        self.asked += 1
        if any(one.id == self.breaks for one in wanted):
            raise ZeroDivisionError
        if self.error is not None and not (most is None and isinstance(self.error, exception.ServiceBusy)):
            raise self.error
        if most is not None and len(wanted) > self.room:
            raise BUSY
        self.taken += [(one.id, most) for one in wanted]
        self.writes += 1
        return [Accepted(self.known.get(one.id, one), one.id not in self.known) for one in wanted]


BUSY = exception.ServiceBusy(reason='7 wait')
FULL = exception.JournalError(path='x', reason='full')


class IntakeTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.runner = StubRunner()
        self.intake = Intake(self.runner, lambda: 7)  # type: ignore[arg-type]
        self.addCleanup(self.intake.close)

    def take(self, **values: Any) -> tuple[threading.Thread, list[Exception]]:
        errors: list[Exception] = []

        def work() -> None:
            try:
                self.intake.take(operation('one', **values))
            except exception.AliasAgentError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        return thread, errors

    def test_submitted_or_refused_at_once(self) -> None:
        self.intake.submit(operation('one'))
        self.assertEqual([('one', 7)], self.runner.taken)
        for error in (BUSY, FULL):
            self.runner.error = error
            self.assertRaises(type(error), self.intake.submit, operation('two'))
        self.assertEqual(1, len(self.runner.taken))

    def test_a_submit_may_overtake_a_cast_that_waits(self) -> None:
        """The contract says so: what has to be in order is sent in one way (issue 13, number 26)."""
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.intake._PAUSE', 3600.0))
        self.runner.error = BUSY
        cast, _errors = self.take()
        self.wait_for(lambda: self.intake.is_blocked, 'the cast waits')
        self.wait_for(lambda: self.runner.asked, 'there was no room for it')
        self.runner.error = None
        self.intake.submit(operation('two'))
        self.intake.close()
        cast.join()
        self.assertEqual(['two', 'one'], [taken for taken, _most in self.runner.taken])

    def test_who_cannot_ask_again_waits(self) -> None:
        for error in (BUSY, FULL):
            self.runner.taken.clear()
            self.runner.asked = 0
            self.runner.error = error
            thread, errors = self.take()
            self.wait_for(lambda: self.runner.asked > 2, 'it is tried again')
            self.assertEqual([], self.runner.taken)
            self.runner.error = None
            thread.join(base.PATIENCE)
            self.assertEqual(([('one', 7)], []), (self.runner.taken, errors))

    def test_of_one_with_the_id_of_another_it_is_said(self) -> None:
        self.runner.known['one'] = operation('one', arguments={'device_id': 'other'})
        self.intake.take(operation('one'))
        self.assertEqual(1, self.runner.asked)
        self.assertIn('Not accepted: detach, operation one: ', self.log.output)
        self.assertRaises(exception.OperationConflict, self.intake.submit, operation('one'))

    def test_what_was_refused_waits_for_the_journal_like_the_others(self) -> None:
        """Or its sender would never learn that it was refused."""
        self.runner.error = FULL
        thread, errors = self.take(state=State.FAILED)
        self.wait_for(lambda: self.runner.asked > 2, 'it is tried again')
        self.assertEqual([], self.runner.taken)
        self.runner.error = None
        thread.join(base.PATIENCE)
        self.assertEqual((['one'], []), ([taken for taken, _most in self.runner.taken], errors))

    def test_several_together_are_taken_in_at_the_end_and_at_once(self) -> None:
        with self.intake.together():
            for name in 'abc':
                self.intake.take(operation(name, state=State.FAILED if name == 'b' else State.ACCEPTED))
            self.assertEqual(0, self.runner.asked)
        self.assertEqual(([('a', 7), ('b', 7), ('c', 7)], 1), (self.runner.taken, self.runner.writes))
        with self.intake.together():
            pass
        self.intake.take(operation('d'))
        self.assertEqual(2, self.runner.writes)

    def test_several_together_wait_each_for_its_own_room(self) -> None:
        self.runner.room = 1
        with self.intake.together():
            for name in 'abc':
                self.intake.take(operation(name))
        self.assertEqual(([('a', 7), ('b', 7), ('c', 7)], 3), (self.runner.taken, self.runner.writes))
        self.assertNotIn('acknowledged', self.log.output)

    def test_several_together_are_left_from_the_first_on_that_is_not_taken(self) -> None:
        with self.assertRaises(exception.JournalError), self.intake.together():
            for name in 'abc':
                self.intake.take(operation(name))
            self.intake.close()
            self.runner.error = FULL
        self.assertEqual([], self.runner.taken)
        self.assertIn('Not acknowledged, the broker will redeliver operation a, b, c: ', self.log.output)

    def test_a_defect_keeps_none_of_the_others_from_us(self) -> None:
        self.runner.breaks = 'b'
        with self.intake.together():
            for name in 'abc':
                self.intake.take(operation(name))
        self.assertEqual([('a', 7), ('c', 7)], self.runner.taken)
        self.assertIn('Not accepted because of an internal error: detach, operation b', self.log.output)

    def test_nothing_is_taken_of_several_whose_handling_has_broken_off(self) -> None:
        with self.assertRaises(ZeroDivisionError), self.intake.together():
            self.intake.take(operation('a'))
            raise ZeroDivisionError
        self.assertEqual(0, self.runner.asked)

    def test_each_thread_has_its_own_several(self) -> None:
        with self.intake.together():
            self.intake.take(operation('a'))
            thread, _errors = self.take()
            thread.join(base.PATIENCE)
            self.assertEqual([('one', 7)], self.runner.taken)
        self.assertEqual([('one', 7), ('a', 7)], self.runner.taken)

    def test_at_the_end_the_journal_takes_more_than_may_wait(self) -> None:
        self.runner.error = BUSY
        thread, errors = self.take()
        self.wait_for(lambda: self.runner.asked > 0, 'it is tried')
        self.intake.close()
        thread.join(base.PATIENCE)
        self.assertEqual(([('one', None)], []), (self.runner.taken, errors))

    def test_at_the_end_without_a_journal_it_is_not_taken(self) -> None:
        self.runner.error = FULL
        thread, errors = self.take()
        self.wait_for(lambda: self.runner.asked > 0, 'it is tried')
        self.intake.close()
        thread.join(base.PATIENCE)
        self.assertEqual([FULL], errors)

    def test_it_is_said_when_it_begins_and_when_it_is_over(self) -> None:
        held, again = 'Requests wait unacknowledged at the message broker', 'Requests are accepted again'

        def said() -> tuple[int, int]:
            return self.log.output.count(held), self.log.output.count(again)

        # one after the other finds no room at first: a state, and not three changes
        for number in range(3):
            self.runner.asked, self.runner.error = 0, BUSY
            thread, _errors = self.take()
            self.wait_for(lambda: self.runner.asked > 1, 'it is tried again')
            self.assertTrue(self.intake.is_blocked)
            self.runner.error = None
            thread.join(base.PATIENCE)
            self.assertFalse(self.intake.is_blocked)
            self.assertEqual((1, 0), said(), f'time {number}')
        for _time in range(2):
            self.intake.take(operation('two'))
            self.assertEqual((1, 1), said())
        # another reason is another state
        for error, times in ((BUSY, 2), (FULL, 3)):
            self.runner.asked, self.runner.error = 0, error
            thread, _errors = self.take()
            self.wait_for(lambda: self.runner.asked > 1, 'it is tried again')
            self.runner.error = None
            thread.join(base.PATIENCE)
            self.assertEqual((times, 1), said())

    def test_after_one_that_was_left_with_the_broker_no_other_is_taken(self) -> None:
        self.intake.close()
        self.runner.error = FULL
        self.assertRaises(exception.JournalError, self.intake.take, operation('one'))
        self.runner.error = None
        for enter in (self.intake.take, self.intake.submit):
            self.assertRaises(exception.JournalError, enter, operation('two'))
        self.assertEqual([], self.runner.taken)
