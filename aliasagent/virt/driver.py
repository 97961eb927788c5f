# SPDX-License-Identifier: Apache-2.0
"""The driver: attaches, detaches and lists the devices of guests.

How a device is attached is in :mod:`aliasagent.virt.attach`, how it is detached in :mod:`aliasagent.virt.detach`.

Nothing here serializes the operations on one guest: the caller does (:mod:`aliasagent.operations`).
"""

import dataclasses
import logging
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures

from aliasagent import exception
from aliasagent.allowed import rules
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.requests.base import Attach
from aliasagent.requests.base import Management
from aliasagent.virt import attach
from aliasagent.virt import detach
from aliasagent.virt import events
from aliasagent.virt import inventory
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import runs
from aliasagent.virt import taps
from aliasagent.virt.host import Host
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Instance:
    """A guest in the list of the host's guests."""

    uuid: str
    name: str
    state: str
    persistent: bool


class Driver:
    """Attaches, detaches and lists the devices of a host's guests.

    :param retry_policy: returns how long a guest may take; called at each detach, so that a changed option applies at
        once.
    :param within: returns what may be attached; called at each attach.
    :param hints: returns the hints about a guest's devices; called at each attach, detach and list.
    :param dead_vlan: returns whether an Open vSwitch port that names no VLAN goes into the dead VLAN; called at each
        attach.
    :param tap_exists: returns whether this host has a network interface of this name.
    :param novas: refuses to attach to guests of Nova.
    :param prepare: called before each attach, to give libvirt what the device needs beside its definition.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        retry_policy: Callable[[], leaving.RetryPolicy],
        within: Callable[[], rules.Bounds],
        hints: Callable[[str], Iterable[identity.Record]] = lambda _instance: (),
        *,
        dead_vlan: Callable[[], bool] = lambda: True,
        tap_exists: Callable[[str], bool] = taps.exists,
        novas: NovasGuests | None = None,
        prepare: Callable[[Attach], None] = lambda _request: None,
    ) -> None:
        self._host = host
        self._unplugs = unplugs
        self._retry_policy = retry_policy
        self._hints = hints
        self._prepare = prepare
        self._attacher = attach.Attacher(
            host,
            unplugs,
            within,
            hints,
            dead_vlan=dead_vlan,
            tap_exists=tap_exists,
            novas=novas or NovasGuests(),
        )

    def wait_connected(self, timeout: float) -> bool:
        """Wait for a lost connection to the hypervisor; return False if it is not up within ``timeout`` seconds."""
        return self._host.wait_connected(timeout)

    def list_instances(self) -> list[Instance]:
        """Return the host's guests.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        instances = []
        for guest in self._host.guests():
            try:
                instances.append(Instance(guest.uuid, guest.name, guest.state(), guest.is_persistent()))
            except exception.InstanceNotFound:
                LOG.debug('Instance %s was removed while the guests were listed', guest.uuid)
        return instances

    def list_devices(self, instance: str) -> list[inventory.Entry]:
        """Return a guest's devices, each once, with the definitions that have it.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: the guest's definition could not be read.
        """
        return inventory.entries(self._host.guest(instance).definitions(), self._hints(instance))

    def attach(
        self,
        instance: str,
        request: Attach,
        *,
        begin: attach.Begin = lambda: False,
        begun_before: bool = False,
    ) -> None:
        """Attach a device. See :meth:`aliasagent.virt.attach.Attacher.attach`."""
        self._prepare(request)
        self._attacher.attach(instance, request, begin=begin, begun_before=begun_before)

    def check_attach(self, instance: str, request: Management) -> None:
        """Check that a device can be attached now. See :meth:`aliasagent.virt.attach.Attacher.check`."""
        self._attacher.check(instance, request)

    def has_device(self, instance: str, device_id: str) -> tuple[bool, bool]:
        """Return whether a guest's definitions, live and persistent, have the device of an id.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: the guest's definition could not be read.
        :raises GuestBusy: the guest is being migrated, or was saved with its devices.
        :raises Conflict: the definitions do not show which device is meant.
        """
        definitions = lookup.at_rest(self._host.guest(instance))
        live, persistent = lookup.both(definitions, device_id, self._hints(instance))
        return live is not None, persistent is not None

    def run_of(self, instance: str) -> str | None:
        """Return the name of a guest's run; None if the guest is not running.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: the guest's definition could not be read.
        """
        live = self._host.guest(instance).definitions().live
        return None if live is None else runs.run_of(live)

    def left(self, instance: str, device_id: str, device: base.Device | None, *, was_live: bool) -> str | None:
        """Return why a guest may still have a device, here or elsewhere; None if the guest certainly has not.

        :param device: the device as it was attached; None if that is unknown.
        :param was_live: whether a running guest has had it.
        :raises: what :meth:`has_device` raises.
        """
        guest = self._host.guest(instance)
        # The guest may be saved, started or restored at any moment: the cause before and after the read must fit.
        before = guest.stopped_by()
        definitions = lookup.at_rest(guest)
        if any(lookup.both(definitions, device_id, self._hints(instance))):
            return 'the guest has it'
        lookup.refuse_other_letters(definitions, device_id)
        if device is not None and (other := lookup.alike(definitions, device_id, device)) is not None:
            return f'{other.describe()} of the guest may be it'
        if definitions.live is not None:
            return None
        for cause in (before, guest.stopped_by()):
            if cause is None:
                return 'the guest is starting or stopping'
            if cause in leaving.KEPT and (was_live or cause is not events.Cause.UNKNOWN):
                return leaving.KEPT[cause]
        return None

    def detach(
        self,
        instance: str,
        device_id: str,
        kind: str | None = None,
        *,
        asked: DeviceFingerprint | None = None,
        begin: detach.Begin = lambda _found: False,
    ) -> 'futures.Future[None]':
        """Detach a device; the future resolves when the running guest has released the device, or with the error.

        :param kind: refuse if the device is of another kind.
        :param asked: the device as an earlier try of this detach found it.
        :param begin: called with the device as found, when it can be detached, before anything is changed.
        :raises DeviceNotFound: neither definition has such a device, and no earlier try found one.
        :raises AmbiguousDevice: more than one device could be meant; none is changed.
        :raises DeviceConflict: the device is of another kind, or has its id in another letter case; or the definition
            does not show whether the device is the one of an earlier try.
        :raises DetachFailed: the persistent config could not be changed; or the device is in neither definition, but
            the guest was, or may have been, saved or migrated with the device.
        :raises Unsupported: a running guest never releases a device of this kind.
        :raises GuestBusy: the guest is being migrated, or was saved with its devices.
        """
        work = detach.Detach(
            self._host,
            self._unplugs,
            self._retry_policy(),
            instance,
            device_id,
            kind=kind,
            asked=asked,
            begin=begin,
            records=self._hints(instance),
        )
        try:
            return work.run()
        except exception.DeviceNotFound:
            lookup.refuse_other_letters(self._host.guest(instance).definitions(), device_id)
            raise

    def may_still_go(self, instance: str, device_id: str) -> bool | None:
        """Return whether a guest may still release a device whose detach failed; None if it is not overdue."""
        return self._unplugs.may_still_go(instance, device_id)

    def watch(self, instance: str, device_id: str, asked: DeviceFingerprint | None, may_still_go: bool) -> None:
        """Follow a device that an earlier process could not detach: the running guest may still release it.

        :param asked: the device as that process recorded it; None if that process did not record it.
        :param may_still_go: whether the guest may still answer a request of that process.
        """
        self._unplugs.watch(instance, device_id, asked, may_still_go)
