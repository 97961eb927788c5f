# SPDX-License-Identifier: Apache-2.0
"""The sample of the configuration that is committed is what the options give."""

import pathlib
import re
import subprocess
import sys

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.tests import base
from aliasagent.tests import documents


class SampleTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        made = pathlib.Path(self.make_directory()) / 'sample'
        settings = documents.ROOT / 'etc' / 'oslo-config-generator' / 'aliasagent.conf'
        # a process of its own: the generator changes the defaults of other projects
        subprocess.run(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'oslo_config.generator'),
                *('--config-file', str(settings), '--output-file', str(made)),
            ],
            cwd=documents.ROOT,
            timeout=60,
            check=True,
        )
        self.made = sections(made.read_text())
        self.there = sections((documents.ROOT / 'etc' / 'aliasagent' / 'aliasagent.conf.sample').read_text())

    def test_our_own_options(self) -> None:
        for module in conf.MODULES:
            for group, options in module.list_opts():
                for option in options:
                    made = self.made[group][option.name]
                    self.assertEqual(made, self.there[group].get(option.name), f'{group}: tox -e genconfig writes it')

    def test_our_defaults_for_options_of_other_projects(self) -> None:
        for name, value in rpc.DEFAULTS.items():
            for text in (self.made, self.there):
                line = text['oslo_messaging_rabbit'][name].splitlines()[-1]
                self.assertEqual(f'#{name} = {str(value).lower()}', line)
        self.assertIn('%(operation_id)s', self.there['DEFAULT']['logging_context_format_string'])
        self.assertIn('%(operation_id)s', self.made['DEFAULT']['logging_context_format_string'])


def sections(text: str) -> dict[str, dict[str, str]]:
    """What a sample says of each option, with the line that sets it last, by group and name."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r'^(?=\[)', text, flags=re.MULTILINE)[1:]:
        head, _line, rest = section.partition('\n')
        options = found.setdefault(head.strip('[]'), {})
        for block in rest.split('\n\n'):
            if name := re.search(r'^#(\w+) =', block, re.MULTILINE):
                options[name[1]] = block.strip()
    return found
