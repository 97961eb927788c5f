# SPDX-License-Identifier: Apache-2.0
"""What bash completes."""

import pathlib
import subprocess

import fixtures

from aliasagent.tests.unit.shell import base

#: What the package bash-completion has for scripts such as ours: here the words are given.
_WORDS = """
_get_comp_words_by_ref() { words=(%s); cur=${words[-1]}; prev=${words[-2]}; }
"""


class CompletionTestCase(base.ShellTestCase):
    def setUp(self) -> None:
        super().setUp()
        done = self.run_command('complete')
        self.assertEqual((0, ''), (done.code, done.stderr))
        self.script = done.stdout

    def completed(self, *words: str) -> set[str]:
        """What bash offers for the last of these words."""
        line = ' '.join(f"'{word}'" for word in ('aliasagent', *words))
        script = self.script + _WORDS % line + '_aliasagent\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        done = subprocess.run(
            ['bash', '--norc', '-c', script], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((0, ''), (done.returncode, done.stderr))
        return set(done.stdout.split())

    def test_it_is_for_bash(self) -> None:
        done = subprocess.run(
            ['bash', '-n'], input=self.script, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((0, ''), (done.returncode, done.stderr))
        self.assertIn('complete -F _aliasagent aliasagent\n', self.script)

    def test_nouns(self) -> None:
        nouns = {'device', 'guest', 'hostdev', 'interface', 'operation', 'reconcile', 'volume', 'xml'}
        nouns |= {'complete', 'help'}
        self.assertEqual(nouns, self.completed(''))
        self.assertEqual({'volume'}, self.completed('vol'))

    def test_verbs(self) -> None:
        self.assertEqual({'attach', 'connection', 'detach'}, self.completed('volume', ''))
        self.assertEqual({'list', 'remove'}, self.completed('volume', 'connection', ''))
        self.assertEqual({'list', 'migrate', 'migration'}, self.completed('guest', ''))
        self.assertEqual({'abort'}, self.completed('guest', 'migration', 'a'))

    def test_options(self) -> None:
        self.assertEqual({'--block', '--bus'}, self.completed('volume', 'attach', '--b'))
        self.assertEqual({'--dry-run'}, self.completed('reconcile', '--dr'))

    def test_options_before_the_command(self) -> None:
        self.assertEqual({'--host'}, self.completed('--ho'))
        self.assertLess({'--host', '--config-file', '--debug', '--log-file', '-v', '-h'}, self.completed('-'))
        self.assertEqual({'--timeout'}, self.completed('--host', 'h', '-v', '--ti'))

    def test_commands_after_options(self) -> None:
        nouns = self.completed('')
        for before in (('--host', 'h'), ('--host', '=', 'h'), ('-v',), ('-v', '--config-file', 'a', '--timeout', '9')):
            self.assertEqual(nouns, self.completed(*before, ''))
            self.assertEqual({'attach'}, self.completed(*before, 'volume', 'att'))
            self.assertEqual({'--block', '--bus'}, self.completed(*before, 'volume', 'attach', '--b'))

    def test_files_as_values_of_options(self) -> None:
        directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (directory / 'mine.conf').touch()
        for between in ((), ('=',)):
            found = self.completed('-v', '--config-file', *between, f'{directory}/mi')
            self.assertEqual({f'{directory}/mine.conf'}, found)
        self.assertEqual(set(), self.completed('--config-file', f'{directory}/no'))
