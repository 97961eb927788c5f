# SPDX-License-Identifier: Apache-2.0
"""Guests of the fake hypervisor that release their disk only when a test has them do so."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.devices import alias as aliases
from aliasagent.devices.domain import Domain
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.tests import base
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import OTHER_GUEST
from aliasagent.tests.ids import VOLUME
from aliasagent.virt import runs
from aliasagent.virt.guest import Side
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.unplug import Unplugs

ALIAS = f'ua-{VOLUME}'

#: A guest that is asked once, and has all the time.
LONG = RetryPolicy(timeout=3600, attempts=8)
#: Long enough for a call to the fake on a host that is busy.
SHORT = RetryPolicy(timeout=0.1, attempts=3)
#: The first attempt is soon over, and there are enough others for a host that is busy.
PATIENT = RetryPolicy(timeout=0.1, attempts=100)


def _id(alias: str) -> str:
    return aliases.parse(alias) or VOLUME


def raising(error: Exception) -> Callable[..., None]:
    """Return a hook for the fake that raises this error at every call."""

    def fail(*_arguments: Any) -> None:
        raise error

    return fail


class UnplugTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.late: list[tuple[str, str]] = []
        self.unplugs = Unplugs(self.host, on_late=lambda *who: self.late.append(who))
        self.addCleanup(self.unplugs.close)
        self._found: dict[tuple[str, str], DeviceFingerprint] = {}
        self.guest, self.other_guest = self.add_guest(GUEST), self.add_guest(OTHER_GUEST)
        self.wait_events()  # that they were started

    def add_guest(self, instance: str) -> FakeGuest:
        guest = self.fake.add_guest(instance_uuid=instance)
        guest.unplug.never = True
        self.plug(guest)
        return guest

    def plug(self, guest: FakeGuest, alias: str = ALIAS, side: Side = Side.LIVE) -> None:
        """Another client attaches a disk."""
        disk = f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/{alias}'/>
            <target dev='{'vdb' if alias == ALIAS else 'vdc'}' bus='virtio'/><alias name='{alias}'/></disk>"""
        with self.fake.lock:
            hotplug.attach(guest, disk, side)
        if side is Side.LIVE:
            live = self.live(guest)
            (device,) = live.by_alias(alias)
            self._found[guest.uuid, alias] = DeviceFingerprint.of(runs.run_of(live), device, None)

    def live(self, guest: FakeGuest) -> Domain:
        return Domain.parse(definition.dump(guest.need_live(), False, False))

    def found(self, instance: str = GUEST, alias: str = ALIAS) -> DeviceFingerprint:
        """Return the device as a detach finds it right after the attach."""
        return self._found[instance, alias]

    def start(
        self, retry_policy: RetryPolicy = LONG, alias: str = ALIAS, instance: str = GUEST
    ) -> 'futures.Future[None]':
        return self.unplugs.start(instance, _id(alias), self.found(instance, alias), retry_policy)

    def asked(self) -> list[str]:
        """Return the aliases that the guest was asked to release, one per request."""
        asked = [arguments for method, arguments in self.fake.calls if method == 'detachDeviceAlias']
        return [str(alias) for instance, alias, _flags in asked if instance == GUEST]

    def wait_looked(self) -> None:
        """Wait until everything that is queued for the guest is done."""
        done = threading.Event()
        self.unplugs._callers.submit(GUEST, done.set)
        self.assertTrue(done.wait(base.PATIENCE))

    # What happens to the guest

    def go(self, alias: str = ALIAS) -> None:
        """The guest releases a device."""
        self.guest.remove_live(alias)

    def vanish(self) -> None:
        """The guest releases its disk, and the event is lost."""
        self.guest.remove_live(ALIAS, told=False)

    def undefine(self) -> None:
        """Remove the guest from the host, without an event."""
        with self.fake.lock:
            self.fake.forget(self.guest)

    def move(self) -> None:
        """The guest was migrated, and is still defined here."""
        self.guest.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)

    def save(self, guest: FakeGuest) -> None:
        guest.begin_save('image')
        guest.end_save()

    # Events, whether they are true or not

    def tell(self, event: int, *arguments: Any, guest: FakeGuest | None = None) -> None:
        """Emit an event, and return when the listeners have received it."""
        self.fake.emit(event, guest or self.guest, *arguments)
        self.wait_events()

    def tell_removed(self, alias: str = ALIAS, guest: FakeGuest | None = None) -> None:
        self.tell(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, alias, guest=guest)

    def tell_refused(self, alias: str = ALIAS, guest: FakeGuest | None = None) -> None:
        self.tell(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, alias, guest=guest)

    def tell_lifecycle(self, event: int, detail: int = 0, guest: FakeGuest | None = None) -> None:
        self.tell(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, event, detail, guest=guest)

    def tell_stopped(self, guest: FakeGuest | None = None) -> None:
        self.tell_lifecycle(
            libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED, guest=guest
        )

    def tell_rebooted(self) -> None:
        self.tell(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)

    # What became of it

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
