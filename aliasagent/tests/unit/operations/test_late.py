# SPDX-License-Identifier: Apache-2.0
"""Outcomes that the journal would not take at once."""

import fixtures

from aliasagent import exception
from aliasagent.operations import late
from aliasagent.tests import base


class LateWriterTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.operations.late.RETRY_SECONDS', 0.01))
        self.writer = late.LateWriter()
        self.addCleanup(self.writer.close)
        self.full = False
        self.written: list[str] = []
        self.tried = 0

    def write(self, name: str) -> None:
        def write() -> None:
            self.tried += 1
            if self.full:
                raise exception.JournalError(path='x', reason='full')
            self.written.append(name)

        self.writer.write(write)

    def test_at_once(self) -> None:
        self.write('a')
        self.assertEqual(['a'], self.written)

    def test_later_and_in_order(self) -> None:
        for _round in range(2):
            self.written.clear()
            self.full = True
            self.write('a')
            self.write('b')
            self.wait_for(lambda: self.tried > 5, 'it is tried again and again')
            self.assertEqual([], self.written)
            self.full = False
            self.wait_for(lambda: len(self.written) == 2, 'it is written')
            self.write('c')
            self.assertEqual(['a', 'b', 'c'], self.written)

    def test_at_the_end_it_is_said_what_is_lost(self) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        self.full = True
        self.write('a')
        self.writer.close()
        self.assertIn('1 outcomes could not be written', log.output)

    def test_after_the_end(self) -> None:
        self.writer.close()
        self.full = True
        self.write('a')
        self.full = False
        self.assertEqual([], self.written)

    def test_a_defect_holds_up_no_other_outcome(self) -> None:
        self.full = True
        self.write('a')

        def broken() -> None:
            raise KeyError('a defect')

        self.writer.write(broken)
        self.write('b')
        self.full = False
        self.wait_for(lambda: self.written == ['a', 'b'], 'all but one are written')
        self.assertIn('An outcome is discarded', self.log.output)

    def test_no_thread_can_be_started(self) -> None:
        for again in (lambda: self.write('b'), lambda: self.assertRaises(exception.JournalError, self.writer.flush)):
            self.full, self.written = True, []
            with base.no_thread_once():
                self.write('a')
            again()
            self.full = False
            self.wait_for(lambda: 'a' in self.written, 'it is written')
            self.wait_for(lambda: self.writer._thread is None, 'its end')

    def test_a_defect_is_not_taken_for_a_full_disk(self) -> None:
        def write() -> None:
            raise KeyError('x')

        self.assertRaises(KeyError, self.writer.write, write)
