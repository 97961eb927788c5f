# SPDX-License-Identifier: Apache-2.0
"""``aliasagent-status`` and a configuration that it cannot understand."""

import pathlib

import fixtures

from aliasagent.cmd import status
from aliasagent.status import health
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
            '[DEFAULT]\nmanage = nothing\n',
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

    def test_health_says_what_is_left_to_nova(self) -> None:
        shown = self.useFixture(fixtures.StringStream('shown')).stream
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', shown))
        found = [health.Finding('agent'), health.Finding('queue', 'it waits')]
        self.useFixture(fixtures.MonkeyPatch('aliasagent.status.health.Health.check', lambda _self: found))
        for manage, line in (('all', ''), ('aliases', 'manage      aliases: in guests of Nova, ')):
            self.path.write_text(f'[DEFAULT]\nmanage = {manage}\n')
            self.assertEqual(1, status.main(['--config-file', str(self.path), 'health']))
            shown.seek(0)
            text = str(shown.read())
            self.assertIn(f'agent       healthy\nqueue       it waits\n{line}', text)
            self.assertEqual(bool(line), 'manage' in text)

    def told(self) -> str:
        self.said.seek(0)
        return str(self.said.read())
