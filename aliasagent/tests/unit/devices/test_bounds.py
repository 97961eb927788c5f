# SPDX-License-Identifier: Apache-2.0
"""What a request may name of the host."""

import dataclasses
from typing import Any

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.requests import catalog
from aliasagent.tests import base
from aliasagent.tests import ids

PORT = {'id': ids.PORT, 'address': ids.MAC}

_ATTACHES = {
    'connection_info': Action.ATTACH_VOLUME,
    'port': Action.ATTACH_INTERFACE,
    'hostdev': Action.ATTACH_HOSTDEV,
}


def volume(kind: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {'connection_info': {'driver_volume_type': kind, 'data': data, **more}}


class NeedsTestCase(base.TestCase):
    def names(self, arguments: dict[str, Any]) -> list[tuple[str, str, str]]:
        action = next(_ATTACHES[name] for name in arguments)
        request = catalog.parse(action, {'volume_id': PORT['id'], 'device_id': PORT['id'], **arguments})
        return [(need.field, need.kind, need.name) for need in request.needs()]

    def test_every_path_that_a_volume_is_behind(self) -> None:
        for kind in ('file', 'local', 'nfs', 'iscsi', 'fibre_channel'):
            self.assertEqual(
                [('connection_info.data.device_path', 'paths', '/dev/sdb')],
                self.names(volume(kind, {'device_path': '/dev/sdb'})),
            )
        (share,) = self.names(volume('nfs', {'export': 'a:/b', 'name': 'c'}, mount_point_base='/etc'))
        self.assertEqual('connection_info.mount_point_base', share[0])
        self.assertTrue(share[2].startswith('/etc/') and share[2].endswith('/c'))
        self.assertEqual(
            [('connection_info.data.socket', 'sockets', '/run/s')],
            self.names(volume('nbd', {'socket': '/run/s', 'host': 'a'})),
        )

    def test_every_host_that_a_volume_is_on(self) -> None:
        iscsi = {'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 0}
        data = 'connection_info.data'
        for kind, asked, expected in (
            ('iscsi', {**iscsi, 'target_portal': '192.0.2.1:3260'}, [(f'{data}.target_portal', '192.0.2.1')]),
            ('iscsi', {**iscsi, 'target_portal': '[::1]:3260'}, [(f'{data}.target_portal', '::1')]),
            ('nbd', {'host': '[2001:db8::1]', 'port': 1}, [(f'{data}.host', '2001:db8::1')]),
            ('rbd', {'name': 'a/b'}, []),
            ('rbd', {'name': 'a/b', 'hosts': ['a', '[::1]']}, [(f'{data}.hosts.0', 'a'), (f'{data}.hosts.1', '::1')]),
        ):
            self.assertEqual(
                [(field, 'storage_hosts', host) for field, host in expected], self.names(volume(kind, asked))
            )
        # the host has logged in: QEMU opens a device of it
        (only,) = self.names(volume('iscsi', {**iscsi, 'target_portal': '192.0.2.1:3260', 'device_path': '/dev/sdb'}))
        self.assertEqual('paths', only[1])

    def test_ports(self) -> None:
        for name, kind, more in (
            ('bridge', 'bridges', {'vif_type': 'bridge'}),
            ('bridge', 'bridges', {'vif_type': 'ovs'}),
            ('network', 'networks', {'vif_type': 'network'}),
            ('macvtap_source', 'interfaces', {'vif_type': 'macvtap', 'macvtap_mode': 'passthrough'}),
            ('devname', 'taps', {'vif_type': 'tap'}),
        ):
            self.assertEqual([(f'port.{name}', kind, 'eth0')], self.names({'port': {**PORT, **more, name: 'eth0'}}))
        port = {**PORT, 'vif_type': 'bridge', 'bridge': 'br0', 'devname': 'eth0'}
        self.assertEqual(
            [('port.bridge', 'bridges', 'br0'), ('port.devname', 'taps', 'eth0')], self.names({'port': port})
        )
        self.assertEqual(1, len(self.names({'port': {**port, 'devname': None}})))
        for kind in ('hw_veb', 'hostdev'):
            port = {**PORT, 'vif_type': kind, 'pci_slot': '00000000:AF:12.5'}
            self.assertEqual([('port.pci_slot', 'pci', '0000:af:12.5')], self.names({'port': port}))
        port = {**PORT, 'vif_type': 'vhostuser', 'vhostuser_socket': '/run/s'}
        self.assertEqual([('port.vhostuser_socket', 'sockets', '/run/s')], self.names({'port': port}))

    def test_host_devices(self) -> None:
        mdev = 'A1B2C3D4-0000-4000-8000-000000000001'
        for hostdev, expected in (
            ({'type': 'pci', 'address': '0000:AF:12.5'}, ('hostdev.address', 'pci', '0000:af:12.5')),
            ({'type': 'mdev', 'uuid': mdev}, ('hostdev.uuid', 'mdevs', mdev.lower())),
            ({'type': 'usb', 'vendor': '0x1D6B', 'product': '0002'}, ('hostdev', 'usb', '1d6b:0002')),
            ({'type': 'usb', 'bus': 3, 'device': 14}, ('hostdev', 'usb', '3.14')),
            (
                {'type': 'scsi', 'adapter': 'scsi_host2', 'bus': 0, 'target': 1, 'unit': 2},
                ('hostdev', 'scsi', 'scsi_host2:0:1:2'),
            ),
        ):
            self.assertEqual([expected], self.names({'hostdev': hostdev}))

    def test_what_is_no_attach_needs_nothing(self) -> None:
        self.assertEqual([], catalog.parse(Action.DETACH_VOLUME, {'volume_id': PORT['id']}).needs())


class BoundsTestCase(base.TestCase):
    def allows(self, kind: str, name: str, *patterns: str) -> bool:
        return rules.Bounds(**{kind: patterns}).allows(rules.Need('field', kind, name))

    def test_nothing_is_allowed_that_is_not_said_to_be(self) -> None:
        for field in dataclasses.fields(rules.Bounds):
            kind, name = field.name, '/dev/sdb' if field.name in rules.OF_PATHS else 'x'
            need = rules.Need('hostdev.address', kind, name)
            error = self.assertRaises(exception.InvalidInput, rules.Bounds().check, [need])
            self.assertEqual('hostdev.address', error.kwargs['field'])
            self.assertIn(f'[allowed] {kind}', str(error))
            rules.Bounds.everything().check([need])

    def test_a_path_matches_as_a_whole_and_below(self) -> None:
        cases: tuple[tuple[str, str, bool], ...] = (
            ('/dev/disk/by-id/x', '/dev/disk', True),
            ('/dev/disk/by-id/x', '/dev/disk/', True),
            ('/dev//disk/x', '/dev/disk', True),
            ('/dev/disk', '/dev/disk', True),
            ('/dev/diskette', '/dev/disk', False),
            ('/dev', '/dev/disk', False),
            ('/dev/sdb', '/dev/sd*', True),
            ('/dev/sda/b', '/dev/sd*', True),
            ('/dev/x/sdb', '/dev/*d*', False),
            ('/srv/a/volumes/x', '/srv/*/volumes', True),
            ('/srv/a/b/volumes/x', '/srv/*/volumes', False),
            ('/DEV/sdb', '/dev/sd*', False),
            ('/srv/a\nb', '/srv/a', False),
            ('/anything', '/', True),
        )
        for name, pattern, expected in cases:
            self.assertEqual(expected, self.allows('paths', name, pattern), f'{name} {pattern}')

    def test_a_device_matches_as_a_whole(self) -> None:
        cases: tuple[tuple[str, str, bool], ...] = (
            ('0000:06:12.5', '0000:06:12.5', True),
            ('0000:06:12.5', '0000:06:1?.*', True),
            ('0000:af:12.5', '0000:AF:*', True),
            ('0000:06:12.5', '0000:06', False),
            ('0000:06:12.5', '*', True),
        )
        for name, pattern, expected in cases:
            self.assertEqual(expected, self.allows('pci', name, pattern), f'{name} {pattern}')

    def test_capital_letters_make_another_name_of_an_interface(self) -> None:
        self.assertTrue(self.allows('usb', '1D6B:0002', '1d6b:*'))
        for kind in ('bridges', 'networks', 'interfaces', 'taps'):
            self.assertTrue(self.allows(kind, 'brq1', 'brq*'))
            self.assertFalse(self.allows(kind, 'BRQ1', 'brq*'))

    def test_an_allowed_directory_is_so_by_its_real_name(self) -> None:
        links = {'/srv/volumes': '/data/volumes', '/srv': '/data'}
        drawn = rules.Bounds(paths=('/srv/volumes', '/srv/x*/y', '/dev/sd*'))
        found = drawn.led_by(lambda path: links.get(path, path))
        self.assertEqual(
            ('/srv/volumes', '/srv/x*/y', '/dev/sd*', '/data/volumes', '/data/x*/y', '/dev/sd*'), found.paths
        )
