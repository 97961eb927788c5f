# SPDX-License-Identifier: Apache-2.0
"""Decide whether two devices are the same: at two times, in two definitions, or by their sources."""

import dataclasses
from collections.abc import Callable

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity._claims import Claim
from aliasagent.devices.identity._claims import are_apart
from aliasagent.devices.identity._claims import claim as claim_of
from aliasagent.devices.identity._claims import supports
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Verdict
from aliasagent.devices.identity._hints import lasting
from aliasagent.devices.identity._judge import identify
from aliasagent.devices.identity._judge import judge

#: Returns whether two paths of this host lead to the same file or block device.
LeadToOne = Callable[[str, str], bool]
#: Properties that another client may have left out. A device without them can still be the device that is meant.
MAY_BE_MISSING = frozenset({'serial', 'interfaceid'})


def same(one: Claim, other: Claim) -> Verdict:
    """Decide whether two claims of the same place in one run of a guest are of the same device."""
    # A plugged-in device neither gains nor loses a serial. If only the source of a disk differs, the disk may have a
    # snapshot now, or may be the next disk.
    if are_apart(one, other) or (one.serial, one.wwn) != (other.serial, other.wwn):
        return Verdict.NO
    return Verdict.YES if one == other else Verdict.CANNOT_TELL


@dataclasses.dataclass(frozen=True)
class LivePlace:
    """Where a device was in a run of a guest, and its properties there."""

    #: The device's alias in that run.
    alias: str | None
    #: The device's target in that run.
    target: str | None
    #: The device's properties in that run.
    claim: Claim | None


def find_again(definition: Domain, device_id: str, before: Claim | None, place: LivePlace | None) -> base.Device | None:
    """Find a device in a running guest again; None is proof that the guest does not have the device.

    :param before: the device's properties when a detach found it; None if they are not recorded.
    :param place: where the device was, if this is the same run of the guest; None in another run.
    :raises DeviceConflict: a device may be the same one or another.
    """
    if place is not None and place.alias is not None:
        at_place = definition.by_alias(place.alias)
        if at_place and _is_same_at(device_id, at_place[0], place, definition):
            return at_place[0]
    # A plugged-in device keeps its user alias. If no device has this alias, the device was removed.
    was_removed = place is not None and alias.is_user(place.alias)
    return _among(device_id, definition, before, is_same_run=place is not None, counts_place=not was_removed)


def find_again_persistent(
    definition: Domain, device_id: str, before: Claim | None, live: Claim | None, *, was_removed: bool
) -> base.Device | None:
    """Find a device in a persistent config again, as :func:`find_again` does in a running guest.

    :param before: the device's properties in the persistent config; None if the config did not have the device.
    :param live: the device's properties in the running guest; None if the guest did not have the device.
    :param was_removed: whether the device was removed from the persistent config; a device in its place is another one.
    :raises DeviceConflict: a device may be the same one or another.
    """
    if before is not None and not was_removed:
        # The next device can have the same source name or MAC. Only properties that last identify the device later.
        equal = [
            found
            for found in definition.unclaimed()
            if found.alias is None
            and claim_of(found) == before
            and (before.host_address is not None or lasting(found, device_id) is not None)
        ]
        if len(equal) == 1:
            return equal[0]
    return _among(device_id, definition, before or live, is_same_run=False, counts_place=not was_removed)


def _among(
    device_id: str, definition: Domain, before: Claim | None, *, is_same_run: bool, counts_place: bool
) -> base.Device | None:
    """Find a device again among all devices of a definition: by user alias, else by proof and properties together.

    :param before: the device's properties; None if they are not recorded.
    :raises DeviceConflict: a device has either the proof or the properties, but not both.
    """
    named = definition.by_alias(alias.make(device_id))
    if named:
        return named[0]
    ports = definition.ports()
    for device in definition.unclaimed():
        if before is not None and device.kind != before.kind:
            continue
        found = judge(device, ports).identity
        has_id = found is not None and names.normal(found.device_id) == names.normal(device_id)
        if found is not None and not has_id:
            continue  # the device has another id
        matches = before is None or _may_be(device, before, is_same_run=is_same_run, counts_place=counts_place)
        if has_id and matches:
            return device
        if has_id or (before is not None and matches):
            raise _cannot_tell(device_id, definition, device)
    return None


def _is_same_at(device_id: str, device: base.Device, place: LivePlace, definition: Domain) -> bool:
    """Decide whether the device that has the same alias in the same run is the same device.

    :raises DeviceConflict: the evidence does not suffice.
    """
    if alias.is_user(place.alias):
        return True
    found = identify(device, definition.ports())
    if found is not None and names.normal(found.device_id) == names.normal(device_id):
        return True
    now = claim_of(device)
    before = place.claim or now
    # Within a run a device keeps its address and its target.
    if device.target != place.target or now.address != before.address:
        return False
    verdict = same(now, before)
    if verdict is Verdict.CANNOT_TELL:
        raise _cannot_tell(device_id, definition, device)
    return verdict is Verdict.YES


def _cannot_tell(device_id: str, definition: Domain, device: base.Device) -> exception.DeviceConflict:
    return exception.DeviceConflict(
        instance=definition.uuid,
        device=device_id,
        reason=f'{device.describe()} may be this device or another one, and was left unchanged',
    )


def _may_be(device: base.Device, before: Claim, *, is_same_run: bool, counts_place: bool) -> bool:
    """Return whether a device may be the one with the properties ``before``, by a match or by the same place.

    :param is_same_run: whether the properties are of the same run of the guest.
    :param counts_place: whether the same place counts; not if the device was removed from there.
    """
    # A plugged-in device keeps its place and its serial.
    now = claim_of(device)
    if are_apart(now, before) or (is_same_run and (now.serial, now.wwn) != (before.serial, before.wwn)):
        return False
    # A device does not lose its serial between runs.
    keeps_serial = before.serial in (None, now.serial) and before.wwn in (None, now.wwn)
    is_at_place = keeps_serial and any(
        have is not None and have == want for have, want in ((now.target, before.target), (now.address, before.address))
    )
    evidence = supports(device, before)
    if is_same_run and evidence is Evidence.MAC:
        return is_at_place  # two ports may have the same MAC
    return evidence is not None or (is_at_place and counts_place)


def is_same_element(one: base.Device, other: base.Device) -> bool:
    """Return whether two views are of the same device of a definition; one may be a copy with the same alias."""
    return one.element is other.element or (one.alias is not None and one.alias == other.alias)


def replaced_by(definition: Domain, device: base.Device) -> base.Device | None:
    """Find the device that a write of this device replaces; None if there is none, or more than one."""
    # libvirt finds a disk by its target, and an interface by its MAC and address.
    found = [it for it in definition.devices() if it.kind == device.kind and _place(it) == _place(device)]
    return found[0] if len(found) == 1 else None


def _place(device: base.Device) -> tuple[object, ...]:
    if not isinstance(device, interface.Interface):
        return (device.target,)
    return (device.mac, _guest_address(device))


def list_key(device: base.Device, device_id: str | None) -> tuple[object, ...]:
    """Return the key that joins a device's entries of both definitions in a list: its id, else its place.

    :param device_id: the device's id; None if it is not identified.
    """
    # A place is good enough to list a device once, and for nothing else.
    if device_id is not None:
        return (device.kind, device_id)
    return (device.kind, None, device.target or _guest_address(device))


def _guest_address(device: base.Device) -> tuple[tuple[str, str], ...] | None:
    address = device.child('address')
    return None if address is None else tuple(sorted((str(name), str(text)) for name, text in address.items()))


def have_one_source(one: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Return whether two devices have the same source: by name, or because their paths lead to the same file."""
    return one.source == other.source or _have_one_path(one, other, lead_to_one)


def _have_one_path(one: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    if not isinstance(one, disk.Disk) or not isinstance(other, disk.Disk):
        return False
    path, other_path = one.path, other.path
    return path is not None and other_path is not None and lead_to_one(path, other_path)


def is_taken_by(device: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Return whether another device has the device's source, and a guest can have this source only once."""
    wanted, has = device.source, other.source
    if wanted is None or has is None:
        return False
    return (wanted == has or _have_one_path(device, other, lead_to_one)) and _is_exclusive(device)


def _is_exclusive(device: base.Device) -> bool:
    """Return whether a guest can have the device's source only once."""
    match device:
        case interface.Interface():
            return device.type in ('hostdev', 'vhostuser', 'vdpa')
        case _:
            return not (device.source or '').startswith('usb:')


def is_written_beneath(device: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Return whether a disk is writable and its path is a backing file or copy target of the other disk."""
    if not isinstance(other, disk.Disk) or not isinstance(device, disk.Disk):
        return False
    path = device.path
    if path is None or device.readonly:
        return False
    return any(it == path or lead_to_one(it, path) for it in other.other_paths)


def first_contradiction(
    found: base.Device, wanted: base.Device, lead_to_one: LeadToOne
) -> tuple[str, str | None, str | None] | None:
    """Return the first property by which a device is not the requested one, with both values; None if there is none."""
    if found.kind != wanted.kind:
        return 'kind', found.kind, wanted.kind
    if not have_one_source(found, wanted, lead_to_one):
        return 'source', found.source, wanted.source
    has, wants = claim_of(found).mac, claim_of(wanted).mac
    return None if has == wants else ('MAC address', has, wants)


def contradiction_in(name: str, found: base.Device, wanted: base.Device) -> tuple[str, str] | None:
    """Return both values of a property of :data:`MAY_BE_MISSING` if both devices have it and differ; else None."""
    has, wants = (getattr(device, name) for device in (found, wanted))
    if has is None or wants is None:
        return None
    has, wants = has.strip().lower(), wants.strip().lower()
    return None if has == wants else (has, wants)
