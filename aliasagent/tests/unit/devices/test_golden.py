# SPDX-License-Identifier: Apache-2.0
"""Each kind of device: what we hand to libvirt, and what we read of what libvirt makes of it."""

from typing import Any

from lxml import etree

from aliasagent.compute import contract
from aliasagent.devices import base as devices_base
from aliasagent.devices import domain
from aliasagent.devices import properties
from aliasagent.devices import xml
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden

#: What requests do not speak of, but devices may have.
NOT_ASKED_FOR = {'Disk.sgio', 'Disk.rawio', 'Disk.source_pool', 'Disk.source_volume', 'Disk.iommu'} | {
    'Interface.target_managed',
    'Interface.iommu',
    'Interface.boot_order',
}


def declared(device: devices_base.Device) -> dict[str, Any]:
    """The values of all properties that a device's class declares."""
    return {
        name: getattr(device, name)
        for name in dir(type(device))
        if isinstance(getattr(type(device), name), properties.Property | properties.Presence)
    }


def read(name: str, way: str) -> devices_base.Device:
    return domain.device(xml.parse(golden.text(name, way)))


def canonical(text: str) -> str:
    return str(etree.canonicalize(text, strip_text=True))


class GoldenTestCase(base.TestCase):
    def test_out(self) -> None:
        for name in golden.NAMES:
            self.assertEqual(canonical(golden.text(name, 'out')), canonical(golden.build(name).to_xml()), name)

    def test_what_was_asked_for_is_read_in_what_libvirt_made_of_it(self) -> None:
        for name in golden.NAMES:
            asked, made = golden.build(name), read(name, 'in')
            values = declared(made)
            lost = {key: value for key, value in declared(asked).items() if value not in (None, False, values[key])}
            self.assertEqual({}, lost, name)
            self.assertEqual(asked.source, made.source, name)
            self.assertIsNotNone(made.source, name)
            self.assertEqual(asked.device_id, made.device_id, name)

    def test_every_declared_property_is_asked_for_in_one_of_them(self) -> None:
        devices = [golden.build(name) for name in golden.NAMES]
        known = {f'{type(device).__name__}.{name}' for device in devices for name in declared(device)}
        asked = {
            f'{type(device).__name__}.{name}'
            for device in devices
            for name, value in declared(device).items()
            if value not in (None, False)
        }
        self.assertEqual(NOT_ASKED_FOR, known - asked)

    def test_no_secret_is_written(self) -> None:
        for name in golden.VOLUMES:
            text = golden.build(name).to_xml()
            self.assertNotIn(golden.PLAINTEXT, text, name)
            self.assertEqual('auth' in text, golden.SECRET in text, name)

    def test_the_contract_accepts_the_requests(self) -> None:
        for request in golden.VOLUMES.values():
            contract.validate(
                'attach_volume',
                {
                    'instance_uuid': golden.DEVICE,
                    'volume_id': golden.VOLUME,
                    'connection_info': request['connection_info'],
                    'device_name': request['target'],
                    'disk_bus': request['bus'],
                    'device_type': request['device_type'],
                },
            )
        for port in golden.PORTS.values():
            contract.validate('attach_interface', {'instance_uuid': golden.DEVICE, 'port': port})
        for hostdev in golden.HOSTDEVS.values():
            contract.validate(
                'attach_hostdev', {'instance_uuid': golden.DEVICE, 'device_id': golden.DEVICE, 'hostdev': hostdev}
            )

    def test_a_serial_on_everything_but_a_lun(self) -> None:
        for name, request in golden.VOLUMES.items():
            disk = golden.disk(**request)
            self.assertEqual(None if request['device_type'] == 'lun' else golden.VOLUME, disk.serial, name)
