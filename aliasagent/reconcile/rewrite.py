# SPDX-License-Identifier: Apache-2.0
"""Aliases into the definition with which a guest that runs is to go on. Pure: nothing is read or written here.

A running guest's devices keep the aliases they have. It gets others only where it is made anew from a definition: when
it moves to another host, or is restored from a file. Memory devices have to keep theirs even then (libvirt, code 67),
and what does not stand for something outside the guest is left alone.
"""

import collections
from collections.abc import Iterable

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan


def give(definition: Domain, other: Domain | None, records: Iterable[plan.Record] = ()) -> dict[str, str]:
    """Set the aliases that a definition's devices lack, in place, and change nothing else.

    What the guest's other definition calls a device comes first, so that both sides agree; then what the plan says. A
    device is recognised on the other side by identity, or by what nothing else looks like, never by its position. Where
    the two contradict each other the device is left alone.

    :param other: the guest's other definition, the persistent one for a running guest's; None if there is none.
    :param records: what is known from elsewhere, for the plan.
    :return: the aliases that were set, and on what evidence.
    """
    records = tuple(records)
    chosen = _of_other(definition, other, records) if other is not None else []
    settled = {id(device.element) for device, _name, _reason in chosen}
    for step in plan.plan(definition, records):
        if step.outcome is not plan.Outcome.GETS_ALIAS or step.alias is None:
            continue
        if id(step.device.element) in settled:
            continue
        if other is None or not identity.contradicts_alias(other, step.device, step.alias):
            chosen.append((step.device, step.alias, step.reason))
    # libvirt tells the case of letters apart, but it is the same volume.
    taken = collections.Counter((device.alias or '').lower() for device in definition.devices())
    taken.update(name.lower() for _device, name, _reason in chosen)
    wanted = collections.Counter(id(device.element) for device, _name, _reason in chosen)
    given = {}
    for device, name, reason in chosen:
        if taken[name.lower()] == 1 and wanted[id(device.element)] == 1:
            device.alias = name
            given[name] = reason
    return given


def _of_other(
    definition: Domain, other: Domain, records: Iterable[plan.Record]
) -> list[tuple[base.Device, str, str]]:
    """The devices without alias that have one in the other definition, with that alias and the evidence."""
    chosen = []
    for known in other.devices():
        device_id = known.device_id
        if known.kind not in plan.KINDS or device_id is None or not alias.is_valid_id(device_id):
            continue
        whose = identity.judge(known, frozenset(), records).identity
        if whose is None or whose.evidence is not identity.Evidence.ALIAS:
            continue  # an alias that is doubtful there is none here
        try:
            found = identity.counterpart(device_id, known, other, definition, records)
        except (exception.AmbiguousDevice, exception.DeviceConflict):
            continue
        if found is None or found.device.is_claimed or found.device.kind != known.kind:
            continue
        chosen.append((found.device, alias.make(device_id), f'as on its other side, by its {found.evidence}'))
    return chosen
