# SPDX-License-Identifier: Apache-2.0
"""A test that leaves a thread behind fails (issue 13, number 27)."""

import threading
from unittest import mock

from aliasagent.tests import base


class ThreadsTestCase(base.TestCase):
    def left(self, *, name: str, daemon: bool) -> bool:
        """Whether such a thread makes the test fail that leaves it."""
        end = threading.Event()
        fixture = base.NoThreadsLeft()
        fixture.setUp()
        thread = threading.Thread(target=end.wait, name=name, daemon=daemon)
        thread.start()
        try:
            with mock.patch('aliasagent.tests.base.PATIENCE', 0.01):
                fixture.cleanUp()
        except AssertionError as error:
            self.assertIn(name, str(error))
            return True
        finally:
            end.set()
            thread.join()
        return False

    def test_one_of_the_agent(self) -> None:
        self.assertTrue(self.left(name='reports', daemon=True))
        self.assertTrue(self.left(name='operation_0', daemon=True))

    def test_one_that_keeps_the_process(self) -> None:
        self.assertTrue(self.left(name='any', daemon=False))

    def test_one_that_waits_for_what_hangs(self) -> None:
        self.assertFalse(self.left(name='bounded-call', daemon=True))

    def test_one_that_ends_in_time(self) -> None:
        fixture = base.NoThreadsLeft()
        fixture.setUp()
        threading.Timer(0.05, lambda: None).start()
        fixture.cleanUp()
