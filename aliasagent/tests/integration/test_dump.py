# SPDX-License-Identifier: Apache-2.0
"""libvirt writes its definitions in the form in which a device can be cut out of them."""

from typing import ClassVar

from aliasagent.devices import dump
from aliasagent.devices.domain import Domain
from aliasagent.tests import base as tests
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base

_METADATA = "<x:app xmlns:x='urn:x'><devices><disk><alias name='{alias}'/></disk></devices></x:app>"
_SAVED = 2 | 1  # VIR_DOMAIN_XML_INACTIVE and _SECURE


class TestDump(tests.TestCase):
    side: ClassVar[base.RealSide]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.side = base.RealSide()
        cls.addClassCleanup(cls.side.close)

    def test_device_is_cut_out_of_both_definitions(self) -> None:
        volume, port = harness.new_id(), harness.new_id()
        disk = harness.disk_xml(self.side.new_file(), 'sda', serial=volume, alias=f'ua-{volume}')
        interface = harness.interface_xml(self.side.bridge(), harness.new_mac(), alias=f'ua-{port}')
        metadata = _METADATA.format(alias=f'ua-{volume}')
        guest = self.side.new_guest(disk + interface, state='paused', metadata=metadata)
        domain = self.side.connection.lookupByUUIDString(guest)
        for flags, live in ((0, True), (_SAVED, False)):
            text = domain.XMLDesc(flags)
            self.assertTrue(dump.is_whole(text))
            self.assertEqual(live, dump.is_live(text))
            for device_id, kind in ((volume, 'disk'), (port, 'interface')):
                cut = dump.with_alias(text, f'ua-{device_id}')
                assert cut is not None, f'not cut out of {text}'
                self.assertEqual([kind], [element.tag for element in cut])
                (parsed,) = Domain.parse(text).by_alias(f'ua-{device_id}')
                (read,) = Domain.read(text).by_alias(f'ua-{device_id}')
                self.assertEqual(parsed.to_xml(), read.to_xml())
            self.assertEqual([], dump.with_alias(text, f'ua-{harness.new_id()}'))
