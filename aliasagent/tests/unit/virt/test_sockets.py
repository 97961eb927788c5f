# SPDX-License-Identifier: Apache-2.0
"""What may be at the path of a socket."""

import os
import pathlib
import socket
import stat
from unittest import mock

import fixtures

from aliasagent import exception
from aliasagent.conf import allowed
from aliasagent.devices import bounds
from aliasagent.tests import base
from aliasagent.virt import paths

FIELD = 'port.vhostuser_socket'


class SocketsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.inside, self.outside = self.directory / 'inside', self.directory / 'outside'
        for each in (self.inside, self.outside):
            each.mkdir()
        self.within = bounds.Bounds(sockets=(str(self.inside),), migration_sockets=(str(self.inside),), paths=('/',))

    def check(self, path: pathlib.Path, kind: str = bounds.SOCKETS) -> None:
        paths.check([bounds.Need(FIELD, kind, str(path))], self.within)

    def assert_refused(self, path: pathlib.Path, words: str) -> None:
        before = os.lstat(path) if os.path.lexists(path) else None
        for kind in (bounds.SOCKETS, bounds.MIGRATION_SOCKETS):
            error = self.assertRaises(exception.InvalidInput, self.check, path, kind)
            self.assertEqual(FIELD, error.kwargs['field'])
            self.assertIn(words, str(error))
        self.assertEqual(before, os.lstat(path) if os.path.lexists(path) else None)

    def bind(self, path: pathlib.Path) -> pathlib.Path:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        return path

    def test_a_socket_or_nothing(self) -> None:
        self.check(self.bind(self.inside / 'vhu1'))
        self.check(self.inside / 'vhu2')
        self.check(self.inside / 'no' / 'vhu3')

    def test_anything_else_is_refused(self) -> None:
        (self.inside / 'image').write_text('')
        (self.inside / 'directory').mkdir()
        os.mkfifo(self.inside / 'fifo')
        for name in ('image', 'directory', 'fifo'):
            self.assert_refused(self.inside / name, 'is no socket')

    def test_a_device_node_is_refused(self) -> None:
        node = os.stat_result([stat.S_IFBLK | 0o600, *[0] * 9])
        with mock.patch('aliasagent.virt.paths.os.lstat', autospec=True, return_value=node):
            error = self.assertRaises(exception.InvalidInput, self.check, self.inside / 'sda')
        self.assertIn('is no socket', str(error))

    def test_a_link_is_no_socket(self) -> None:
        (self.inside / 'link').symlink_to(self.bind(self.inside / 'vhu1'))
        (self.inside / 'dangling').symlink_to(self.inside / 'nothing')
        for name in ('link', 'dangling'):
            self.assert_refused(self.inside / name, 'is no socket')

    def test_what_is_out_of_bounds_is_refused(self) -> None:
        self.assert_refused(self.bind(self.outside / 'vhu1'), '[allowed] ')
        (self.inside / 'link').symlink_to(self.outside)
        self.assert_refused(self.inside / 'link' / 'vhu1', f'leads to {self.outside}/vhu1')
        self.assert_refused(self.inside / 'link' / 'vhu2', f'leads to {self.outside}/vhu2')

    def test_an_allowed_directory_may_be_a_link(self) -> None:
        (self.directory / 'link').symlink_to(self.inside)
        self.within = bounds.Bounds(sockets=(f'{self.directory}/link/vhu*',))
        self.check(self.directory / 'link' / 'vhu1')

    def test_what_cannot_be_looked_up_is_refused(self) -> None:
        (self.inside / 'file').write_text('')
        self.assert_refused(self.inside / 'file' / 'vhu1', 'cannot be looked up')

    def assert_defaults(self, expected: bool, kind: str, *names: str) -> None:
        within = bounds.Bounds(**{option.name: tuple(option.default) for option in allowed.OPTS})
        wrong = [name for name in names if within.allows(bounds.Need(FIELD, kind, name)) != expected]
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
