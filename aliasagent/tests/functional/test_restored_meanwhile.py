# SPDX-License-Identifier: Apache-2.0
"""A guest that is restored, with the device, while a detach that goes on looks at it."""

import libvirt

from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.functional.test_contract_driver import OnFake


class Interrupted(Exception):
    """The first try of the detach ends here."""


class RestoredMeanwhileTest(OnFake):
    def test_the_device_is_not_taken_for_removed(self) -> None:
        """Found by the history machine, seed 34933."""
        guest, volume = self.hypervisor.new_guest(), harness.new_id()
        self.driver.attach(guest, requests.volume(volume, harness.file_connection(self.hypervisor.new_file())))
        recorded: list[DeviceFingerprint] = []

        def begin(found: DeviceFingerprint) -> bool:
            recorded.append(found)
            raise Interrupted

        self.assertRaises(Interrupted, self.driver.detach, guest, volume, begin=begin)
        domain = self.side.fake.open().lookupByUUIDString(guest)
        domain.detachDeviceAlias(f'ua-{volume}', libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        domain.managedSave()

        def restore(*_arguments: object) -> None:
            del self.side.fake.before['hasManagedSaveImage']
            domain.create()

        self.side.fake.before['hasManagedSaveImage'] = restore
        self.driver.detach(guest, volume, asked=recorded[0]).result(harness.SOON)
        self.assertNotIn(volume, domain.XMLDesc(0))
