# SPDX-License-Identifier: Apache-2.0
"""Whether two devices are the same one: at two moments, in two definitions, or by what is behind them."""

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
from aliasagent.devices.identity._whose import identify
from aliasagent.devices.identity._whose import judge

#: Says whether two paths of this host lead to one file or block device.
LeadToOne = Callable[[str, str], bool]
#: The properties that another client may have left out: without one it can still be the device that is meant.
MAY_BE_UNSAID = frozenset({'serial', 'interfaceid'})


def same(one: Claim, other: Claim) -> Verdict:
    """Judge whether two looks at what sits in one place of one run of a guest show one device.

    The place (its alias in that run) is the same, so what is alike in all it carries is the same device. What differs
    in something that cannot change while it is plugged in is another device, and so is one that has come by a serial
    or lost it. A disk of which only the source differs may be the same one with a snapshot on it, or the next one.
    """
    if are_apart(one, other) or (one.serial, one.wwn) != (other.serial, other.wwn):
        return Verdict.NO
    return Verdict.YES if one == other else Verdict.CANNOT_TELL


@dataclasses.dataclass(frozen=True)
class Seat:
    """Where a device sat in the run of a guest that is read again."""

    #: The device's alias in that run.
    alias: str | None
    #: What the device was called in that run.
    target: str | None
    #: What it looked like there.
    claim: Claim | None


def find_again(definition: Domain, device_id: str, before: Claim | None, seat: Seat | None) -> base.Device | None:
    """Find a device in a running guest in which a detach found it earlier; None is proof that the guest lacks it.

    :param before: what it looked like; None if that is not known.
    :param seat: where it sat, if this is the same run of the guest; None in another run.
    :raises DeviceConflict: it cannot be told whether a device is it.
    """
    if seat is not None and seat.alias is not None:
        sits_there = definition.by_alias(seat.alias)
        if sits_there and _is_in_seat(device_id, sits_there[0], seat, definition):
            return sits_there[0]
    # A user alias stays with its device for as long as that is plugged in.
    is_out = seat is not None and alias.is_user(seat.alias)
    return _among(device_id, definition, before, is_same_run=seat is not None, counts_place=not is_out)


def find_again_persistent(
    definition: Domain, device_id: str, before: Claim | None, live: Claim | None, *, was_removed: bool
) -> base.Device | None:
    """Find a device in a persistent config, as :func:`find_again` does in a running guest.

    :param before: what it looked like in the persistent config; None if it was not there.
    :param live: what it looked like in the running guest; None if it was not there.
    :param was_removed: it was taken out of there: what is in its place since is another one.
    """
    if before is not None and not was_removed:
        # A name that the next device has tomorrow, or a MAC address alone, says nothing after a while.
        same_look = [
            found
            for found in definition.devices()
            if found.alias is None
            and claim_of(found) == before
            and (before.host_address is not None or lasting(found, device_id) is not None)
        ]
        if len(same_look) == 1:
            return same_look[0]
    return _among(device_id, definition, before or live, is_same_run=False, counts_place=not was_removed)


def _among(
    device_id: str, definition: Domain, before: Claim | None, *, is_same_run: bool, counts_place: bool
) -> base.Device | None:
    """Find the device among all of a definition, by its own alias, or as what says that it is it and looks so.

    :param before: what it looked like; None if that is not known.
    :raises DeviceConflict: something says that it is the device and does not look so, or looks so and does not say it.
    """
    named = definition.by_alias(alias.make(device_id))
    if named:
        return named[0]
    ports = definition.ports()
    for device in definition.devices():
        if device.is_claimed or (before is not None and device.kind != before.kind):
            continue
        whose = judge(device, ports).whose
        says_so = whose is not None and names.normal(whose.device_id) == names.normal(device_id)
        if whose is not None and not says_so:
            continue  # it is another's
        looks_so = before is None or _may_be(device, before, is_same_run=is_same_run, counts_place=counts_place)
        if says_so and looks_so:
            return device
        if says_so or (before is not None and looks_so):
            raise _cannot_tell(device_id, definition, device)
    return None


def _is_in_seat(device_id: str, device: base.Device, seat: Seat, definition: Domain) -> bool:
    """Judge whether what has the alias in the run that was asked is the device.

    :raises DeviceConflict: it cannot be told.
    """
    if alias.is_user(seat.alias):
        return True
    whose = identify(device, definition.ports())
    if whose is not None and names.normal(whose.device_id) == names.normal(device_id):
        return True
    now = claim_of(device)
    before = seat.claim or now
    # Within a run a device keeps its place and what it is called.
    if device.target != seat.target or now.address != before.address:
        return False
    verdict = same(now, before)
    if verdict is Verdict.CANNOT_TELL:
        raise _cannot_tell(device_id, definition, device)
    return verdict is Verdict.YES


def _cannot_tell(device_id: str, definition: Domain, device: base.Device) -> exception.DeviceConflict:
    return exception.DeviceConflict(
        instance=definition.uuid,
        device=device_id,
        reason=f'{device.describe()} may be it, and may be another device; it is left alone',
    )


def _may_be(device: base.Device, before: Claim, *, is_same_run: bool, counts_place: bool) -> bool:
    """Whether a device may be the one that is described, in another definition or at another time.

    It may be if it has the same source, MAC address or address of the host, or is in the same place of the guest, and
    nothing that stays as it is tells the two apart. The source of a disk does not stay: a snapshot changes it.

    :param is_same_run: a device keeps its place and its serial while it is plugged in. So a MAC address elsewhere is
        that of another interface: two ports may have one.
    :param counts_place: whether what is in its place may be it; not if it was seen to be taken out of there.
    """
    now = claim_of(device)
    if are_apart(now, before) or (is_same_run and (now.serial, now.wwn) != (before.serial, before.wwn)):
        return False
    # A serial is not lost from one run to the next.
    keeps_serial = before.serial in (None, now.serial) and before.wwn in (None, now.wwn)
    sits_there = keeps_serial and any(
        have is not None and have == want for have, want in ((now.target, before.target), (now.address, before.address))
    )
    evidence = supports(device, before)
    if is_same_run and evidence is Evidence.MAC:
        return sits_there
    return evidence is not None or (sits_there and counts_place)


def is_same_element(one: base.Device, other: base.Device) -> bool:
    """Whether two views are of one device of a definition, be one of them a copy that was found by its alias."""
    return one.element is other.element or (one.alias is not None and one.alias == other.alias)


def replaced_by(definition: Domain, device: base.Device) -> base.Device | None:
    """Find what a write of a device replaces; None if there is nothing, or more than one.

    libvirt goes by a disk's target, and by an interface's MAC and address.
    """
    found = [it for it in definition.devices() if it.kind == device.kind and _place(it) == _place(device)]
    return found[0] if len(found) == 1 else None


def _place(device: base.Device) -> tuple[object, ...]:
    if not isinstance(device, interface.Interface):
        return (device.target,)
    return (device.mac, _guest_address(device))


def listed_as(device: base.Device, device_id: str | None) -> tuple[object, ...]:
    """Return what a guest's definitions have in common for a device in a list of both: its id, else its place.

    A place is good enough to list a device once, and for nothing else.
    """
    if device_id is not None:
        return (device.kind, device_id)
    return (device.kind, None, device.target or _guest_address(device))


def _guest_address(device: base.Device) -> tuple[tuple[str, str], ...] | None:
    address = device.element.find('address')
    return None if address is None else tuple(sorted((str(name), str(text)) for name, text in address.items()))


def have_one_source(one: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Whether two devices have one source: by its name, or by what the path of a file or block device leads to."""
    if one.source == other.source:
        return True
    if not isinstance(one, disk.Disk) or not isinstance(other, disk.Disk) or one.path is None or other.path is None:
        return False
    return lead_to_one(one.path, other.path)


def is_taken_by(device: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Whether another device has what is behind a device, and no guest can have that twice."""
    return _is_one_only(device) and device.source is not None and have_one_source(device, other, lead_to_one)


def _is_one_only(device: base.Device) -> bool:
    """Whether a guest has what is behind a device once or not at all."""
    match device:
        case interface.Interface():
            return device.type in ('hostdev', 'vhostuser')
        case _:
            return not (device.source or '').startswith('usb:')


def is_written_beneath(device: base.Device, other: base.Device, lead_to_one: LeadToOne) -> bool:
    """Whether a guest would write with one disk to what another one is based on, or is being copied to."""
    if not isinstance(device, disk.Disk) or not isinstance(other, disk.Disk):
        return False
    path = device.path
    if path is None or device.readonly:
        return False
    return any(it == path or lead_to_one(it, path) for it in other.other_paths)


def first_contradiction(
    found: base.Device, wanted: base.Device, lead_to_one: LeadToOne
) -> tuple[str, str | None, str | None] | None:
    """Return in what a device of an id is not the one that is asked for, what it has and what is wanted; or None."""
    if found.kind != wanted.kind:
        return 'kind', found.kind, wanted.kind
    if not have_one_source(found, wanted, lead_to_one):
        return 'source', found.source, wanted.source
    has, wants = claim_of(found).mac, claim_of(wanted).mac
    return None if has == wants else ('MAC address', has, wants)


def contradiction_in(name: str, found: base.Device, wanted: base.Device) -> tuple[str, str] | None:
    """Return the texts of a property of :data:`MAY_BE_UNSAID` if both devices have it, and not the same; else None."""
    has, wants = (getattr(device, name) for device in (found, wanted))
    if has is None or wants is None:
        return None
    has, wants = has.strip().lower(), wants.strip().lower()
    return None if has == wants else (has, wants)
