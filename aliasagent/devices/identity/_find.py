# SPDX-License-Identifier: Apache-2.0
"""Find the device of an id, in one definition of a guest or in both.

The order is: the user alias, then the id by :func:`judge`, then a match with a claim. A device with the user alias of
another id is never found.
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
from aliasagent.devices.identity._evidence import HINTS
from aliasagent.devices.identity._evidence import WEAK
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Judgement
from aliasagent.devices.identity._evidence import reason
from aliasagent.devices.identity._judge import judge

_Side = TypeVar('_Side')

#: What the operator can do where the evidence does not suffice.
_REMEDY = 'Name the device in an inventory: "aliasagent reconcile GUEST --inventory ..."'


@dataclasses.dataclass(frozen=True)
class Found:
    """A device, and the evidence by which it was found."""

    device: base.Device
    evidence: Evidence


def find(
    definition: Domain, device_id: str, claim: Claim | None = None, records: Iterable[Record] = ()
) -> Found | None:
    """Find the device of an id in a definition; None if the definition does not have it.

    :param claim: the properties of the device, if the caller has them.
    :param records: hints for the guest's devices.
    :raises AmbiguousDevice: more than one device may have the id.
    :raises DeviceConflict: one device may have the id, but its evidence contradicts itself, or is no proof.
    """
    records = tuple(records)
    named = definition.by_alias(alias.make(device_id))
    if len(named) > 1:
        raise _ambiguous(definition, device_id, [Found(found, Evidence.ALIAS) for found in named])
    if named:
        return _named(definition, device_id, named[0], claim, records)
    own, doubtful = _with_id(definition, names.normal(device_id), claim, records)
    if own:
        return _only(definition, device_id, [*own, *(it for it, _judgement in doubtful)])
    if doubtful:
        raise _doubtful(definition, device_id, doubtful)
    return None if claim is None else _matching(definition, device_id, claim, records)


def find_both(
    live: Domain | None, persistent: Domain | None, device_id: str, records: Iterable[Record] = ()
) -> tuple[Found | None, Found | None]:
    """Find the device of an id in the live and in the persistent definition.

    A device that only one definition identifies is matched in the other by its properties.

    :param records: hints for the guest's devices.
    :raises AmbiguousDevice: more than one device may have the id.
    :raises DeviceConflict: the evidence contradicts itself or is no proof, and the other definition does not decide.
    """
    records = tuple(records)
    in_live, live_error = _alone(live, device_id, records)
    in_persistent, persistent_error = _alone(persistent, device_id, records)
    if live is not None and persistent is not None:
        if in_live is None and in_persistent is not None:
            in_live = counterpart(device_id, in_persistent.device, persistent, live, records)
        elif in_persistent is None and in_live is not None:
            in_persistent = counterpart(device_id, in_live.device, live, persistent, records)
    for found, error in ((in_live, live_error), (in_persistent, persistent_error)):
        if found is None and error is not None:
            raise error
    return in_live, in_persistent


def _alone(
    definition: Domain | None, device_id: str, records: tuple[Record, ...]
) -> tuple[Found | None, exception.DeviceConflict | None]:
    """Find the device in one definition alone; return an error instead of raising it."""
    if definition is None:
        return None, None
    try:
        return find(definition, device_id, records=records), None
    except exception.DeviceConflict as error:
        return None, error


def counterpart(
    device_id: str, device: base.Device, definition: Domain, other: Domain, records: Iterable[Record] = ()
) -> Found | None:
    """Find a device of one definition in the other one, by id or by properties; None if the other does not have it.

    :param records: hints for the guest's devices.
    :raises AmbiguousDevice: more than one device may be the counterpart.
    :raises DeviceConflict: the evidence contradicts itself, or is no proof.
    """
    found = find(other, device_id, claim_of(device), records)
    if found is not None:
        _refuse_double(definition, device_id, found, device)
    return found


def has_double(definition: Domain, device: base.Device) -> bool:
    """Return whether more than one device of the definition matches the device."""
    claim = claim_of(device)
    # The definition has the device itself, too, even if ``device`` is a copy.
    return sum(supports(found, claim) is not None for found in definition.devices()) > 1


def _refuse_double(definition: Domain, device_id: str, found: Found, device: base.Device) -> None:
    """Refuse a device that was found by a match alone, if several devices of the definition match ``device``.

    :raises AmbiguousDevice: several devices match.
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
    """Find the device of an attach request in the definitions that already have it.

    :param records: hints for the guest's devices.
    :raises DeviceConflict: a device without user alias may be the device.
    :raises AmbiguousDevice: several devices may be the device, in one definition or in both together.
    """
    claim = claim_of(device)
    if claim.mac is not None and not any(
        _has_candidate(definition, device_id, records) for _side, definition in definitions
    ):
        for _side, definition in definitions:
            _refuse_lookalike(instance, device_id, device, claim, definition, records)
        claim = dataclasses.replace(claim, mac=None)
    found = {
        side: it for side, definition in definitions if (it := find(definition, device_id, claim, records)) is not None
    }
    for it in found.values():
        for _side, definition in definitions:
            # Of two devices that match each other, one definition may have only one.
            _refuse_double(definition, device_id, it, it.device)
    if found and all(it.evidence in WEAK | HINTS for it in found.values()):
        # The guest may have the requested device without user alias, or another device that matches. If the attach gave
        # the alias to it, a later detach could remove the wrong device. If the attach succeeded without an alias, a
        # later detach would not find the device, because an attach deletes an inventory's hints for the id.
        it = next(iter(found.values()))
        if it.evidence in WEAK:
            why = f'{it.device.describe()} has the same {it.evidence} and no user alias'
        else:
            why = f'{it.device.describe()} is this device, {reason(it.evidence)}, but has no user alias yet'
        raise exception.DeviceConflict(instance=instance, device=device_id, reason=why)
    return found


def _has_candidate(definition: Domain, device_id: str, records: tuple[Record, ...]) -> bool:
    """Return whether a device of the definition has the id, or may have it, without a claim to match."""
    try:
        return find(definition, device_id, records=records) is not None
    except exception.Conflict:
        return True  # find_attached() searches again, with the claim


def _refuse_lookalike(
    instance: str,
    device_id: str,
    device: base.Device,
    claim: Claim,
    definition: Domain,
    records: tuple[Record, ...],
) -> None:
    """Refuse to attach an interface if the guest has one with the same MAC and without any evidence of its id.

    :raises DeviceConflict: the guest has such an interface.
    """
    # The interface may be the requested port, or another port with the same MAC.
    ports = definition.ports()
    alike = [
        f'{found.describe()} on {found.source}'
        for found in definition.devices()
        if not found.is_claimed
        and supports(found, claim) is Evidence.MAC
        and judge(found, ports, records).identity is None
    ]
    if alike:
        raise exception.DeviceConflict(
            instance=instance,
            device=device_id,
            reason=f'the request is for an interface on {device.source}, but the guest has the same MAC without user '
            f'alias: {"; ".join(alike)}. Reconcile the guest with an inventory first',
        )


def contradicts_alias(other: Domain, device: base.Device, name: str) -> bool:
    """Return whether the other definition has the alias on another device, or another user alias on this device.

    :param name: the user alias that the device is to get.
    """
    claim = claim_of(device)
    return any((it.alias == name) != (supports(it, claim) is not None) for it in other.devices() if it.is_claimed)


def _with_id(
    definition: Domain, device_id: str, claim: Claim | None, records: tuple[Record, ...]
) -> tuple[list[Found], list[tuple[Found, Judgement]]]:
    """Return the devices that have an id, and those that may have it."""
    # Unproven or disputed evidence suffices for a device that also matches the claim.
    own: list[Found] = []
    doubtful: list[tuple[Found, Judgement]] = []
    if not definition.may_mention(device_id) and all(names.normal(it.device_id) != device_id for it in records):
        return own, doubtful  # most definitions end here, and an attach needs no judgement of all their devices
    ports = definition.ports()
    for found in definition.devices():
        judgement = judge(found, ports, records)
        if device_id not in judgement.ids:
            continue
        if judgement.identity is not None:
            # A device whose alias has the id in capital letters keeps this alias.
            if judgement.identity.evidence is not Evidence.ALIAS:
                own.append(Found(found, judgement.identity.evidence))
        elif claim is not None and not found.is_claimed and (evidence := supports(found, claim)) is not None:
            own.append(Found(found, evidence))
        else:
            doubtful.append((Found(found, judgement.candidates[0].evidence), judgement))
    return own, doubtful


def _is_free(device: base.Device, judgement: Judgement) -> bool:
    """Return whether a device has no user alias, no id and no disputed evidence."""
    return not device.is_claimed and judgement.identity is None and not judgement.is_disputed


def _named(
    definition: Domain, device_id: str, device: base.Device, claim: Claim | None, records: tuple[Record, ...]
) -> Found:
    """Return the only device with an id's alias, if the alias is trustworthy.

    :raises DeviceConflict: the device's evidence contradicts its alias.
    """
    found = Found(device, Evidence.ALIAS)
    judgement = judge(device, frozenset(), records)
    is_trusted = judgement.identity is not None and judgement.identity.evidence is Evidence.ALIAS
    # A claim that the device matches means this device, whatever the name of its source.
    if is_trusted or (claim is not None and supports(device, claim) is not None):
        return found
    raise _doubtful(definition, device_id, [(found, judgement)])


def _matching(
    definition: Domain, device_id: str, claim: Claim, records: tuple[Record, ...]
) -> Found | None:
    """Return the device that matches a claim and may have the id; None if there is none.

    :raises AmbiguousDevice: several devices match, or the evidence of a device that matches contradicts itself.
    """
    matches = [
        Found(found, evidence)
        for found in definition.devices()
        if (evidence := supports(found, claim)) is not None
    ]
    ports = definition.ports() if matches else frozenset()
    matching = [(it, judge(it.device, ports, records)) for it in matches]
    if any(_is_free(it.device, judgement) for it, judgement in matching):
        # A second match is ambiguous even if it has another id: two ports, for example, may have the same MAC.
        return _only(definition, device_id, [it for it, _judgement in matching])
    unclaimed = [(it, judgement) for it, judgement in matching if not it.device.is_claimed]
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
    """Make the error for devices that may have an id by evidence that is no proof."""
    if len(doubtful) > 1:
        return _ambiguous(definition, device_id, [it for it, _judgement in doubtful])
    ((it, judgement),) = doubtful
    if judgement.unproven_id is not None:
        why = f'only the source of {it.device.describe()} is named after this id, which is no proof'
    elif judgement.identity is not None:
        found = judgement.identity
        why = f'{it.device.describe()} has the id {found.device_id}, {reason(found.evidence)}'
    else:
        why = f'the evidence of {it.device.describe()} contradicts itself: {judgement.words()}'
    return exception.DeviceConflict(
        instance=definition.uuid, device=device_id, reason=f'{why}; nothing was changed. {_REMEDY}'
    )
