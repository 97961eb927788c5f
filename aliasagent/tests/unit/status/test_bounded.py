# SPDX-License-Identifier: Apache-2.0
"""Questions that somebody may never answer."""

import threading

from aliasagent.status import bounded
from aliasagent.tests import base


class BoundedTestCase(base.TestCase):
    def test_an_answer(self) -> None:
        self.assertEqual(42, bounded.answer(lambda: 42, base.PATIENCE))

    def test_an_error_comes_through(self) -> None:
        def fail() -> None:
            raise KeyError('why')

        self.assertRaises(KeyError, bounded.answer, fail, base.PATIENCE)

    def test_nothing(self) -> None:
        never = threading.Event()
        self.addCleanup(never.set)
        error = self.assertRaises(bounded.NoAnswerError, bounded.answer, never.wait, 0.05)
        self.assertEqual('no answer within 0.05 s', str(error))
