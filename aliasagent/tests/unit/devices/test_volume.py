# SPDX-License-Identifier: Apache-2.0

from typing import Any

from aliasagent import exception
from aliasagent.devices.disk import Disk
from aliasagent.devices.disk import Host
from aliasagent.requests import sources
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden

PATH = '/srv/a.img'


def build(
    kind: str = 'file',
    data: dict[str, Any] | None = None,
    *,
    target: str = 'vdb',
    bus: str = 'virtio',
    device_type: str = 'disk',
    **more: Any,
) -> Disk:
    info = {'driver_volume_type': kind, 'data': {'device_path': PATH} if data is None else data, **more}
    return golden.disk(info, target=target, bus=bus, device_type=device_type)


class VolumeTestCase(base.TestCase):
    def refused(self, field: str, *args: Any, **more: Any) -> None:
        error = self.assertRaises(exception.InvalidInput, build, *args, **more)
        self.assertEqual(field, error.kwargs['field'])

    def test_buses(self) -> None:
        for device_type, buses in {
            'disk': {'virtio', 'scsi', 'sata', 'usb'},
            'lun': {'scsi'},
            'cdrom': {'scsi', 'sata', 'usb'},
        }.items():
            for bus in ('virtio', 'scsi', 'sata', 'usb'):
                if bus in buses:
                    self.assertEqual(bus, build('local', bus=bus, device_type=device_type).bus)
                else:
                    self.refused('disk_bus', 'local', bus=bus, device_type=device_type)

    def test_what_can_be_a_lun(self) -> None:
        for kind in ('file', 'nfs'):
            self.refused('device_type', kind, bus='scsi', device_type='lun')
        self.refused('device_type', 'rbd', {'name': 'a/b'}, bus='scsi', device_type='lun')
        self.refused('device_type', 'nbd', {'host': 'a'}, bus='scsi', device_type='lun')
        for kind in ('local', 'iscsi', 'fibre_channel'):
            self.assertEqual('block', build(kind, bus='scsi', device_type='lun').type)

    def test_a_lun_answers_for_its_own_sizes(self) -> None:
        disk = build('local', {'device_path': '/dev/a', 'logical_block_size': 512}, bus='scsi', device_type='lun')
        self.assertEqual((None, None), (disk.logical_block_size, disk.serial))

    def test_access(self) -> None:
        self.assertTrue(build(data={'device_path': PATH, 'access_mode': 'ro'}).readonly)
        self.assertTrue(build(bus='sata', device_type='cdrom').readonly)
        self.assertFalse(build(data={'device_path': PATH, 'access_mode': 'rw'}).readonly)

    def test_native_io_for_what_the_host_has_connected(self) -> None:
        self.assertEqual('native', build('local').io)
        self.assertEqual('native', build('local', disk={'cache': 'directsync'}).io)
        self.assertIsNone(build('local', disk={'cache': 'writeback'}).io)
        self.assertEqual('io_uring', build('local', disk={'io': 'io_uring'}).io)
        self.assertIsNone(build('file').io)

    def test_driver_options_that_do_not_go_together(self) -> None:
        self.refused('connection_info.disk.io', disk={'io': 'native', 'cache': 'writeback'})
        self.refused('connection_info.disk.io', 'nbd', {'host': 'a'}, disk={'io': 'threads'})
        self.refused('connection_info.disk.iothread', bus='scsi', disk={'iothread': 1})

    def test_shared(self) -> None:
        self.assertTrue(build(multiattach=True).shareable)
        self.assertTrue(build(data={'device_path': PATH, 'multiattach': True}).shareable)
        self.assertFalse(build(multiattach=False).shareable)
        self.refused('connection_info.multiattach', multiattach=True, disk={'cache': 'writeback'})
        self.refused('connection_info.multiattach', data={'device_path': PATH, 'format': 'qcow2'}, multiattach=True)

    def test_an_encrypted_volume_is_never_shown_as_it_is(self) -> None:
        self.refused('connection_info.data.encryption', data={'device_path': PATH, 'encrypted': True})
        encryption = {'provider': 'luks', 'secret_uuid': golden.PASSPHRASE}
        disk = build(data={'device_path': PATH, 'encryption': encryption})
        self.assertEqual(golden.PASSPHRASE, disk.encryption_secret_uuid)
        self.refused(
            'device_type',
            'local',
            {'device_path': '/dev/a', 'encrypted': True, 'encryption': encryption},
            bus='scsi',
            device_type='lun',
        )

    def test_iscsi_goes_through_the_host_if_that_is_connected(self) -> None:
        target = {'target_portal': '[2001:db8::1]:3261', 'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 2}
        self.assertEqual('/dev/sdb', build('iscsi', {**target, 'device_path': '/dev/sdb'}).source)
        disk = build('iscsi', target)
        self.assertEqual(([Host('2001:db8::1', '3261')], None), (disk.hosts, disk.auth_username))
        self.assertEqual('iqn.2001-04.com.example:a/2', disk.source_name)

    def test_monitors(self) -> None:
        self.assertEqual([], build('rbd', {'name': 'a/b', 'hosts': [], 'ports': []}).hosts)
        self.assertEqual([Host('a'), Host('b')], build('rbd', {'name': 'a/b', 'hosts': ['a', 'b']}).hosts)
        self.refused('connection_info.data.ports', 'rbd', {'name': 'a/b', 'hosts': ['a', 'b'], 'ports': ['6789']})

    def test_without_auth_enabled_nobody_logs_in(self) -> None:
        disk = build('rbd', {'name': 'a/b', 'auth_enabled': False, 'auth_username': 'a', 'secret_uuid': golden.SECRET})
        self.assertIsNone(disk.auth_username)


class LocalPathTestCase(base.TestCase):
    def path(self, kind: str, data: dict[str, Any], **more: Any) -> str | None:
        return sources.of({'driver_volume_type': kind, 'data': data, **more}).local_path

    def test_paths_of_this_host(self) -> None:
        for kind in ('file', 'local', 'nfs', 'iscsi', 'fibre_channel'):
            self.assertEqual(PATH, self.path(kind, {'device_path': PATH}))

    def test_a_share_is_where_os_brick_mounts_it(self) -> None:
        data = {'export': '192.0.2.20:/srv/volumes', 'name': 'volume-1'}
        for mounts in ('/mnt', '/mnt/'):
            # MD5 of the share's name.
            self.assertEqual(
                '/mnt/dcacec45805188b5c76a99078f40391f/volume-1', self.path('nfs', data, mount_point_base=mounts)
            )

    def test_elsewhere(self) -> None:
        target = {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.a', 'target_lun': 1}
        self.assertIsNone(self.path('iscsi', target))
        self.assertIsNone(self.path('rbd', {'name': 'a/b'}))
        self.assertIsNone(self.path('nbd', {'socket': '/run/nbd'}))
