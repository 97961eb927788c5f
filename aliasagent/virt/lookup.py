# SPDX-License-Identifier: Apache-2.0
"""The device of an id in both definitions of a guest, and what may be done about it."""

from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import differences
from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices.domain import Domain
from aliasagent.devices.domain import Found
from aliasagent.virt import sources
from aliasagent.virt.guest import Definitions


def both(
    definitions: Definitions, device_id: str, records: Iterable[identity.Record] = ()
) -> tuple[Found | None, Found | None]:
    """Find the device live and persistent; what one side shows of it helps to recognise it on the other.

    :param records: what is known from elsewhere of the guest's devices.
    :raises AmbiguousDevice: more than one device could be meant.
    :raises DeviceConflict: the evidence contradicts itself, or is only a hint, and the other side does not settle it.
    """
    records = tuple(records)
    live, live_doubt = _alone(definitions.live, device_id, records)
    persistent, persistent_doubt = _alone(definitions.persistent, device_id, records)
    if live is None and persistent is not None:
        live = known(device_id, persistent, definitions.persistent, definitions.live, records)
    elif persistent is None and live is not None:
        persistent = known(device_id, live, definitions.live, definitions.persistent, records)
    for found, doubt in ((live, live_doubt), (persistent, persistent_doubt)):
        if found is None and doubt is not None:
            raise doubt
    return live, persistent


def _alone(
    domain: Domain | None, device_id: str, records: tuple[identity.Record, ...]
) -> tuple[Found | None, exception.DeviceConflict | None]:
    """The device as one definition alone shows it, or why that is doubtful."""
    if domain is None:
        return None, None
    try:
        return domain.find(device_id, records=records), None
    except exception.DeviceConflict as doubt:
        return None, doubt


def known(
    device_id: str,
    found: Found,
    at_home: Domain | None,
    abroad: Domain | None,
    records: Iterable[identity.Record] = (),
) -> Found | None:
    """Find the device of one definition in the other one, by what it looks like at home.

    :param records: what is known from elsewhere of the guest's devices.
    :raises AmbiguousDevice: more than one device could be meant.
    :raises DeviceConflict: the evidence contradicts itself, or is only a hint.
    """
    if at_home is None or abroad is None:
        return None
    there = abroad.find(device_id, identity.claim(found.device), records)
    if there is not None and there.evidence in identity.WEAK and at_home.has_double(found.device):
        raise exception.AmbiguousDevice(
            instance=at_home.uuid,
            device=device_id,
            candidates=f'{there.device.describe()} has the {there.evidence} of several devices',
        )
    return there


def refuse_other_letters(definitions: Definitions, device_id: str) -> None:
    """Refuse an id that a device has in letters of the other case: it is there, and its alias is another one.

    :raises DeviceConflict: there is such a device.
    """
    for _side, domain in definitions.sides():
        for found in domain.devices():
            written = alias.parse(found.alias)
            if written not in (None, device_id) and names.normal(written or '') == names.normal(device_id):
                raise exception.DeviceConflict(
                    instance=domain.uuid,
                    device=device_id,
                    reason=f'{found.describe()} has this id in other letters; it goes by {written}',
                )


def check_same(
    instance: str, device_id: str, wanted: base.Device, decided: differences.Decided, found: base.Device
) -> None:
    """See that the device that goes by an id is the one that is asked for, in all that the request decides.

    :param decided: the properties that count, with their fields.
    :raises DeviceConflict: it is another device, or the same in another way; the words name the field.
    """
    difference = (
        _differs('kind', found.kind, wanted.kind)
        or (None if sources.same(found, wanted) else _differs('source', found.source, wanted.source))
        or _differs('MAC address', identity.claim(found).mac, identity.claim(wanted).mac)
        or differences.first(found, wanted, decided)
    )
    if difference is not None:
        raise exception.DeviceConflict(
            instance=instance,
            device=device_id,
            reason=f'it is attached with {difference.field} {difference.have}, asked for is {difference.want}',
        )


def _differs(field: str, have: str | None, want: str | None) -> differences.Difference | None:
    return None if have == want else differences.Difference(field, str(have), str(want))


def check_can_go(
    definitions: Definitions, device_id: str, live: Found | None, persistent: Found | None, kind: str | None
) -> None:
    """See that a device may be taken out, before anything is changed.

    :param kind: what it has to be; None for any.
    :raises DeviceConflict: it is of another kind, or other devices are plugged into it.
    :raises Unsupported: a running guest has it, and none releases such a device.
    """
    for domain, found in ((definitions.live, live), (definitions.persistent, persistent)):
        if domain is None or found is None:
            continue
        if kind is not None and found.device.kind != kind:
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
