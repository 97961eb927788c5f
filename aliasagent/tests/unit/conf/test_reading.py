# SPDX-License-Identifier: Apache-2.0
"""The options are read: at the start, and again."""

import pathlib
import re
import traceback

import fixtures
from oslo_config import cfg

from aliasagent import conf
from aliasagent.conf import reading
from aliasagent.tests import base
from aliasagent.tests import documents


class ReadingTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(self.make_directory()) / 'a.conf'
        self.conf = cfg.ConfigOpts()
        for module in conf.MODULES:
            module.register_opts(self.conf)

    def read(self, text: str) -> None:
        self.path.write_text(text)
        reading.parse(self.conf, ['--config-file', str(self.path)])

    def refusal(self, text: str) -> str:
        """What is said of a file with this text."""
        with self.assertRaises(cfg.Error) as raised:
            self.read(text)
            reading.check(self.conf)
        return str(raised.exception)

    def test_the_sample_and_nothing_can_be_read(self) -> None:
        self.read((documents.ROOT / 'etc' / 'aliasagent' / 'aliasagent.conf.sample').read_text())
        reading.check(self.conf)
        self.read('')
        reading.check(self.conf)

    def test_a_value_that_cannot_be_understood_is_told_with_its_option_and_file(self) -> None:
        for group, line in (
            ('operations', 'max_waiting = 4k'),
            ('unplug', 'timeout = 20s'),
            ('libvirt', 'reconnect_timeout = -1'),
            ('allowed', 'paths = dev/disk'),
            ('allowed', 'sockets = run/vhu'),
            ('allowed', 'storage_hosts = 10.0.0.0/99'),
            ('allowed', 'migration_hosts = !10.0.0/8'),
            ('metrics', 'port = http'),
            ('upgrade_levels', 'compute = one'),
            ('DEFAULT', 'host = bad host!'),
        ):
            said = self.refusal(f'[{group}]\n{line}\n')
            begin = f'[{group}] Value for option {line.split(" ")[0]} from {self.path} is not valid: '
            self.assertEqual(begin, said[: len(begin)])
            self.assertNotIn('\n', said)

    def test_the_environment_is_named(self) -> None:
        with fixtures.EnvironmentVariable('OS_UNPLUG__TIMEOUT', 'soon'):
            self.assertIn('from OS_UNPLUG__TIMEOUT is not valid', self.refusal(''))

    def test_only_the_groups_that_are_needed(self) -> None:
        self.read('[operations]\nmax_waiting = 4k\n')
        reading.check(self.conf, groups={'libvirt'})
        self.assertRaises(cfg.Error, reading.check, self.conf, groups={'operations'})

    def test_a_line_that_is_none_is_not_repeated(self) -> None:
        text = '[DEFAULT]\nhost = here\ntransport_url rabbit//nova hush\n'
        with self.assertRaises(cfg.Error) as raised:
            self.read(text)
        told = ''.join(traceback.format_exception(raised.exception))
        self.assertIn(f"{self.path}:3: No ':' or '=' found in assignment", told)
        self.assertNotIn('hush', told)

    def test_what_is_no_file_or_no_text(self) -> None:
        directory = str(self.path.parent)
        for path in (directory, f'{directory}/nothing'):
            with self.assertRaisesRegex(cfg.Error, re.escape(path)):
                reading.parse(self.conf, ['--config-file', path])
        self.path.write_bytes(b'[DEFAULT]\nhost = gr\xfcn\n')
        with self.assertRaisesRegex(cfg.Error, 'cannot be read: .*utf-8'):
            reading.parse(self.conf, ['--config-file', str(self.path)])

    def test_what_can_be_read_again_changes_nothing_yet(self) -> None:
        self.read('[unplug]\ntimeout = 20\n')
        self.path.write_text('[unplug]\ntimeout = 30\n')
        reading.check_again(self.conf)
        self.assertEqual(20.0, self.conf.unplug.timeout)

    def test_what_cannot_be_read_again(self) -> None:
        self.read('[unplug]\ntimeout = 20\n')
        for text, words in (
            ('[unplug]\ntimeout = 20s\n', 'Value for option timeout'),
            ('[DEFAULT]\ndebug = perhaps\n', 'Value for option debug'),
            ('garbage\n', ':1: '),
        ):
            self.path.write_text(text)
            with self.assertRaisesRegex(cfg.Error, words):
                reading.check_again(self.conf)
        self.assertEqual(20.0, self.conf.unplug.timeout)

    def test_files_of_a_directory_are_read_again_too(self) -> None:
        self.path.write_text('[unplug]\ntimeout = 20\n')
        reading.parse(self.conf, ['--config-dir', str(self.path.parent)], default_config_files=[])
        self.path.write_text('[unplug]\ntimeout = 20s\n')
        with self.assertRaisesRegex(cfg.Error, 'timeout'):
            reading.check_again(self.conf)
