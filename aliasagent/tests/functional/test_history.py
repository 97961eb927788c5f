# SPDX-License-Identifier: Apache-2.0
"""Drawn histories of the whole agent, and that the oracle that judges them sees a lie.

A failing seed is shown and made shorter by ``python -m aliasagent.tests.stress.history --replay SEED``.
"""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from unittest import mock

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.journal import Journal
from aliasagent.operations.queues import GuestQueues
from aliasagent.operations.runner import Runner
from aliasagent.tests import base
from aliasagent.tests.history import draw
from aliasagent.tests.history import run
from aliasagent.tests.history import shrink
from aliasagent.tests.history.agent import Broker
from aliasagent.virt.driver import Driver
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

#: How many histories each of the tests below runs.
_HISTORIES = 100


class HistoryTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        machine = run.machine()
        machine.__enter__()
        self.addCleanup(machine.__exit__, None, None, None)


class HistoriesTest(HistoryTestCase):
    """Each word of the agent is true in all of these."""

    def assert_true(self, seeds: Iterable[int]) -> None:
        with run.without_garbage_collection() as collect:
            for seed in seeds:
                lies = run.of_seed(seed)
                collect()
                self.assertEqual([], lies, f'python -m aliasagent.tests.stress.history --replay {seed}')

    def test_histories_1(self) -> None:
        self.assert_true(range(1000, 1000 + _HISTORIES))

    def test_histories_2(self) -> None:
        self.assert_true(range(2000, 2000 + _HISTORIES))

    def test_histories_3(self) -> None:
        self.assert_true(range(3000, 3000 + _HISTORIES))

    def test_histories_4(self) -> None:
        self.assert_true(range(4000, 4000 + _HISTORIES))

    def test_histories_5(self) -> None:
        self.assert_true(range(5000, 5000 + _HISTORIES))

    def test_histories_6(self) -> None:
        self.assert_true(range(6000, 6000 + _HISTORIES))


class MachineTest(HistoryTestCase):
    def test_a_seed_gives_the_same_history_each_time(self) -> None:
        for seed in range(40):
            first, second = list[str](), list[str]()
            run.shown(draw.history(seed), first.append)
            run.shown(draw.history(seed), second.append)
            self.assertEqual(list(map(_but_addresses, first)), list(map(_but_addresses, second)))

    def test_most_of_what_is_drawn_can_be_done(self) -> None:
        said = list[str]()
        for seed in range(60):
            run.shown(draw.history(seed), said.append)
        steps = sum(' guest ' in line and ':' in line and line.startswith(' ') for line in said)
        self.assertLess(sum('(not as things are)' in line for line in said), steps / 2)
        for state in ('is succeeded', 'DetachTimeout', 'DeviceNotFound', 'refused to release it'):
            self.assertTrue(any(state in line for line in said), state)


def _but_addresses(line: str) -> str:
    return line.partition(' object at 0x')[0].partition('/run-')[0]


class OracleTest(HistoryTestCase):
    """The oracle objects to an agent that is made to lie."""

    def assert_seen(self, rule: str, words: str, most: int = 250) -> int:
        """Some history is untrue in this way; its seed."""
        for seed in range(most):
            if any(lie.rule == rule and words in lie.words for lie in run.of_seed(seed)):
                return seed
        raise AssertionError(f'{rule} was not seen in {most} histories')

    def replace(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Have a method of the agent's do something else; it gets the real one first."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def method(*args: Any, **kwargs: Any) -> Any:
            return replacement(real, *args, **kwargs)

        patcher = mock.patch.object(owner, name, method)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_a_failed_detach_is_told_as_done(self) -> None:
        self.replace(Journal, 'finish', lambda real, journal, operation, *_outcome: real(journal, operation, None))
        self.assert_seen('false success', 'succeeded, and the device is in the running guest')

    def test_a_device_stays_in_the_persistent_config(self) -> None:
        def detach(real: Any, guest: Guest, alias: str, side: Side) -> None:
            if side is not Side.PERSISTENT:
                real(guest, alias, side)

        self.replace(Guest, 'detach', detach)
        # The agent would see it when it looks whether the device is gone.
        self.replace(DeviceFingerprint, 'find_persistent', lambda real, *args, **more: None)
        self.assert_seen('false success', 'succeeded, and the device is in the persistent config')

    def test_nothing_is_attached(self) -> None:
        self.replace(Driver, 'attach', lambda real, *args, **kwargs: None)
        self.assert_seen('false success', 'and the device is not in the')

    def test_what_failed_is_told_as_released(self) -> None:
        def finish(
            real: Any, journal: Journal, operation: str, error: BaseException | None = None, *more: Any
        ) -> None:
            real(journal, operation, error, *more)
            if isinstance(error, exception.DetachFailed | exception.DetachTimeout):
                found = journal.get(operation)
                journal.release(found.instance, found.device)

        self.replace(Journal, 'finish', finish)
        self.assert_seen('false release', 'and the running guest has it')

    def test_what_goes_late_is_not_noticed(self) -> None:
        self.replace(Runner, 'release', lambda real, *args: None)
        self.assert_seen('late release', 'and the device is gone')

    def test_an_outcome_is_not_told(self) -> None:
        self.replace(Broker, 'error', lambda real, *args: None)
        self.assert_seen('notifications', "was told as ['start']")

    def test_another_device_is_taken_out(self) -> None:
        def detach(real: Any, guest: Guest, alias: str, side: Side) -> None:
            text = guest.persistent_text()
            others = [] if text is None else [device.alias for device in Domain.parse(text).devices()]
            real(guest, next((other for other in others if other and other != alias), alias), side)

        self.replace(Guest, 'detach', detach)
        self.assert_seen('wrong device', 'is taken from the')

    def test_a_device_gets_the_alias_of_another(self) -> None:
        self.replace(
            Guest, 'update_persistent', lambda real, guest, xml: real(guest, xml.replace('ua-d', 'ua-e'))
        )
        self.assert_seen('wrong device', 'and was given')

    def test_the_words_say_that_it_is_gone(self) -> None:
        def finish(
            real: Any, journal: Journal, operation: str, error: BaseException | None = None, *more: Any
        ) -> None:
            if error is not None:
                words = 'it is gone from the persistent config and still in the running guest'
                error = exception.DetachFailed(instance='', device='', reason=words)
            real(journal, operation, error, *more)

        self.replace(Journal, 'finish', finish)
        self.assert_seen('untrue words', 'and it is in the persistent config')
        self.assert_seen('untrue words', 'and it is not in the running guest')

    def test_an_operation_is_forgotten(self) -> None:
        self.replace(GuestQueues, 'submit', lambda real, queues, guest, job: None)
        self.assert_seen('without end', 'is accepted')

    def test_an_operation_is_done_twice(self) -> None:
        def submit(real: Any, queues: GuestQueues, guest: str, job: Any) -> None:
            real(queues, guest, job)
            real(queues, guest, job)

        self.replace(GuestQueues, 'submit', submit)
        self.assert_seen('doubled', 'had ended as')

    def test_the_last_request_is_done_first(self) -> None:
        self.replace(GuestQueues, 'submit', lambda real, queues, guest, job: real(queues, f'{guest} {id(job)}', job))
        self.assert_seen('order', 'begins before')

    def test_a_defect_is_no_outcome(self) -> None:
        def attach(real: Any, *args: Any, **kwargs: Any) -> None:
            raise KeyError('a defect')

        self.replace(Driver, 'attach', attach)
        self.assert_seen('internal error', 'KeyError')

    def test_an_untrue_history_is_made_shorter(self) -> None:
        self.replace(Driver, 'attach', lambda real, *args, **kwargs: None)
        seed = self.assert_seen('false success', 'and the device is not in the')

        def is_same(history: Any) -> bool:
            return any('and the device is not in the' in lie.words for lie in run.run(history))

        shortest = shrink.shrink(draw.history(seed), is_same)
        (step,) = shortest.steps
        self.assertIn(step.what, ('attach', 'attach what is there'))
        self.assertEqual(1, len(shortest.guests))
