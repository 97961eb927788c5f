# SPDX-License-Identifier: Apache-2.0
"""Which device is meant by an id, in one definition of a guest and in the other one.

By user alias first, then by whose a device is, then by what it looks like. A device that carries the alias of another
id is never found as a fallback.
"""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import names
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity._claims import Claim
from aliasagent.devices.identity._claims import Record
from aliasagent.devices.identity._claims import claim as claim_of
from aliasagent.devices.identity._claims import supports
from aliasagent.devices.identity._evidence import WEAK
from aliasagent.devices.identity._evidence import WORDS
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Judgement
from aliasagent.devices.identity._evidence import reason
from aliasagent.devices.identity._whose import judge

_Side = TypeVar('_Side')

#: What helps where the guest alone cannot tell.
_SETTLES = 'Say whose it is, with an inventory that names it: "aliasagent reconcile GUEST --inventory ..."'


@dataclasses.dataclass(frozen=True)
class Found:
    """A device, and the evidence that it is the one that was looked for."""

    device: base.Device
    evidence: Evidence


def find(
    definition: Domain, device_id: str, claim: Claim | None = None, records: Iterable[Record] = ()
) -> Found | None:
    """Find the device of an id: by its alias, else by identity; None if the definition has no such device.

    :param claim: what the device that is looked for looks like.
    :param records: hints from elsewhere at the guest's devices.
    :raises AmbiguousDevice: more than one device could be meant.
    :raises DeviceConflict: one device could be meant, and its evidence contradicts itself, or is only a hint.
    """
    records = tuple(records)
    named = definition.by_alias(alias.make(device_id))
    if len(named) > 1:
        raise _ambiguous(definition, device_id, [Found(found, Evidence.ALIAS) for found in named])
    if named:
        return _named(definition, device_id, named[0], claim, records)
    ports = definition.ports()
    judged = [(found, judge(found, ports, records)) for found in definition.devices()]
    own, doubtful = _of_id(names.normal(device_id), judged, claim)
    if own:
        return _only(definition, device_id, [*own, *(it for it, _judgement in doubtful)])
    if doubtful:
        raise _doubtful(definition, device_id, doubtful)
    return None if claim is None else _fitting(definition, device_id, judged, claim)


def find_both(
    live: Domain | None, persistent: Domain | None, device_id: str, records: Iterable[Record] = ()
) -> tuple[Found | None, Found | None]:
    """Find the device of an id, live and persistent; what one definition shows of it helps to find it in the other.

    :param records: hints from elsewhere at the guest's devices.
    :raises AmbiguousDevice: more than one device could be meant.
    :raises DeviceConflict: the evidence contradicts itself, or is only a hint, and the other definition does not settle
        it.
    """
    records = tuple(records)
    in_live, live_doubt = _alone(live, device_id, records)
    in_persistent, persistent_doubt = _alone(persistent, device_id, records)
    if live is not None and persistent is not None:
        if in_live is None and in_persistent is not None:
            in_live = counterpart(device_id, in_persistent.device, persistent, live, records)
        elif in_persistent is None and in_live is not None:
            in_persistent = counterpart(device_id, in_live.device, live, persistent, records)
    for found, doubt in ((in_live, live_doubt), (in_persistent, persistent_doubt)):
        if found is None and doubt is not None:
            raise doubt
    return in_live, in_persistent


def _alone(
    definition: Domain | None, device_id: str, records: tuple[Record, ...]
) -> tuple[Found | None, exception.DeviceConflict | None]:
    """The device as one definition alone shows it, or why that is doubtful."""
    if definition is None:
        return None, None
    try:
        return find(definition, device_id, records=records), None
    except exception.DeviceConflict as doubt:
        return None, doubt


def counterpart(
    device_id: str, device: base.Device, definition: Domain, other: Domain, records: Iterable[Record] = ()
) -> Found | None:
    """Find the device of one definition in the other one, by what it looks like here; None if it is not there.

    :param records: hints from elsewhere at the guest's devices.
    :raises AmbiguousDevice: more than one device could be meant.
    :raises DeviceConflict: the evidence contradicts itself, or is only a hint.
    """
    there = find(other, device_id, claim_of(device), records)
    if there is not None:
        _refuse_double_look(definition, device_id, there, device)
    return there


def has_double(definition: Domain, device: base.Device) -> bool:
    """Whether another device of the definition looks like this one to somebody who does not know their ids."""
    claim = claim_of(device)
    # One of them is the device itself, be it in hand as a copy.
    return sum(supports(found, claim) is not None for found in definition.devices()) > 1


def _refuse_double_look(definition: Domain, device_id: str, found: Found, device: base.Device) -> None:
    """Refuse a device that was found by its look alone, if a definition has several that look like ``device``.

    :raises AmbiguousDevice: it has.
    """
    if found.evidence in WEAK and has_double(definition, device):
        raise exception.AmbiguousDevice(
            instance=definition.uuid,
            device=device_id,
            candidates=f'{found.device.describe()} has the {found.evidence} of several devices',
        )


def find_attached(
    instance: str,
    device_id: str,
    device: base.Device,
    definitions: list[tuple[_Side, Domain]],
    records: tuple[Record, ...] = (),
) -> dict[_Side, Found]:
    """Find a device that is to be attached in the definitions that have it already.

    :param records: hints from elsewhere at the guest's devices.
    :raises DeviceConflict: there is one that may be it, and does not say whose it is.
    :raises AmbiguousDevice: several could be it, in one definition or in both together.
    """
    claim = claim_of(device)
    if claim.mac is not None and not any(_has(definition, device_id, records) for _side, definition in definitions):
        for _side, definition in definitions:
            _refuse_lookalike(instance, device_id, device, claim, definition, records)
        claim = dataclasses.replace(claim, mac=None)
    found = {
        side: it for side, definition in definitions if (it := find(definition, device_id, claim, records)) is not None
    }
    for it in found.values():
        for _side, definition in definitions:
            # One definition may lack one of them, and have only the other.
            _refuse_double_look(definition, device_id, it, it.device)
    if found and all(it.evidence in WEAK | WORDS for it in found.values()):
        # It could be this device from before aliases, or another that looks the same. Were it given this id here, a
        # detach might take another's device; were it taken for this one, a detach would not find it: what an inventory
        # said of it ends with an attach.
        it = next(iter(found.values()))
        if it.evidence in WEAK:
            why = f'{it.device.describe()} has the same {it.evidence} and no alias that says whose it is'
        else:
            why = f'{it.device.describe()} is it, {reason(it.evidence)}, and has no alias that says so yet'
        raise exception.DeviceConflict(instance=instance, device=device_id, reason=why)
    return found


def _has(definition: Domain, device_id: str, records: tuple[Record, ...]) -> bool:
    """Whether a definition says by itself which device is that of an id, if not beyond doubt."""
    try:
        return find(definition, device_id, records=records) is not None
    except exception.Conflict:
        return True  # judged again with what the device looks like


def _refuse_lookalike(
    instance: str,
    device_id: str,
    device: base.Device,
    claim: Claim,
    definition: Domain,
    records: tuple[Record, ...],
) -> None:
    """Refuse an interface with the MAC of others that may be it: a port is one, but two ports may have one MAC.

    :raises DeviceConflict: the guest has such an interface, and nothing says whose it is.
    """
    ports = definition.ports()
    alike = [
        f'{found.describe()} on {found.source}'
        for found in definition.devices()
        if not found.is_claimed
        and supports(found, claim) is Evidence.MAC
        and judge(found, ports, records).whose is None
    ]
    if alike:
        raise exception.DeviceConflict(
            instance=instance,
            device=device_id,
            reason=f'asked for is one on {device.source}; by its MAC it may be what the guest has with no alias that '
            f'says whose it is: {"; ".join(alike)}. Reconcile the guest with an inventory first',
        )


def is_called_otherwise(other: Domain, device: base.Device, name: str) -> bool:
    """Whether a guest's other definition calls a device by another alias than this, or another device by it."""
    claim = claim_of(device)
    return any((it.alias == name) != (supports(it, claim) is not None) for it in other.devices() if it.is_claimed)


def _of_id(
    device_id: str, judged: list[tuple[base.Device, Judgement]], claim: Claim | None
) -> tuple[list[Found], list[tuple[Found, Judgement]]]:
    """The devices that are that of an id, and those that could be.

    A hint, or one side of a contradiction, is enough for a device that also looks as it should.
    """
    own, doubtful = [], []
    for found, judgement in judged:
        if device_id not in judgement.ids:
            continue
        if judgement.whose is not None:
            # One that has the id in capitals as its alias is not renamed.
            if judgement.whose.evidence is not Evidence.ALIAS:
                own.append(Found(found, judgement.whose.evidence))
        elif claim is not None and not found.is_claimed and (evidence := supports(found, claim)) is not None:
            own.append(Found(found, evidence))
        else:
            doubtful.append((Found(found, judgement.said[0].evidence), judgement))
    return own, doubtful


def _is_free(device: base.Device, judgement: Judgement) -> bool:
    """Whether nothing proves that a device is anybody's."""
    return not device.is_claimed and judgement.whose is None and not judgement.is_disputed


def _named(
    definition: Domain, device_id: str, device: base.Device, claim: Claim | None, records: tuple[Record, ...]
) -> Found:
    """The one device that carries an id's alias, if that is trustworthy."""
    found = Found(device, Evidence.ALIAS)
    judgement = judge(device, frozenset(), records)
    is_it = judgement.whose is not None and judgement.whose.evidence is Evidence.ALIAS
    # A request that describes this very device means it, whatever its source is named after.
    if is_it or (claim is not None and supports(device, claim) is not None):
        return found
    raise _doubtful(definition, device_id, [(found, judgement)])


def _fitting(
    definition: Domain, device_id: str, judged: list[tuple[base.Device, Judgement]], claim: Claim
) -> Found | None:
    """The device that looks as the one that is looked for, and is not another's; None if there is none.

    :raises AmbiguousDevice: it cannot be told.
    """
    fitting = [
        (Found(found, evidence), judgement)
        for found, judgement in judged
        if (evidence := supports(found, claim)) is not None
    ]
    if any(_is_free(it.device, judgement) for it, judgement in fitting):
        # If something fits that is another's, the rest may be, too: a MAC, for one, can be that of two ports.
        return _only(definition, device_id, [it for it, _judgement in fitting])
    unclaimed = [(it, judgement) for it, judgement in fitting if not it.device.is_claimed]
    certain = [it for it, _judgement in unclaimed if it.evidence is Evidence.MDEV_UUID]
    disputed = [it for it, judgement in unclaimed if judgement.is_disputed]
    if certain:
        return _only(definition, device_id, certain)
    if disputed:
        raise _ambiguous(definition, device_id, disputed)
    return None


def _only(definition: Domain, device_id: str, candidates: list[Found]) -> Found:
    if len(candidates) > 1:
        raise _ambiguous(definition, device_id, candidates)
    return candidates[0]


def _ambiguous(definition: Domain, device_id: str, candidates: list[Found]) -> exception.AmbiguousDevice:
    return exception.AmbiguousDevice(
        instance=definition.uuid,
        device=device_id,
        candidates='; '.join(f'{found.device.describe()} (by {found.evidence})' for found in candidates),
    )


def _doubtful(
    definition: Domain, device_id: str, doubtful: list[tuple[Found, Judgement]]
) -> exception.AmbiguousDevice | exception.DeviceConflict:
    """The error for devices that could be the one that is looked for by evidence that does not prove it."""
    if len(doubtful) > 1:
        return _ambiguous(definition, device_id, [it for it, _judgement in doubtful])
    ((it, judgement),) = doubtful
    if judgement.hint is not None:
        said = f'only the source of {it.device.describe()} is named after it, which is no proof'
    elif judgement.whose is not None:
        whose = judgement.whose
        said = f'{it.device.describe()} is that of {whose.device_id}, {reason(whose.evidence)}'
    else:
        said = f'what {it.device.describe()} says contradicts itself: {judgement.words()}'
    return exception.DeviceConflict(
        instance=definition.uuid, device=device_id, reason=f'{said}; nothing was changed. {_SETTLES}'
    )
