# SPDX-License-Identifier: Apache-2.0
"""What is to be done about a definition whose devices lack aliases. Pure: nothing is read or written here."""

import collections
import dataclasses
import enum
from collections.abc import Iterable

from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices.domain import Domain

#: The kinds that stand for something outside the guest, so that somebody may ask for them by its id.
KINDS = frozenset({'disk', 'interface', 'hostdev'})

#: What a record or an inventory says of one device.
Record = identity.Record

_DECIDES = 'an inventory that names it decides'


class Outcome(enum.StrEnum):
    """What is said of one device. The last two are not the plan's, but come of carrying it out."""

    ALIASED = 'has an alias'
    GETS_ALIAS = 'gets an alias'
    UNIDENTIFIED = 'cannot be identified'
    CONFLICT = 'conflicts'
    #: It would get one, but libvirt does not take it.
    REFUSED = 'is refused by libvirt'
    #: It would get one, but there is no persistent config to write it to: the guest is transient, or only the running
    #: guest has the device.
    TRANSIENT = 'has no persistent config'


@dataclasses.dataclass(frozen=True)
class Step:
    """One device and what is to be done about it."""

    device: base.Device
    outcome: Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has, gets, or would get.
    alias: str | None
    judgement: identity.Judgement


def plan(domain: Domain, records: Iterable[Record] = ()) -> list[Step]:
    """Decide what to do about each device of a definition that stands for something outside the guest.

    Existing user aliases are never touched. Whose a device is, is judged by :mod:`aliasagent.devices.identity`. Two
    devices that could both be that of one id are both left alone.

    :param records: what is known from elsewhere; their order does not matter.
    """
    ports = domain.ports()
    known = frozenset(records)
    judged = [(device, identity.judge(device, ports, known)) for device in domain.devices()]
    # Of all kinds: an alias is taken, whatever carries it.
    holders: collections.Counter[str] = collections.Counter()
    for _device, judgement in judged:
        holders.update(judgement.ids)
    named: dict[str, list[str]] = {name: [] for name in domain.doubled_aliases()}
    for device, _judgement in judged:
        if device.alias in named:
            source = f' ({device.source})' if device.source else ''
            named[device.alias].append(device.describe() + source)
    steps = []
    for device, judgement in judged:
        if device.kind in KINDS:
            outcome, reason, name = (
                _of_claimed(device, judgement, named) if device.is_claimed else _of_unclaimed(judgement, holders)
            )
            steps.append(Step(device, outcome, reason, name, judgement))
    return steps


_Verdict = tuple[Outcome, str, str | None]


def _of_claimed(device: base.Device, judgement: identity.Judgement, named: dict[str, list[str]]) -> _Verdict:
    name = device.alias
    if name in named:
        return Outcome.CONFLICT, f'{len(named[name])} devices have this alias: {", ".join(named[name])}', name
    if judgement.is_disputed:
        return Outcome.CONFLICT, f'what it says contradicts itself: {judgement.words()}; {_DECIDES}', name
    if judgement.identity is not None and judgement.identity.evidence is not identity.Evidence.ALIAS:
        whose = judgement.identity
        return Outcome.CONFLICT, f'it is {whose.device_id}, {identity.reason(whose.evidence)}, and not its alias', name
    return Outcome.ALIASED, 'by its alias', name


def _of_unclaimed(judgement: identity.Judgement, holders: collections.Counter[str]) -> _Verdict:
    whose = judgement.identity
    if whose is None:
        if judgement.is_disputed:
            return Outcome.CONFLICT, f'what it says contradicts itself: {judgement.words()}; {_DECIDES}', None
        if judgement.unproven_id is not None:
            reason = f'its source is named after volume {judgement.unproven_id}, which is no proof; {_DECIDES}'
            return Outcome.UNIDENTIFIED, reason, None
        return Outcome.UNIDENTIFIED, 'nothing says whose it is', None
    device_id = names.normal(whose.device_id)
    if holders[device_id] > 1:
        return Outcome.CONFLICT, f'{holders[device_id]} devices could be that of {device_id}', None
    return Outcome.GETS_ALIAS, identity.reason(whose.evidence), alias.make(device_id)


def settled(domain: Domain, steps: Iterable[Step]) -> list[Record]:
    """List what an inventory has said of devices, as far as it tells them from all others later, too."""
    kept = []
    for step in steps:
        if step.outcome is Outcome.CONFLICT and not step.device.is_claimed:
            continue  # several devices could be that of this id
        record = identity.settled(step.device, step.judgement, domain.devices())
        if record is not None:
            kept.append(record)
    return kept
