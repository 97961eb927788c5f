# SPDX-License-Identifier: Apache-2.0
"""The check of the words in texts for users finds a bad sentence wherever it is, and only there."""

import importlib.util
import pathlib
import subprocess
import sys

from aliasagent.tests import base
from aliasagent.tests import documents

CHECK = documents.ROOT / 'tools' / 'words.py'
BAD = (
    'Nobody is asked.',
    'The guest lets go\n   of its device.',
    'Devices from before aliases get theirs.',
    'Requests are left with the message broker.',
    'Guests cannot be looked at now.',
    'The agent takes nothing in any more.',
    'The operation goes on.',
    'The next pass finds it.',
    'What became of it was told.',
    'Is it well?\nIt is well.',
    'The guest stands still.',
    'This is a defect of ours.',
    'It is relived.',
)

_spec = importlib.util.spec_from_file_location('words', CHECK)
assert _spec is not None and _spec.loader is not None
words = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(words)


class WordsTestCase(base.TestCase):
    def test_a_bad_sentence_is_found(self) -> None:
        for sentence in BAD:
            self.assertNotEqual([], words.found('page.rst', f'Title\n=====\n\n{sentence}\n'), sentence)
            self.assertNotEqual([], words.found('module.py', f'"""Text."""\nHELP = {sentence!r}\n'), sentence)
            self.assertNotEqual([], words.found('alerts.yml', f'summary: {sentence}\n'), sentence)

    def test_a_place_is_named_with_the_words_to_use(self) -> None:
        self.assertEqual(
            ['page.rst:4: "lets go of": write release'], words.found('page.rst', 'One\n\nThe guest\nlets go\nof it.\n')
        )
        self.assertEqual(
            ['module.py:2: "all the same": write anyway'], words.found('module.py', '\nx = f(1, "all " "the same")\n')
        )

    def test_code_and_quotes_are_not_checked(self) -> None:
        page = (
            'Said ``by nobody``, or "by nobody\nat all":\n\n.. code-block:: text\n   :class: log\n\n'
            '   INFO nobody\n\n   INFO nobody\n\nSo::\n\n    nobody\n\nThe end.\n'
        )
        self.assertEqual([], words.found('page.rst', page))
        (found,) = words.found('page.rst', f'{page}\nNobody\n')
        self.assertEqual('page.rst:17: "Nobody"', found.partition(': write')[0])
        self.assertEqual([], words.found('module.py', '# nobody\nrelive = nobody()\n'))

    def test_the_command_fails(self) -> None:
        page = pathlib.Path(self.make_directory()) / 'page.rst'
        for text, code in (('The agent reads it.\n', 0), ('Nobody reads it.\n', 1)):
            page.write_text(text)
            done = subprocess.run(
                [sys.executable, CHECK, page],
                capture_output=True,
                text=True,
                timeout=base.PATIENCE,
                check=False,
            )
            self.assertEqual((code, ''), (done.returncode, done.stderr))
            self.assertEqual(bool(code), 'Nobody' in done.stdout)

    def test_it_checks_what_users_read(self) -> None:
        checked = {str(path.relative_to(words.ROOT)) for name in words.FILES for path in words.ROOT.glob(name)}
        self.assertLessEqual(
            {
                *('README.rst', 'doc/source/admin/operating.rst', 'doc/source/runbooks/index.rst'),
                *('aliasagent/conf/operations.py', 'aliasagent/shell/reconcile.py', 'aliasagent/status/checks.py'),
            },
            checked,
        )
