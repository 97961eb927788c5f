# SPDX-License-Identifier: Apache-2.0
"""The device of an id in both definitions of a guest, and what may be done about it."""

from aliasagent import exception
from aliasagent.devices import base
from aliasagent.devices import differences
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.devices.domain import Found
from aliasagent.virt import sources
from aliasagent.virt.guest import Definitions


def both(definitions: Definitions, device_id: str) -> tuple[Found | None, Found | None]:
    """The device live and persistent; what one side shows of it helps to recognise it on the other.

    :raises AmbiguousDevice: more than one device could be meant.
    """
    live, persistent = (
        None if domain is None else domain.find(device_id) for domain in (definitions.live, definitions.persistent)
    )
    if live is None and persistent is not None:
        live = known(device_id, persistent, definitions.persistent, definitions.live)
    elif persistent is None and live is not None:
        persistent = known(device_id, live, definitions.live, definitions.persistent)
    return live, persistent


def known(device_id: str, found: Found, at_home: Domain | None, abroad: Domain | None) -> Found | None:
    """The device of one definition in the other one, by what it looks like at home.

    :raises AmbiguousDevice: more than one device could be meant.
    """
    if at_home is None or abroad is None:
        return None
    there = abroad.find(device_id, identity.claim(found.device))
    if there is not None and there.evidence in identity.WEAK and at_home.has_double(found.device):
        raise exception.AmbiguousDevice(
            instance=at_home.uuid,
            device=device_id,
            candidates=f'{there.device.describe()} has the {there.evidence} of several devices',
        )
    return there


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
    instance: str, device_id: str, live: Found | None, persistent: Found | None, kind: str | None
) -> None:
    """See that a device may be taken out.

    :param kind: what it has to be; None for any.
    :raises DeviceConflict: it is of another kind.
    :raises Unsupported: a running guest has it, and none releases such a device.
    """
    for found in (live, persistent):
        if found is not None and kind is not None and found.device.kind != kind:
            raise exception.DeviceConflict(
                instance=instance, device=device_id, reason=f'it is no {kind} but a {found.device.kind}'
            )
    if live is not None and not live.device.can_be_unplugged:
        raise exception.Unsupported(what=f'detach of {live.device.describe()}', reason='no running guest releases one')
