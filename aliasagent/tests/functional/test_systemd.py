# SPDX-License-Identifier: Apache-2.0
"""The systemd unit, as systemd reads it."""

import configparser
import json
import pathlib
import re
import subprocess
import sys
import textwrap

from oslo_service import _options

from aliasagent import conf
from aliasagent.tests import base
from aliasagent.tests import documents

UNIT = pathlib.Path(__file__).parents[3] / 'etc' / 'systemd' / 'aliasagent-compute.service'
COMMAND = 'ExecStart=aliasagent-compute\n'
#: How much of the host the unit may reach, by systemd's own measure: 0 is nothing, 10 is all of it.
MOST_EXPOSED = 3.0


class UnitTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.text = UNIT.read_text()
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        # keys are what they are
        setattr(parser, 'optionxform', str)  # noqa: B010 - mypy takes it for a method
        parser.read_string(self.text)
        self.service = parser['Service']

    def analyze(self, verb: str, *options: str, command: str | None = None) -> subprocess.CompletedProcess[str]:
        """Have systemd look at the unit, with a command that is there."""
        self.assertEqual(1, self.text.count(COMMAND))
        path = pathlib.Path(self.make_directory()) / UNIT.name
        path.write_text(self.text.replace(COMMAND, f'ExecStart={command or sys.executable}\n'))
        return subprocess.run(
            ['systemd-analyze', '--no-pager', *options, verb, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_systemd_finds_nothing_wrong(self) -> None:
        done = self.analyze('verify')
        self.assertEqual((0, '', ''), (done.returncode, done.stdout, done.stderr))

    def test_systemd_would_find_something(self) -> None:
        self.text = self.text.replace('ProtectSystem=strict', 'ProtectSystem=sometimes\nProtectAll=yes')
        said = self.analyze('verify').stderr
        self.assertIn('sometimes', said)
        self.assertIn('ProtectAll', said)
        self.assertNotEqual(0, self.analyze('verify', command='/nowhere/aliasagent-compute').returncode)

    def test_it_reaches_little(self) -> None:
        done = self.analyze('security', '--offline=true', f'--threshold={MOST_EXPOSED * 10:.0f}')
        self.assertEqual(0, done.returncode, done.stdout)

    def test_what_connecting_volumes_needs(self) -> None:
        page = (documents.ROOT / 'doc' / 'source' / 'admin' / 'connecting.rst').read_text()
        block = re.search(r'\n   \[Service\]\n((   .*\n)+)', page)
        assert block is not None
        wider = textwrap.dedent(block[1])
        self.assertIn('ProtectSystem=', self.confined())
        # what comes last is what counts, as in a drop-in
        self.text = self.text.replace('\n[Install]', f'\n{wider}\n[Install]')
        done = self.analyze('verify')
        self.assertEqual((0, '', ''), (done.returncode, done.stdout, done.stderr))
        # a mount namespace, a device policy, or a lack of capabilities
        wanted = ('Protect', 'Device', 'Private', 'CapabilityBoundingSet')
        self.assertEqual(set(), {name for name in self.confined() if name.startswith(wanted)})

    def confined(self) -> set[str]:
        """The settings by which the unit confines the agent, as systemd reads them."""
        report = json.loads(self.analyze('security', '--offline=true', '--json=short').stdout)
        return {each['name'] for each in report if each['set']}

    def test_it_may_write_where_the_defaults_want_it_to(self) -> None:
        self.assertEqual('strict', self.service['ProtectSystem'])
        state = pathlib.Path('/var/lib') / self.service['StateDirectory']
        conf.CONF([], project='aliasagent', default_config_files=[])
        self.addCleanup(conf.CONF.reset)
        self.assertEqual(state, pathlib.Path(conf.CONF.operations.journal).parent)
        self.assertEqual(state, pathlib.Path(conf.CONF.reconcile.save_directory).parent)
        self.assertNotIn('ReadWritePaths', self.service)

    def test_it_is_given_the_time_that_it_takes_to_stop(self) -> None:
        (graceful,) = (
            option.default for option in _options.service_opts if option.name == 'graceful_shutdown_timeout'
        )
        self.assertGreater(int(self.service['TimeoutStopSec']), graceful)

    def test_it_says_when_it_is_ready_and_is_started_anew_if_it_fails(self) -> None:
        self.assertEqual(
            ('notify', 'on-failure', 'yes'),
            tuple(self.service[name] for name in ('Type', 'Restart', 'NoNewPrivileges')),
        )
