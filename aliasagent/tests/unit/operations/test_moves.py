# SPDX-License-Identifier: Apache-2.0
"""Moves have a bound of their own, and those that wait for their turn take no thread."""

import threading
from concurrent import futures

from aliasagent.operations import moves
from aliasagent.operations.moves import Moves
from aliasagent.tests import base


class MovesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.moves = Moves(2)
        self.ends: dict[str, threading.Event] = {}
        self.begun: list[str] = []

    def move(self, name: str, *, holds_stop: bool = False, at_once: bool = False) -> 'futures.Future[None]':
        self.ends[name] = end = threading.Event()
        self.addCleanup(end.set)

        def work() -> None:
            self.begun.append(name)
            end.wait(base.PATIENCE)

        return self.moves.submit(work, holds_stop=holds_stop, at_once=at_once)

    def wait_begun(self, *names: str) -> None:
        self.wait_for(lambda: list(names) == self.begun, f'{names} begun')

    def test_they_begin_in_turn(self) -> None:
        names = ['a', 'b', 'c', 'd']
        moves = [self.move(name) for name in names]
        self.wait_for(lambda: len(self.begun) == 2, 'two')
        self.assertEqual({'a', 'b'}, set(self.begun))
        self.ends['b'].set()
        moves[1].result(base.PATIENCE)
        self.wait_for(lambda: self.begun[2:] == ['c'], 'the next')
        self.assertEqual([False, True, False, False], [move.done() for move in moves])

    def test_those_that_wait_take_no_thread(self) -> None:
        before = threading.active_count()
        for number in range(50):
            self.move(str(number))
        self.wait_for(lambda: len(self.begun) == 2, 'two')
        self.assertLessEqual(threading.active_count(), before + 2)

    def test_one_that_fails_gives_its_turn_up(self) -> None:
        def fail() -> None:
            raise ValueError('a defect')

        for _number in range(3):
            self.assertIsNone(self.moves.submit(fail).result(base.PATIENCE))

    def test_one_that_is_under_way_already_takes_no_turn(self) -> None:
        for number in range(3):
            self.move(f'begun {number}', at_once=True)
            self.wait_for(lambda number=number: len(self.begun) == number + 1, 'it')  # type: ignore[misc]
        self.move('new')
        self.wait_for(lambda: 'new' in self.begun, 'the new one')

    def test_no_thread_can_be_started(self) -> None:
        self.patch(moves, '_RETRY_SECONDS', 0.01)
        for at_once in (False, True):
            with base.no_thread_once():
                self.assertIsNone(self.moves.submit(lambda: None, at_once=at_once).result(base.PATIENCE))
        ends = [self.move(name) for name in ('a', 'b', 'c')]
        self.wait_for(lambda: len(self.begun) == 2, 'two')
        with base.no_thread_once():
            self.ends['a'].set()
            self.wait_for(lambda: 'c' in self.begun, 'the one that waited')
        for name in ('b', 'c'):
            self.ends[name].set()
        futures.wait(ends, base.PATIENCE)
        self.assertEqual(set(), self.moves._running)

    def test_close_begins_no_more_and_resolves_none_that_waits(self) -> None:
        moves = [self.move(name) for name in ('a', 'b', 'c')]
        self.wait_for(lambda: len(self.begun) == 2, 'two')
        self.assertTrue(self.moves.close())
        late = self.move('late', at_once=True)
        for name in ('a', 'b'):
            self.ends[name].set()
        futures.wait(moves[:2], base.PATIENCE)
        self.assertEqual([True, True, False, False], [move.done() for move in (*moves, late)])
        self.assertEqual({'a', 'b'}, set(self.begun))

    def test_close_waits_for_those_whose_guest_stands_still(self) -> None:
        self.move('saved', holds_stop=True)
        self.move('migrated')
        self.wait_for(lambda: len(self.begun) == 2, 'both')
        self.assertFalse(self.moves.close(0.01))
        self.ends['saved'].set()
        self.assertTrue(self.moves.close(base.PATIENCE))

    def test_they_keep_no_process_from_ending(self) -> None:
        self.move('a')
        self.wait_begun('a')
        self.assertEqual({True}, {thread.daemon for thread in threading.enumerate() if thread.name == 'move'})
