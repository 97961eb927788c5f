# SPDX-License-Identifier: Apache-2.0
"""What is there after an installation from a fresh clone, in a virtual environment outside the source tree."""

import configparser
import filecmp
import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import venv
from typing import ClassVar

import yaml

from aliasagent.tests import base

ROOT = pathlib.Path(__file__).parents[3]
#: Where the files of etc/ are installed, below the environment's directory.
PLACES = {
    'aliasagent': 'etc/aliasagent',
    'systemd': 'lib/systemd/system',
    'prometheus': 'share/aliasagent/prometheus',
    'grafana': 'share/aliasagent/grafana',
}
#: What is needed for making files of etc/ only.
NOT_INSTALLED = {'oslo-config-generator'}


def run(*command: str | os.PathLike[str], cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run a command away from the source tree, with nothing in its environment that leads there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('PYTHON', 'COVERAGE'))}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


class InstallTestCase(base.TestCase):
    directory: ClassVar[pathlib.Path]
    clone: ClassVar[pathlib.Path]
    prefix: ClassVar[pathlib.Path]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name).resolve()
        cls.clone, cls.prefix = cls.directory / 'clone', cls.directory / 'installed'
        cls._make('git', 'clone', '--quiet', str(ROOT), str(cls.clone))
        # What pip would load to build it is among the tests' requirements: nothing comes from the network.
        pip = (sys.executable, '-W', 'ignore', '-m', 'pip', '--disable-pip-version-check', '--no-input')
        offline = ('--quiet', '--no-deps', '--no-index')
        cls._make(*pip, 'wheel', *offline, '--no-build-isolation', '--wheel-dir', str(cls.directory), str(cls.clone))
        (wheel,) = cls.directory.glob('aliasagent-*.whl')
        venv.create(cls.prefix, symlinks=True)
        python = cls.prefix / 'bin' / 'python'
        cls._make(*pip, '--python', str(python), 'install', *offline, str(wheel))
        # Last: the requirements, from where this test finds them. What was installed comes before them.
        (site,) = cls.prefix.glob('lib/python3*/site-packages')
        (site / 'requirements.pth').write_text(sysconfig.get_path('platlib') + '\n')

    @classmethod
    def _make(cls, *command: str) -> None:
        # git trusts no directory of somebody else's unless it is told to, in a file: it forgets the environment
        config = cls.directory / 'gitconfig'
        config.write_text('[safe]\n\tdirectory = *\n')
        done = run('env', f'GIT_CONFIG_GLOBAL={config}', *command, cwd=cls.directory)
        if done.returncode:
            raise AssertionError(f'{" ".join(command)}: {done.stdout}{done.stderr}')

    def run_there(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the new environment."""
        return run(self.prefix / 'bin' / command[0], *command[1:], cwd=self.directory)

    def commands(self) -> list[str]:
        """The names of the commands that setup.cfg promises."""
        parser = configparser.ConfigParser()
        parser.read(self.clone / 'setup.cfg')
        lines = parser['entry_points']['console_scripts'].split('\n')
        return [line.partition('=')[0].strip() for line in lines if line]

    def test_it_is_not_the_source_tree_that_is_looked_at(self) -> None:
        done = self.run_there('python', '-c', 'import aliasagent; print(aliasagent.__file__)')
        self.assertEqual('', done.stderr)
        self.assertTrue(pathlib.Path(done.stdout).is_relative_to(self.prefix), done.stdout)
        self.assertFalse(self.prefix.is_relative_to(ROOT))

    def test_neither_the_tests_nor_the_sandbox_are_installed(self) -> None:
        (site,) = self.prefix.glob('lib/python3*/site-packages')
        there = {name for name in ('aliasagent', 'aliasagent/tests', 'sandbox', 'benchmarks') if (site / name).exists()}
        self.assertEqual({'aliasagent'}, there)

    def test_each_command_tells_how_it_is_used_and_which_it_is(self) -> None:
        self.assertEqual(['aliasagent', 'aliasagent-compute', 'aliasagent-status'], sorted(self.commands()))
        version = self.run_there('python', '-c', 'from aliasagent import version; print(version.version())').stdout
        self.assertRegex(version, r'^\d+\.\d+')
        for command in self.commands():
            done = self.run_there(command, '--help')
            self.assertEqual((0, ''), (done.returncode, done.stderr))
            self.assertIn(f'usage: {command} ', done.stdout)
            done = self.run_there(command, '--version')
            self.assertEqual((0, version.split()[-1]), (done.returncode, done.stdout.split()[-1]), done.stderr)

    def test_the_command_has_its_commands_and_formats(self) -> None:
        done = self.run_there('aliasagent', 'help', 'operation', 'show')
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('{csv,json,shell,table,value,yaml}', done.stdout)

    def test_each_file_of_etc_is_there_as_it_is_in_the_tree(self) -> None:
        directories = {path.name for path in (self.clone / 'etc').iterdir()}
        self.assertEqual(directories, set(PLACES) | NOT_INSTALLED)
        for name, place in PLACES.items():
            source, there = self.clone / 'etc' / name, self.prefix / place
            names = sorted(path.name for path in source.iterdir())
            self.assertNotEqual([], names)
            self.assertEqual(([], []), filecmp.cmpfiles(source, there, names, shallow=False)[1:], place)

    def test_each_manual_page_of_the_tree_is_there(self) -> None:
        source, there = self.clone / 'doc' / 'man', self.prefix / 'share' / 'man'
        pages = [path.relative_to(source) for path in source.glob('man?/*')]
        self.assertEqual(sorted(pages), sorted(path.relative_to(there) for path in there.glob('man?/*')))
        if pages:
            self.assertEqual(set(self.commands()), {page.stem for page in pages})

    def test_they_are_what_they_are_taken_for(self) -> None:
        json.loads((self.prefix / PLACES['grafana'] / 'aliasagent.json').read_text())
        yaml.safe_load((self.prefix / PLACES['prometheus'] / 'aliasagent.rules.yml').read_text())
        sample = (self.prefix / PLACES['aliasagent'] / 'aliasagent.conf.sample').read_text()
        self.assertIn('#transport_url', sample)
        unit = (self.prefix / PLACES['systemd'] / 'aliasagent-compute.service').read_text()
        (command,) = (line for line in unit.splitlines() if line.startswith('ExecStart='))
        self.assertTrue((self.prefix / 'bin' / command.removeprefix('ExecStart=')).exists(), command)

    def test_what_it_logs_goes_to_the_journal_of_systemd_or_to_a_file_without_logrotate(self) -> None:
        config = self.directory / 'agent.conf'
        config.write_text('[operations]\njournal = /nowhere/at/all/journal.sqlite\n')
        log = self.directory / 'agent.log'
        start = ('aliasagent-compute', '--config-file', str(config))
        # What systemd keeps of a service: its standard output and error.
        done = self.run_there(*start)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn('The agent cannot start: the journal /nowhere/at/all/journal.sqlite', done.stdout + done.stderr)
        # Full files are put away by itself.
        config.write_text(config.read_text() + f'[DEFAULT]\nlog_file = {log}\nlog_rotation_type = size\n')
        done = self.run_there(*start)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertNotIn('The agent cannot start', done.stdout + done.stderr)
        self.assertIn('The agent cannot start', log.read_text())
