# SPDX-License-Identifier: Apache-2.0
"""A host on the fake hypervisor, for the tests of what stands on a host."""

from typing import Any

import libvirt

from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.virt import events
from aliasagent.virt.host import Host


class HostTestCase(base.TestCase):
    """The fake hypervisor and a connected host."""

    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.host = self.connect()

    def open(self, uri: str) -> Any:
        return self.fake.open(uri)

    def connect(self, **more: Any) -> Host:
        """Return a host that is connected, and whose listeners miss none of the events from now on."""
        host = Host(self.fake.URI, **{'reconnect_interval': 0.01, 'settle': 0.0, 'opener': self.open, **more})
        told: list[events.Event] = []
        host.subscribe(told.append)
        host.start()
        self.addCleanup(host.close)
        self.wait_for(lambda: told, 'the connection')
        host.unsubscribe(told.append)
        return host

    def wait_told(self) -> None:
        """Wait until the host has told its listeners all that has happened."""
        self.assertTrue(self.fake.settle())
        told: list[events.Event] = []
        self.host.subscribe(told.append)
        # The reboot of a guest that is not there is of no interest to any listener.
        nobody = FakeGuest(self.fake, definition.parse_domain(domain_xml('nobody', ids.new_id())))
        self.fake.emit(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, nobody)
        last = events.LifecycleChanged(nobody.uuid, events.Lifecycle.REBOOTED)
        self.wait_for(lambda: last in told, 'the last event')
        self.host.unsubscribe(told.append)
