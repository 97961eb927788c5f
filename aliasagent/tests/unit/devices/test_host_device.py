# SPDX-License-Identifier: Apache-2.0

from typing import Any

from aliasagent import exception
from aliasagent.devices.hostdev import Hostdev
from aliasagent.requests.hostdev import AttachHostdev
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden


def build(device_id: str, hostdev: dict[str, Any]) -> Hostdev:
    return AttachHostdev.from_dict({'device_id': device_id, 'hostdev': hostdev}).device()


class HostDeviceTestCase(base.TestCase):
    def test_managed_unless_told_otherwise(self) -> None:
        request = {'type': 'pci', 'address': '0000:06:12.5'}
        self.assertIs(True, build(golden.DEVICE, request).managed)
        self.assertIs(False, build(golden.DEVICE, {**request, 'managed': False}).managed)

    def test_any_id_that_an_alias_can_hold(self) -> None:
        device = build('gpu_1', {'type': 'mdev', 'uuid': golden.DEVICE})
        self.assertEqual('ua-gpu_1', device.alias)
        self.assertRaises(
            exception.InvalidInput, build, '../gpu', {'type': 'mdev', 'uuid': golden.DEVICE}
        )

    def test_a_usb_device_has_one_source_however_it_is_asked_for(self) -> None:
        sources = {
            build(golden.DEVICE, {'type': 'usb', 'vendor': vendor, 'product': '0002'}).source
            for vendor in ('1d6b', '1D6B', '0x1d6b', '0X1D6B')
        }
        self.assertEqual({'usb:1d6b:0002'}, sources)
