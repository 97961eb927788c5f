# SPDX-License-Identifier: Apache-2.0
"""Volumes that a host must connect: real iSCSI, multipath, NVMe over TCP and NFS, in a virtual machine.

``aliasagent.tests.vm.volumes`` has the steps: connect, kill -9 between connect and record, disconnect, nothing left.
"""

import os
import pathlib
import shutil

import testtools
from testtools import content

import aliasagent
from sandbox import machine
from sandbox import processes

ROOT = pathlib.Path(aliasagent.__file__).parents[1]
#: The programs that the machine runs, each with its package.
PROGRAMS = {
    'exportfs': 'nfs-kernel-server',
    'iscsid': 'open-iscsi',
    'lsscsi': 'lsscsi',
    'mount.nfs': 'nfs-common',
    'multipathd': 'multipath-tools',
    'nvme': 'nvme-cli',
    'sg_inq': 'sg3-utils',
    'tgtd': 'tgt',
}
#: Seconds; 2 minutes to 5 were seen on two busy processors.
TIMEOUT = 900


def python() -> pathlib.Path:
    """Return the Python of the environment that has os-brick: Cinder needs it, too.

    :raises PartFailed: the environment does not exist
    """
    found = pathlib.Path(os.environ.get('ALIASAGENT_TEST_VENVS') or ROOT / 'build', 'clouds-venv', 'bin', 'python')
    if not found.exists():
        raise processes.PartFailed(f'{found} is missing: tools/run-tests cloud installs it')
    return found.absolute()


class MachineTestCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        path = f'{os.environ["PATH"]}:/usr/sbin:/sbin'
        missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
        if missing:
            raise processes.PartFailed(f'packages are missing: {", ".join(sorted(missing))}')

    def assert_connects(self, kind: str) -> None:
        """Run all steps on a kind of storage."""
        command = ('env', f'PYTHONPATH={ROOT}', python(), '-m', 'aliasagent.tests.vm.volumes', kind)
        outcome = machine.Machine().run(*command, timeout=TIMEOUT, directory=ROOT)
        self.addDetail('the output of the machine', content.text_content(outcome.output))
        self.assertEqual(0, outcome.code)
        # it did not end before its last check
        self.assertIn('yes: no password is in its log', outcome.output)

    def test_iscsi_with_chap(self) -> None:
        self.assert_connects('iscsi')

    def test_iscsi_by_two_portals_under_multipathd(self) -> None:
        self.assert_connects('multipath')

    def test_nvme_over_tcp(self) -> None:
        self.assert_connects('nvme')

    def test_nfs(self) -> None:
        self.assert_connects('nfs')
