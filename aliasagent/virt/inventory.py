# SPDX-License-Identifier: Apache-2.0
"""The device list of a guest, made of its two definitions."""

import collections
import dataclasses
from collections.abc import Iterable

from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Side


@dataclasses.dataclass
class Entry:
    """One device of a guest."""

    #: The id of the volume, port or other resource; None if there is no evidence for one, or if the evidence
    #: contradicts itself.
    id: str | None
    kind: str
    #: The user alias; None if the device has none.
    alias: str | None
    target: str | None
    live: bool = False
    persistent: bool = False


def entries(definitions: Definitions, records: Iterable[identity.Record] = ()) -> list[Entry]:
    """Return each device once, in the order of the definitions.

    :param records: hints about the guest's devices.
    """
    # A device of one definition is listed as the same as one of the other by its id, else, only here, by its place.
    hints = tuple(records)
    listed: dict[tuple[object, ...], Entry] = {}
    for side, domain in definitions.sides():
        seen: collections.Counter[tuple[object, ...]] = collections.Counter()
        for device, whose in _identified(domain, hints):
            key = identity.list_key(device, whose)
            seen[key] += 1
            entry = listed.setdefault((*key, seen[key]), Entry(whose, device.kind, None, device.target))
            _add(entry, device, side)
    return list(listed.values())


def _identified(domain: Domain, records: tuple[identity.Record, ...]) -> list[tuple[base.Device, str | None]]:
    ports = domain.ports()
    found = [(device, identity.judge(device, ports, records).identity) for device in domain.devices()]
    return [(device, whose.device_id if whose is not None else None) for device, whose in found]


def _add(entry: Entry, device: base.Device, side: Side) -> None:
    if alias.is_user(device.alias):
        entry.alias = device.alias
    # A tap's name is known only while the guest runs.
    entry.target = device.target or entry.target
    if side is Side.LIVE:
        entry.live = True
    else:
        entry.persistent = True
