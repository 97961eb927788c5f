# SPDX-License-Identifier: Apache-2.0
"""What the tools install."""

import os
import pathlib
import shlex
import subprocess
import tempfile

import aliasagent
from aliasagent.tests import base

ROOT = pathlib.Path(aliasagent.__file__).parent.parent


class PackagesTestCase(base.TestCase):
    def wanted(self, *profile: str) -> set[str]:
        script = f'set -euo pipefail; . tools/lib.sh; wanted_packages {" ".join(profile)}'
        done = subprocess.run(['bash', '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
        return set(done.stdout.split())

    def test_the_quickstart_installs_what_it_needs_and_no_more(self) -> None:
        service, quickstart, tests = self.wanted('service'), self.wanted('quickstart'), self.wanted()
        self.assertLess(service, quickstart)
        self.assertLess(quickstart, tests)
        self.assertLess({'qemu-system-x86', 'rabbitmq-server'}, quickstart)
        devices = {'tgt', 'openvswitch-switch', 'qemu-block-extra'}
        clouds = {'ceph-common', 'ceph-mon', 'ceph-osd', 'nfs-common', 'python3-rbd'}
        storage = {'lsscsi', 'multipath-tools', 'nfs-common', 'nfs-kernel-server', 'nvme-cli', 'open-iscsi'}
        machine = {*storage, 'sg3-utils', 'udev'}
        self.assertEqual({'prometheus', 'systemd', *devices, *clouds, *machine}, tests - quickstart)


class KeptEnvironmentTestCase(base.TestCase):
    """An environment that is installed once is made again only when what it is made of has changed."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.made = self.directory / 'venvs' / 'some-venv'
        self.file = self.directory / 'requirements.txt'
        self.file.write_text('one\n')
        python = self.directory / 'python'
        python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 3.11 || mkdir -p "$3/bin"\n')
        python.chmod(0o755)

    def prepare(self, *requirements: str, install: str = 'true') -> tuple[int, str]:
        """Prepare it, with a command instead of the installation; the exit code, and what was reported."""
        words = shlex.join(['some-venv', str(self.directory / 'python'), str(self.file), *requirements])
        script = f'set -euo pipefail; . tools/lib.sh; quick_install() {{ {install}; }}; prepare_kept {words}'
        done = subprocess.run(
            ['bash', '-c', script],
            cwd=ROOT,
            env={**os.environ, 'ALIASAGENT_TEST_VENVS': str(self.directory / 'venvs')},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stderr

    def test_it_is_made_once(self) -> None:
        code, reported = self.prepare()
        self.assertEqual(0, code)
        self.assertIn(str(self.made), reported)
        self.assertEqual((0, ''), self.prepare())

    def test_it_is_made_again_when_it_would_be_another(self) -> None:
        self.prepare()
        (self.made / 'left').touch()
        self.file.write_text('another\n')
        self.assertIn('installing', self.prepare()[1])
        self.assertFalse((self.made / 'left').exists())
        self.assertIn('installing', self.prepare('more==1')[1])
        self.assertEqual((0, ''), self.prepare('more==1'))

    def test_one_that_could_not_be_installed_is_tried_again(self) -> None:
        code, reported = self.prepare(install='false')
        self.assertEqual(1, code)
        self.assertIn(f'pip could not install what {self.file} lists', reported)
        self.assertIn('installing', self.prepare()[1])
        self.assertEqual((0, ''), self.prepare())
