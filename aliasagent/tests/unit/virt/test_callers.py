# SPDX-License-Identifier: Apache-2.0
"""Calls about guests that hang, and the others."""

import threading

from aliasagent.tests import base
from aliasagent.virt.callers import GuestCallers


class GuestCallersTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.callers = GuestCallers()
        self.addCleanup(self.callers.close)
        self.hanging = threading.Event()
        self.addCleanup(self.hanging.set)

    def test_guests_about_which_libvirt_does_not_answer_hold_up_no_other(self) -> None:
        for number in range(100):
            self.callers.submit(f'guest-{number}', self.hanging.wait)  # type: ignore[arg-type]
        done = threading.Event()
        self.assertTrue(self.callers.submit('another', done.set))
        self.assertTrue(done.wait(base.PATIENCE))

    def test_the_calls_about_one_guest_are_made_in_order(self) -> None:
        made: list[int] = []
        done = threading.Event()

        def broken() -> None:
            raise KeyError('a defect')

        for number in range(100):
            self.callers.submit('guest', lambda number=number: made.append(number))  # type: ignore[misc]
            self.callers.submit('guest', broken)
        self.callers.submit('guest', done.set)
        self.assertTrue(done.wait(base.PATIENCE))
        self.assertEqual(list(range(100)), made)

    def test_no_thread_can_be_started(self) -> None:
        made: list[int] = []
        with base.no_thread_once():
            self.assertIsNotNone(self.callers.submit('guest', lambda: made.append(1)))
        self.callers.submit('other', lambda: made.append(2))
        self.wait_for(lambda: len(made) == 2, 'both calls')
        self.wait_for(lambda: not self.callers._waiting, 'no call is made')
        self.assertEqual(set(), self.callers._unserved)

    def test_closed_it_makes_no_more_and_waits_for_none(self) -> None:
        made: list[int] = []
        self.callers.submit('guest', self.hanging.wait)  # type: ignore[arg-type]
        self.callers.submit('guest', lambda: made.append(1))
        self.callers.close()
        self.assertFalse(self.callers.submit('other', lambda: made.append(2)))
        self.hanging.set()
        self.wait_for(lambda: not self.callers._waiting, 'no call is made')
        self.assertEqual([], made)
