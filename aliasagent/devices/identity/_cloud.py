# SPDX-License-Identifier: Apache-2.0
"""Decide which hints of the cloud a definition bears out.

Nova names a volume by its target, which is no proof, and an answer may be older or newer than the definition. So the
answer as a whole must fit the definition as a whole, or none of it counts.
"""

import dataclasses
from collections.abc import Iterable

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity._claims import Record
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._judge import judge


@dataclasses.dataclass(frozen=True)
class _Known:
    """A device, and what is known of it without the cloud."""

    device: base.Device
    #: The ids by its alias, by proof and by other hints.
    ids: frozenset[str]
    #: The id of the volume that its source is named after, which is no proof.
    named: str | None
    #: The first 11 characters of a port's id in the names of the device on the host, which are no proof alone.
    prefixes: frozenset[str]
    #: Whether the device may be a volume, port or host device of the cloud.
    may_be_told: bool


def borne_out(definition: Domain, records: Iterable[Record]) -> frozenset[Record]:
    """Return hints without those of the cloud that the definition does not bear out.

    :param records: hints for the guest's devices, of any origin.
    """
    hints = frozenset(records)
    told = {it for it in hints if it.told_by == Evidence.CLOUD}
    if not told:
        return hints
    others = hints - told
    ports = definition.ports()
    known = [_known(device, ports, others, definition.uuid) for device in definition.devices()]
    disks = [it for it in known if isinstance(it.device, disk.Disk)]
    volumes = [it for it in told if it.kind == disk.Disk.tag]
    return others.union(_volumes(disks, volumes), _others(known, told.difference(volumes)))


def _known(device: base.Device, ports: frozenset[str], hints: frozenset[Record], instance: str) -> _Known:
    candidates = judge(device, ports, hints).candidates
    named = [it.device_id for it in candidates if it.evidence is Evidence.SOURCE_NAME]
    ids = frozenset(names.normal(it.device_id) for it in candidates if it.evidence is not Evidence.SOURCE_NAME)
    is_local = isinstance(device, disk.Disk) and (
        device.source is None or names.is_local_disk(device.source, instance)
    )
    return _Known(device, ids, named[0] if named else None, _prefixes(device), not is_local)


def _prefixes(device: base.Device) -> frozenset[str]:
    if not isinstance(device, interface.Interface):
        return frozenset()
    socket = (device.source_path or '').rpartition('/')[2]
    found = (names.port_in(name) for name in (device.target_dev or '', socket))
    return frozenset(it for it in found if it is not None)


def _volumes(disks: list[_Known], told: list[Record]) -> list[Record]:
    """Return the hints for volumes: all, or those that contradict the definition, or none.

    The hints must name each disk that may be a volume, each disk once. If one contradicts a disk's proof, Nova may have
    swapped the volume: that disk is disputed then, and the others are not identified.
    """
    fitting = {it: [disk for disk in disks if it.fits(disk.device)] for it in told}
    is_whole = all(
        disk.device.is_claimed or not disk.may_be_told or sum(disk in found for found in fitting.values()) == 1
        for disk in disks
    )
    told_ids = [it.device_id for it in told]
    if not is_whole or len(set(told_ids)) != len(told) or not all(_is_placed(it, fitting[it], disks) for it in told):
        return []
    at = {it: found[0] for it, found in fitting.items() if found}
    elsewhere = {it: set(told_ids) - {it.device_id} for it in told}
    if any(elsewhere[it] & {*disk.ids, disk.named} for it, disk in at.items()):
        return []
    contradicting = [it for it, disk in at.items() if disk.ids and it.device_id not in {*disk.ids, disk.named}]
    return contradicting or list(at)


def _is_placed(hint: Record, found: list[_Known], disks: list[_Known]) -> bool:
    """Return whether a hint for a volume fits one disk, and no other disk has its id."""
    holders = [it for it in disks if hint.device_id in it.ids]
    if not found:
        # Nova may not know the target; then the definition must.
        return hint.target is None and len(holders) == 1
    return len(found) == 1 and found[0].may_be_told and holders in ([], found)


def _others(known: list[_Known], told: set[Record]) -> list[Record]:
    """Return the hints for ports that fit one device, which no other hint fits and no evidence contradicts."""
    at = [(it, [one for one in known if it.fits(one.device)]) for it in told]
    placed = [(it, found[0]) for it, found in at if len(found) == 1]
    return [
        it
        for it, one in placed
        if {one.device} == {other.device for hint, other in placed if hint.device_id == it.device_id}
        and {it.device_id} == {hint.device_id for hint, other in placed if other is one}
        and one.ids <= {it.device_id}
        and one.prefixes <= {it.device_id[:11]}
        and all(other is one or it.device_id not in other.ids for other in known)
    ]
