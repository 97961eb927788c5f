# SPDX-License-Identifier: Apache-2.0
"""What the tools install."""

import pathlib
import subprocess

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
        storage = {'lsscsi', 'multipath-tools', 'nfs-common', 'nfs-kernel-server', 'nvme-cli', 'open-iscsi'}
        machine = {*storage, 'sg3-utils', 'udev'}
        others = {'tgt', 'prometheus', 'systemd', 'openvswitch-switch', 'qemu-block-extra'}
        self.assertEqual(machine | others, tests - quickstart)
