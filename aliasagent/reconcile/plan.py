# SPDX-License-Identifier: Apache-2.0
"""What is to be done about a definition whose devices lack aliases. Pure: nothing is read or written here."""

import collections
import dataclasses
import enum
from collections.abc import Iterable

from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain

#: The kinds that stand for something outside the guest, so that somebody may ask for them by its id.
KINDS = frozenset({'disk', 'interface', 'hostdev'})


@dataclasses.dataclass(frozen=True)
class Record:
    """What somebody who knows says of one device: whose it is, and how to tell it from others.

    A record fits a device of its kind that agrees with everything it says. A target counts here: whoever says it speaks
    of this guest as it is now.
    """

    device_id: str
    kind: str
    #: Who says so, for the reason that is reported.
    told_by: str
    mac: str | None = None
    host_address: str | None = None
    source: str | None = None
    target: str | None = None

    def fits(self, device: base.Device) -> bool:
        """Whether the record speaks of this device."""
        known = identity.claim(device)
        said = [
            (self.mac, known.mac),
            (self.host_address, known.host_address),
            (self.source, device.source),
            (self.target, device.target),
        ]
        said = [(want, have) for want, have in said if want is not None]
        return device.kind == self.kind and bool(said) and all(want == have for want, have in said)


class Outcome(enum.StrEnum):
    """What is said of one device. The last two are not the plan's, but come of carrying it out."""

    ALIASED = 'has an alias'
    GETS_ALIAS = 'gets an alias'
    UNIDENTIFIED = 'cannot be identified'
    CONFLICT = 'conflicts'
    #: It would get one, but libvirt does not take it.
    REFUSED = 'is refused by libvirt'
    #: It would get one, but the guest is transient: there is nothing to write it to.
    TRANSIENT = 'has no persistent config'


@dataclasses.dataclass(frozen=True)
class Step:
    """One device and what is to be done about it."""

    device: base.Device
    outcome: Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has, gets, or would get.
    alias: str | None = None


def plan(domain: Domain, records: Iterable[Record] = ()) -> list[Step]:
    """What to do about each device of a definition that stands for something outside the guest.

    Existing user aliases are never touched. What a device carries itself comes first, and must not be contradicted by a
    record; a record alone counts if it fits one device only, and that device no record of another id. Two devices with
    one identity are both left alone.

    :param records: what is known from elsewhere; their order does not matter.
    """
    ports = domain.ports()
    known = frozenset(records)
    devices = [(device, identity.identify(device, ports)) for device in domain.devices()]
    told = {id(device): _told(device, known) for device, _whose in devices if known and not device.is_claimed}
    # Of all kinds: an alias is taken, whatever carries it.
    holders: collections.Counter[str] = collections.Counter()
    for device, whose in devices:
        holders.update({whose.device_id.lower()} if whose is not None else told.get(id(device), {}).keys())
    return [
        _step(device, whose, told.get(id(device), {}), holders) for device, whose in devices if device.kind in KINDS
    ]


def _told(device: base.Device, records: frozenset[Record]) -> dict[str, str]:
    """Whose the device is according to the records, and who says so."""
    return {record.device_id.lower(): record.told_by for record in records if record.fits(device)}


def _step(
    device: base.Device,
    whose: identity.Identity | None,
    told: dict[str, str],
    holders: collections.Counter[str],
) -> Step:
    if device.is_claimed:
        return Step(device, Outcome.ALIASED, 'by its alias', device.alias)
    ids = {whose.device_id.lower(), *told} if whose is not None else set(told)
    if not ids:
        return Step(device, Outcome.UNIDENTIFIED, 'nothing says whose it is')
    if len(ids) > 1:
        return Step(device, Outcome.CONFLICT, f'it could be any of {", ".join(sorted(ids))}')
    (device_id,) = ids
    if holders[device_id] > 1:
        return Step(device, Outcome.CONFLICT, f'{holders[device_id]} devices could be that of {device_id}')
    reason = f'by its {whose.evidence}' if whose is not None else f'as the {told[device_id]} says'
    return Step(device, Outcome.GETS_ALIAS, reason, alias.make(device_id))
