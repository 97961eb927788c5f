# SPDX-License-Identifier: Apache-2.0
"""The benchmarks that need nothing but the agent's own code run, and write what they found."""

import contextlib
import io
import json
import pathlib
import tempfile

from aliasagent.tests import base
from benchmarks import __main__ as benchmarks


class TestBenchmarks(base.TestCase):
    def run_quickly(self, *names: str) -> pathlib.Path:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        arguments = [*names, '--rounds', '2', '--share', '0.02', '--without-nova', '--without-pictures']
        arguments += ['--results', directory.name]
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(0, benchmarks.main(arguments))
        for name in names:
            self.assertIn(f'{name}: ', output.getvalue())
        return pathlib.Path(directory.name)

    def test_lookup_and_build(self) -> None:
        directory = self.run_quickly('lookup', 'build')
        found = json.loads((directory / 'lookup.json').read_text())
        for comparison in found['comparisons']:
            self.assertEqual({'ours', 'lxml'}, set(comparison['samples']))
            self.assertEqual([2, 2], [len(samples) for samples in comparison['samples'].values()])
        self.assertIn('function calls', (directory / 'build.profile.txt').read_text())

    def test_unknown_name(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertRaises(SystemExit, benchmarks.main, ['lookups', '--without-nova'])
        self.assertIn('there is no lookups', said.getvalue())
