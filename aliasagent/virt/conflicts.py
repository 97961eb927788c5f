# SPDX-License-Identifier: Apache-2.0
"""What a guest has already, and whether that keeps a device from being attached."""

import dataclasses

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices import interface as interfaces
from aliasagent.devices import targets
from aliasagent.devices.domain import Domain
from aliasagent.devices.domain import Found
from aliasagent.virt import sources
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

_SIDE_NAMES = {Side.LIVE: 'running guest', Side.PERSISTENT: 'persistent config'}


def words(sides: Side) -> str:
    """The names of a guest's definitions, fit for an error."""
    return ' and the '.join(name for side, name in _SIDE_NAMES.items() if side in sides)


def find(
    guest: Guest,
    definitions: Definitions,
    device_id: str,
    device: base.Device,
    records: tuple[identity.Record, ...] = (),
) -> dict[Side, Found]:
    """The device on the sides that have it already.

    :param records: what is known from elsewhere of the guest's devices.
    :raises DeviceConflict: there is one that may be it, and does not say whose it is.
    :raises AmbiguousDevice: several could be it, in one definition or in both together.
    """
    known = identity.claim(device)
    if known.mac is not None and not any(_has(domain, device_id, records) for _side, domain in definitions.sides()):
        for _side, domain in definitions.sides():
            _refuse_lookalike(guest, device_id, device, known, domain, records)
        known = dataclasses.replace(known, mac=None)
    found = {
        side: it for side, domain in definitions.sides() if (it := domain.find(device_id, known, records)) is not None
    }
    for it in found.values():
        if it.evidence in identity.WEAK:
            _refuse_double_look(device_id, it, definitions)
    if found and all(it.evidence in identity.WEAK | identity.WORDS for it in found.values()):
        # It could be this device from before aliases, or another that looks the same. Were it given this id here, a
        # detach might take another's device; were it taken for this one, a detach would not find it: what an inventory
        # said of it ends with an attach.
        it = next(iter(found.values()))
        if it.evidence in identity.WEAK:
            reason = f'{it.device.describe()} has the same {it.evidence} and no alias that says whose it is'
        else:
            reason = f'{it.device.describe()} is it, {identity.reason(it.evidence)}, and has no alias that says so yet'
        raise exception.DeviceConflict(instance=guest.uuid, device=device_id, reason=reason)
    return found


def _refuse_double_look(device_id: str, found: Found, definitions: Definitions) -> None:
    """Refuse a device that is known by its look alone where the guest has several that look the same.

    One definition may lack one of them, and have only the other.

    :raises AmbiguousDevice: it has.
    """
    for _side, domain in definitions.sides():
        if domain.has_double(found.device):
            raise exception.AmbiguousDevice(
                instance=domain.uuid,
                device=device_id,
                candidates=f'{found.device.describe()} has the {found.evidence} of several devices',
            )


def _has(domain: Domain, device_id: str, records: tuple[identity.Record, ...]) -> bool:
    """Whether a definition says by itself which device is that of an id, if not beyond doubt."""
    try:
        return domain.find(device_id, records=records) is not None
    except exception.Conflict:
        return True  # judged when it is known, too, what the device looks like


def _refuse_lookalike(
    guest: Guest,
    device_id: str,
    device: base.Device,
    known: identity.Claim,
    domain: Domain,
    records: tuple[identity.Record, ...],
) -> None:
    """Refuse an interface with the MAC of others that may be it: a port is one, but two ports may have one MAC.

    :raises DeviceConflict: the guest has such an interface, and nothing says whose it is.
    """
    names = domain.ports()
    alike = [
        f'{found.describe()} on {found.source}'
        for found in domain.devices()
        if not found.is_claimed
        and identity.supports(found, known) is identity.Evidence.MAC
        and identity.judge(found, names, records).whose is None
    ]
    if alike:
        raise exception.DeviceConflict(
            instance=guest.uuid,
            device=device_id,
            reason=f'asked for is one on {device.source}; by its MAC it may be what the guest has with no alias that '
            f'says whose it is: {"; ".join(alike)}. Reconcile the guest with an inventory first',
        )


def refuse_double(
    guest: Guest, device_id: str, device: base.Device, definitions: Definitions, found: dict[Side, Found]
) -> None:
    """Refuse what the guest has already as another device: two would write to one disk, and know nothing of each other.

    :raises DeviceConflict: one of the sides has such a device.
    """
    name = alias.make(device_id)
    for side, domain in definitions.sides():
        own = found.get(side)
        for other in domain.devices():
            if own is not None and _is_same_element(own.device, other):
                continue
            if other.alias is not None and other.alias.lower() == name.lower():
                reason = f'{other.describe()} in the {words(side)} has this id in other letters'
            elif _is_one_only(device) and device.source is not None and sources.same(device, other):
                reason = f'its source, {device.source}, is in the {words(side)} already, as {other.describe()}'
            elif sources.is_written_beneath(device, other):
                reason = f'{other.describe()} in the {words(side)} is based on its source, {device.source}'
            else:
                continue
            raise exception.DeviceConflict(instance=guest.uuid, device=device_id, reason=reason)


def _is_same_element(one: base.Device, other: base.Device) -> bool:
    """Whether two views are of one device of a definition, be one of them a copy that was found by its alias."""
    return one.element is other.element or (one.alias is not None and one.alias == other.alias)


def _is_one_only(device: base.Device) -> bool:
    """Whether a guest has what is behind a device once or not at all."""
    match device:
        case interfaces.Interface():
            return device.type in ('hostdev', 'vhostuser')
        case _:
            return not (device.source or '').startswith('usb:')


def refuse_if_taken(guest: Guest, device_id: str, device: base.Device, definitions: Definitions, sides: Side) -> None:
    """Refuse a disk whose name, or the place it leads to, another has, where libvirt might not.

    :raises AttachFailed: it is taken on one of the sides.
    """
    target, bus = device.target, device.drive_bus
    if target is None or bus not in targets.NOT_REFUSED_WHEN_TAKEN:
        return
    for side, domain in definitions.sides():
        if side in sides and target in domain.taken_targets(bus):
            reason = f'in the {words(side)}, another device is called {target}, or is where that name leads'
            raise exception.AttachFailed(instance=guest.uuid, device=device_id, reason=reason)
