# SPDX-License-Identifier: Apache-2.0
"""Refuses to attach a device that conflicts with what the guest already has."""

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices import targets
from aliasagent.devices.identity import Found
from aliasagent.virt import sources
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

_SIDE_NAMES = {Side.LIVE: 'running guest', Side.PERSISTENT: 'persistent config'}


def words(sides: Side) -> str:
    """Name a guest's definitions, for an error message."""
    return ' and the '.join(name for side, name in _SIDE_NAMES.items() if side in sides)


def refuse_double(
    guest: Guest, device_id: str, device: base.Device, definitions: Definitions, found: dict[Side, Found]
) -> None:
    """Refuse a device whose id or source the guest already has as another device.

    :raises DeviceConflict: one of the definitions has such a device.
    """
    # Two devices with one source would write to one disk without knowing of each other.
    name = alias.make(device_id)
    lead_to_one = sources.comparison()
    for side, domain in definitions.sides():
        own = found.get(side)
        for other in domain.devices():
            if own is not None and identity.is_same_element(own.device, other):
                continue
            if other.alias is not None and other.alias.lower() == name.lower():
                reason = f'{other.describe()} in the {words(side)} has this id in another letter case'
            elif identity.is_taken_by(device, other, lead_to_one):
                reason = f'its source, {device.source}, is in the {words(side)} already, as {other.describe()}'
            elif identity.is_written_beneath(device, other, lead_to_one):
                reason = f'{other.describe()} in the {words(side)} is based on its source, {device.source}'
            else:
                continue
            raise exception.DeviceConflict(instance=guest.uuid, device=device_id, reason=reason)


def refuse_if_taken(guest: Guest, device_id: str, device: base.Device, definitions: Definitions, sides: Side) -> None:
    """Refuse a disk whose name, or the drive address that follows from it, is taken, where libvirt might not refuse it.

    :raises AttachFailed: another device has the name or the address in one of the definitions.
    """
    target, bus = device.target, device.drive_bus
    if target is None or bus not in targets.NOT_REFUSED_WHEN_TAKEN:
        return
    for side, domain in definitions.sides():
        if side in sides and target in domain.taken_targets(bus):
            reason = f'in the {words(side)}, another device has the name {target} or the drive address of that name'
            raise exception.AttachFailed(instance=guest.uuid, device=device_id, reason=reason)
