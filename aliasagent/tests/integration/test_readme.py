# SPDX-License-Identifier: Apache-2.0
"""Every command of the README is run, but for the one that runs this test."""

import subprocess

import testtools

from aliasagent.tests import documents


class ReadmeTest(testtools.TestCase):
    def test_its_commands_do_what_it_says(self) -> None:
        first, second = documents.blocks((documents.ROOT / 'README.rst').read_text(), 'bash')
        self.assertEqual('tools/quickstart --once\ntools/run-tests\n', first)
        # NOTE: the second block runs the quickstart too, and leaves what it started to the commands that follow.
        done = subprocess.run(
            ['bash', '-euo', 'pipefail', '-c', second],
            cwd=documents.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stdout[-5000:])
        for words in ('quickstart', '"kind": "disk"', '"live": true', '"persistent": true', 'succeeded'):
            self.assertIn(words, done.stdout)
