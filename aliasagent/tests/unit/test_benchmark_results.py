# SPDX-License-Identifier: Apache-2.0
"""What becomes of what was measured: the documents, and the comparison of two runs."""

import json
import pathlib
from typing import Any

from aliasagent.tests import base
from benchmarks import document
from benchmarks import harness
from benchmarks import repeat
from benchmarks import report

WHERE = {
    **dict.fromkeys(report.machine(None), '?'),
    'date': '2026-11-25',
    'commit': 'abcdef0',
    'cores': 2,
    'kernel': '6.18',
    'libvirt': '9.0.0',
    'QEMU': '7.2',
    'RabbitMQ': '3.10.8',
    'lxml': '6.1',
    'nova': {'nova': '34.0.0'},
}


def result(ours: float) -> harness.Result:
    comparison = harness.Comparison('one', 's', {'ours': [ours] * 3, 'bare': [2.0] * 3})
    aim = harness.aim('at most as long', comparison.ratio('bare'), 1.0, bounded_by='nothing')
    return harness.Result([comparison], [aim], ['first: 1 ms', 'second: 2 ms'])


class TestResults(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directories = [pathlib.Path(self.make_directory()) for _number in range(2)]

    def write(self, number: int, name: str, ours: float) -> dict[str, Any]:
        path = report.write(self.directories[number], name, 'A title', result(ours), WHERE)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def repeated(self, *more: str) -> int:
        return repeat.main([*map(str, self.directories), *more])

    def test_the_same_again(self) -> None:
        for number, ours in enumerate((1.0, 1.1)):
            self.write(number, 'lookup', ours)
        self.assertEqual((0, 1), (self.repeated(), self.repeated('--within', '0.05')))

    def test_not_the_same_again(self) -> None:
        for first, second in ((1.0, 1.2), (1.2, 1.0)):
            self.write(0, 'lookup', first)
            self.write(1, 'lookup', second)
            self.assertEqual(1, self.repeated())

    def test_what_one_of_the_two_does_not_have_is_no_repetition(self) -> None:
        self.write(0, 'lookup', 1.0)
        self.assertRaises(ValueError, self.repeated)
        self.write(1, 'lookup', 1.0)
        self.write(1, 'build', 1.0)
        self.assertEqual(1, self.repeated())

    def test_on_what_it_was_measured(self) -> None:
        results = {name: self.write(0, name, 1.0) for name in ('lookup', 'build')}
        said = document.machine(results)
        for name in ('date', 'commit', 'libvirt', 'QEMU', 'RabbitMQ', 'lxml', 'kernel'):
            self.assertIn(str(WHERE[name]), said)
        results['build']['machine'] = {**results['build']['machine'], 'commit': 'another'}
        self.assertIn(', ``build`` at another, ', document.machine(results))
        results['build']['machine'] = {**results['build']['machine'], 'date': 'another'}
        self.assertRaises(ValueError, document.machine, results)

    def test_the_table_and_the_notes(self) -> None:
        found = self.write(0, 'lookup', 1.0)
        self.assertIn('     - 0.5\n     - met\n', document.table({'lookup': found}))
        self.assertIn('     - missed by 50%\n', document.table({'lookup': self.write(0, 'lookup', 3.0)}))
        self.assertEqual('* first: 1 ms\n* second: 2 ms\n', document.notes(found))
        self.assertEqual('0\n1\n', document.profile('\n'.join(map(str, range(100))))[:4])
        self.assertEqual(20, document.profile('x\n' * 100).count('x'))
