# SPDX-License-Identifier: Apache-2.0
"""The secret of the Ceph user in a real libvirtd, which loses it when it is killed."""

from typing import ClassVar

from aliasagent.conf.keyring import Login
from aliasagent.tests import base as tests_base
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt.ceph import CephSecret
from aliasagent.virt.host import Host
from sandbox import libvirtd
from sandbox import processes

SECRET = '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed'


class CephSecretTest(tests_base.TestCase):
    daemon: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.daemon = base.own_daemon(cls, 'aliasagent-ceph')

    def usages(self, host: Host) -> list[str]:
        """What the secrets that libvirt has are for."""
        with host.call() as connection:
            return [secret.usageID() for secret in connection.listAllSecrets(0)]

    def test_it_is_there_again_after_libvirtd_was_killed(self) -> None:
        host = Host(self.daemon.uri, reconnect_interval=0.05, settle=1.0)
        self.addCleanup(host.close)
        CephSecret(host, Login('cinder', SECRET, b'hush\0'))
        host.start()
        for _restart in range(2):
            self.assertTrue(host.wait_connected(harness.SOON))
            processes.wait_until(lambda: self.usages(host), harness.SOON, 'the secret')
            self.assertEqual([f'aliasagent {SECRET}'], self.usages(host))
            self.daemon.kill()
            self.wait_for(lambda: not host.is_connected, 'the loss')
            self.daemon.start()
