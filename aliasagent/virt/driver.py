# SPDX-License-Identifier: Apache-2.0
"""The driver module: attach, detach and list, in terms of devices.

An attach goes to both sides, live and persistent, in one call, and is read back. A detach takes the device out of the
persistent definition first, so that it does not come back with the next start, and then out of the running guest.

Nothing here keeps operations on one guest apart from each other: whoever calls does (:mod:`aliasagent.operations`).
"""

import dataclasses
import functools
import logging
import operator
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Set
from concurrent import futures
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import bounds
from aliasagent.devices import host_device
from aliasagent.devices import identity
from aliasagent.devices import port as ports
from aliasagent.devices import targets
from aliasagent.devices import volume
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.virt import detach
from aliasagent.virt import errors
from aliasagent.virt import inventory
from aliasagent.virt import leaving
from aliasagent.virt import lookup
from aliasagent.virt import paths
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: How often an attach is tried, if each time something came in between; or if QEMU has something in the way, of which
#: there may be more.
_ATTEMPTS, _ATTEMPTS_AROUND = 3, 8
_LEFT_IN_QEMU = (
    "the guest's QEMU has kept something of an attach during which libvirtd was killed, and libvirt does not know it; "
    'it goes when the guest is switched off'
)
_SIDE_NAMES = {Side.LIVE: 'running guest', Side.PERSISTENT: 'persistent config'}


@dataclasses.dataclass(frozen=True)
class Instance:
    """A guest as a list shows it."""

    uuid: str
    name: str
    state: str
    persistent: bool


class Driver:
    """Does things to the devices of a host's guests.

    :param patience: asked at each detach, so that a changed option counts at once.
    :param within: what may be attached, asked at each attach.
    :param known: what is known from elsewhere of a guest's devices, asked at each detach.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        patience: Callable[[], leaving.Patience],
        within: Callable[[], bounds.Bounds],
        known: Callable[[str], Iterable[identity.Record]] = lambda _instance: (),
    ) -> None:
        self._host = host
        self._unplugs = unplugs
        self._patience = patience
        self._within = within
        self._known = known

    def wait_connected(self, timeout: float) -> bool:
        """Wait for a hypervisor that went away; False after so many seconds without."""
        return self._host.wait_connected(timeout)

    def list_instances(self) -> list[Instance]:
        """The host's guests.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        instances = []
        for guest in self._host.guests():
            try:
                instances.append(Instance(guest.uuid, guest.name, guest.state(), guest.is_persistent()))
            except exception.InstanceNotFound:
                LOG.debug('Instance %s went away while the guests were listed', guest.uuid)
        return instances

    def list_devices(self, instance: str) -> list[inventory.Entry]:
        """A guest's devices, each once, with where it is.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: its definition could not be read.
        """
        return inventory.entries(self._host.guest(instance).definitions())

    def attach_volume(
        self,
        instance: str,
        volume_id: str,
        connection_info: dict[str, Any],
        device_name: str | None = None,
        disk_bus: str | None = None,
        device_type: str = 'disk',
    ) -> None:
        """Plug a volume in. See :meth:`attach`.

        :raises InvalidInput: the parts of the request do not go together, or the path is not on this host, or not one
            that may be attached.
        """
        needs = bounds.needs({'connection_info': connection_info})

        def check() -> None:
            paths.check(needs, self._within())
            path = volume.local_path(connection_info)
            if path is not None and not os.path.exists(path):
                raise needs[0].refused(f'{path} does not exist on this host')

        name = None if device_name is None else targets.split(device_name)
        bus = disk_bus or targets.default_bus(name, device_type)
        if name is not None:
            targets.check(name, bus)

        def disk(definitions: Definitions, avoid: Set[str]) -> base.Device:
            target = name or _disk_name(definitions, volume_id, bus, avoid)
            return volume.disk_for_volume(volume_id, connection_info, target=target, bus=bus, device_type=device_type)

        self._attach(instance, volume_id, disk, check)

    def attach_interface(self, instance: str, port: dict[str, Any]) -> None:
        """Plug the interface of a port in. See :meth:`attach_volume` for the errors."""
        needs = bounds.needs({'port': port})
        self._attach(
            instance,
            port['id'],
            lambda *_read: ports.interface_for_port(port),
            lambda: paths.check(needs, self._within()),
        )

    def attach_hostdev(self, instance: str, device_id: str, hostdev: dict[str, Any]) -> None:
        """Give the guest a device of this host. See :meth:`attach_volume` for the errors."""
        needs = bounds.needs({'hostdev': hostdev})
        self._attach(
            instance,
            device_id,
            lambda *_read: host_device.host_device(device_id, hostdev),
            lambda: paths.check(needs, self._within()),
        )

    def _attach(
        self,
        instance: str,
        device_id: str,
        build: Callable[[Definitions, Set[str]], base.Device],
        check: Callable[[], None],
    ) -> None:
        """Plug a device in, on each side where it is not yet, and read it back.

        :param build: makes the device so that it fits the guest as it was just read, with none of these target names.
        :param check: refuses what may not be attached. It is not asked of what the guest has already: that was let pass
            before, and what is done must not be told as refused after a restart with other options.
        :raises DeviceConflict: another device goes by this id.
        :raises GuestBusy: the guest is being migrated, was saved with its devices, or was asked to release this one.
        :raises AttachFailed: libvirt refused, or the alias did not land. Neither side has the device then, or the words
            say what is left.
        """
        guest = self._host.guest(instance)
        avoid: set[str] = set()
        tried = Side(0)
        for attempt in range(1, _ATTEMPTS_AROUND + 1):
            definitions = guest.definitions()
            if definitions.live is None:
                guest.refuse_if_saved()
            else:
                guest.refuse_if_migrating()
                self._unplugs.refuse_if_leaving(instance, device_id, definitions.live)
            device = build(definitions, avoid)
            missing = _missing(guest, definitions, device_id, device)
            if not missing:
                LOG.info('Instance %s has device %s', instance, device_id)
                self._unplugs.forget(instance, device_id)
                return
            if missing == definitions.there:
                check()
            _refuse_if_taken(guest, device_id, device, definitions, missing)
            tried |= missing
            try:
                guest.attach(device.to_xml(), missing)
            except (exception.HypervisorUnavailable, exception.GuestBusy):
                raise
            except exception.HypervisorError as error:
                now = guest.definitions()
                # It was started or stopped since it was read, or a call of an agent that was killed took effect late.
                restarted = isinstance(error, errors.InvalidOperation) and now.there != definitions.there
                late = missing & _sides_with(now, device_id)
                if (restarted or late) and attempt < _ATTEMPTS:
                    continue
                # What QEMU has and libvirt does not know shows in no definition; another name goes around it.
                elsewhere = isinstance(error, errors.PlaceLeft) and device.target not in (None, *avoid)
                if (elsewhere or isinstance(error, errors.NameLeft)) and attempt < _ATTEMPTS_AROUND:
                    avoid |= {device.target} if elsewhere and device.target else set()
                    continue
                raise _attach_failed(guest, device_id, tried & _sides_with(now, device_id), error) from error
            there = self._read_back(guest, device_id, missing, persistent=definitions.persistent is not None)
            LOG.info('Attached %s to instance %s', device.describe(), instance)
            if there in definitions.there:
                self._unplugs.forget(instance, device_id)
                return
            # Started since it was read, it may have been started without the device.
        raise exception.AttachFailed(instance=instance, device=device_id, reason='the guest is started all the time')

    def _read_back(self, guest: Guest, device_id: str, attached: Side, *, persistent: bool) -> Side:
        """See that the alias is where the device was attached: libvirt drops one that it does not like silently.

        :return: which definitions the guest has by now.
        """
        definitions = guest.definitions(persistent=persistent)
        # A guest that was stopped since has no live side to look at.
        lost = attached & definitions.there & ~_sides_with(definitions, device_id)
        if lost:
            raise exception.AttachFailed(
                instance=guest.uuid,
                device=device_id,
                reason=f'libvirt took the device, but its alias is not in the {_words(lost)}; the device may be there',
            )
        return definitions.there

    def detach(
        self,
        instance: str,
        device_id: str,
        kind: str | None = None,
        *,
        asked: DeviceFingerprint | None = None,
        begin: detach.Begin = lambda _found: False,
    ) -> 'futures.Future[None]':
        """Take a device out. The future tells when the running guest has released it, or why not.

        :param kind: refuse if the device is of another kind.
        :param asked: the device as an earlier start of this detach found it.
        :param begin: called with the device as it was found, when it can go, before anything is done to it.
        :raises DeviceNotFound: neither side has such a device, and none was asked for before.
        :raises AmbiguousDevice: more than one device could be meant; none is touched.
        :raises DeviceConflict: the device is of another kind, or it cannot be told whether it is the one that was asked
            for before.
        :raises DetachFailed: the persistent config could not be changed; or the guest does not run, and may go on with
            the device.
        :raises Unsupported: a running guest never releases a device of this kind.
        :raises GuestBusy: the guest is being migrated, or was saved with its devices.
        """
        return detach.Detach(
            self._host,
            self._unplugs,
            self._patience(),
            instance,
            device_id,
            kind=kind,
            asked=asked,
            begin=begin,
            records=self._known(instance),
        ).run()

    def watch(self, instance: str, device_id: str, asked: DeviceFingerprint | None, may_still_go: bool) -> None:
        """Notice when a running guest lets go of a device after all, whose detach an earlier process gave up.

        :param asked: the device as that process found it; None if it did not record that.
        :param may_still_go: whether the guest may still answer what it was asked.
        """
        self._unplugs.watch(instance, device_id, asked, may_still_go)


def _words(sides: Side) -> str:
    return ' and the '.join(name for side, name in _SIDE_NAMES.items() if side in sides)


def _sides_with(definitions: Definitions, device_id: str) -> Side:
    """The sides on which exactly one device carries the id's alias."""
    name = alias.make(device_id)
    there = Side(0)
    for side, domain in definitions.sides():
        if len(domain.by_alias(name)) == 1:
            there |= side
    return there


def _attach_failed(guest: Guest, device_id: str, left: Side, error: Exception) -> exception.AttachFailed:
    """The error for an attach that libvirt refused, with what it left behind, if anything."""
    reason = f'{error}; it is left in the {_words(left)}' if left else str(error)
    if isinstance(error, errors.LeftInQemu):
        reason = f'{reason}; {_LEFT_IN_QEMU}'
    return exception.AttachFailed(instance=guest.uuid, device=device_id, reason=reason)


def _missing(guest: Guest, definitions: Definitions, device_id: str, device: base.Device) -> Side:
    """The sides on which the device is not yet.

    :raises DeviceConflict: another device goes by its id.
    :raises AmbiguousDevice: several do.
    """
    known = identity.claim(device)
    found = {side: domain.find(device_id, known) for side, domain in definitions.sides()}
    there = [it for it in found.values() if it is not None]
    for it in there:
        lookup.check_same(guest.uuid, device_id, device, it)
    if there and all(it.evidence in identity.WEAK for it in there):
        # It could be this device from before aliases, or another that looks the same. Were it given this id here, a
        # detach might take another's device; were it taken for this one, a detach would not find it.
        it = there[0]
        raise exception.DeviceConflict(
            instance=guest.uuid,
            device=device_id,
            reason=f'{it.device.describe()} has the same {it.evidence} and no alias that says whose it is',
        )
    return functools.reduce(operator.or_, (side for side, it in found.items() if it is None), Side(0))


def _refuse_if_taken(guest: Guest, device_id: str, device: base.Device, definitions: Definitions, sides: Side) -> None:
    """Refuse a disk whose name, or the place it leads to, another has, where libvirt might not.

    :raises AttachFailed: it is taken on one of the sides.
    """
    target, bus = device.target, device.drive_bus
    if target is None or bus not in targets.NOT_REFUSED_WHEN_TAKEN:
        return
    for side, domain in definitions.sides():
        if side in sides and target in domain.taken_targets(bus):
            reason = f'in the {_words(side)}, another device is called {target}, or is where that name leads'
            raise exception.AttachFailed(instance=guest.uuid, device=device_id, reason=reason)


def _disk_name(definitions: Definitions, volume_id: str, bus: str, avoid: Set[str]) -> str:
    """What to call a volume's disk: as on the side that has it already, else a name that is free on both."""
    for _side, domain in definitions.sides():
        try:
            found = domain.find(volume_id)
        except exception.Conflict:
            continue  # judged when it is known what is to be attached; its alias may still say what it is called
        if found is not None and found.device.target is not None:
            return found.device.target
    named = [it.target for _side, domain in definitions.sides() for it in domain.by_alias(alias.make(volume_id))]
    if named and named[0] is not None:
        return named[0]
    taken = {target for _side, domain in definitions.sides() for target in domain.taken_targets(bus)}
    return targets.first_free(bus, taken | avoid)
