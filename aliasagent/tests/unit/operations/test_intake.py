# SPDX-License-Identifier: Apache-2.0
"""No more than may wait, and none before the journal has it."""

import threading

from aliasagent import exception
from aliasagent.operations.intake import Intake
from aliasagent.operations.model import Operation
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation


class StubRunner:
    """Takes what it is told to take."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int | None]] = []
        self.error: Exception | None = None
        self.asked = 0

    def accept(self, wanted: Operation, most: int | None = None) -> None:
        self.asked += 1
        if self.error is not None and not (most is None and isinstance(self.error, exception.ServiceBusy)):
            raise self.error
        self.taken.append((wanted.id, most))


BUSY = exception.ServiceBusy(reason='7 wait')
FULL = exception.JournalError(path='x', reason='full')


class IntakeTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.runner = StubRunner()
        self.intake = Intake(self.runner, lambda: 7)  # type: ignore[arg-type]
        self.addCleanup(self.intake.close)

    def take(self) -> tuple[threading.Thread, list[Exception]]:
        errors: list[Exception] = []

        def work() -> None:
            try:
                self.intake.take(operation('one'))
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

    def test_what_is_wrong_is_not_tried_again(self) -> None:
        self.runner.error = exception.OperationConflict(operation='one')
        self.assertRaises(exception.OperationConflict, self.intake.take, operation('one'))
        self.assertEqual(1, self.runner.asked)

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
        held, again = 'Requests are left with the message broker for now', 'Requests are taken in at once again'

        def said() -> tuple[int, int]:
            return self.log.output.count(held), self.log.output.count(again)

        # one after the other finds no room at first: a state, and not three changes
        for number in range(3):
            self.runner.asked, self.runner.error = 0, BUSY
            thread, _errors = self.take()
            self.wait_for(lambda: self.runner.asked > 1, 'it is tried again')
            self.assertTrue(self.intake.is_held)
            self.runner.error = None
            thread.join(base.PATIENCE)
            self.assertFalse(self.intake.is_held)
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
