# SPDX-License-Identifier: Apache-2.0
"""When a move has begun, and what is made of one that was interrupted."""

import threading

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import State
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.unit.operations.runner_base import RunnerTestCase
from aliasagent.tests.unit.operations.runner_base import operation


class MovesTestCase(RunnerTestCase):
    def begun_before(self) -> list[bool]:
        """Of each time that the relocation was asked, what it was told."""
        return [begun_before for _what, _instance, begun_before, *_more in self.relocation.asked]

    def ask(self, action: Action) -> None:
        self.runner.accept(operation(action.value, action, device=''))

    def test_one_that_had_not_begun_when_the_connection_was_lost_is_done_again(self) -> None:
        for action in MOVES:
            self.relocation.asked.clear()
            self.relocation.first = [exception.HypervisorUnavailable(reason='gone')]
            self.ask(action)
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False, False], self.begun_before())

    def test_one_whose_guest_never_was_here_fails(self) -> None:
        for action in MOVES:
            self.relocation.first = [
                exception.HypervisorUnavailable(reason='gone'),
                exception.InstanceNotFound(instance=GUEST),
            ]
            self.ask(action)
            self.assert_outcome(State.FAILED, 'InstanceNotFound', action.value)
            self.assertEqual(1, self.journal.get(action.value).attempts)

    def test_one_that_had_begun_when_the_connection_was_lost_is_gone_on_with(self) -> None:
        for action in MOVES:
            self.relocation.asked.clear()
            self.relocation.then = [exception.HypervisorUnavailable(reason='gone')]
            self.ask(action)
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False, True], self.begun_before())
            self.assertEqual(1, self.journal.get(action.value).attempts)

    def test_one_that_had_begun_when_the_agent_ended_is_gone_on_with(self) -> None:
        for action in MOVES:
            self.relocation.asked.clear()
            one = operation(action.value, action, device='')
            self.journal.accept(one)
            self.journal.start(one.id)
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([True], self.begun_before())
            self.assertEqual(2, self.journal.get(action.value).attempts)

    def test_one_that_had_not_begun_when_the_agent_ended_is_done(self) -> None:
        for action in MOVES:
            self.relocation.asked.clear()
            self.journal.accept(operation(action.value, action, device=''))
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
            self.assertEqual([False], self.begun_before())


class TurnsTestCase(RunnerTestCase):
    """Moves that take for ever, and what else is done meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.end = threading.Event()
        self.addCleanup(self.end.set)
        self.relocation.work = lambda: self.end.wait(base.PATIENCE)

    def move(self, number: int, action: Action = Action.LIVE_MIGRATE) -> str:
        one = operation(f'{action}-{number}', action, device='', instance=f'guest {number}')
        self.runner.accept(one)
        return one.id

    def state(self, operation_id: str) -> State:
        return self.journal.get(operation_id).state

    def moving(self, *ids: str) -> None:
        for id_ in ids:
            self.wait_for(lambda id_=id_: self.state(id_) is State.RUNNING, f'{id_} to begin')  # type: ignore[misc]

    def moves_of(self, *actions: Action) -> list[str]:
        """Ask for them; the first two of them have begun, and all others wait for their turn."""
        ids = [self.move(number, action) for number, action in enumerate(actions[:2])]
        self.moving(*ids)
        return ids + [self.move(number, action) for number, action in enumerate(actions[2:], 2)]

    def test_sixteen_of_them_hold_up_nothing_else(self) -> None:
        ids = self.moves_of(*(tuple(MOVES) * 8))
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([State.ACCEPTED] * 14, [self.state(id_) for id_ in ids[2:]])
        self.assertEqual((2, 14), (self.runner.running, self.runner.waiting))
        self.end.set()
        for id_ in ids:
            self.assert_outcome(State.SUCCEEDED, operation_id=id_)
        self.assertEqual({f'guest {number}' for number in range(16)}, {asked[1] for asked in self.relocation.asked})

    def test_what_comes_after_it_waits_for_its_guest_to_have_moved(self) -> None:
        self.moves_of(*[Action.LIVE_MIGRATE] * 3)
        for number in range(3):
            self.runner.accept(operation(f'detach {number}', instance=f'guest {number}'))
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([State.ACCEPTED] * 3, [self.state(f'detach {number}') for number in range(3)])
        self.end.set()
        for number in range(3):
            self.assert_outcome(State.SUCCEEDED, operation_id=f'detach {number}')

    def test_one_that_libvirt_is_at_already_waits_for_no_turn(self) -> None:
        ids = [self.move(number) for number in range(2)]
        self.moving(*ids)
        one = operation('begun', Action.LIVE_MIGRATE, device='', instance='x', arguments={'dest_uri': 'x'})
        self.journal.accept(one)
        self.journal.start('begun')
        self.wait_for(lambda: len(self.relocation.asked) == 2, 'both')
        self.runner._submit(self.journal.get('begun'))
        self.wait_for(lambda: len(self.relocation.asked) == 3, 'it is followed')

    def test_nothing_of_a_guest_overtakes_a_move_that_a_stop_has_left(self) -> None:
        ids = self.moves_of(*[Action.LIVE_MIGRATE] * 3)
        self.runner.accept(operation('after', instance='guest 2'))
        self.runner._queues.close(0)
        self.assertTrue(self.moves.close(0))
        self.runner.close()
        self.end.set()
        for id_ in ids[:2]:
            self.assert_outcome(State.SUCCEEDED, operation_id=id_)
        self.assertEqual([State.ACCEPTED] * 2, [self.state(ids[2]), self.state('after')])

    def test_a_stop_does_not_wait_for_a_migration_but_for_a_guest_that_stands_still(self) -> None:
        for action, waited in ((Action.LIVE_MIGRATE, True), (Action.RECONCILE_LIVE, False)):
            self.moving(self.move(1, action))
            self.assertTrue(self.runner._queues.close(base.PATIENCE))
            self.assertEqual(waited, self.moves.close(0.05), action)
            self.end.set()
            self.assertTrue(self.moves.close(base.PATIENCE))
            self.assert_outcome(State.SUCCEEDED, operation_id=f'{action}-1')
            self.end.clear()
            self.journal, self.runner = self.start()
