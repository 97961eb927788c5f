# SPDX-License-Identifier: Apache-2.0
"""After a power loss of the host, the agent goes on with what its journal still has."""

from typing import Any

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.tests import power_loss
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.operations.runner_base import FOUND
from aliasagent.tests.unit.operations.runner_base import RunnerTestCase
from aliasagent.tests.unit.operations.runner_base import operation


class SyncedTestCase(RunnerTestCase):
    """Each change is synced but those of which nothing is missed."""

    def levels(self, journal: Journal) -> list[bool]:
        found = []
        for change in (
            lambda: journal.accept(operation('one'), operation('two')),
            lambda: journal.start('one', synced=False),
            lambda: journal.start('two', FOUND),
            lambda: journal.start('one', synced=False),
            lambda: journal.found('two', FOUND),
            lambda: journal.start('one', synced=False),
            lambda: journal.finish('one'),
            lambda: journal.start('two', synced=False),
            lambda: journal.finish('two', ValueError('x'), True),
            lambda: journal.start('one', synced=False),
            lambda: journal.release(GUEST, VOLUME),
            lambda: journal.remember(GUEST, 'x', FOUND),
        ):
            change()
            found.append(power_loss.level(journal) == power_loss.SYNCED)
        return found

    def test_only_a_start_that_need_not_be_is_not_synced(self) -> None:
        self.assertEqual(
            [True, False, True, False, True, False, True, False, True, False, True, True], self.levels(self.journal)
        )

    def test_with_notices_each_start_is_synced_and_what_was_sent_is_not(self) -> None:
        journal = Journal(f'{self.path}-told', notices=True)
        self.addCleanup(journal.close)
        self.assertEqual([True] * 12, self.levels(journal))
        journal.sent(journal.notices()[0])
        self.assertNotEqual(power_loss.SYNCED, power_loss.level(journal))
        journal.accept(operation('three'))
        self.assertEqual(power_loss.SYNCED, power_loss.level(journal))

    def test_an_error_leaves_no_change_unsynced_after_it(self) -> None:
        self.journal.accept(operation('one'))
        self.assertRaises(exception.OperationNotFound, self.journal.start, 'none', synced=False)
        self.assertNotEqual(power_loss.SYNCED, power_loss.level(self.journal))
        self.journal.finish('one')
        self.assertEqual(power_loss.SYNCED, power_loss.level(self.journal))


class PowerLossTestCase(RunnerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.power = power_loss.PowerLoss(self)
        #: Of each loss, the operation as the journal still has it.
        self.left: list[Operation] = []
        #: Whether the loss took anything.
        self.lost: list[bool] = []

    def lose_power(self) -> None:
        """Keep what a power loss at this moment would leave."""
        self.lost.append(self.power.copy(self.path, f'{self.path}-left') > 0)

    def lose_power_during(self, work: str) -> None:
        """Lose power when the driver has done its part."""
        method = getattr(self.driver, work)

        def do(*what: Any, **more: Any) -> Any:
            result = method(*what, **more)
            if not self.lost:
                self.lose_power()
            return result

        setattr(self.driver, work, do)

    def start_again(self) -> Operation:
        """The host is up again: go on with what is left. Return the operation as it was then."""
        self.runner.close()
        self.journal.close()
        self.path = f'{self.path}-left'
        self.journal, self.runner = self.start()
        left = self.journal.get('one')
        self.runner.recover()
        return left

    def test_an_attach_is_done_again_whose_start_is_lost(self) -> None:
        for action in (Action.ATTACH_VOLUME, Action.ATTACH_INTERFACE, Action.ATTACH_HOSTDEV):
            with self.subTest(action=action):
                self.begin_anew()
                self.lose_power_during('attach')
                one = operation('one', action)
                self.runner.accept(one)
                self.assert_outcome(State.SUCCEEDED)
                self.assertEqual([True], self.lost)
                self.assertEqual((State.ACCEPTED, 0), _state(self.start_again()))
                self.assert_outcome(State.SUCCEEDED)
                self.assertEqual([('attach', GUEST, one.request)] * 2, self.driver.asked)
                self.assertEqual(1, self.journal.get('one').attempts)

    def begin_anew(self) -> None:
        self.path = f'{self.path}-again'
        self.runner.close()
        self.journal.close()
        self.journal, self.runner = self.start()
        self.lost.clear()
        self.driver.asked.clear()

    def test_a_detach_goes_on_with_the_device_that_it_had_found(self) -> None:
        self.lose_power_during('detach')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([False], self.lost)
        left = self.start_again()
        self.assertEqual(((State.RUNNING, 1), FOUND), (_state(left), left.asked))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([None, FOUND], self.driver.told)

    def test_a_move_is_followed_and_not_made_again(self) -> None:
        self.relocation.work = self.lose_power
        self.runner.accept(operation('one', Action.RECONCILE_LIVE, device=''))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([False], self.lost)
        self.relocation.work = lambda: None
        self.assertEqual((State.RUNNING, 1), _state(self.start_again()))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([False, True], [begun for _move, _guest, begun, _request in self.relocation.asked])

    def test_an_outcome_that_was_told_stays(self) -> None:
        """Nothing is done again, whatever a second time would have ended in."""
        for error, state in ((None, State.SUCCEEDED), (ValueError('x'), State.FAILED)):
            self.begin_anew()
            self.driver.answer = error
            self.runner.accept(operation('one', Action.ATTACH_VOLUME))
            told = self.outcome()
            self.wait_for(lambda: not self.runner._queues._running, 'its job has ended')
            self.lose_power()
            self.assertEqual(told, self.start_again())
            self.assertEqual(state, self.outcome().state)
            self.assertEqual(1, len(self.driver.asked))


def _state(of: Operation) -> tuple[State, int]:
    return of.state, of.attempts
