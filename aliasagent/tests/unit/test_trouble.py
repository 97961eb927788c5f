# SPDX-License-Identifier: Apache-2.0
"""A problem that lasts is logged once."""

from aliasagent import trouble
from aliasagent.tests import base


class TroubleTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.trouble = trouble.Trouble()

    def test_each_reason_is_new_once(self) -> None:
        reasons = ('full', OSError('full'), 'read-only', '', '', 'full')
        self.assertEqual([True, False, True, True, False, True], [self.trouble.is_new(reason) for reason in reasons])

    def test_it_ends_once(self) -> None:
        self.assertFalse(self.trouble.is_over())
        for reason in ('full', ''):
            self.trouble.is_new(reason)
            self.assertEqual([True, False], [self.trouble.is_over(), self.trouble.is_over()])

    def test_what_comes_back_is_new(self) -> None:
        self.trouble.is_new('full')
        self.trouble.is_over()
        self.assertTrue(self.trouble.is_new('full'))
