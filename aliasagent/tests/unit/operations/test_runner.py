# SPDX-License-Identifier: Apache-2.0
"""From the journal through the driver and back."""

import threading
import time
from concurrent import futures

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import State
from aliasagent.reconcile.plan import Record
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import PORT
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.operations.runner_base import RunnerTestCase
from aliasagent.tests.unit.operations.runner_base import operation
from aliasagent.tests.unit.operations.runner_base import request


class OutcomeTestCase(RunnerTestCase):
    def test_a_migration_that_was_begun_before_is_said_to_be(self) -> None:
        for number, begun in enumerate((False, True)):
            one = operation(str(number), Action.LIVE_MIGRATE, device='', arguments={'dest_uri': 'x'})
            self.journal.accept(one)
            if begun:
                self.journal.start(one.id)
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=str(number))
            self.assertEqual(('move', GUEST, begun, one.request), self.relocation.asked[-1])

    def test_reconcile_asks_the_reconciler_with_the_inventory(self) -> None:
        inventory = {'volumes': [{'id': VOLUME, 'target': '/dev/vdb'}], 'ports': []}
        self.runner.accept(operation('one', Action.RECONCILE_INSTANCE, device='', arguments={'inventory': inventory}))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([(GUEST, [Record(VOLUME, 'disk', 'inventory', target='vdb')])], self.reconciler.asked)

    def test_the_mover_is_told_the_inventory(self) -> None:
        inventory = {'volumes': [{'id': VOLUME, 'target': '/dev/vdb'}]}
        for number, action in enumerate(sorted(MOVES)):
            one = operation(str(number), action, device='', arguments={'inventory': inventory})
            self.runner.accept(one)
            self.assert_outcome(State.SUCCEEDED, operation_id=one.id)
            self.assertEqual(('move', GUEST, False, one.request), self.relocation.asked[-1])

    def test_each_action_asks_the_driver(self) -> None:
        for number, (action, arguments, asked) in enumerate(
            (
                *((attach, {}, ('attach', GUEST, request(attach))) for attach in sorted(ATTACHES)),
                (Action.DETACH_VOLUME, {'volume_id': VOLUME}, ('detach', GUEST, VOLUME, 'disk')),
                (Action.DETACH_INTERFACE, {'port_id': VOLUME}, ('detach', GUEST, VOLUME, 'interface')),
                (Action.DETACH, {'device_id': VOLUME}, ('detach', GUEST, VOLUME, None)),
            )
        ):
            self.runner.accept(operation(str(number), action, arguments=arguments))
            self.assert_outcome(State.SUCCEEDED, operation_id=str(number))
            self.assertEqual(asked, self.driver.asked[-1])

    def test_every_action_can_be_done(self) -> None:
        for number, action in enumerate(Action):
            self.runner.accept(operation(str(number), action))
            self.assert_outcome(State.SUCCEEDED, operation_id=str(number))
        self.assertEqual(len(Action), len(self.driver.asked + self.reconciler.asked + self.relocation.asked))

    def test_an_error_of_ours(self) -> None:
        self.driver.answer = exception.InstanceNotFound(instance=GUEST)
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'InstanceNotFound')
        self.assertEqual(f'instance {GUEST} is not on this host', self.outcome().error)

    def test_a_defect(self) -> None:
        self.driver.answer = KeyError('x')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'InternalError')
        self.assertIn('KeyError', str(self.outcome().error))
        self.assertIn("KeyError: 'x'", self.log.output)

    def test_a_record_that_makes_no_sense_fails_and_keeps_no_other(self) -> None:
        with self.journal.transaction() as db:
            db.execute(
                'INSERT INTO operations (id, action, instance, device, arguments, state, accepted_at, attempts) '
                "VALUES ('one', 'attach_volume', ?, ?, '{}', 'accepted', 0, 0)",
                (GUEST, VOLUME),
            )
        self.runner.recover()
        self.assert_outcome(State.FAILED, 'InvalidInput')
        self.runner.accept(operation('two', Action.ATTACH_VOLUME))
        self.assert_outcome(State.SUCCEEDED, operation_id='two')

    def test_a_future_that_is_resolved_later(self) -> None:
        for number, (error, state, name) in enumerate(
            (
                (None, State.SUCCEEDED, None),
                (exception.DetachFailed(instance=GUEST, device=VOLUME, reason='no'), State.FAILED, 'DetachFailed'),
                (ValueError('x'), State.FAILED, 'InternalError'),
            )
        ):
            pending: futures.Future[None] = futures.Future()
            self.driver.answer = pending
            self.runner.accept(operation(str(number)))
            self.wait_for(lambda: len(self.driver.asked) > number, 'the driver was asked')  # noqa: B023
            self.assertEqual(State.RUNNING, self.journal.get(str(number)).state)
            pending.set_exception(error) if error else pending.set_result(None)
            self.assert_outcome(state, name, str(number))

    def test_a_future_that_is_resolved_already(self) -> None:
        for number, error in enumerate((None, exception.DetachFailed(instance=GUEST, device=VOLUME, reason='no'))):
            done: futures.Future[None] = futures.Future()
            done.set_exception(error) if error else done.set_result(None)
            self.driver.answer = done
            self.runner.accept(operation(str(number)))
            state, name = (State.FAILED, 'DetachFailed') if error else (State.SUCCEEDED, None)
            self.assert_outcome(state, name, str(number))

    def test_the_next_of_a_guest_waits_for_the_last(self) -> None:
        pending: futures.Future[None] = futures.Future()
        self.driver.answer = pending
        self.runner.accept(operation('one'))
        self.runner.accept(operation('two'))
        self.runner.accept(operation('elsewhere', instance=VOLUME))
        self.wait_for(lambda: len(self.driver.asked) == 2, 'two guests were asked')
        self.assertEqual(State.ACCEPTED, self.journal.get('two').state)
        self.driver.answer = None
        pending.set_result(None)
        self.assert_outcome(State.SUCCEEDED, operation_id='two')

    def test_an_outcome_is_recorded_before_the_next_begins(self) -> None:
        pending: futures.Future[None] = futures.Future()
        self.driver.answer = pending
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.driver.asked, 'the driver was asked')
        seen: list[State] = []
        self.driver.detach = lambda *_what, **_more: seen.append(self.journal.get('one').state)  # type: ignore[method-assign]
        self.runner.accept(operation('two'))
        pending.set_result(None)
        self.outcome('two')
        self.assertEqual([State.SUCCEEDED], seen)


class AcceptTestCase(RunnerTestCase):
    def test_asked_again_it_is_not_done_again(self) -> None:
        self.runner.accept(operation('one'))
        self.outcome()
        self.runner.accept(operation('one'))
        self.runner.accept(operation('two'))
        self.outcome('two')
        self.assertEqual(2, len(self.driver.asked))

    def test_an_id_that_was_used_for_something_else(self) -> None:
        self.runner.accept(operation('one'))
        self.outcome()
        for other in (
            operation('one', Action.DETACH_VOLUME),
            operation('one', instance=VOLUME),
            operation('one', arguments={'device_id': PORT}),
        ):
            (accepted,) = self.runner.accept(other)
            self.assertRaises(exception.OperationConflict, accepted.check, other)
        self.assertEqual(1, len(self.driver.asked))
        self.assertEqual(State.SUCCEEDED, self.outcome().state)

    def test_many_at_once_are_done_once(self) -> None:
        threads = [threading.Thread(target=self.runner.accept, args=(operation('one'),)) for _number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.runner.accept(operation('last'))
        self.outcome('last')
        self.assertEqual(2, len(self.driver.asked))

    def test_what_cannot_be_recorded_is_not_done(self) -> None:
        self.journal.close()
        self.assertRaises(exception.JournalError, self.runner.accept, operation('one'))
        self.assertEqual([], self.driver.asked)

    def test_several_are_taken_in_together_or_not_at_all(self) -> None:
        self.driver.answer = futures.Future()
        self.runner.accept(operation('one'))
        several = [operation(name) for name in ('two', 'one', 'two', 'three')]
        self.assertRaises(exception.ServiceBusy, lambda: self.runner.accept(*several, most=4))
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'two')
        refused = operation('refused', state=State.FAILED)
        other = operation('one', arguments={'device_id': PORT})
        accepted = self.runner.accept(*several, refused, other, most=6)
        self.assertEqual([True, False, False, True, True, False], [one.is_new for one in accepted])
        self.assertRaises(exception.OperationConflict, accepted[-1].check, other)
        self.assertEqual(['one', 'two', 'three'], [one.operation.id for one in self.runner.under_way()])
        self.driver.answer.set_result(None)
        self.outcome('three')
        self.assertEqual(State.FAILED, self.journal.get('refused').state)
        self.assertEqual(3, len(self.driver.asked))

    def test_no_more_than_may_wait(self) -> None:
        self.driver.answer = futures.Future()
        self.runner.accept(operation('one'), most=2)
        self.runner.accept(operation('two'), most=2)
        self.assertRaises(exception.ServiceBusy, lambda: self.runner.accept(operation('three'), most=2))
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'three')
        # What is known is answered, and what has no outcome waits.
        self.runner.accept(operation('two'), most=2)
        self.runner.accept(operation('three'), most=3)
        self.driver.answer.set_result(None)
        self.outcome('three')
        self.runner.accept(operation('four'), most=1)
        self.outcome('four')

    def test_many_at_once_are_done_in_the_order_of_the_journal(self) -> None:
        names = [str(number) for number in range(60)]
        with futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self.runner.accept(operation(name, device=name)), names))
        for name in names:
            self.outcome(name)
        accepted = [each.id for each in self.journal.select()]
        self.assertEqual(accepted, [device for _method, _instance, device, _kind in self.driver.asked])


class UnderWayTestCase(RunnerTestCase):
    """What is said of operations that have not ended."""

    def test_what_runs_waits_and_has_ended(self) -> None:
        pending: futures.Future[None] = futures.Future()
        self.driver.answer = pending
        before = time.time()
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.runner.running, 'it is begun')
        self.runner.accept(operation('two'))
        runs, waits = self.runner.under_way()
        self.assertEqual(('one', State.RUNNING), (runs.operation.id, runs.state))
        self.assertEqual(('two', State.ACCEPTED), (waits.operation.id, waits.state))
        for it in (runs, waits):
            self.assertTrue(before - 0.1 <= it.since <= time.time() + 0.1, it.since)
        pending.set_result(None)
        self.wait_for(lambda: not self.runner.under_way(), 'both have ended')

    def test_what_an_earlier_process_left(self) -> None:
        self.journal.accept(operation('one'))
        pending: futures.Future[None] = futures.Future()
        self.driver.answer = pending
        accepted_at = self.journal.get('one').accepted_at
        lanes_busy = operation('zero')
        self.runner.accept(lanes_busy)
        self.wait_for(lambda: self.runner.running, 'the guest is busy')
        self.runner.recover()
        found = {it.operation.id: it for it in self.runner.under_way()}
        self.assertEqual((State.ACCEPTED, accepted_at), (found['one'].state, found['one'].since))
        pending.set_result(None)
