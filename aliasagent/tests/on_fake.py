# SPDX-License-Identifier: Apache-2.0
"""A host on the fake hypervisor, for tests of the code that uses a host."""

from collections.abc import Callable
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
    """The fake hypervisor, and a host that is connected to it."""

    #: The libvirt call by which the agent follows the job under test.
    look = 'state'

    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.host = self.connect()

    def open(self, uri: str) -> Any:
        return self.fake.open(uri)

    def connect(self, **more: Any) -> Host:
        """Return a connected host. Its listeners receive every event from now on."""
        host = Host(self.fake.URI, **{'reconnect_interval': 0.01, 'settle': 0.0, 'opener': self.open, **more})
        received: list[events.Event] = []
        host.subscribe(received.append)
        host.start()
        self.addCleanup(host.close)
        self.wait_for(lambda: received, 'the connection')
        host.unsubscribe(received.append)
        return host

    def wait_events(self) -> None:
        """Wait until the listeners of the host have received every event so far."""
        self.assertTrue(self.fake.settle())
        received: list[events.Event] = []
        self.host.subscribe(received.append)
        # No listener acts on the reboot of a guest that does not exist.
        absent = FakeGuest(self.fake, definition.parse_domain(domain_xml('absent', ids.new_id())))
        self.fake.emit(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, absent)
        last = events.LifecycleChanged(absent.uuid, events.Lifecycle.REBOOTED)
        self.wait_for(lambda: last in received, 'the last event')
        self.host.unsubscribe(received.append)

    def after_looks(self, do: Callable[[], object]) -> None:
        """Call a function when the agent has polled the job for the third time."""
        looks: list[object] = []

        def look(*_arguments: object) -> None:
            looks.append(1)
            if len(looks) == 3:
                del self.fake.before[self.look]
                do()

        self.fake.before[self.look] = look
