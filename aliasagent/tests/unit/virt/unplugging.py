# SPDX-License-Identifier: Apache-2.0
"""A host that is made up, with a device that can be asked for."""

from concurrent import futures

from aliasagent import exception
from aliasagent.devices import alias as aliases
from aliasagent.devices.disk import Disk
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.tests.unit.virt import stubs
from aliasagent.virt import events
from aliasagent.virt import runs
from aliasagent.virt.leaving import Patience
from aliasagent.virt.unplug import Unplugs

OTHER = ids.OTHER_GUEST
ALIAS = f'ua-{VOLUME}'

#: A guest that is asked once, and has all the time.
LONG = Patience(timeout=3600, attempts=8)
SHORT = Patience(timeout=0.02, attempts=3)


def _id(alias: str) -> str:
    return aliases.parse(alias) or VOLUME


class UnplugTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = stubs.StubHost()
        for uuid in (GUEST, OTHER):
            self.host.guests[uuid] = stubs.StubGuest(uuid)
            self.host.guests[uuid].aliases.add(ALIAS)
        self.guest = self.host.guests[GUEST]
        self.late: list[tuple[str, str]] = []
        self.unplugs = Unplugs(self.host, on_late=lambda *who: self.late.append(who))  # type: ignore[arg-type]
        self.addCleanup(self.unplugs.close)

    def start(self, patience: Patience = LONG, alias: str = ALIAS, instance: str = GUEST) -> 'futures.Future[None]':
        return self.unplugs.start(instance, _id(alias), self.found(instance, alias), patience)

    def found(self, instance: str = GUEST, alias: str = ALIAS) -> DeviceFingerprint:
        """A device as a detach finds it."""
        live = self.host.guests[instance].live if instance in self.host.guests else self.guest.live
        devices = live.by_alias(alias) or [Disk.new()]
        devices[0].alias = alias
        return DeviceFingerprint.of(runs.run_of(live), devices[0], None)

    def go(self, alias: str = ALIAS) -> None:
        """The guest lets go of a device."""
        self.guest.aliases.discard(alias)
        self.host.tell(events.DeviceRemoved(GUEST, alias))

    def assert_done(self, future: 'futures.Future[None]') -> None:
        self.assertIsNone(future.result(base.PATIENCE))

    def assert_failed(
        self, future: 'futures.Future[None]', kind: type[exception.AliasAgentError], *words: str
    ) -> exception.AliasAgentError:
        error = future.exception(base.PATIENCE)
        self.assertIs(kind, type(error), str(error))
        for word in words:
            self.assertIn(word, str(error))
        assert isinstance(error, exception.AliasAgentError)
        return error

    def stopped(self, cause: events.Cause = events.Cause.OTHER, instance: str = GUEST) -> None:
        if instance in self.host.guests:
            self.host.guests[instance].cause = cause
        self.host.tell(events.LifecycleChanged(instance, events.Lifecycle.STOPPED, cause))
