# SPDX-License-Identifier: Apache-2.0
"""Set missing aliases in the definition with which a running guest continues, without I/O.

The live aliases of a running guest cannot be changed. The guest gets others only with a new definition: in a migration,
or when it is restored from a file. Memory devices must keep their aliases even then (libvirt, code 67). Devices that
are not of :data:`aliasagent.reconcile.plan.KINDS` keep their aliases, too.
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

    A device gets the alias that it has in the guest's other definition, so that both agree; else the alias of the plan.
    If the two contradict each other, the device gets none.

    :param other: the guest's other definition; None if there is none.
    :param records: hints for the guest's devices.
    :return: the new aliases, with the evidence for each.
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
    # libvirt distinguishes aliases by case, but a volume's id is the same in either case.
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
    """Return devices without user alias that have one in the other definition, with this alias and the evidence."""
    chosen = []
    for named in other.devices():
        device_id = named.device_id
        if named.kind not in plan.KINDS or device_id is None or not alias.is_valid_id(device_id):
            continue
        judged = identity.judge(named, frozenset(), records).identity
        if judged is None or judged.evidence is not identity.Evidence.ALIAS:
            continue  # a disputed alias of the other definition does not count
        try:
            found = identity.counterpart(device_id, named, other, definition, records)
        except (exception.AmbiguousDevice, exception.DeviceConflict):
            continue
        if found is None or found.device.is_claimed or found.device.kind != named.kind:
            continue
        chosen.append((found.device, alias.make(device_id), f'as in the other definition, by its {found.evidence}'))
    return chosen
