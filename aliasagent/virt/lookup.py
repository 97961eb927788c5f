# SPDX-License-Identifier: Apache-2.0
"""Finds the device of an id in both definitions of a guest, and checks that it may be attached or detached."""

import dataclasses
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import differences
from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices.hostdev import Hostdev
from aliasagent.devices.identity import Found
from aliasagent.virt import sources
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Guest


def at_rest(guest: Guest) -> Definitions:
    """Read the definitions of a guest.

    :raises GuestBusy: the guest is being migrated, or was saved and will continue with the devices that it had then.
    """
    definitions = guest.definitions()
    if definitions.live is None:
        guest.refuse_if_saved()
    else:
        guest.refuse_if_migrating()
    return definitions


def both(
    definitions: Definitions, device_id: str, records: Iterable[identity.Record] = ()
) -> tuple[Found | None, Found | None]:
    """Find the device of an id, live and persistent.

    :raises: what :func:`aliasagent.devices.identity.find_both` raises.
    """
    return identity.find_both(definitions.live, definitions.persistent, device_id, records)


def alike(definitions: Definitions, device_id: str, device: base.Device) -> base.Device | None:
    """Return a device of a guest that may be this one although nothing gives it the id; None if there is none."""
    lead_to_one = sources.comparison()
    # Its name and place are not those that it was attached with.
    claim = dataclasses.replace(identity.claim(device), target=None, address=None)
    for _side, domain in definitions.sides():
        found = identity.find(domain, device_id, claim)
        if found is not None:
            return found.device
        for other in domain.devices():
            if identity.is_taken_by(device, other, lead_to_one):
                return other
    return None


def refuse_other_letters(definitions: Definitions, device_id: str) -> None:
    """Refuse an id that a device has in another letter case, and so with another alias.

    :raises DeviceConflict: there is such a device.
    """
    for _side, domain in definitions.sides():
        for found in domain.devices():
            written = alias.parse(found.alias)
            if written not in (None, device_id) and names.normal(written or '') == names.normal(device_id):
                raise exception.DeviceConflict(
                    instance=domain.uuid,
                    device=device_id,
                    reason=f'{found.describe()} has this id in another letter case: {written}',
                )


def check_same(
    instance: str, device_id: str, wanted: base.Device, decided: differences.Decided, found: base.Device
) -> None:
    """Check that the device with an id is the requested one, in all properties that the request decides.

    :param decided: the properties that count, with their fields.
    :raises DeviceConflict: the device is another one, or has another property; the message names the field.
    """
    contradiction = identity.first_contradiction(found, wanted, sources.lead_to_one)
    if contradiction is not None:
        field, has, wants = contradiction
        difference: differences.Difference | None = differences.Difference(field, str(has), str(wants))
    else:
        difference = differences.first(found, wanted, decided)
    if difference is not None:
        raise exception.DeviceConflict(
            instance=instance,
            device=device_id,
            reason=f'it is attached with {difference.field} {difference.have}, the request asks for {difference.want}',
        )


def check_can_go(
    definitions: Definitions, device_id: str, live: Found | None, persistent: Found | None, kind: str | None
) -> None:
    """Check that a device may be detached, before anything is changed.

    :param kind: the kind that the device must have; None for any.
    :raises DeviceConflict: the device is of another kind, or other devices are plugged into it.
    :raises Unsupported: a running guest has the device, and no running guest releases such a device.
    """
    for domain, found in ((definitions.live, live), (definitions.persistent, persistent)):
        if domain is None or found is None:
            continue
        if kind is not None and found.device.kind != kind and not (kind == 'interface' and _is_card(found.device)):
            raise exception.DeviceConflict(
                instance=domain.uuid, device=device_id, reason=f'it is no {kind} but a {found.device.kind}'
            )
        users = domain.users_of(found.device)
        if users:
            words = ', '.join(user.describe() for user in users)
            raise exception.DeviceConflict(
                instance=domain.uuid, device=device_id, reason=f'it is in use; plugged into it: {words}'
            )
    if live is not None and not live.device.can_be_unplugged:
        raise exception.Unsupported(what=f'detach of {live.device.describe()}', reason='no running guest releases one')


def _is_card(device: base.Device) -> bool:
    """Return whether a device can be the whole physical card of a port, for which libvirt has no interface."""
    return isinstance(device, Hostdev) and device.type == 'pci'
