# SPDX-License-Identifier: Apache-2.0
"""Volumes are connected to this host and disconnected, whatever happens on the way."""

import copy
import json
import logging
import os
import stat
import sys
import threading
from typing import Any
from unittest import mock

import fixtures

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.fakes import brick as fake
from aliasagent.volumes import brick
from aliasagent.volumes import connector
from aliasagent.volumes import mounts

Json = dict[str, Any]
VOLUME, OTHER = 'c5d4f817-ce86-460d-98ab-dc2106ae4fe2', '32b509a9-9c67-42c6-ae5b-b0861856ea2e'
IQN = 'iqn.2010-10.org.openstack:volume-1'
PASSWORD = 'x7Qm-hush-chap'
#: As Cinder's attachments API answers.
ISCSI: Json = {
    'driver_volume_type': 'iscsi',
    'target_portal': '192.0.2.7:3260',
    'target_iqn': IQN,
    'target_lun': '1',
    'auth_method': 'CHAP',
    'auth_username': 'u',
    'auth_password': PASSWORD,
    'encrypted': True,
    'access_mode': 'rw',
}
NFS: Json = {
    'driver_volume_type': 'nfs',
    'export': '192.0.2.8:/srv/export',
    'name': 'volume-1',
    'format': 'qcow2',
    'options': None,
    'mount_point_base': '/var/lib/cinder/mnt',
}
NVME: Json = {'driver_volume_type': 'nvmeof', 'target_nqn': 'nqn.2014-08.org:v', 'vol_uuid': 'u', 'portals': []}
RBD: Json = {'driver_volume_type': 'rbd', 'name': 'volumes/volume-1', 'auth_username': 'cinder', 'secret_uuid': None}


class KilledError(BaseException):
    """The process ends here."""


class ConnectorTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.make_directory()
        self.brick = self.useFixture(fake.FakeBrick(self.make_directory()))
        self.base = os.path.join(self.directory, 'mnt')
        self.saved: list[Json] = []
        #: What disconnects have saved.
        self.left: list[Json] = []
        #: The connections of other guests.
        self.others: list[Json] = []
        self.connector = self.make()

    def make(self, **settings: Any) -> connector.BrickConnector:
        given = {
            'host': 'compute-1',
            'my_ip': '192.0.2.11',
            'lock_path': os.path.join(self.directory, 'locks'),
            'nfs_mount_point_base': self.base,
            'timeout': base.PATIENCE,
        }
        return connector.BrickConnector(brick.Settings(**{**given, **settings}))

    def save(self, details: Json) -> None:
        # what cannot be written as JSON cannot be kept
        self.saved.append(json.loads(json.dumps(details)))

    def connect(self, info: Json = ISCSI, volume: str = VOLUME, details: Json | None = None) -> Json:
        before = copy.deepcopy(info)
        answer = self.connector.connect(volume, info, self.save, details, lambda: self.others)
        self.assertEqual(before, info, 'the arguments are unchanged')
        return answer

    def disconnect(self, info: Json = ISCSI, volume: str = VOLUME, details: Json | None = None) -> None:
        details = self.saved[-1] if details is None else details
        self.connector.disconnect(volume, info, details, self.left.append, lambda: self.others)

    def refused(self, kind: type[exception.AliasAgentError], function: Any, *args: Any) -> str:
        error = self.assertRaises(kind, function, *args)
        self.assertNotIn(PASSWORD, str(error))
        return str(error)


class PropertiesTestCase(ConnectorTestCase):
    def test_what_os_brick_finds_out(self) -> None:
        self.assertEqual(
            {
                'initiator': 'iqn.1993-08.org.debian:01:1',
                'ip': '192.0.2.11',
                'host': 'compute-1',
                'multipath': False,
                'enforce_multipath': False,
            },
            self.connector.properties(),
        )
        found = self.make(use_multipath=True, enforce_multipath=True).properties()
        self.assertEqual((True, True), (found['multipath'], found['enforce_multipath']))

    def test_without_os_brick(self) -> None:
        with without_brick():
            found = self.connector.properties()
        self.assertEqual(('192.0.2.11', 'compute-1', False), (found['ip'], found['host'], found['multipath']))
        self.assertEqual({'platform', 'os_type', 'ip', 'host', 'multipath', 'enforce_multipath'}, set(found))

    def test_the_default_address(self) -> None:
        with without_brick(), mock.patch('oslo_utils.netutils.get_my_ipv4', lambda: '192.0.2.99'):
            self.assertEqual('192.0.2.99', self.make(my_ip=None).properties()['ip'])

    def test_os_brick_fails(self) -> None:
        self.brick.at['properties'] = raiser(OSError('multipathd does not run'))
        error = self.refused(exception.ConnectionFailed, self.connector.properties)
        self.assertEqual(
            'volume (any): reading the connector of the host failed: OSError: multipathd does not run', error
        )


class LoadingTestCase(ConnectorTestCase):
    def test_in_this_process(self) -> None:
        for user, modes in ((0, {'default': False, 'brick_privsep_hide_output': False}), (1000, {})):
            self.brick.client_mode.clear()
            with mock.patch('os.geteuid', lambda user=user: user):
                self.make().properties()
            self.assertEqual(modes, self.brick.client_mode)

    def test_where_the_locks_are(self) -> None:
        from oslo_concurrency import lockutils

        conf, own = lockutils.CONF, os.path.join(self.directory, 'own')
        self.useFixture(fixtures.MonkeyPatch('oslo_concurrency.lockutils.CONF', conf))
        self.make(lock_path=own).properties()
        self.assertEqual(own, conf.os_brick.lock_path)
        self.assertTrue(os.path.isdir(own))
        common = os.path.join(self.directory, 'common')
        conf.set_override('lock_path', common, group='oslo_concurrency')
        self.addCleanup(conf.clear_override, 'lock_path', group='oslo_concurrency')
        self.make(lock_path=None).properties()
        self.assertEqual(common, conf.os_brick.lock_path)

    def test_no_directory_for_the_locks(self) -> None:
        from oslo_concurrency import lockutils

        lockutils.CONF.set_override('lock_path', None, group='oslo_concurrency')
        self.addCleanup(lockutils.CONF.clear_override, 'lock_path', group='oslo_concurrency')
        error = self.refused(exception.Unsupported, self.make(lock_path=None).properties)
        self.assertIn('set the option [brick] lock_path', error)

    def test_without_os_brick(self) -> None:
        with without_brick():
            self.assertEqual(RBD, self.connect(RBD))
            for info in (ISCSI, NFS):
                error = self.refused(exception.Unsupported, self.connect, info)
                self.assertIn('os-brick is not installed: install aliasagent[brick]', error)

    def test_the_settings_of_the_options(self) -> None:
        from aliasagent import conf

        found = brick.Settings.of(conf.CONF.brick, 'compute-1')
        self.assertEqual(brick.Settings(host='compute-1'), found)


class KindsTestCase(ConnectorTestCase):
    def test_what_needs_no_connection(self) -> None:
        for info in (RBD, {'driver_volume_type': 'local', 'data': {'device_path': '/dev/vg/lv'}}):
            self.assertIs(info, self.connect(info))
            self.disconnect(info, details={'state': 'connected'})
        self.assertEqual(([], [], []), (self.saved, self.left, self.brick.calls))

    def test_what_os_brick_does_not_know(self) -> None:
        error = self.refused(exception.InvalidInput, self.connect, {'driver_volume_type': 'betamax'})
        self.assertEqual('connection_info.driver_volume_type: os-brick cannot connect a volume of type betamax', error)

    def test_what_the_agent_does_not_mount(self) -> None:
        for kind in ('vzstorage', 'scality'):
            self.refused(exception.InvalidInput, self.connect, {**NFS, 'driver_volume_type': kind})
        self.assertEqual(([], []), (self.saved, self.brick.calls))

    def test_no_type(self) -> None:
        for info in ({}, {'driver_volume_type': None}, {'driver_volume_type': ''}):
            self.refused(exception.InvalidInput, self.connect, info)


class DeviceTestCase(ConnectorTestCase):
    def test_from_nothing_to_nothing(self) -> None:
        answer = self.connect()
        self.assertEqual(f'{self.brick.dev}/sda', answer['device_path'])
        self.assertEqual(['connecting', 'connected'], [details['state'] for details in self.saved])
        self.assertEqual(
            {
                'state': 'connected',
                'units': [f'{IQN} lun 1'],
                'multipath': False,
                'device_path': f'{self.brick.dev}/sda',
                'lasting_path': None,
                'multipath_id': None,
                'wwn': fake.WWN,
                'identities': [fake.WWN],
            },
            self.saved[-1],
        )
        self.disconnect()
        self.assertEqual({}, self.brick.disks)
        self.disconnect()
        self.assertEqual(2, len(self.brick.done('disconnect')))

    def test_what_os_brick_is_given(self) -> None:
        self.connect()
        given = self.brick.done('connect')[0]
        self.assertEqual((1, False), (given['target_lun'], given['encrypted']))
        self.assertEqual(PASSWORD, given['auth_password'])
        self.assertNotIn('driver_volume_type', given)
        self.assertEqual([{'kind': 'iscsi', 'use_multipath': False}], self.brick.made)
        self.disconnect()
        given = self.brick.done('disconnect')[0]
        self.assertEqual(f'{self.brick.dev}/sda', given['data']['device_path'])
        self.assertEqual(
            {'type': 'block', 'path': f'{self.brick.dev}/sda', 'scsi_wwn': fake.WWN}, given['device']
        )

    def test_both_forms(self) -> None:
        nested = {'driver_volume_type': 'iscsi', 'data': {k: v for k, v in ISCSI.items() if k != 'driver_volume_type'}}
        answer = self.connect(nested)
        self.assertNotIn('device_path', answer)
        self.assertEqual(f'{self.brick.dev}/sda', answer['data']['device_path'])
        self.assertNotIn('auth_password', answer['data'])
        answer = self.connect(ISCSI)
        self.assertEqual(f'{self.brick.dev}/sda', answer['device_path'])

    def test_several_paths(self) -> None:
        self.connector = self.make(use_multipath=True)
        self.brick.multipath_id = fake.WWN
        info = {**ISCSI, 'target_iqns': [IQN, IQN], 'target_luns': ['1', 1], 'target_portals': ['a:3260', 'b:3260']}
        self.connect(info)
        self.assertEqual([1, 1], self.brick.done('connect')[0]['target_luns'])
        self.assertEqual((True, fake.WWN), (self.saved[-1]['multipath'], self.saved[-1]['multipath_id']))
        # as it was connected, not as it is configured by now
        self.connector = self.make(use_multipath=False)
        self.disconnect(info)
        self.assertEqual([True, True], [made['use_multipath'] for made in self.brick.made])
        self.assertEqual(fake.WWN, self.brick.done('disconnect')[0]['device']['multipath_id'])

    def test_fibre_channel(self) -> None:
        info = {'driver_volume_type': 'fibre_channel', 'target_wwn': '5001AB', 'target_lun': '3'}
        self.connect(info)
        self.brick.identify('sda', 'naa.6009999')
        self.refused(exception.ConnectionFailed, self.disconnect, info)
        self.brick.identify('sda', fake.WWID)
        self.disconnect(info)
        self.assertEqual({}, self.brick.disks)

    def test_a_device_without_world_wide_name(self) -> None:
        info = {'driver_volume_type': 'storpool', 'name': 'v1'}
        with mock.patch.object(self.brick, 'identify', lambda _name, _wwid: None):
            (self.brick.sys / 'sda').mkdir()
            with mock.patch('aliasagent.tests.fakes.brick.WWN', ''):
                self.connect(info)
        self.assertEqual((None, []), (self.saved[-1]['wwn'] or None, self.saved[-1]['identities']))
        self.assertEqual([f'volume {VOLUME}'], self.saved[-1]['units'])
        self.disconnect(info)
        self.assertEqual({}, self.brick.disks)

    def test_os_brick_fails(self) -> None:
        for step, function in (('connect', self.connect), ('disconnect', self.disconnect)):
            self.brick.at = {step: raiser(OSError(f'iscsiadm -v {PASSWORD}: no route'))}
            error = self.refused(exception.ConnectionFailed, function)
            self.assertEqual(f'volume {VOLUME}: {step}ing the host failed: OSError: iscsiadm -v ***: no route', error)
            self.brick.at = {}
            self.connect()

    def test_no_thread(self) -> None:
        with base.no_thread_once():
            error = self.refused(exception.ConnectionFailed, self.connect)
        self.assertIn('no thread could be started', error)
        self.assertEqual(f'{self.brick.dev}/sda', self.connect()['device_path'])


class KilledTestCase(ConnectorTestCase):
    """The process ended at each place where something is saved, or just before or after os-brick."""

    def die_at_save(self, number: int, info: Json) -> Json:
        """Connect until a save, and return what was saved before it."""
        kept: list[Json] = []

        def save(details: Json) -> None:
            if len(kept) == number:
                raise KilledError
            kept.append(json.loads(json.dumps(details)))

        self.assertRaises(
            KilledError, self.connector.connect, VOLUME, info, save, None, lambda: self.others
        )
        self.connector = self.make()
        return kept[-1] if kept else {}

    def test_before_anything(self) -> None:
        for info in (ISCSI, NFS):
            details = self.die_at_save(0, info)
            self.assertEqual(({}, []), (details, self.brick.calls))
            self.disconnect(info, details=details)
            self.assertEqual([], self.brick.calls)

    def test_between_connect_and_record_then_on(self) -> None:
        for info in (ISCSI, NVME, NFS):
            details = self.die_at_save(1, info)
            self.assertEqual('connecting', details['state'])
            self.assertNotEqual([], [*self.brick.disks, *self.brick.mounted()])
            self.connect(info, details=details)
            self.assertEqual('connected', self.saved[-1]['state'])
            self.disconnect(info)
            self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))

    def test_between_connect_and_record_then_back(self) -> None:
        for info in (ISCSI, NVME, NFS):
            details = self.die_at_save(1, info)
            self.disconnect(info, details=details)
            self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))

    def test_before_os_brick_did_anything(self) -> None:
        for info in (ISCSI, NVME, NFS):
            self.brick.at['connect'] = raiser(KilledError())
            self.assertRaises(KilledError, self.connect, info)
            self.brick.at.clear()
            details = self.saved[-1]
            self.assertEqual('connecting', details['state'])
            self.disconnect(info, details=details)
            self.connect(info, details=details)
            self.disconnect(info)
            self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))

    def test_connected_again(self) -> None:
        for info in (ISCSI, NFS):
            first = self.connect(info)
            self.assertEqual(first, self.connect(info, details=self.saved[-1]))
            self.disconnect(info)
            self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))

    def test_a_device_that_a_guest_has_is_not_connected_again(self) -> None:
        """os-brick would remove it by force if it failed."""
        first = self.connect()
        details = self.saved[-1]

        def fail() -> None:
            self.brick.unplug(IQN, 1)
            raise OSError('iscsiadm: timed out')

        self.brick.at['connect'] = fail
        # as it was connected, not as it is configured by now
        self.connector = self.make(use_multipath=True)
        self.saved.clear()
        self.assertEqual(first, self.connect(details=details))
        self.assertEqual([details], self.saved)
        self.assertEqual(1, len(self.brick.disks))

    def test_in_the_middle_of_a_disconnect(self) -> None:
        for info, place in ((ISCSI, 'disconnect'), (NFS, 'umount')):
            self.connect(info)
            self.brick.at[place] = raiser(KilledError())
            self.assertRaises(KilledError, self.disconnect, info)
            self.brick.at.clear()
            self.connector = self.make()
            self.disconnect(info)
            self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))


class NvmeTestCase(ConnectorTestCase):
    """os-brick disconnects nothing of NVMe without the path of the device."""

    def test_not_connected(self) -> None:
        self.connect(NVME)
        details = self.saved[0]
        self.disconnect(NVME)
        calls = len(self.brick.calls)
        self.disconnect(NVME, details=details)
        self.assertEqual(calls, len(self.brick.calls))

    def test_its_name_is_another_disks(self) -> None:
        self.connect(NVME)
        self.brick.identify('sda', 'naa.6009999')
        error = self.refused(exception.ConnectionFailed, self.disconnect, NVME)
        self.assertIn('/sda is another disk now', error)
        self.assertEqual([], self.brick.done('disconnect'))

    def test_the_name_is_free(self) -> None:
        self.connect(NVME)
        details = {**self.saved[-1], 'device_path': '/dev/nvme7n1'}
        self.disconnect(NVME, details=details)
        self.assertEqual(f'{self.brick.dev}/sda', self.brick.done('disconnect')[0]['device']['path'])
        self.assertEqual({}, self.brick.disks)

    def test_its_storage_is_gone(self) -> None:
        self.connect(NVME)

        def fail() -> None:
            self.brick.unplug(NVME['target_nqn'], None)
            raise OSError('no portal answers')

        self.brick.at['connect'] = fail
        self.refused(exception.ConnectionFailed, self.disconnect, NVME, VOLUME, self.saved[0])
        self.disconnect(NVME, details=self.saved[0])


class IdentityTestCase(ConnectorTestCase):
    OTHER_WWID, OTHER_WWN = 'naa.6009999', '36009999'

    def test_left_over_from_another_volume(self) -> None:
        self.brick.live = self.OTHER_WWN
        error = self.refused(exception.ConnectionFailed, self.connect)
        self.assertIn('/sda is left over from another volume: the disk answers with the WWN 36009999', error)
        self.assertEqual('connecting', self.saved[-1]['state'])

    def test_the_storage_has_exchanged_it(self) -> None:
        """The host does not know yet that its device is another volume now."""
        self.connect()
        details = self.saved[-1]
        self.brick.live = self.OTHER_WWN
        for own, others in ((details, []), ({}, [details])):
            self.others = others
            error = self.refused(exception.ConnectionFailed, self.connect, ISCSI, VOLUME, own)
            self.assertIn('/sda is left over from another volume', error)
        self.assertEqual((1, [details]), (len(self.brick.done('connect')), self.saved[1:]))

    def test_another_disk_at_the_second_connect(self) -> None:
        self.connect()
        details = self.saved[-1]
        self.brick.unplug(IQN, 1)
        self.brick.wwid = self.OTHER_WWID
        with mock.patch('aliasagent.tests.fakes.brick.WWN', self.OTHER_WWN):
            error = self.refused(exception.ConnectionFailed, self.connect, ISCSI, VOLUME, details)
        self.assertIn(f'is not the disk that the volume was before: it has the ids 36009999, not {fake.WWN}', error)
        self.assertEqual([fake.WWN], self.saved[-1]['identities'])

    def test_another_disk_in_its_place(self) -> None:
        self.connect()
        self.brick.identify('sda', self.OTHER_WWID)
        error = self.refused(exception.ConnectionFailed, self.disconnect)
        self.assertIn(f'/sda is another disk now: it has the ids 36009999, not {fake.WWN}', error)
        self.assertEqual([], self.brick.done('disconnect'))
        self.assertEqual(1, len(self.brick.disks))

    def test_its_name_is_another_disks(self) -> None:
        self.connect()
        # after a reboot: sda is a disk of the host, and the volume is not connected
        self.brick.disks.clear()
        self.brick.identify('sda', self.OTHER_WWID)
        self.disconnect()
        given = self.brick.done('disconnect')[0]
        self.assertEqual({'type': 'block'}, given['device'])
        self.assertNotIn('device_path', given['data'])
        self.assertTrue((self.brick.dev / 'sda').exists())

    def test_a_process_has_it_open(self) -> None:
        self.connect()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.connector.CLOSING', 0.0))
        device = f'{self.brick.dev}/sda'
        self.brick.open_by(700, 'multipathd', device)
        self.brick.open_by(701, 'qemu-system-x86', device)
        self.brick.open_by(702, 'bash', '/dev/null')
        for details in (self.saved[-1], self.saved[-2]):
            error = self.refused(exception.ConnectionFailed, self.disconnect, ISCSI, VOLUME, details)
            self.assertIn('/sda is open in qemu-system-x86 (701)', error)
        self.assertEqual([], self.brick.done('disconnect'))

    def test_a_process_closes_it(self) -> None:
        self.connect()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.connector.CLOSING', base.PATIENCE))
        self.brick.open_by(700, 'blkid', f'{self.brick.dev}/sda')
        timer = threading.Timer(0.3, (self.brick.proc / '700' / 'fd' / '3').unlink)
        timer.start()
        self.disconnect()
        self.assertEqual({}, self.brick.disks)


class LastingTestCase(ConnectorTestCase):
    """The guest's definition outlives a start of the host, when /dev/sda may become another disk."""

    OTHER_WWID, OTHER_WWN = 'naa.6009999', '36009999'

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.connector.NAMING', 0.0))

    def plugged(self, *names: str) -> None:
        """Have udev name each disk that is connected."""

        def name_all() -> None:
            for name in names:
                self.brick.name(name, 'sda')

        self.brick.at['connected'] = name_all

    def start_host_again(self, wwid: str) -> None:
        """Start the host again: what has been found first has another WWID."""
        self.brick.unplug(IQN, 1)
        self.brick.wwid = wwid
        self.brick.plug('iqn.another', 1)

    def test_the_name_after_the_id(self) -> None:
        names = [f'dm-uuid-mpath-{fake.WWN}', f'wwn-0x{fake.WWN[1:]}', f'scsi-{fake.WWN}']
        for count in range(3):
            self.plugged(*names[count:], 'ata-QEMU_1', 'wwn-0x6009999')
            answer = self.connect()
            self.assertEqual(str(self.brick.by_id / names[count]), answer['device_path'])
            self.assertEqual(
                (f'{self.brick.dev}/sda', answer['device_path']),
                (self.saved[-1]['device_path'], self.saved[-1]['lasting_path']),
            )
            self.disconnect()
            self.assertEqual(f'{self.brick.dev}/sda', self.brick.done('disconnect')[-1]['data']['device_path'])
            (self.brick.by_id / names[count]).unlink()

    def test_a_name_that_is_another_disks(self) -> None:
        self.brick.name(f'wwn-0x{fake.WWN[1:]}', 'sdq')
        self.assertEqual(f'{self.brick.dev}/sda', self.connect()['device_path'])

    def test_udev_is_late(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.connector.NAMING', base.PATIENCE))
        self.brick.by_id.mkdir(parents=True)
        timer = threading.Timer(0.3, self.brick.name, (f'scsi-{fake.WWN}', 'sda'))
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(f'{self.brick.by_id}/scsi-{fake.WWN}', self.connect()['device_path'])

    def test_a_place_in_the_storage(self) -> None:
        place = os.path.join(self.directory, f'ip-192.0.2.7:3260-iscsi-{IQN}-lun-1')
        os.symlink(self.brick.dev / 'sda', place)
        with mock.patch.object(fake.Connector, 'get_volume_paths', lambda _self, _data: ['/nonexistent', place]):
            self.assertEqual(place, self.connect()['device_path'])

    def test_another_guest_gets_the_same(self) -> None:
        self.plugged(f'wwn-0x{fake.WWN[1:]}')
        first = self.connect()
        self.others = [self.saved[-1]]
        self.assertEqual(first, self.connect())
        self.assertEqual(self.others[0], self.saved[-1])
        (self.brick.by_id / f'wwn-0x{fake.WWN[1:]}').unlink()
        self.assertEqual(f'{self.brick.dev}/sda', self.connect()['device_path'])

    def check(self) -> None:
        self.connector.check(VOLUME, self.saved[-1])

    def test_checked(self) -> None:
        self.plugged(f'wwn-0x{fake.WWN[1:]}')
        self.connect()
        self.check()
        self.start_host_again(self.OTHER_WWID)
        (self.brick.by_id / f'wwn-0x{fake.WWN[1:]}').unlink()
        error = self.refused(exception.ConnectionFailed, self.check)
        self.assertIn(f'checking the device failed: there is no disk {self.brick.by_id}/wwn-0x', error)
        self.assertIn('detach the volume and attach it again', error)
        # by the storage's own tools, for example, and with another name
        self.brick.wwid = fake.WWID
        self.brick.plug(IQN, 1)
        self.brick.name(f'wwn-0x{fake.WWN[1:]}', 'sdb')
        self.check()
        calls = len(self.brick.calls)
        self.connect(details=self.saved[-1])
        self.assertEqual((f'{self.brick.dev}/sdb', calls), (self.saved[-1]['device_path'], len(self.brick.calls)))

    def test_checked_without_a_lasting_name(self) -> None:
        self.connect()
        self.check()
        self.start_host_again(self.OTHER_WWID)
        error = self.refused(exception.ConnectionFailed, self.check)
        self.assertIn(f'/sda is another disk now: it has the ids {self.OTHER_WWN}, not {fake.WWN}', error)

    def test_checked_without_an_id(self) -> None:
        details = {'state': 'connected', 'device_path': self.brick.plug(IQN, 1), 'identities': []}
        self.connector.check(VOLUME, details)
        self.brick.unplug(IQN, 1)
        error = self.refused(exception.ConnectionFailed, self.connector.check, VOLUME, details)
        self.assertIn('there is no disk', error)

    def test_a_share_that_is_not_mounted(self) -> None:
        self.connect(NFS)
        self.check()
        self.brick.unmount(mounts.place(self.base, NFS['export']))
        self.assertIn('its share is not mounted at', self.refused(exception.ConnectionFailed, self.check))

    def test_what_is_not_connected_is_not_checked(self) -> None:
        for details in ({}, {'state': 'connecting'}, {'state': 'leaving', 'device_path': '/dev/sdq', 'identities': []}):
            self.connector.check(VOLUME, details)


class CountingTestCase(ConnectorTestCase):
    def test_two_guests_of_one_volume(self) -> None:
        self.connect()
        self.others = [self.saved[-1]]
        answer = self.connect()
        self.assertEqual(f'{self.brick.dev}/sda', answer['device_path'])
        self.assertEqual(1, len(self.brick.done('connect')), 'a failure of os-brick would take it from the first guest')
        self.assertEqual(self.others[0], self.saved[-1])
        self.disconnect()
        self.assertEqual([], self.brick.done('disconnect'))
        self.others = []
        self.disconnect()
        self.assertEqual({}, self.brick.disks)

    def test_the_other_guest_is_not_connected_yet(self) -> None:
        self.connect()
        self.others = [{**self.saved[0], 'state': 'connecting'}]
        self.connect()
        self.assertEqual(2, len(self.brick.done('connect')))
        self.disconnect()
        self.assertEqual(1, len(self.brick.disks))

    def test_the_other_guests_device_is_gone(self) -> None:
        self.connect()
        self.others = [self.saved[-1]]
        self.brick.unplug(IQN, 1)
        self.connect()
        self.assertEqual(2, len(self.brick.done('connect')))

    def test_others_that_do_not_count(self) -> None:
        self.connect()
        self.others = [
            {},
            {'state': 'connected', 'units': [f'{IQN} lun 2']},
            {'units': [f'{IQN} lun 1']},
            {**self.saved[-1], 'state': 'leaving'},
        ]
        self.disconnect()
        self.assertEqual({}, self.brick.disks)


class LeavingTestCase(ConnectorTestCase):
    """Two connections are undone at once: each record is deleted only once its attachment is."""

    def setUp(self) -> None:
        super().setUp()
        self.brick.files = ['volume-1', 'volume-2']
        #: The details of each guest's connection, as the journal has them.
        self.records: dict[str, Json] = {}

    def connect_both(self, first: tuple[str, Json], second: tuple[str, Json]) -> None:
        for guest, (volume, info) in (('a', first), ('b', second)):
            self.connector.connect(volume, info, self.saver(guest), None, self.others_of(guest))

    def saver(self, guest: str) -> Any:
        return lambda details: self.records.__setitem__(guest, json.loads(json.dumps(details)))

    def others_of(self, guest: str) -> Any:
        return lambda: [details for name, details in self.records.items() if name != guest]

    def leave(self, guest: str, volume: str, info: Json) -> None:
        self.connector.disconnect(volume, info, self.records[guest], self.saver(guest), self.others_of(guest))

    def both(self) -> list[tuple[tuple[str, Json], tuple[str, Json]]]:
        return [((VOLUME, ISCSI), (VOLUME, ISCSI)), ((VOLUME, NFS), (OTHER, {**NFS, 'name': 'volume-2'}))]

    def assert_nothing_left(self) -> None:
        self.assertEqual(({}, []), (self.brick.disks, self.brick.mounted()))

    def test_at_the_same_time(self) -> None:
        for first, second in self.both():
            self.connect_both(first, second)
            threads = [
                threading.Thread(target=self.leave, args=(guest, *one)) for guest, one in (('a', first), ('b', second))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assert_nothing_left()
            self.assertEqual({'leaving'}, {details['state'] for details in self.records.values()})
            self.records.clear()
        self.assertEqual((1, 1), (len(self.brick.done('disconnect')), len(self.brick.done('umount'))))

    def test_one_is_killed_before_it_disconnects(self) -> None:
        for first, second in self.both():
            self.connect_both(first, second)
            self.leave('a', *first)
            for place in ('disconnect', 'umount'):
                self.brick.at[place] = raiser(KilledError())
            self.assertRaises(KilledError, self.leave, 'b', *second)
            self.assertEqual('leaving', self.records['b']['state'])
            self.brick.at.clear()
            self.connector = self.make()
            self.leave('b', *second)
            self.assert_nothing_left()
            self.records.clear()

    def test_one_stays(self) -> None:
        for first, second in self.both():
            self.connect_both(first, second)
            for _ in range(2):
                self.leave('a', *first)
            self.assertEqual(1, len([*self.brick.disks, *self.brick.mounted()]))
            self.assertEqual('connected', self.records['b']['state'])
            self.leave('b', *second)
            self.assert_nothing_left()
            self.records.clear()

    def test_one_comes_while_another_leaves(self) -> None:
        for first, second in self.both():
            self.connect_both(first, second)
            del self.records['b']
            for place in ('disconnect', 'umount'):
                self.brick.at[place] = raiser(OSError('it does not answer'))
            self.assertRaises(exception.ConnectionFailed, self.leave, 'a', *first)
            self.brick.at.clear()
            volume, info = second
            self.connector.connect(volume, info, self.saver('b'), None, self.others_of('b'))
            self.leave('a', *first)
            del self.records['a']
            self.assertEqual(1, len([*self.brick.disks, *self.brick.mounted()]))
            self.leave('b', *second)
            self.assert_nothing_left()
            self.records.clear()


class ShareTestCase(ConnectorTestCase):
    @property
    def share(self) -> str:
        return mounts.place(self.base, NFS['export'])

    def test_from_nothing_to_nothing(self) -> None:
        answer = self.connect(NFS)
        self.assertEqual({**NFS, 'device_path': f'{self.share}/volume-1'}, answer)
        self.assertEqual([self.share], self.brick.mounted())
        self.assertEqual(0o711, stat.S_IMODE(os.stat(self.base).st_mode))
        self.assertEqual(
            {
                'state': 'connected',
                'units': [self.share],
                'mount_point': self.share,
                'mounted': True,
                'device_path': f'{self.share}/volume-1',
            },
            self.saved[-1],
        )
        self.disconnect(NFS)
        self.assertEqual(([], False), (self.brick.mounted(), os.path.exists(self.share)))
        self.disconnect(NFS)
        self.assertEqual(1, len(self.brick.done('umount')))

    def test_what_os_brick_is_given(self) -> None:
        self.connector = self.make(nfs_mount_options='vers=4.2')
        self.connect(NFS)
        made = self.brick.made[0]
        self.assertEqual((self.base, 'vers=4.2'), (made['nfs_mount_point_base'], made['nfs_mount_options']))
        self.assertEqual(self.base, made['conn']['mount_point_base'])

    def test_two_volumes_of_one_share(self) -> None:
        self.brick.files = ['volume-1', 'volume-2']
        self.connect(NFS)
        first = self.saved[-1]
        self.others = [first]
        self.connect({**NFS, 'name': 'volume-2'}, OTHER)
        second = self.saved[-1]
        self.others = [second]
        self.disconnect(NFS, details=first)
        self.assertEqual([self.share], self.brick.mounted())
        self.others = []
        self.disconnect(NFS, OTHER, second)
        self.assertEqual([], self.brick.mounted(), 'the last one unmounts what the first one has mounted')

    def test_mounted_by_another_program(self) -> None:
        self.brick.mount(self.share)
        self.connect(NFS)
        self.assertFalse(self.saved[-1]['mounted'])
        self.disconnect(NFS)
        self.assertEqual(([self.share], []), (self.brick.mounted(), self.brick.done('umount')))

    def test_a_file_of_it_is_open(self) -> None:
        self.connect(NFS)
        self.brick.at['umount'] = raiser(OSError('umount: target is busy.'))
        self.disconnect(NFS)
        self.assertEqual([self.share], self.brick.mounted())

    def test_it_cannot_be_unmounted(self) -> None:
        self.connect(NFS)
        self.brick.at['umount'] = raiser(OSError('input/output error'))
        self.assertIn('input/output error', self.refused(exception.ConnectionFailed, self.disconnect, NFS))

    def test_unmounted_by_another_program(self) -> None:
        self.connect(NFS)

        def meanwhile() -> None:
            self.brick.unmount(self.share)
            raise OSError('not mounted')

        self.brick.at['umount'] = meanwhile
        self.disconnect(NFS)
        self.assertFalse(os.path.exists(self.share))

    def test_names_that_lead_elsewhere(self) -> None:
        for name in ('../x', '/etc/passwd', '..', '.', 'a/b', '', None, 3):
            self.refused(exception.InvalidInput, self.connect, {**NFS, 'name': name})
        self.refused(exception.InvalidInput, self.connect, {**NFS, 'export': None})
        self.assertEqual([], self.brick.calls)

    def test_what_is_not_a_file(self) -> None:
        self.brick.files = []
        self.assertIn('No such file', self.refused(exception.ConnectionFailed, self.connect, NFS))
        os.symlink('/etc/hostname', f'{self.share}/volume-1')
        self.assertIn('is not a regular file', self.refused(exception.ConnectionFailed, self.connect, NFS))

    def test_mounted_in_another_place(self) -> None:
        with mock.patch('aliasagent.volumes.mounts.place', lambda *_args: f'{self.base}/other'):
            os.makedirs(f'{self.base}/third')
            with mock.patch.object(connector.BrickConnector, '_mount', lambda *_args: f'{self.base}/third/volume-1'):
                error = self.refused(exception.ConnectionFailed, self.connect, NFS)
        self.assertIn(f'os-brick mounted at {self.base}/third, not at {self.base}/other', error)

    def test_a_base_with_a_space(self) -> None:
        self.base = os.path.join(self.directory, 'my mounts')
        self.connector = self.make()
        with mock.patch.object(self.brick, 'mounted', list):
            self.connect(NFS)
        self.assertTrue(mounts.is_mounted(self.share))


class HangingTestCase(ConnectorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.connector = self.make(timeout=0.2)
        self.hang = fake.Hang()
        self.addCleanup(self.hang.release.set)

    def test_a_server_that_is_down(self) -> None:
        self.brick.at['connect'] = self.hang
        error = self.refused(exception.ConnectionFailed, self.connect, NFS)
        self.assertIn('did not return within 0.2 s ([brick] timeout) and still hangs', error)
        # neither way before it has ended: it may still mount
        for function in (self.connect, self.disconnect):
            error = self.refused(exception.ConnectionFailed, function, NFS)
            self.assertIn('an earlier call for the same volume or share still hangs', error)
        self.assertEqual(1, len(self.brick.done('connect')))
        # other volumes are not held up
        del self.brick.at['connect']
        self.connect(ISCSI, OTHER)
        details = self.saved[0]
        self.hang.release.set()
        self.wait_for(self.brick.mounted, 'the call that was late')
        self.connector = self.make_patient()
        self.disconnect(NFS, details=details)
        self.assertEqual([], self.brick.mounted())

    def make_patient(self) -> connector.BrickConnector:
        self.connector._turns._timeout = base.PATIENCE
        return self.connector

    def test_a_disconnect_waits_for_a_late_connect(self) -> None:
        self.brick.at['connect'] = self.hang
        self.refused(exception.ConnectionFailed, self.connect)
        details = self.saved[-1]
        self.hang.release.set()
        self.make_patient()
        self.disconnect(details=details)
        self.assertEqual({}, self.brick.disks)


class SecretsTestCase(ConnectorTestCase):
    def log_of(self, info: Json) -> str:
        output = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG, format='%(name)s %(message)s'))

        def chatty() -> None:
            self.brick.log.debug('connect %s', info)
            self.brick.log.debug('Running cmd: %(cmd)s', {'cmd': f'iscsiadm -v {PASSWORD}'})
            logging.getLogger('oslo_concurrency.processutils').warning('stderr: %s', PASSWORD)
            logging.getLogger('os_brick.a.new.one').info('not %d of arguments', PASSWORD)
            try:
                raise ValueError(f'the login with {PASSWORD}')
            except ValueError:
                self.brick.log.exception('Failed')
            raise OSError(f'exit code 24 of iscsiadm -v {PASSWORD}')

        self.brick.at['connect'] = chatty
        error = self.refused(exception.ConnectionFailed, self.connect, info)
        self.assertIn('***', error)
        return str(output.output)

    def test_no_password_in_log_details_or_answer(self) -> None:
        text = self.log_of(ISCSI)
        self.assertNotIn(PASSWORD, text)
        self.assertIn('iscsiadm -v ***', text)
        self.assertIn("not %d of arguments ('***',)", text)
        self.assertIn('ValueError: the login with ***', text)
        self.assertIn("'auth_username': 'u'", text)
        self.brick.at = {}
        answer = self.connect()
        for kept in (json.dumps(self.saved), json.dumps(answer)):
            self.assertNotIn(PASSWORD, kept)

    def test_what_is_hidden_no_longer_is_logged(self) -> None:
        self.connect()
        output = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.brick.log.info('the word %s', PASSWORD)
        self.assertIn(PASSWORD, output.output)


def without_brick() -> Any:
    """os-brick is not installed."""
    names = [name for name in sys.modules if name.split('.')[0] == 'os_brick']
    patch = mock.patch.dict(sys.modules)
    patch.start()
    for name in names:
        del sys.modules[name]
    found = mock.patch('importlib.util.find_spec', lambda _name: None)

    class Without:
        def __enter__(self) -> None:
            found.start()

        def __exit__(self, *_error: object) -> None:
            found.stop()
            patch.stop()

    return Without()


def raiser(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail
