# SPDX-License-Identifier: Apache-2.0
"""Calls that are due at a time."""

import threading

from aliasagent.tests import base
from aliasagent.virt.deadlines import Deadlines


class DeadlinesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deadlines = Deadlines()
        self.addCleanup(self.deadlines.close)
        self.called: list[str] = []

    def call_in(self, seconds: float, name: str) -> None:
        self.deadlines.call_in(seconds, lambda: self.called.append(name))

    def test_in_the_order_in_which_they_are_due(self) -> None:
        for name, seconds in (('c', 0.06), ('a', 0.0), ('b', 0.03)):
            self.call_in(seconds, name)
        self.wait_for(lambda: len(self.called) == 3, 'all called')
        self.assertEqual(['a', 'b', 'c'], self.called)

    def test_what_is_due_at_once_in_the_order_it_came(self) -> None:
        held = threading.Event()
        self.deadlines.call_in(0, lambda: self.assertTrue(held.wait(base.PATIENCE)))
        for number in range(20):
            self.call_in(-1, str(number))
        held.set()
        self.wait_for(lambda: len(self.called) == 20, 'all called')
        self.assertEqual([str(number) for number in range(20)], self.called)

    def test_one_that_is_due_earlier_is_not_held_up_by_those_before(self) -> None:
        self.call_in(3600, 'late')
        self.call_in(0.01, 'soon')
        self.wait_for(lambda: self.called, 'called')
        self.assertEqual(['soon'], self.called)

    def test_one_that_fails_does_not_end_the_others(self) -> None:
        def fail() -> None:
            raise ValueError('a defect')

        self.deadlines.call_in(0, fail)
        self.call_in(0.01, 'next')
        self.wait_for(lambda: self.called, 'called')

    def test_one_thread_for_all(self) -> None:
        threads: set[str] = set()
        done = threading.Semaphore(0)

        def note() -> None:
            threads.add(threading.current_thread().name)
            done.release()

        for _number in range(50):
            self.deadlines.call_in(0, note)
        for _number in range(50):
            self.assertTrue(done.acquire(timeout=base.PATIENCE))
        self.assertEqual(1, len(threads))

    def test_a_call_may_ask_for_another(self) -> None:
        self.deadlines.call_in(0, lambda: self.call_in(0, 'inner'))
        self.wait_for(lambda: self.called, 'called')

    def test_closed_it_calls_nothing_any_more(self) -> None:
        self.call_in(0.05, 'late')
        self.deadlines.close()
        self.call_in(0, 'later')
        threading.Event().wait(0.1)
        self.assertEqual([], self.called)

    def test_closed_before_it_was_used_and_closed_twice(self) -> None:
        self.deadlines.close()
        self.deadlines.close()
