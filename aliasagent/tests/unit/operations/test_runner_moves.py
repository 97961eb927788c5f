# SPDX-License-Identifier: Apache-2.0
"""When a move has begun, and what is made of one that was interrupted."""

from aliasagent import exception
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import Action
from aliasagent.operations.model import State
from aliasagent.tests.unit.operations.runner_base import GUEST
from aliasagent.tests.unit.operations.runner_base import RunnerTestCase
from aliasagent.tests.unit.operations.runner_base import operation

_ARGUMENTS = {Action.RECONCILE_LIVE: {}, Action.LIVE_MIGRATE: {'dest_uri': 'x'}}


class MovesTestCase(RunnerTestCase):
    def begun_before(self) -> list[bool]:
        """Of each time that the mover was asked, what it was told."""
        return [begun_before for _what, _instance, begun_before, *_more in self.mover.asked]

    def ask(self, action: Action) -> None:
        self.runner.accept(operation(action.value, action, device='', arguments=_ARGUMENTS[action]))

    def test_one_that_had_not_begun_when_the_connection_was_lost_is_done_again(self) -> None:
        for action in MOVES:
            self.mover.asked.clear()
            self.mover.first = [exception.HypervisorUnavailable(reason='gone')]
            self.ask(action)
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False, False], self.begun_before())

    def test_one_whose_guest_never_was_here_fails(self) -> None:
        for action in MOVES:
            self.mover.first = [
                exception.HypervisorUnavailable(reason='gone'),
                exception.InstanceNotFound(instance=GUEST),
            ]
            self.ask(action)
            self.assert_outcome(State.FAILED, 'InstanceNotFound', action.value)
            self.assertEqual(1, self.journal.get(action.value).attempts)

    def test_one_that_had_begun_when_the_connection_was_lost_is_gone_on_with(self) -> None:
        for action in MOVES:
            self.mover.asked.clear()
            self.mover.then = [exception.HypervisorUnavailable(reason='gone')]
            self.ask(action)
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False, True], self.begun_before())
            self.assertEqual(1, self.journal.get(action.value).attempts)

    def test_one_that_had_begun_when_the_agent_ended_is_gone_on_with(self) -> None:
        for action in MOVES:
            self.mover.asked.clear()
            one = operation(action.value, action, device='', arguments=_ARGUMENTS[action])
            self.journal.accept(one)
            self.journal.start(one.id)
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([True], self.begun_before())
            self.assertEqual(2, self.journal.get(action.value).attempts)

    def test_one_that_had_not_begun_when_the_agent_ended_is_done(self) -> None:
        for action in MOVES:
            self.mover.asked.clear()
            self.journal.accept(operation(action.value, action, device='', arguments=_ARGUMENTS[action]))
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False], self.begun_before())
