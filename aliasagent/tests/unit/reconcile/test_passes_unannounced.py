# SPDX-License-Identifier: Apache-2.0
"""Changes that no event reports: the next pass finds each."""

import contextlib

import libvirt
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies

from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import apply
from aliasagent.reconcile.passes import Reconciler
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.virt.host import Host

_LIVE, _SAVED = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
_CHANGES = ('start', 'stop', 'attach live', 'attach saved', 'undefine', 'define')


class World:
    """A guest that another client changes, and a reconciler that gets no events."""

    def __init__(self, fake: FakeHypervisor) -> None:
        self._fake = fake
        self.guest = ids.new_id()
        self._letter = ord('a')
        self.define()

    def define(self) -> None:
        self._fake.open().defineXML(domain_xml('guest', self.guest, self.disk()))

    def disk(self) -> str:
        """Return another disk, which says whose it is."""
        self._letter += 1
        return (
            f"<disk type='file'><source file='/srv/{self._letter}'/><target dev='sd{chr(self._letter)}' bus='scsi'/>"
            f'<serial>{ids.new_id()}</serial></disk>'
        )

    def change(self, what: str) -> None:
        """Make a change; none if the guest's state does not allow it."""
        if what == 'define':
            self.define()
            return
        with contextlib.suppress(libvirt.libvirtError):
            domain = self._fake.open().lookupByUUIDString(self.guest)
            match what:
                case 'start':
                    domain.create()
                case 'stop':
                    domain.destroy()
                case 'attach live':
                    domain.attachDeviceFlags(self.disk(), _LIVE)
                case 'attach saved':
                    domain.attachDeviceFlags(self.disk(), _SAVED)
                case 'undefine':
                    domain.undefine()


class UnannouncedTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(apply, '_QUIET', 0.0)

    @settings(max_examples=50)
    @given(strategies.lists(strategies.lists(strategies.sampled_from(_CHANGES), max_size=3), max_size=4))
    def test_a_pass_knows_the_guest_as_it_is(self, between: list[list[str]]) -> None:
        fake = FakeHypervisor()
        host = Host(fake.URI, reconnect_interval=0.01, settle=0.0, opener=fake.open)
        queues = GuestQueues(2)
        try:
            host.start()
            self.assertTrue(host.wait_connected(base.PATIENCE))
            reconciler = Reconciler(host, queues.submit, queues.submit_if_idle)
            world = World(fake)
            for changes in ([], *between):
                for what in changes:
                    world.change(what)
                reconciler.run()
                # What is kept is what the definitions are now.
                known = {uuid: status.report.seen for uuid, status in reconciler.statuses().items()}
                self.assertEqual({guest.uuid: apply.digest(guest) for guest in host.guests()}, known)
        finally:
            queues.close()
            host.close()
            fake.stop()
