# SPDX-License-Identifier: Apache-2.0
"""Attach: adds a device to both definitions, live and persistent, in one call, and reads the device back.

The agent compares the request with what the guest already has. An attach that would change nothing succeeds only if the
device is as the request wants it. A source that the guest already has as another device is refused.
"""

import dataclasses
import functools
import logging
import operator
import os
from collections.abc import Callable
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.allowed import paths
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import disk as disks
from aliasagent.devices import drives
from aliasagent.devices import identity
from aliasagent.devices import interface as interfaces
from aliasagent.devices import targets
from aliasagent.devices.identity import Found
from aliasagent.requests.base import Attach
from aliasagent.requests.base import BuiltAttach
from aliasagent.requests.base import Management
from aliasagent.requests.sources import BlockSource
from aliasagent.requests.volume import BUSES
from aliasagent.requests.volume import AttachVolume
from aliasagent.virt import conflicts
from aliasagent.virt import errors
from aliasagent.virt import lookup
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.novas import NovasGuests
from aliasagent.virt.unplug import Unplugs

LOG = logging.getLogger(__name__)

#: Hints about the guest's devices.
Records = tuple[identity.Record, ...]

#: Records the start of the work; returns whether that took so long that the guest must be read again.
Begin = Callable[[], bool]
#: How often an attach is tried: if the guest was changed meanwhile; or if one of several leftovers in QEMU is blocking.
_ATTEMPTS, _ATTEMPTS_AROUND = 3, 8
_LEFT_IN_QEMU = (
    "the guest's QEMU has kept something of an attach during which libvirtd was killed, and libvirt does not know it; "
    'to remove it, switch the guest off'
)
_NO_ROOM = (
    'it has no SCSI controller with room{where}; attach it to bus virtio, or give the guest a controller of model '
    'virtio-scsi while it is shut off'
)


@dataclasses.dataclass
class _Avoid:
    """Names and places that QEMU refused although no definition has them."""

    names: set[str] = dataclasses.field(default_factory=set)
    places: set[drives.Place] = dataclasses.field(default_factory=set)

    def add(self, device: base.Device) -> bool:
        """Avoid the name and the place that a device was to have; return False if both are avoided already."""
        place = drives.place_of(device)
        if place is not None and place not in self.places:
            self.places.add(place)
        elif device.target in (None, *self.names):
            return False
        if device.target is not None:
            self.names.add(device.target)
        return True


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What a guest has of a device, as read at one time."""

    definitions: Definitions
    #: The device as it would be attached now.
    device: base.Device
    #: The device in the definitions that have it already.
    found: dict[Side, Found]
    #: The hints that were used.
    records: Records

    @property
    def missing(self) -> Side:
        """The sides that lack the device."""
        return self.definitions.there & ~functools.reduce(operator.or_, self.found, Side(0))


class Attacher:
    """Attaches devices to the guests of a host.

    :param within: returns what may be attached; called at each attach.
    :param hints: returns the hints about a guest's devices; called at each attach.
    :param dead_vlan: returns whether an Open vSwitch port that names no VLAN goes into the dead VLAN; called at each
        attach.
    :param tap_exists: returns whether this host has a network interface of this name.
    :param novas: refuses to attach to guests of Nova.
    """

    def __init__(
        self,
        host: Host,
        unplugs: Unplugs,
        within: Callable[[], rules.Bounds],
        hints: Callable[[str], Iterable[identity.Record]],
        *,
        dead_vlan: Callable[[], bool],
        tap_exists: Callable[[str], bool],
        novas: NovasGuests,
    ) -> None:
        self._host = host
        self._unplugs = unplugs
        self._within = within
        self._hints = hints
        self._dead_vlan = dead_vlan
        self._tap_exists = tap_exists
        self._novas = novas

    def attach(self, instance: str, request: Attach, *, begin: Begin, begun_before: bool) -> None:
        """Add a device to each definition that lacks it, and read it back.

        :param begin: called when it is decided that the request may be done in this guest, before anything is changed.
        :param begun_before: whether an earlier try began this, so that it is decided.
        :raises ManagedByNova: the guest is Nova's, and lacks the device, and the option ``manage`` leaves it to Nova.
        :raises InvalidInput: the fields of the request contradict each other, or the request names something of this
            host that does not exist or may not be given to a guest.
        :raises DeviceConflict: another device has this id, or the guest has this device with other properties, or has
            its source as another device.
        :raises GuestBusy: the guest is being migrated, was saved with its devices, or was asked to release this device.
        :raises AttachFailed: libvirt refused, or dropped the alias. Neither definition has the device then, or the
            message says what is left.
        """
        is_open = not begun_before and self._novas.may_refuse(request)
        if not is_open:
            begin()
        guest, device_id = self._host.guest(instance), request.device_id
        avoid = _Avoid()
        tried = Side(0)
        for attempt in range(1, _ATTEMPTS_AROUND + 1):
            # Before the guest is read: the check may take long, and other clients may change the guest meanwhile.
            refusal = self._refusal(request)
            reading = self._read(guest, request, avoid)
            if reading.missing and refusal is not None:
                raise refusal
            if is_open and reading.missing:
                is_open = False
                if self._decide(request, reading, guest, begin):
                    continue
            definitions, device, found, missing = reading.definitions, reading.device, reading.found, reading.missing
            if not missing:
                LOG.info('Instance %s already has device %s', instance, device_id)
                self._unplugs.forget(instance, device_id)
                return
            conflicts.refuse_double(guest, device_id, device, definitions, found)
            conflicts.refuse_if_taken(guest, device_id, device, definitions, missing)
            self._fit(guest, device_id, device, definitions, found, missing, avoid)
            tried |= missing
            try:
                guest.attach(device.to_xml(), missing)
            except (exception.HypervisorUnavailable, exception.GuestBusy):
                raise
            except exception.HypervisorError as error:
                now = guest.definitions()
                # The guest was started or stopped since the read, or a call of a killed agent took effect late.
                restarted = isinstance(error, errors.InvalidOperation) and now.there != definitions.there
                late = missing & _sides_with(now, device_id)
                if (restarted or late) and attempt < _ATTEMPTS:
                    continue
                # No definition shows a leftover in QEMU that libvirt does not know; another place avoids it.
                elsewhere = isinstance(error, errors.PlaceLeft) and avoid.add(device)
                if (elsewhere or isinstance(error, errors.NameLeft)) and attempt < _ATTEMPTS_AROUND:
                    continue
                raise _attach_failed(guest, device_id, tried & _sides_with(now, device_id), error) from error
            now = self._read_back(guest, device_id, missing, persistent=definitions.persistent is not None)
            LOG.info('Attached %s to instance %s', device.describe(), instance)
            # A guest that was started since the read may have been started without the device. A definition that had
            # the device before may have lost it since.
            if now.there in definitions.there and _still_there(now, device_id, reading):
                self._unplugs.forget(instance, device_id)
                return
        raise exception.AttachFailed(instance=instance, device=device_id, reason='other clients keep changing it')

    def check(self, instance: str, request: Management) -> None:
        """Check that a device can be attached now, before anything is made for it outside of the guest.

        :raises ManagedByNova: the guest is Nova's, and the option ``manage`` leaves it to Nova.
        :raises DeviceConflict: the guest has the device already.
        :raises GuestBusy: as :meth:`attach`.
        """
        guest = self._host.guest(instance)
        definitions = self._at_rest(guest, request.device_id)
        if self._novas.may_refuse(request):
            self._novas.refuse(guest.uuid, definitions, request)
        if any(lookup.both(definitions, request.device_id, self._hints(guest.uuid))):
            reason = 'it is attached already, with a connection that this agent has not made'
            raise exception.DeviceConflict(instance=guest.uuid, device=request.device_id, reason=reason)

    def _decide(self, request: Attach, reading: _Reading, guest: Guest, begin: Begin) -> bool:
        """Decide whether the request may be done in this guest, and record the start of the work.

        :return: whether the guest must be read again.
        :raises ManagedByNova: the guest is Nova's, and lacks the device.
        """
        self._novas.refuse(guest.uuid, reading.definitions, request)
        return begin()

    def _refusal(self, request: Attach) -> exception.InvalidInput | None:
        """Return why the request may not be attached to any guest; None if it may.

        This can take long: it resolves names and reads images. A guest that has the device already keeps it.
        """
        try:
            self._check(request)
        except exception.InvalidInput as error:
            return error
        return None

    def _check(self, request: Attach) -> None:
        needs = request.needs()
        paths.check(needs, self._within())
        if isinstance(request, AttachVolume):
            source = request.connection_info.source
            path = source.local_path
            if path is not None and not os.path.exists(path):
                raise needs[0].refused(f'{path} does not exist on this host')
            if isinstance(source, BlockSource) and os.path.isfile(source.device_path):
                raise needs[0].refused(f'{path} is a file, and driver_volume_type requires a block device')

    def _build(self, request: Attach, definitions: Definitions, avoid: _Avoid, records: Records) -> base.Device:
        """Build the device so that it fits the guest as just read.

        :param avoid: names that the device must not get.
        """
        match request:
            case AttachVolume():
                return _disk(request, definitions, avoid, records)
            case BuiltAttach():
                return request.device(dead_vlan=self._dead_vlan())
            case _:
                raise TypeError(f'{request} has no device')

    def _read(self, guest: Guest, request: Attach, avoid: _Avoid) -> _Reading:
        """Read what the guest has of a device, and refuse an attach that is not possible now.

        :raises: what :meth:`attach` raises.
        """
        device_id = request.device_id
        definitions = self._at_rest(guest, device_id)
        records = tuple(self._hints(guest.uuid))
        device = self._build(request, definitions, avoid, records)
        found = identity.find_attached(guest.uuid, device_id, device, definitions.sides(), records)
        decided = request.decided()
        for has in found.values():
            lookup.check_same(guest.uuid, device_id, device, decided, has.device)
        return _Reading(definitions, device, found, records)

    def _at_rest(self, guest: Guest, device_id: str) -> Definitions:
        """Read a guest's definitions, and refuse an attach that is not possible now.

        :raises GuestBusy: the guest is being migrated, was saved with its devices, or was asked to release this device.
        """
        definitions = lookup.at_rest(guest)
        if definitions.live is not None:
            self._unplugs.refuse_if_leaving(guest.uuid, device_id, definitions.live)
        return definitions

    def _fit(
        self,
        guest: Guest,
        device_id: str,
        device: base.Device,
        definitions: Definitions,
        found: dict[Side, Found],
        missing: Side,
        avoid: _Avoid,
    ) -> None:
        """Adapt a device to the guest, and to the same device in the guest's other definition.

        :raises AttachFailed: the guest has no place for the device.
        """
        if any(domain.root.find('launchSecurity') is not None for _side, domain in definitions.sides()):
            _through_iommu(device)
        if isinstance(device, interfaces.Interface) and device.type == 'ethernet' and device.target_dev is not None:
            live = found.get(Side.LIVE)
            if live is not None and isinstance(live.device, interfaces.Interface):
                device.target_managed = live.device.target_managed
            elif self._tap_exists(device.target_dev):
                # The tap stays with its creator: libvirt neither creates nor removes the tap.
                device.target_managed = False
        if device.drive_bus == drives.BUS:
            place = _place(device, definitions, found, missing, avoid)
            if place is None:
                where = ' in both its definitions' if len(definitions.sides()) > 1 else ''
                raise exception.AttachFailed(
                    instance=guest.uuid, device=device_id, reason=_NO_ROOM.format(where=where)
                )
            drives.put(device, place)

    def _read_back(self, guest: Guest, device_id: str, attached: Side, *, persistent: bool) -> Definitions:
        """Check that each definition that the device was added to has its alias.

        :return: the guest's definitions as read.
        """
        # libvirt silently drops an alias that it does not accept.
        definitions = guest.definitions(persistent=persistent)
        # A guest that was stopped since the attach has no live definition to check.
        lost = attached & definitions.there & ~_sides_with(definitions, device_id)
        if lost:
            raise exception.AttachFailed(
                instance=guest.uuid,
                device=device_id,
                reason=f'libvirt accepted the device, but its alias is not in the {conflicts.words(lost)}; '
                'the device may be there',
            )
        return definitions


def _disk(request: AttachVolume, definitions: Definitions, avoid: _Avoid, records: Records) -> disks.Disk:
    """Build the disk of a volume. The other definition's disk, else what is free, sets what the request leaves open."""
    bus, target = request.bus, request.target
    if target is not None:
        targets.check(target, bus)
    elif (has := _disk_of(definitions, request.volume_id, records)) is not None:
        target = has.target
        bus = has.bus if request.disk_bus is None and has.bus in BUSES[request.device_type] else bus
    return request.disk(target=target or _free_name(definitions, bus, avoid), bus=bus)


def _through_iommu(device: base.Device) -> None:
    """Set a virtio device to use the IOMMU: a guest with encrypted memory cannot use the device otherwise."""
    match device:
        case disks.Disk(bus='virtio') | interfaces.Interface(model='virtio'):
            device.iommu = True
        case _:
            pass


def _place(
    device: base.Device, definitions: Definitions, found: dict[Side, Found], missing: Side, avoid: _Avoid
) -> drives.Place | None:
    """Choose the place of a SCSI device: as in the guest's other definition, else one that is free in both."""
    lacking = [domain for side, domain in definitions.sides() if side in missing]
    for has in found.values():
        place = drives.place_of(has.device)
        if place is not None and place not in avoid.places and drives.has_place(lacking, place):
            return place
    domains = lacking if found else [domain for _side, domain in definitions.sides()]
    return drives.free_place(domains, device.target, avoid.places)


def _sides_with(definitions: Definitions, device_id: str) -> Side:
    """Return the sides on which exactly one device has the id's alias."""
    name = alias.make(device_id)
    there = Side(0)
    for side, domain in definitions.sides():
        if len(domain.by_alias(name)) == 1:
            there |= side
    return there


def _still_there(now: Definitions, device_id: str, reading: _Reading) -> bool:
    """Return whether the definitions that had the device before the attach still have it."""
    claim = identity.claim(reading.device)
    return all(
        identity.find(domain, device_id, claim, reading.records) is not None
        for side, domain in now.sides()
        if side in reading.found
    )


def _attach_failed(guest: Guest, device_id: str, left: Side, error: Exception) -> exception.AttachFailed:
    """Build the error of an attach that libvirt refused; the message names the definitions that have the device."""
    reason = f'{error}; it is left in the {conflicts.words(left)}' if left else str(error)
    if isinstance(error, errors.LeftInQemu):
        reason = f'{reason}; {_LEFT_IN_QEMU}'
    return exception.AttachFailed(instance=guest.uuid, device=device_id, reason=reason)


def _disk_of(definitions: Definitions, volume_id: str, records: Records) -> disks.Disk | None:
    """Return the disk of a volume in either definition; None if neither has it."""
    for _side, domain in definitions.sides():
        try:
            found = identity.find(domain, volume_id, records=records)
        except exception.Conflict:
            continue  # decided by find_attached, once the disk is built
        if found is not None and isinstance(found.device, disks.Disk):
            return found.device
    named = (it for _side, domain in definitions.sides() for it in domain.by_alias(alias.make(volume_id)))
    return next((it for it in named if isinstance(it, disks.Disk)), None)


def _free_name(definitions: Definitions, bus: str, avoid: _Avoid) -> str:
    """Choose a name for a new disk that is free in both definitions."""
    taken = {target for _side, domain in definitions.sides() for target in domain.taken_targets(bus)}
    return targets.first_free(bus, taken | avoid.names)
