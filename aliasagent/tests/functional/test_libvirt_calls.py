# SPDX-License-Identifier: Apache-2.0
"""The libvirt calls of an attach and a detach, each with its reason. The contributor's guide shows the tables."""

import itertools
import threading

from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.tests.functional.test_contract_driver import OnFake
from aliasagent.virt import events

# begin of the tables
_READ = (
    ('isPersistent', 'a transient guest has one definition only'),
    ('XMLDesc', 'the persistent definition, before the live one: a guest is started with it'),
    ('XMLDesc', 'the live definition'),
)
_FIND = (('lookupByUUIDString', 'the guest may be gone, or the connection a new one'), *_READ)
_MAY_CHANGE = (('jobStats', 'a change of a guest that is being migrated would be lost'),)
_MAY_START = (
    ('hasManagedSaveImage', 'a guest that was saved continues with its devices'),
    ('state', 'the same for a save to a file of another client'),
)
_READ_BACK = (
    ('XMLDesc', 'libvirt drops an alias that it does not accept, without an error'),
    ('XMLDesc', 'the same in the live definition'),
)
ATTACH = (*_FIND, *_MAY_CHANGE, ('attachDeviceFlags', 'both definitions in one call'), *_READ_BACK)
DETACH = (
    *_FIND,
    *_MAY_CHANGE,
    ('detachDeviceAlias', 'the persistent definition: the device does not come back with the next start'),
    ('detachDeviceAlias', 'the request to the running guest'),
    # and when libvirt reports an event, which may be about an earlier device with this alias
    *_READ,
)
ATTACH_SHUT_OFF = (*_FIND, *_MAY_START, ('attachDeviceFlags', 'the persistent definition'), *_READ_BACK)
DETACH_SHUT_OFF = (
    *_FIND,
    *_MAY_START,
    ('detachDeviceAlias', 'the persistent definition'),
    # and once more: the guest may have been started, and have the device
    *_READ,
    *_MAY_START,
)
# end of the tables


class CallsTest(OnFake):
    def calls(self) -> list[str]:
        """Return the methods called since the last time."""
        self.assertTrue(self.side.fake.settle())
        # An event that is delivered later, of the guest's start, has a pending detach read the guest once more.
        delivered = threading.Event()
        marker = events.Reconnected()
        self.host.subscribe(lambda event: delivered.set() if event is marker else None)
        self.host._events.put(marker)
        self.assertTrue(delivered.wait(harness.SOON))
        called = [method for method, _arguments in self.side.fake.calls]
        self.side.fake.calls.clear()
        return called

    def test_they_are_those_of_the_tables(self) -> None:
        started, shut_off = ('started', ATTACH, DETACH), ('shut off', ATTACH_SHUT_OFF, DETACH_SHUT_OFF)
        for manage, (state, attach, detach) in itertools.product(('all', 'aliases'), (started, shut_off)):
            self.manage = manage
            guest, volume = self.hypervisor.new_guest(state=state), harness.new_id()
            self.calls()
            request = requests.volume(volume, harness.file_connection(self.hypervisor.new_file()), disk_bus='virtio')
            self.driver.attach(guest, request)
            self.assertEqual([method for method, _why in attach], self.calls(), state)
            self.driver.detach(guest, volume).result(harness.SOON)
            self.assertEqual([method for method, _why in detach], self.calls(), state)
