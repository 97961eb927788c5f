# SPDX-License-Identifier: Apache-2.0
"""Attach to a guest whose memory is encrypted: its virtio devices reach it through the IOMMU alone."""

import uuid
from typing import Any

from aliasagent.tests import cases
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.functional import test_contract_driver

_SEV = "<launchSecurity type='sev'><policy>0x0001</policy><cbitpos>47</cbitpos></launchSecurity>"


class EncryptedMemoryTest(test_contract_driver.OnFake):
    def guest(self, security: str = _SEV) -> str:
        instance = str(uuid.uuid4())
        xml = domain_xml(f'sev-{instance[:8]}', instance).replace('</domain>', f'{security}</domain>')
        return self.side.fake.add_guest(xml=xml).uuid

    def drivers(self, guest: str, device: str) -> list[str | None]:
        """What each side's device says of the IOMMU."""
        found = []
        for domain in (self.live(guest), self.persistent(guest)):
            (made,) = domain.by_alias(f'ua-{device}')
            driver = made.element.find('driver')
            found.append(None if driver is None else driver.get('iommu'))
        return found

    def attach_each(self, guest: str) -> dict[str, list[str | None]]:
        info: dict[str, Any] = cases.read('B05-volume-for-a-sev-guest')
        info['data']['device_path'] = '/dev/null'
        volume = harness.new_id()
        self.driver.attach(guest, requests.volume(volume, info))
        before = self.xml(guest)
        self.driver.attach(guest, requests.volume(volume, info))
        self.assert_untouched(guest, before)
        devices = {
            'volume': volume,
            'port': self.attach_port(guest),
            'e1000e': self.attach_port(guest, model='e1000e'),
            'scsi': self.attach(guest),
        }
        return {name: self.drivers(guest, device) for name, device in devices.items()}

    def test_virtio_devices_of_a_sev_guest_go_through_the_iommu(self) -> None:
        found = self.attach_each(self.guest())
        self.assertEqual(['on', 'on'], found['volume'])
        self.assertEqual(['on', 'on'], found['port'])
        # The SCSI controller is what reaches the memory, not the disk on it.
        self.assertEqual([None, None], found['scsi'])
        self.assertEqual([None, None], found['e1000e'])

    def test_those_of_other_guests_do_not(self) -> None:
        self.assertEqual({None}, {word for words in self.attach_each(self.guest('')).values() for word in words})
