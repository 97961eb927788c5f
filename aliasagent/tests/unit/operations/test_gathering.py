# SPDX-License-Identifier: Apache-2.0
"""The operations of several threads are accepted with one write, each with its own answer."""

import threading
from collections.abc import Sequence
from concurrent import futures

from aliasagent import exception
from aliasagent.operations.gathering import Gathering
from aliasagent.operations.model import Accepted
from aliasagent.operations.model import Operation
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation


class GatheringTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        #: The ids of each write.
        self.writes: list[list[str]] = []
        self.bad: set[str] = set()
        self.go_on = threading.Event()
        self.gathering = Gathering(self.accept)
        self.pool = futures.ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown)
        self.addCleanup(self.go_on.set)

    def accept(self, operations: Sequence[Operation]) -> Sequence[Accepted]:
        names = [one.id for one in operations]
        self.writes.append(names)
        if names == ['first']:
            self.assertTrue(self.go_on.wait(base.PATIENCE))
        if bad := self.bad.intersection(names):
            raise exception.JournalError(path='x', reason=f'no room for {", ".join(sorted(bad))}')
        return [Accepted(one, is_new=True) for one in operations]

    def bring(self, *names: str) -> list['futures.Future[Accepted]']:
        """Bring operations, each in its thread, in their order."""
        brought = []
        for name in names:
            brought.append(self.pool.submit(self.gathering.accept, operation(name)))
            self.wait_for(lambda: len(self.gathering._waiting) == len(brought), 'it waits')
        return brought

    def begin(self) -> 'futures.Future[Accepted]':
        """Have a write under way."""
        first = self.pool.submit(self.gathering.accept, operation('first'))
        self.wait_for(lambda: self.writes, 'the first write')
        return first

    def test_alone(self) -> None:
        self.assertEqual('one', self.gathering.accept(operation('one')).record.id)
        self.assertEqual([['one']], self.writes)

    def test_what_comes_during_a_write_shares_the_next_one_in_its_order(self) -> None:
        first = self.begin()
        others = self.bring('b', 'a', 'c')
        self.go_on.set()
        answers = [future.result(base.PATIENCE).record.id for future in (first, *others)]
        self.assertEqual(['first', 'b', 'a', 'c'], answers)
        self.assertEqual([['first'], ['b', 'a', 'c']], self.writes)

    def test_the_error_of_one_is_not_the_error_of_the_others(self) -> None:
        self.bad = {'a'}
        first = self.begin()
        b, a, c = self.bring('b', 'a', 'c')
        self.go_on.set()
        self.assertEqual(['first', 'b', 'c'], [future.result(base.PATIENCE).record.id for future in (first, b, c)])
        self.assertIn('no room for a', str(self.assertRaises(exception.JournalError, a.result, base.PATIENCE)))
        self.assertEqual([['first'], ['b', 'a', 'c'], ['b'], ['a'], ['c']], self.writes)

    def test_after_an_error_the_next_is_accepted(self) -> None:
        self.bad = {'one'}
        self.assertRaises(exception.JournalError, self.gathering.accept, operation('one'))
        self.assertEqual('two', self.gathering.accept(operation('two')).record.id)

    def test_many_threads(self) -> None:
        self.go_on.set()
        names = [str(number) for number in range(300)]
        answers = self.pool.map(lambda name: self.gathering.accept(operation(name)).record.id, names)
        self.assertEqual(names, list(answers))
        self.assertEqual(sorted(names), sorted(name for write in self.writes for name in write))
