# SPDX-License-Identifier: Apache-2.0
"""What the default options let pass, and what not."""

from typing import Any

from aliasagent.allowed import rules
from aliasagent.conf import allowed
from aliasagent.requests import sources
from aliasagent.tests import base


class DefaultsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        defaults: dict[str, Any] = {option.name: tuple(option.default) for option in allowed.OPTS}
        self.within = rules.Bounds(**defaults)

    def test_each_bound_has_its_option(self) -> None:
        self.assertEqual(set(vars(self.within)), {option.name for option in allowed.OPTS})
        self.assertTrue(all(option.mutable for option in allowed.OPTS))

    def assert_defaults(self, expected: bool, kind: str, *names: str) -> None:
        wrong = [name for name in names if self.within.allows(rules.Need('field', kind, name)) != expected]
        self.assertEqual([], wrong, kind)

    def test_what_clouds_have_is_allowed_by_default(self) -> None:
        """As os-brick, Nova, Neutron, os-vif, Open vSwitch and DPDK name it."""
        self.assert_defaults(
            True,
            'paths',
            '/dev/storpool-byid/abcd.b.xyz',
            '/dev/sp-12',
            '/dev/disk/by-id/emc-vol-0011223344556677-8899aabbccddeeff',
            '/dev/scinia',
            '/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-10.org.openstack:v-lun-1',
            '/dev/disk/by-id/dm-uuid-mpath-360000000000000000e00000000010001',
            '/dev/mapper/360000000000000000e00000000010001',
            '/dev/dm-3',
            '/dev/sdb',
            '/dev/nvme1n1',
            '/dev/disk/by-id/nvme-uuid.0a8f7a7e-2d5d-4f7b-8b7e-5f2d7f1b2c11',
            '/dev/md/volume',
            '/dev/md127',
            '/dev/rbd/volumes/volume-1',
            '/dev/rbd0',
            '/dev/cas1-1',
            '/var/lib/nova/mnt/0123/volume-1',
        )
        self.assert_defaults(
            True, 'sockets', '/run/openvswitch/vhu1', '/var/run/openvswitch/vhu1', '/var/lib/vhost_sockets/x'
        )
        self.assert_defaults(True, 'bridges', 'br-int', 'brq0a1b2c3d-4e', 'qbr0a1b2c3d-4e', 'tbr-0a1b2c3d')
        self.assert_defaults(True, 'taps', 'tap0a1b2c3d-4e', 'nic0a1b2c3d-4e', 'vhu0a1b2c3d-4e')
        self.assert_defaults(True, 'storage_hosts', '192.0.2.1', '10.0.0.1', '2001:db8::1', 'ceph-1')
        self.assert_defaults(
            True, 'migration_hosts', '10.0.0.2', '172.31.0.1', '192.168.1.1', '100.64.0.1', 'fd00::1', 'compute-2'
        )
        self.assert_defaults(True, 'migration_keys', '/etc/nova/migration/identity', '/var/lib/nova/.ssh/id_rsa')

    def test_what_is_the_hosts_own_is_not(self) -> None:
        self.assert_defaults(
            False, 'paths', '/run/openvswitch/vhu1', '/var/lib/vhost_sockets/x', '/dev/mem', '/dev/spi', '/etc/passwd'
        )
        self.assert_defaults(
            False, 'sockets', '/run/openvswitch/db.sock', '/run/libvirt/libvirt-sock', '/dev/sda', '/var/lib/nova/x'
        )
        self.assert_defaults(False, 'bridges', 'br-ex', 'br-tun', 'br0', 'virbr0')
        self.assert_defaults(False, 'taps', 'eth0', 'br-int', 'bond0', 'wg0', 'tun0')
        self.assert_defaults(False, 'interfaces', 'eth0', 'bond0.10')
        self.assert_defaults(False, 'networks', 'default')
        here = ('127.0.0.1', '::1', '169.254.169.254', 'localhost', '0.0.0.0', '::', 'fe80::1')  # nosec B104
        self.assert_defaults(False, 'storage_hosts', *here)
        self.assert_defaults(False, 'migration_hosts', *here[:3], '192.0.2.1', '2001:db8::1')
        self.assert_defaults(False, 'migration_keys', '/etc/shadow', '/root/.ssh/id_rsa')
        self.assert_defaults(False, 'migration_sockets', '/run/x')

    def test_what_storpool_and_powerflex_return(self) -> None:
        for path in ('/dev/storpool-byid/abcd.b.xyz', '/dev/disk/by-id/emc-vol-0011223344556677-8899aabbccddeeff'):
            connection = {'driver_volume_type': 'local', 'data': {'device_path': path}}
            self.within.check(sources.of(connection).needs())
