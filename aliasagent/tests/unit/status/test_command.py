# SPDX-License-Identifier: Apache-2.0
"""``aliasagent-status`` and a configuration that it cannot understand."""

import pathlib

import fixtures

from aliasagent.cmd import status
from aliasagent.tests import base
from aliasagent.tests.unit.conf import test_messaging


class StatusTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.make_directory()) / 'a.conf'
        self.said = self.useFixture(fixtures.StringStream('said')).stream
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', self.said))

    def test_it_ends_with_2_and_a_line(self) -> None:
        for text in (
            'garbage\n',
            '[DEFAULT]\nhost = bad host!\n',
            '[unplug]\ntimeout = 20s\n',
            '[DEFAULT]\ntransport_url = nodriver://\n',
            *(f'[DEFAULT]\ntransport_url = {url}\n' for url in test_messaging.BAD_URLS),
        ):
            self.path.write_text(text)
            for words in (('upgrade', 'check'), ('health',)):
                before = len(self.told())
                self.assertEqual(2, status.main(['--config-file', str(self.path), *words]), text)
                self.assertRegex(self.told()[before:], r'\Aaliasagent-status: .+\n\Z')
        self.assertNotIn(test_messaging.MARK, self.told())

    def test_a_file_that_is_not_there(self) -> None:
        self.assertEqual(2, status.main(['--config-file', str(self.path), 'health']))
        self.assertIn(str(self.path), self.told())

    def told(self) -> str:
        self.said.seek(0)
        return str(self.said.read())
