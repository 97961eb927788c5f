# SPDX-License-Identifier: Apache-2.0
"""Every command of the README is run, but for the one that runs this test."""

import pathlib
import re
import subprocess

import testtools

ROOT = pathlib.Path(__file__).parents[3]
_BLOCK = re.compile(r'^\.\. code-block:: bash\n\n((?:    .*\n|\n)+)', re.MULTILINE)


def blocks() -> list[str]:
    """The README's shell commands, a text per block."""
    readme = (ROOT / 'README.rst').read_text()
    return [re.sub(r'^    ', '', block, flags=re.MULTILINE) for block in _BLOCK.findall(readme)]


class ReadmeTest(testtools.TestCase):
    def test_its_commands_do_what_it_says(self) -> None:
        first, second = blocks()
        self.assertEqual('tools/quickstart --once\ntools/run-tests\n', first.strip() + '\n')
        # NOTE: the second block runs the quickstart too, and leaves what it started to the commands that follow.
        done = subprocess.run(
            ['bash', '-euo', 'pipefail', '-c', second],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stdout[-5000:])
        for words in ('quickstart', '"kind": "disk"', '"live": true', '"persistent": true', 'succeeded'):
            self.assertIn(words, done.stdout)
