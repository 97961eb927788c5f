# SPDX-License-Identifier: Apache-2.0
"""What is to be done about a definition whose devices lack aliases. Pure: nothing is read or written here."""

import collections
import dataclasses
import enum

from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain

#: The kinds that stand for something outside the guest, so that somebody may ask for them by its id.
KINDS = frozenset({'disk', 'interface', 'hostdev'})


class Outcome(enum.StrEnum):
    """What a plan says of one device."""

    ALIASED = 'has an alias'
    GETS_ALIAS = 'gets an alias'
    UNIDENTIFIED = 'cannot be identified'
    CONFLICT = 'conflicts'


@dataclasses.dataclass(frozen=True)
class Step:
    """One device and what is to be done about it."""

    device: base.Device
    outcome: Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has or gets.
    alias: str | None = None


def plan(domain: Domain) -> list[Step]:
    """What to do about each device of a definition that stands for something outside the guest.

    Existing user aliases are never touched. Two devices with one identity are both left alone.
    """
    ports = domain.ports()
    devices = [(device, identity.identify(device, ports)) for device in domain.devices()]
    # Of all kinds: an alias is taken, whatever carries it.
    holders = collections.Counter(whose.device_id.lower() for _device, whose in devices if whose is not None)
    return [_step(device, whose, holders) for device, whose in devices if device.kind in KINDS]


def _step(device: base.Device, whose: identity.Identity | None, holders: collections.Counter[str]) -> Step:
    if device.is_claimed:
        return Step(device, Outcome.ALIASED, 'by its alias', device.alias)
    if whose is None:
        return Step(device, Outcome.UNIDENTIFIED, 'nothing in it says whose it is')
    if holders[whose.device_id] > 1:
        return Step(device, Outcome.CONFLICT, f'{holders[whose.device_id]} devices are those of {whose.device_id}')
    return Step(device, Outcome.GETS_ALIAS, f'by its {whose.evidence}', alias.make(whose.device_id))
