# SPDX-License-Identifier: Apache-2.0
"""The manual pages that are committed say what their sources say."""

import configparser
import os
import pathlib
import re
import subprocess
import sys

from aliasagent.tests import base
from aliasagent.tests import documents

COMMITTED = documents.ROOT / 'doc' / 'man'
#: Seconds that Sphinx may take on a busy machine.
LONG = 110
#: What stands for a character in a manual page.
_CHARACTERS = {r'\-': '-', r'\(aq': "'", r'\(bu': '*', r'\(dq': '"', r'\e': '\\', r'\&': '', r'\~': ' ', r'\:': ''}


def words(text: str) -> list[str]:
    """What a reader sees of a manual page, word by word.

    Releases of Sphinx differ in the macros that they use, and each page has the date and the release in it.
    """
    text = re.sub(r'^\.de.*?^\.\.$', '', text, flags=re.DOTALL | re.MULTILINE)
    lines = []
    for line in text.splitlines():
        if line.startswith(('.\\"', "'\\\"", '.TH', '.nr', '.sp', '.in', '.nf', '.fi', '.ft', '.ad', '.ie', '.el')):
            continue
        lines.append(re.sub(r'^\.[A-Za-z]+ ?', '', line))
    text = re.sub(r'\\f(\[[A-Z]*\]|\([A-Z]{2}|.)', '', '\n'.join(lines))
    for code, character in _CHARACTERS.items():
        text = text.replace(code, character)
    return re.findall(r'[^\s"]+', text)


class ManualPagesTestCase(base.TestCase):
    def test_they_are_what_their_sources_give(self) -> None:
        directory = pathlib.Path(self.make_directory())
        done = subprocess.run(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'sphinx', '-W', '-q', '-b', 'man'),
                *('-d', directory / 'doctrees', documents.SOURCE, directory / 'man'),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONG,
            check=False,
            env={**os.environ, 'PYTHONPATH': str(documents.ROOT)},
        )
        self.assertEqual((0, ''), (done.returncode, done.stdout))
        made = {path.name: words(path.read_text()) for path in (directory / 'man').glob('*.[0-9]')}
        there = {path.name: words(path.read_text()) for path in COMMITTED.glob('man?/*')}
        self.assertEqual(set(made), set(there))
        for name, text in made.items():
            self.assertLess(100, len(text), name)
            self.assertEqual(text, there[name], f'{name}: tox -e docs writes it anew')

    def test_there_is_one_for_each_command_and_the_wheel_has_it(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(documents.ROOT / 'setup.cfg')
        commands = {line.split(' = ')[0] for line in setup['entry_points']['console_scripts'].strip().splitlines()}
        self.assertEqual(commands, {path.stem for path in COMMITTED.glob('man?/*')})
        for section in COMMITTED.iterdir():
            self.assertIn(f'share/man/{section.name} = doc/man/{section.name}/*', setup['files']['data_files'])
            for page in section.iterdir():
                self.assertEqual(f'.{section.name.removeprefix("man")}', page.suffix)

    def test_what_differs_is_seen_and_what_only_looks_different_is_not(self) -> None:
        page = (COMMITTED / 'man8' / 'aliasagent-compute.8').read_text()
        self.assertEqual(words(page), words(re.sub(r'^\.TH.*', '.TH "X" "8" "today"', page, flags=re.MULTILINE)))
        self.assertNotEqual(words(page), words(page.replace('SIGHUP', 'SIGUSR1')))
        self.assertNotEqual(words(page), words(page.replace('debug', 'verbose')))
