# SPDX-License-Identifier: Apache-2.0
"""What is missing makes the tests beside the services fail, and says what to do."""

import os
import pathlib
import tempfile

import fixtures
import testtools

from aliasagent.tests.cloud import base
from sandbox import ceph
from sandbox import environment
from sandbox import keystone
from sandbox import nfs
from sandbox import processes
from sandbox import service


class _Broken(service.Service):
    name = 'broken'

    def start(self) -> None:
        self._serve(self._command(), lambda: False)


class MissingTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def test_the_services_do_not_run(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(environment.CLOUDS))
        error = self.assertRaises(processes.PartFailed, base.services)
        self.assertIn('tools/run-tests cloud', str(error))

    def test_their_directory_is_gone(self) -> None:
        variables = {**os.environ, environment.CLOUDS: str(self.directory / 'gone')}
        error = self.assertRaises(processes.PartFailed, environment.read, variables)
        self.assertIn('gone is not a directory', str(error))

    def test_the_services_are_not_installed(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(service.VENVS, str(self.directory)))
        missing = keystone.Keystone(self.directory / 'keystone')
        error = self.assertRaises(processes.PartFailed, missing.start)
        self.assertIn('clouds-venv', str(error))
        self.assertIn('tools/run-tests cloud', str(error))
        self.assertIsNone(missing.pid)

    def test_ceph_is_not_installed(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('PATH', str(self.directory)))
        error = self.assertRaises(processes.PartFailed, ceph.Ceph(self.directory / 'ceph').start)
        self.assertIn('ceph-mon', str(error))

    def test_a_service_that_cannot_start_shows_why(self) -> None:
        broken = _Broken(self.directory)
        error = self.assertRaises(processes.PartFailed, broken.start)
        self.assertIn('No module named sandbox.broken_process', str(error))
        self.assertIsNone(broken.pid)

    def test_a_service_that_was_never_started_has_no_address(self) -> None:
        never = keystone.Keystone(self.directory / 'keystone')
        error = self.assertRaises(processes.PartFailed, lambda: never.url)
        self.assertIn('no keystone was started', str(error))
        never.stop()

    def test_a_ceph_that_has_stopped_has_lost_its_data(self) -> None:
        used = ceph.Ceph(self.directory / 'ceph')
        used.directory.mkdir()
        used.conf.write_text('')
        error = self.assertRaises(processes.PartFailed, used.start)
        self.assertIn('use a new directory', str(error))


class MountTest(testtools.TestCase):
    def test_a_share_is_seen_by_the_command_alone(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            share, target = directory / 'share', directory / 'target'
            share.mkdir()
            target.mkdir()
            (share / 'volume').write_text('data')
            words = ['sh', '-c', f'mount -t nfs -o vers=4.1 192.0.2.1:{share} {target} && cat {target}/volume']
            self.assertEqual('data', processes.run(*nfs.command(words, directory)))
            self.assertEqual([], list(target.iterdir()))
