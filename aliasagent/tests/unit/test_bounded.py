# SPDX-License-Identifier: Apache-2.0
"""Calls that may never return."""

import threading

from aliasagent import bounded
from aliasagent.tests import base


class CallTestCase(base.TestCase):
    def test_an_answer(self) -> None:
        self.assertEqual(42, bounded.call(lambda: 42, base.PATIENCE))

    def test_an_error_comes_through(self) -> None:
        for kind in (KeyError, TimeoutError, SystemExit):
            def fail(kind: type[BaseException] = kind) -> None:
                raise kind('why')

            error = self.assertRaises(kind, bounded.call, fail, base.PATIENCE)
            self.assertIn('why', str(error))

    def test_nothing(self) -> None:
        never = threading.Event()
        self.addCleanup(never.set)
        for seconds in (0.05, 0.0, -1.0):
            error = self.assertRaises(bounded.TimedOut, bounded.call, never.wait, seconds)
            self.assertEqual(f'no answer within {seconds:g} s', str(error))

    def test_the_process_does_not_wait_for_it(self) -> None:
        go_on, threads = threading.Event(), list[threading.Thread]()

        def work() -> None:
            threads.append(threading.current_thread())
            go_on.wait()

        future = bounded.start(work)
        self.wait_for(lambda: threads, 'that it was called')
        self.assertEqual((True, False), (threads[0].daemon, future.done()))
        go_on.set()
        self.assertIsNone(future.result(base.PATIENCE))
