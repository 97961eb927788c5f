# SPDX-License-Identifier: Apache-2.0
"""A time that is told is the time that is kept."""

import datetime
from unittest import mock

from aliasagent.operations import journal
from aliasagent.tests import base
from aliasagent.tests.unit.operations.runner_base import operation

#: Between two microseconds, so that telling them rounds up, and down.
TIMES = (1800000000.1234567, 1800000001.1234563, 1800000002.9999996)


class TimesTestCase(base.TestCase):
    def test_an_operation_is_found_by_the_time_that_is_told(self) -> None:
        made = journal.Journal(f'{self.make_directory()}/journal.sqlite')
        self.addCleanup(made.close)
        for number, seconds in enumerate(TIMES):
            with mock.patch.object(journal.time, 'time', autospec=True, return_value=seconds):  # type: ignore[attr-defined]
                made.accept(operation(f'number {number}'))
        for number in range(len(TIMES)):
            accepted = made.get(f'number {number}').accepted_at
            assert accepted is not None
            told = datetime.datetime.fromtimestamp(accepted, datetime.UTC).isoformat()
            asked = datetime.datetime.fromisoformat(told).timestamp()
            self.assertEqual(len(TIMES) - number, len(made.select(since=asked)))
            self.assertEqual(number, len(made.select(until=asked)))
