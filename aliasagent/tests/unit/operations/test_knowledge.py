# SPDX-License-Identifier: Apache-2.0
"""What attaches of the past say of a guest's devices."""

import json
import pathlib
import uuid
from typing import Any

import fixtures
from hypothesis import given

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations import hints
from aliasagent.operations import journal
from aliasagent.operations import knowledge
from aliasagent.operations import rows
from aliasagent.reconcile.plan import Record
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume
from aliasagent.tests import base
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import MAC
from aliasagent.tests.ids import PORT
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.devices import golden
from aliasagent.tests.unit.devices import requests
from aliasagent.tests.unit.operations.runner_base import operation


def attached(driver_volume_type: str, **data: Any) -> list[Record]:
    info = {'driver_volume_type': driver_volume_type, 'data': data}
    arguments = {'volume_id': VOLUME, 'connection_info': info}
    return knowledge.records([operation('one', Action.ATTACH_VOLUME, device=VOLUME, arguments=arguments)])


class KnowledgeTestCase(base.TestCase):
    def test_the_source_of_a_volume(self) -> None:
        for kind, path in (
            ('file', '/srv/volumes/data.raw'),
            ('local', '/dev/disk/by-id/wwn-0x5000'),
            ('local', '/dev/vg/lv'),
        ):
            (record,) = attached(kind, device_path=path)
            self.assertEqual((VOLUME, 'disk', path), (record.device_id, record.kind, record.source))
            self.assertIsNone(record.target)

    def test_a_name_that_the_next_device_gets_is_none(self) -> None:
        for path in ('/dev/sdb', '/dev/vdb', '/dev/dm-3', '/dev/nvme0n1', '/dev/rbd0'):
            self.assertEqual([], attached('local', device_path=path))
        self.assertEqual([], attached('nbd', host='192.0.2.1', port=10809))
        at = {'target_portal': '192.0.2.1:3260', 'target_lun': 1}
        self.assertEqual([], attached('iscsi', target_iqn='iqn.2010-01.com.array:one', **at))
        (record,) = attached('iscsi', target_iqn=f'iqn.2010-10.org.openstack:volume-{VOLUME}', **at)
        self.assertEqual(f'iscsi:iqn.2010-10.org.openstack:volume-{VOLUME}/1', record.source)

    def test_an_io_thread(self) -> None:
        """Issue 13, 22: the record of an attach with an I/O thread was rebuilt on a bus that has none."""
        info = {
            'driver_volume_type': 'file',
            'data': {'device_path': '/srv/volumes/data.raw'},
            'disk': {'iothread': 1},
        }
        places: tuple[dict[str, Any], ...] = ({}, {'disk_bus': 'virtio'}, {'device_name': '/dev/vdb'})
        for more in places:
            arguments = {'volume_id': VOLUME, 'connection_info': info, **more}
            one = operation('one', Action.ATTACH_VOLUME, device=VOLUME, arguments=arguments)
            (record,) = knowledge.records([one])
            self.assertEqual('/srv/volumes/data.raw', record.source)

    def test_a_hint_is_made_once(self) -> None:
        """Or each operation on a guest would make all of its devices."""
        made: list[str] = []
        disk = AttachVolume.disk

        def note(request: AttachVolume, **more: Any) -> Any:
            made.append(request.volume_id)
            return disk(request, **more)

        self.useFixture(fixtures.MonkeyPatch('aliasagent.requests.volume.AttachVolume.disk', note))
        ids = [str(uuid.uuid4()) for _ in range(3)]
        qos = {'qos_specs': {'total_iops_sec': 100}}
        info = {'driver_volume_type': 'file', 'data': {'device_path': '/srv/one', 'format': 'raw', **qos}}
        texts = [json.dumps({'volume_id': one, 'connection_info': info}) for one in ids]
        for _time in range(2):
            attaches = [
                operation(one, Action.ATTACH_VOLUME, device=one, request=rows.request_of(Action.ATTACH_VOLUME, text))
                for one, text in zip(ids, texts, strict=True)
            ]
            self.assertEqual(ids, [record.device_id for record in knowledge.records(attaches)])
        self.assertEqual(ids, made)

    def test_a_record_that_makes_no_sense_is_logged_and_left_out(self) -> None:
        """Issue 13, 22: no record may keep a guest from being reconciled."""
        log = self.useFixture(fixtures.FakeLogger())
        port = {'id': PORT, 'address': MAC, 'vif_type': 'bridge', 'bridge': 'br0', 'devname': 'tap1'}
        good = operation('good', Action.ATTACH_INTERFACE, device=PORT, arguments={'port': port})
        broken: tuple[dict[str, Any], ...] = (
            {},
            {'volume_id': VOLUME, 'connection_info': None},
            {'volume_id': VOLUME, 'connection_info': {'driver_volume_type': 'floppy', 'data': {}}},
            {'volume_id': VOLUME, 'connection_info': {'driver_volume_type': 'file', 'data': {}}},
            {'volume_id': VOLUME, 'disk_bus': 'ide', 'connection_info': {'driver_volume_type': 'file', 'data': {}}},
        )
        for arguments in broken:
            unread = rows.request_of(Action.ATTACH_VOLUME, json.dumps(arguments))
            bad = operation('bad', Action.ATTACH_VOLUME, device=VOLUME, request=unread)
            (record,) = knowledge.records([bad, good])
            self.assertEqual(PORT, record.device_id)
        self.assertEqual(len(broken), log.output.count(f'the attach of {VOLUME}, operation bad, is not valid'))

    def test_a_journal_that_cannot_be_read_keeps_nobody_waiting(self) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'journal.sqlite'
        kept = journal.Journal(str(path))
        record = Record(VOLUME, 'disk', 'earlier inventory', source='/srv/volume-x')
        hints.keep(kept, GUEST, [record])
        self.assertEqual([record], knowledge.of_guest(kept, GUEST))
        one = operation('one', Action.ATTACH_VOLUME, device=PORT, arguments={'volume_id': PORT})
        kept.accept(one)
        kept.finish('one')
        with kept.transaction() as db:
            db.execute("UPDATE operations SET arguments = '{'")
        self.assertEqual([record], knowledge.of_guest(kept, GUEST))
        self.assertIn('are ignored', log.output)
        kept.close()

    def of_port(self, **port: Any) -> list[Record]:
        asked = {'id': PORT, 'address': MAC, **port}
        return knowledge.records(
            [operation('one', Action.ATTACH_INTERFACE, device=PORT, arguments={'port': asked})]
        )

    def test_the_mac_of_a_port_with_the_name_of_its_tap(self) -> None:
        (record,) = self.of_port(vif_type='bridge', bridge='br0', devname='tap91f04c6a-7c')
        self.assertEqual(
            (PORT, 'interface', MAC, 'tap91f04c6a-7c'),
            (record.device_id, record.kind, record.mac, record.target),
        )

    def test_a_mac_alone_may_be_that_of_the_next_port(self) -> None:
        """A port that is made anew with the address of an earlier one."""
        self.assertEqual([], self.of_port(vif_type='bridge', bridge='br0'))

    def test_the_address_of_a_function_is_none_without_a_mac(self) -> None:
        arguments = {'device_id': 'gpu', 'hostdev': {'type': 'pci', 'address': '0000:06:12.5'}}
        one = operation('one', Action.ATTACH_HOSTDEV, device='gpu', arguments=arguments)
        self.assertEqual([], knowledge.records([one]))

    @given(requests.volumes())
    def test_a_record_fits_the_disk_that_was_attached(self, request: dict[str, Any]) -> None:
        try:
            disk = golden.disk(**request)
        except exception.InvalidInput:
            return  # such an attach did not succeed
        arguments = {'volume_id': VOLUME, **{name: request[name] for name in ('connection_info', 'device_type')}}
        for record in knowledge.records([operation('one', Action.ATTACH_VOLUME, device=VOLUME, arguments=arguments)]):
            self.assertTrue(record.fits(disk))

    @given(requests.ports())
    def test_a_record_fits_the_interface_that_was_attached(self, port: dict[str, Any]) -> None:
        try:
            device = AttachInterface.from_dict({'port': port}).device()
        except exception.InvalidInput:
            return
        one = operation('one', Action.ATTACH_INTERFACE, device=PORT, arguments={'port': port})
        for record in knowledge.records([one]):
            self.assertTrue(record.fits(device))
