# SPDX-License-Identifier: Apache-2.0
"""What attaches of the past say of a guest's devices."""

from typing import Any

from hypothesis import given

from aliasagent import exception
from aliasagent.devices import port as ports
from aliasagent.devices import volume as volumes
from aliasagent.operations import knowledge
from aliasagent.operations.model import Action
from aliasagent.reconcile.plan import Record
from aliasagent.tests import base
from aliasagent.tests.unit.devices import requests
from aliasagent.tests.unit.operations.runner_base import operation

VOLUME = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'
PORT = '91f04c6a-7c1b-4a6e-b8e5-3d2f1a0b9c20'


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

    def test_the_mac_of_a_port(self) -> None:
        port = {'id': PORT, 'address': '52:54:00:12:34:56', 'vif_type': 'bridge', 'bridge': 'br0'}
        (record,) = knowledge.records(
            [operation('one', Action.ATTACH_INTERFACE, device=PORT, arguments={'port': port})]
        )
        self.assertEqual((PORT, 'interface', '52:54:00:12:34:56'), (record.device_id, record.kind, record.mac))

    def test_the_address_of_a_function_is_none_without_a_mac(self) -> None:
        arguments = {'device_id': 'gpu', 'hostdev': {'type': 'pci', 'address': '0000:06:12.5'}}
        one = operation('one', Action.ATTACH_HOSTDEV, device='gpu', arguments=arguments)
        self.assertEqual([], knowledge.records([one]))

    @given(requests.volumes())
    def test_a_record_fits_the_disk_that_was_attached(self, request: dict[str, Any]) -> None:
        try:
            disk = volumes.disk_for_volume(VOLUME, **request)
        except exception.InvalidInput:
            return  # such an attach did not succeed
        arguments = {'volume_id': VOLUME, **{name: request[name] for name in ('connection_info', 'device_type')}}
        for record in knowledge.records([operation('one', Action.ATTACH_VOLUME, device=VOLUME, arguments=arguments)]):
            self.assertTrue(record.fits(disk))

    @given(requests.ports())
    def test_a_record_fits_the_interface_that_was_attached(self, port: dict[str, Any]) -> None:
        try:
            device = ports.interface_for_port(port)
        except exception.InvalidInput:
            return
        one = operation('one', Action.ATTACH_INTERFACE, device=PORT, arguments={'port': port})
        (record,) = knowledge.records([one])
        self.assertTrue(record.fits(device))
