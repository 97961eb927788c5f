# SPDX-License-Identifier: Apache-2.0
"""What the runner does when the hypervisor is away, the disk is full, or the agent was interrupted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations import runner
from aliasagent.operations.journal import Journal
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.runner import Runner
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.operations.runner_base import FOUND
from aliasagent.tests.unit.operations.runner_base import RunnerTestCase
from aliasagent.tests.unit.operations.runner_base import operation


class HypervisorAwayTestCase(RunnerTestCase):
    """The hypervisor goes away under an operation, and comes back, or does not."""

    def setUp(self) -> None:
        super().setUp()
        self.away = exception.HypervisorUnavailable(reason='gone')

    def test_it_comes_back(self) -> None:
        self.driver.first = [self.away, self.away]
        self.runner.accept(operation('one', Action.ATTACH_VOLUME))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual(3, len(self.driver.asked))
        self.assertEqual([0.5, 0.5], [round(seconds, 1) for seconds in self.driver.waited])

    def test_an_attach_that_was_begun_is_not_decided_again(self) -> None:
        self.driver.first = [self.away]
        self.runner.accept(operation('one', Action.ATTACH_VOLUME))
        self.assert_outcome(State.SUCCEEDED)
        begun = operation('two', Action.ATTACH_VOLUME)
        self.journal.accept(begun)
        self.journal.start('two')
        self.runner.recover()
        self.assert_outcome(State.SUCCEEDED, operation_id='two')
        self.assertEqual([False, True, True], self.driver.begun_before)
        self.assertEqual([1, 2], [self.journal.get(name).attempts for name in ('one', 'two')])

    def test_it_does_not(self) -> None:
        self.driver.answer, self.driver.connects = self.away, False
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'HypervisorUnavailable')
        self.assertEqual(1, len(self.driver.asked))

    def test_the_agent_stops_meanwhile_and_the_next_one_goes_on(self) -> None:
        self.driver.answer, self.driver.connects = self.away, False
        self.runner._reconnect_timeout = lambda: base.PATIENCE
        self.runner.accept(operation('one', Action.ATTACH_VOLUME))
        self.wait_for(lambda: self.driver.waited, 'it waits')
        self.runner.close()
        self.wait_for(lambda: not self.runner._queues._running, 'it waits no more')
        self.assertEqual(State.RUNNING, self.journal.get('one').state)

    def test_it_goes_away_again_and_again(self) -> None:
        self.driver.answer = self.away
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'HypervisorUnavailable')
        self.assertEqual(3, len(self.driver.asked))

    def test_what_a_detach_never_found_was_not_there(self) -> None:
        tried: list[int] = []

        def detach(*_what: Any, **_more: Any) -> None:
            tried.append(len(tried))
            raise exception.DeviceNotFound(instance=GUEST, device=VOLUME) if tried == [0, 1] else self.away

        self.driver.detach = detach  # type: ignore[method-assign]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DeviceNotFound')
        self.assertEqual(2, len(tried))

    def test_a_detach_is_gone_on_with_by_what_it_had_found(self) -> None:
        """Also if the connection was lost while it changed something: what is done already is seen by the driver."""
        self.driver.first = [self.away]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([None, FOUND], self.driver.told)

    def test_a_device_that_is_not_found_is_never_a_success_by_itself(self) -> None:
        self.driver.first = [self.away, exception.DeviceNotFound(instance=GUEST, device=VOLUME)]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DeviceNotFound')

    def test_another_error_then_is_the_outcome(self) -> None:
        self.driver.first = [self.away, exception.InstanceNotFound(instance=GUEST)]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'InstanceNotFound')


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

        def write(journal: Journal, *args: Any, **kwargs: Any) -> None:
            if name in self.failing:
                self.failed += 1
                raise exception.JournalError(path='x', reason='full')
            method(journal, *args, **kwargs)

        return write

    def test_nothing_begins_before_the_journal_says_so(self) -> None:
        self.failing = {'start'}
        self.runner.accept(operation('one'))
        self.wait_for(lambda: self.failed > 2, 'it is tried again')
        self.assertEqual([], self.driver.asked)
        self.assertEqual([State.ACCEPTED], [it.state for it in self.runner.under_way()])
        self.failing = set()
        self.assert_outcome(State.SUCCEEDED)
        # as often as it changed, and not as often as it was tried
        self.assertEqual(1, self.log.output.count('Waiting for the journal before the start of'))
        self.assertEqual(1, self.log.output.count('Started after waiting for the journal'))

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
            self.journal.start(name, FOUND)
        self.journal.close()
        self.journal, self.runner = self.start()
        return self.runner.recover()

    def test_nothing(self) -> None:
        self.assertEqual(0, self.crash())

    def test_what_was_accepted_is_done_in_order(self) -> None:
        names = ('c', 'a', 'b')
        accepted = [operation(name, arguments={'device_id': name}, device=name) for name in names]
        self.assertEqual(3, self.crash(*accepted))
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

    def test_an_interrupted_detach_goes_on_with_the_device_that_it_had_found(self) -> None:
        actions = (Action.DETACH, Action.DETACH_VOLUME, Action.DETACH_INTERFACE)
        self.crash(*(operation(action.value, action) for action in actions), started=tuple(map(str, actions)))
        for action in actions:
            self.assert_outcome(State.SUCCEEDED, operation_id=action.value)
        self.assertEqual([FOUND] * 3, self.driver.told)

    def test_an_interrupted_detach_of_which_nothing_is_recorded_is_no_success(self) -> None:
        """An older release did not record what it had found."""
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        self.journal.accept(operation('one'))
        self.journal.start('one')
        self.crash()
        self.assert_outcome(State.FAILED, 'DetachFailed')

    def test_a_detach_begins_when_its_device_was_found_and_that_is_recorded(self) -> None:
        """Or a crash after that would leave nothing to prove by that the device is gone."""
        seen: list[Any] = []
        # However slow this machine is, what was read is not old.
        self.patch(runner, '_OLD_SECONDS', base.PATIENCE)

        def detach(*_what: Any, asked: object, begin: Callable[[DeviceFingerprint], bool]) -> None:
            for found in (FOUND, FOUND, dataclasses.replace(FOUND, run='boot/8')):
                self.assertFalse(begin(found))
                record = self.journal.get('one')
                seen.append((record.state, record.attempts, record.asked))

        self.driver.detach = detach  # type: ignore[assignment,method-assign]
        self.runner.accept(operation('one'))
        self.assert_outcome(State.SUCCEEDED)
        again = dataclasses.replace(FOUND, run='boot/8')
        self.assertEqual([(State.RUNNING, 1, found) for found in (FOUND, FOUND, again)], seen)

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
        one = operation('one', Action.ATTACH_VOLUME)
        self.crash(one, started=('one',))
        self.assert_outcome(State.SUCCEEDED)
        self.assertEqual([('attach', GUEST, one.request)], self.driver.asked)

    def test_an_attach_to_a_guest_without_the_device_is_no_success(self) -> None:
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        self.crash(operation('one', Action.ATTACH_VOLUME), started=('one',))
        self.assert_outcome(State.FAILED, 'DeviceNotFound')


class ReleaseTestCase(RunnerTestCase):
    """A guest lets go of a device after all, and the journal cannot be written at that moment."""

    def test_its_guest_is_looked_at_once_more_as_soon_as_the_journal_can_be_written(self) -> None:
        """It is not recorded from memory: another client may have put the device back."""
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.late.RETRY_SECONDS', 0.01))
        self.driver.answer = exception.DetachTimeout(instance=GUEST, device=VOLUME, attempts=1, timeout='1', left='')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DetachTimeout')
        overdue, full = self.journal.overdue, [exception.JournalError(path='x', reason='full') for _ in range(3)]

        def fail_at_first(_journal: Journal, *of: str) -> object:
            if full:
                raise full.pop()
            return overdue(*of)

        for name in ('release', 'overdue'):
            self.useFixture(fixtures.MonkeyPatch(f'aliasagent.operations.journal.Journal.{name}', fail_at_first))
        self.runner.release(GUEST, VOLUME)
        self.wait_for(lambda: self.driver.watched, 'it is looked at')
        self.assertEqual([(GUEST, VOLUME, FOUND, False)], self.driver.watched)
        self.assertIsNone(self.journal.get('one').released_at)

    def test_after_a_restart_it_is_waited_for_still(self) -> None:
        self.driver.answer = exception.DetachTimeout(instance=GUEST, device=VOLUME, attempts=1, timeout='1', left='')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DetachTimeout')
        self.assertEqual(0, self.runner.recover())
        self.assertEqual([(GUEST, VOLUME, FOUND, True)], self.driver.watched)
        self.runner.release(GUEST, VOLUME)
        self.assertEqual(0, self.runner.recover())
        self.assertEqual(1, len(self.driver.watched))

    def test_a_later_detach_that_is_refused_hides_none_that_timed_out(self) -> None:
        self.driver.answer = exception.DetachTimeout(instance=GUEST, device=VOLUME, attempts=1, timeout='1', left='')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DetachTimeout')
        self.driver.answer = exception.DetachFailed(instance=GUEST, device=VOLUME, reason='refused')
        self.driver.followed = False
        self.runner.accept(operation('two'))
        self.assert_outcome(State.FAILED, 'DetachFailed', 'two')
        self.runner.recover()
        self.assertEqual([(GUEST, VOLUME, FOUND, True), (GUEST, VOLUME, FOUND, False)], self.driver.watched)
        self.runner.release(GUEST, VOLUME)
        self.assertNotIn(None, [self.journal.get(name).released_at for name in ('one', 'two')])

    def test_asked_once_more_for_what_went_late_it_is_done(self) -> None:
        self.driver.answer = exception.DetachTimeout(instance=GUEST, device=VOLUME, attempts=1, timeout='1', left='')
        self.runner.accept(operation('one'))
        self.assert_outcome(State.FAILED, 'DetachTimeout')
        self.driver.answer = exception.DeviceNotFound(instance=GUEST, device=VOLUME)
        self.runner.accept(operation('two'))
        self.assert_outcome(State.FAILED, 'DeviceNotFound', 'two')
        self.runner.release(GUEST, VOLUME)
        self.runner.accept(operation('three'))
        self.assert_outcome(State.SUCCEEDED, operation_id='three')
        self.assertEqual([None, FOUND.of_any_run()], self.driver.told[-2:])
        self.runner.accept(operation('four'))
        self.assert_outcome(State.FAILED, 'DeviceNotFound', 'four')
