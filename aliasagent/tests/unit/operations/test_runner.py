# SPDX-License-Identifier: Apache-2.0
"""From the journal through the driver and back."""

import dataclasses
import pathlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.operations.journal import Journal
from aliasagent.operations.lanes import Lanes
from aliasagent.operations.model import Action
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.runner import Runner
from aliasagent.reconcile.plan import Record
from aliasagent.tests import base

GUEST = '5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c01'
VOLUME = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'
PORT = '91f04c6a-7c1b-4a6e-b8e5-3d2f1a0b9c20'


class StubDriver:
    """Remembers what it is asked, and answers what it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Exception | futures.Future[None] | None = None
        #: What it is to answer first, one by one.
        self.first: list[Exception] = []
        self.connects = True
        self.waited: list[float] = []

    def wait_connected(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.connects

    def _do(self, *what: Any) -> futures.Future[None] | None:
        self.asked.append(what)
        if self.first:
            raise self.first.pop(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def attach_volume(self, instance: str, **arguments: Any) -> Any:
        return self._do('attach_volume', instance, arguments)

    def attach_interface(self, instance: str, **arguments: Any) -> Any:
        return self._do('attach_interface', instance, arguments)

    def attach_hostdev(self, instance: str, **arguments: Any) -> Any:
        return self._do('attach_hostdev', instance, arguments)

    def detach(self, instance: str, device_id: str, kind: str | None = None, *, begin: Callable[[], None]) -> Any:
        if not isinstance(self.first[0] if self.first else self.answer, exception.DeviceNotFound):
            begin()
        return self._do('detach', instance, device_id, kind)


class StubReconciler:
    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Record]]] = []

    def reconcile(self, instance: str, records: list[Record]) -> None:
        self.asked.append((instance, records))


class StubMover:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def relive(self, instance: str, records: list[Record]) -> None:
        self.asked.append(('relive', instance, records))

    def migrate(self, instance: str, *, records: list[Record], begun_before: bool, **arguments: Any) -> None:
        self.asked.append(('migrate', instance, begun_before, arguments, records))


def operation(operation_id: str, action: Action = Action.DETACH, **values: Any) -> Operation:
    return dataclasses.replace(Operation(operation_id, action, GUEST, VOLUME, {'device_id': VOLUME}), **values)


class RunnerTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = str(pathlib.Path(self.make_directory(), 'journal'))
        self.driver = StubDriver()
        self.reconciler = StubReconciler()
        self.mover = StubMover()
        self.journal, self.runner = self.start()

    def start(self) -> tuple[Journal, Runner]:
        journal = Journal(self.path)
        self.addCleanup(journal.close)
        lanes = Lanes(2)
        self.addCleanup(lanes.close)
        runner = Runner(
            journal,
            lanes,
            self.driver,  # type: ignore[arg-type]
            self.reconciler,  # type: ignore[arg-type]
            self.mover,  # type: ignore[arg-type]
            reconnect_timeout=lambda: 0.5,
        )
        # Or what has not begun would wait for the closed journal for ever.
        self.addCleanup(runner.close)
        return journal, runner

    def outcome(self, operation_id: str = 'one') -> Operation:
        self.wait_for(lambda: self.journal.get(operation_id).is_finished, f'{operation_id} finished')
        return self.journal.get(operation_id)

    def assert_outcome(self, state: State, error_class: str | None = None, operation_id: str = 'one') -> None:
        done = self.outcome(operation_id)
        self.assertEqual((state, error_class), (done.state, done.error_class), str(done.error))


class OutcomeTestCase(RunnerTestCase):
    def test_a_migration_that_was_begun_before_is_said_to_be(self) -> None:
        for number, begun in enumerate((False, True)):
            one = operation(str(number), Action.LIVE_MIGRATE, device='', arguments={'dest_uri': 'x'})
            self.journal.accept(one)
            if begun:
                self.journal.start(one.id)
            self.runner.recover()
            self.assert_outcome(State.SUCCEEDED, operation_id=str(number))
            self.assertEqual(('migrate', GUEST, begun, {'dest_uri': 'x'}, []), self.mover.asked[-1])

    def test_reconcile_asks_the_reconciler_with_the_inventory(self) -> None:
        inventory = {'volumes': [{'id': VOLUME, 'target': '/dev/vdb'}], 'ports': []}
        self.runner.accept(operation('one', Action.RECONCILE_INSTANCE, device='', arguments={'inventory': inventory}))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([(GUEST, [Record(VOLUME, 'disk', 'inventory', target='vdb')])], self.reconciler.asked)

    def test_the_mover_is_told_the_inventory(self) -> None:
        inventory = {'volumes': [{'id': VOLUME, 'target': '/dev/vdb'}]}
        known = [Record(VOLUME, 'disk', 'inventory', target='vdb')]
        self.runner.accept(operation('one', Action.RECONCILE_LIVE, device='', arguments={'inventory': inventory}))
        self.assert_outcome(State.SUCCEEDED)
        arguments = {'dest_uri': 'x', 'inventory': inventory}
        self.runner.accept(operation('two', Action.LIVE_MIGRATE, device='', arguments=arguments))
        self.assert_outcome(State.SUCCEEDED, operation_id='two')
        expected = [('relive', GUEST, known), ('migrate', GUEST, False, {'dest_uri': 'x'}, known)]
        self.assertEqual(expected, self.mover.asked)

    def test_each_action_asks_the_driver(self) -> None:
        info = {'driver_volume_type': 'file', 'data': {}}
        for number, (action, arguments, asked) in enumerate(
            (
                (
                    Action.ATTACH_VOLUME,
                    {'volume_id': VOLUME, 'connection_info': info},
                    ('attach_volume', GUEST, {'volume_id': VOLUME, 'connection_info': info}),
                ),
                (Action.ATTACH_INTERFACE, {'port': {'id': PORT}}, ('attach_interface', GUEST, {'port': {'id': PORT}})),
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
            self.runner.accept(operation(str(number), action, arguments={}))
            self.assert_outcome(State.SUCCEEDED, operation_id=str(number))
        self.assertEqual(len(Action), len(self.driver.asked + self.reconciler.asked + self.mover.asked))

    def test_an_error_of_ours(self) -> None:
        self.driver.answer = exception.InstanceNotFound(instance=GUEST)
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'InstanceNotFound')
        self.assertEqual(f'instance {GUEST} is not on this host', self.outcome().error)

    def test_a_defect(self) -> None:
        self.driver.answer = KeyError('x')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'KeyError')

    def test_arguments_that_the_driver_does_not_know(self) -> None:
        self.runner.accept(operation('one', Action.DETACH_VOLUME))
        self.assert_outcome(State.SUCCEEDED)
        self.runner.accept(operation('two', Action.ATTACH_VOLUME, arguments={'instance': 'again'}))
        self.assert_outcome(State.FAILED, 'TypeError', 'two')

    def test_a_future_that_is_resolved_later(self) -> None:
        for number, (error, state, name) in enumerate(
            (
                (None, State.SUCCEEDED, None),
                (exception.DetachFailed(instance=GUEST, device=VOLUME, reason='no'), State.FAILED, 'DetachFailed'),
                (ValueError('x'), State.FAILED, 'ValueError'),
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
        self.driver.detach = lambda *_what, begin: seen.append(self.journal.get('one').state)  # type: ignore[method-assign]
        self.runner.accept(operation('two'))
        pending.set_result(None)
        self.outcome('two')
        self.assertEqual([State.SUCCEEDED], seen)


class HypervisorAwayTestCase(RunnerTestCase):
    """The hypervisor goes away under an operation, and comes back, or does not."""

    def setUp(self) -> None:
        super().setUp()
        self.away = exception.HypervisorUnavailable(reason='gone')

    def test_it_comes_back(self) -> None:
        self.driver.first = [self.away, self.away]
        self.runner.accept(operation('one', Action.ATTACH_VOLUME, arguments={}))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual(3, len(self.driver.asked))
        self.assertEqual([0.5, 0.5], [round(seconds, 1) for seconds in self.driver.waited])

    def test_it_does_not(self) -> None:
        self.driver.answer, self.driver.connects = self.away, False
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'HypervisorUnavailable')
        self.assertEqual(1, len(self.driver.asked))

    def test_the_agent_stops_meanwhile_and_the_next_one_goes_on(self) -> None:
        self.driver.answer, self.driver.connects = self.away, False
        self.runner._reconnect_timeout = lambda: base.PATIENCE
        self.runner.accept(operation('one', Action.ATTACH_VOLUME, arguments={}))
        self.wait_for(lambda: self.driver.waited, 'it waits')
        self.runner.close()
        self.wait_for(lambda: not self.runner._lanes._running, 'it waits no more')
        self.assertEqual(State.RUNNING, self.journal.get('one').state)

    def test_it_goes_away_again_and_again(self) -> None:
        self.driver.answer = self.away
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'HypervisorUnavailable')
        self.assertEqual(3, len(self.driver.asked))

    def test_what_a_detach_never_found_was_not_there(self) -> None:
        tried: list[int] = []

        def detach(*_what: Any, begin: Callable[[], None]) -> None:
            tried.append(len(tried))
            raise exception.DeviceNotFound(instance=GUEST, device=VOLUME) if tried == [0, 1] else self.away

        self.driver.detach = detach  # type: ignore[assignment,method-assign]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DeviceNotFound')
        self.assertEqual(2, len(tried))

    def test_what_a_detach_does_not_find_then_went_by_its_own_doing(self) -> None:
        self.driver.first = [self.away, exception.DeviceNotFound(instance=GUEST, device=VOLUME)]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)

    def test_another_error_then_is_the_outcome(self) -> None:
        self.driver.first = [self.away, exception.InstanceNotFound(instance=GUEST)]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'InstanceNotFound')


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
            self.assertRaises(exception.OperationConflict, self.runner.accept, other)
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


    def test_no_more_than_may_wait(self) -> None:
        self.driver.answer = futures.Future()
        self.runner.accept(operation('one'), 2)
        self.runner.accept(operation('two'), 2)
        self.assertRaises(exception.ServiceBusy, self.runner.accept, operation('three'), 2)
        self.assertRaises(exception.OperationNotFound, self.journal.get, 'three')
        # What is known is answered, and what has no outcome waits.
        self.runner.accept(operation('two'), 2)
        self.runner.accept(operation('three'), 3)
        self.driver.answer.set_result(None)
        self.outcome('three')
        self.runner.accept(operation('four'), 1)
        self.outcome('four')

    def test_many_at_once_are_done_in_the_order_of_the_journal(self) -> None:
        names = [str(number) for number in range(60)]
        with futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self.runner.accept(operation(name, device=name)), names))
        for name in names:
            self.outcome(name)
        accepted = [each.id for each in self.journal.select()]
        self.assertEqual(accepted, [device for _method, _instance, device, _kind in self.driver.asked])


class FullDiskTestCase(RunnerTestCase):
    """The journal cannot be written for a while."""

    def setUp(self) -> None:
        super().setUp()
        for module in ('late', 'runner'):
            self.useFixture(fixtures.MonkeyPatch(f'aliasagent.operations.{module}.RETRY_SECONDS', 0.01))
        self.failing: set[str] = set()
        self.failed = 0

    def start(self) -> tuple[Journal, Runner]:
        journal, runner = super().start()
        for name in ('start', 'finish'):
            self.useFixture(fixtures.MonkeyPatch(f'aliasagent.operations.journal.Journal.{name}', self._full(name)))
        return journal, runner

    def _full(self, name: str) -> Callable[..., None]:
        method = getattr(Journal, name)

        def write(journal: Journal, *args: Any) -> None:
            if name in self.failing:
                self.failed += 1
                raise exception.JournalError(path='x', reason='full')
            method(journal, *args)

        return write

    def test_nothing_begins_before_the_journal_says_so(self) -> None:
        self.failing = {'start'}
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.failed > 2, 'it is tried again')
        self.assertEqual([], self.driver.asked)
        self.failing = set()
        self.assert_outcome(State.SUCCEEDED)

    def test_an_outcome_is_kept(self) -> None:
        self.failing = {'finish'}
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.failed > 2, 'it is tried again')
        self.assertEqual(State.RUNNING, self.journal.get('one').state)
        self.failing = set()
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual(1, len(self.driver.asked))

    def test_the_agent_stops_meanwhile(self) -> None:
        self.failing = {'start'}
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.failed > 0, 'it is tried')
        self.runner.close()
        self.failing = set()
        self.journal.close()
        self.journal, self.runner = self.start()
        self.assertEqual(1, self.runner.recover())
        self.assert_outcome(State.SUCCEEDED)


class RecoverTestCase(RunnerTestCase):
    def crash(self, *operations: Operation, started: tuple[str, ...] = ()) -> int:
        """An earlier process accepted these, and began some; then this one begins."""
        for each in operations:
            self.journal.accept(each)
        for name in started:
            self.journal.start(name)
        self.journal.close()
        self.journal, self.runner = self.start()
        return self.runner.recover()

    def test_nothing(self) -> None:
        self.assertEqual(0, self.crash())

    def test_what_was_accepted_is_done_in_order(self) -> None:
        names = ('c', 'a', 'b')
        self.assertEqual(3, self.crash(*(operation(name, arguments={'n': name}, device=name) for name in names)))
        for name in names:
            self.assert_outcome(State.SUCCEEDED, operation_id=name)
        self.assertEqual([('detach', GUEST, name, None) for name in names], self.driver.asked)
        self.assertEqual(1, self.journal.get('a').attempts)

    def test_what_is_finished_is_not_done_again(self) -> None:
        self.journal.accept(operation('done'))
        self.journal.finish('done')
        self.journal.accept(operation('refused', state=State.FAILED))
        self.assertEqual(0, self.crash())
        self.assertEqual([], self.driver.asked)

    def test_an_interrupted_detach_of_what_is_gone_has_succeeded(self) -> None:
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        actions = (Action.DETACH, Action.DETACH_VOLUME, Action.DETACH_INTERFACE)
        self.crash(*(operation(action.value, action) for action in actions), started=tuple(map(str, actions)))
        for action in actions:
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)

    def test_a_detach_begins_when_its_device_was_found(self) -> None:
        """Or a crash before that would make a success of the detach of what is not there."""
        seen: list[State] = []

        def detach(*_what: Any, begin: Callable[[], None]) -> None:
            seen.append(self.journal.get('one').state)
            begin()
            seen.append(self.journal.get('one').state)

        self.driver.detach = detach  # type: ignore[assignment,method-assign]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([State.ACCEPTED, State.RUNNING], seen)

    def test_a_detach_that_had_not_begun_of_what_is_not_there_fails(self) -> None:
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        self.crash(operation('accepted'))
        self.runner.accept(operation('fresh'))
        for name in ('accepted', 'fresh'):
            self.assert_outcome(State.FAILED, 'DeviceNotFound', name)

    def test_an_interrupted_detach_that_cannot_be_told_fails(self) -> None:
        for number, error in enumerate(
            (
                exception.GuestUnreadable(instance=GUEST, reason='x'),
                exception.InstanceNotFound(instance=GUEST),
                exception.AmbiguousDevice(instance=GUEST, device=VOLUME, candidates='x'),
            )
        ):
            self.driver.answer = error
            self.crash(operation(str(number)), started=(str(number),))
            self.assert_outcome(State.FAILED, type(error).__name__, str(number))

    def test_an_interrupted_attach_is_done_again(self) -> None:
        self.crash(operation('one', Action.ATTACH_VOLUME, arguments={'volume_id': VOLUME}), started=('one',))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([('attach_volume', GUEST, {'volume_id': VOLUME})], self.driver.asked)

    def test_an_attach_to_a_guest_without_the_device_is_no_success(self) -> None:
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        self.crash(operation('one', Action.ATTACH_VOLUME), started=('one',))
        self.assert_outcome(State.FAILED, 'DeviceNotFound')
