# SPDX-License-Identifier: Apache-2.0
"""Plan the aliases of a definition's devices, without I/O."""

import collections
import dataclasses
import enum
from collections.abc import Iterable

from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import identity
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.domain import Domain

#: The kinds of devices that a client names by an id: those of volumes, ports and devices of the host.
KINDS = frozenset({'disk', 'interface', 'hostdev'})

#: A hint for one device.
Record = identity.Record

_REMEDY = 'name the device in an inventory'


class Outcome(enum.StrEnum):
    """The outcome for one device. Only :mod:`aliasagent.reconcile.apply` sets the last two."""

    ALIASED = 'has an alias'
    GETS_ALIAS = 'gets an alias'
    UNIDENTIFIED = 'cannot be identified'
    #: Nova gave the guest the device, and it is no volume or port: an image, a config drive, a swap or an ephemeral
    #: disk, or a PCI device of the flavor. It needs no alias.
    LOCAL = 'is a local device of Nova'
    CONFLICT = 'conflicts'
    #: The device would get an alias, but libvirt refused it.
    REFUSED = 'is refused by libvirt'
    #: The device would get an alias, but is in no persistent config: the guest is transient, or only the running guest
    #: has the device.
    TRANSIENT = 'has no persistent config'


@dataclasses.dataclass(frozen=True)
class Step:
    """One device and its planned outcome."""

    device: base.Device
    outcome: Outcome
    #: Why, or on what evidence.
    reason: str
    #: The alias that the device has, gets, or would get.
    alias: str | None
    judgement: identity.Judgement


def plan(domain: Domain, records: Iterable[Record] = ()) -> list[Step]:
    """Plan the outcome for each device of :data:`KINDS`.

    A plan never changes a user alias, and gives no alias to devices that may have the same id.

    :param records: hints for the guest's devices, in any order.
    """
    ports = domain.ports()
    hints = identity.borne_out(domain, records)
    judged = [(device, identity.judge(device, ports, hints)) for device in domain.devices()]
    # Devices of all kinds count: an alias can be on a device of any kind.
    holders: collections.Counter[str] = collections.Counter()
    for _device, judgement in judged:
        holders.update(judgement.ids)
    found = {names.normal(judgement.identity.device_id) for _device, judgement in judged if judgement.identity}
    no_port_left = bool(ports) and ports <= found
    named: dict[str, list[str]] = {name: [] for name in domain.doubled_aliases()}
    for device, _judgement in judged:
        if device.alias in named:
            source = f' ({device.source})' if device.source else ''
            named[device.alias].append(device.describe() + source)
    steps = []
    for device, judgement in judged:
        if device.kind in KINDS:
            if device.is_claimed:
                outcome, reason, name = _of_claimed(device, judgement, named)
            else:
                outcome, reason, name = _of_unclaimed(device, judgement, holders, domain.uuid, no_port_left)
            steps.append(Step(device, outcome, reason, name, judgement))
    return steps


_Verdict = tuple[Outcome, str, str | None]


def _of_claimed(device: base.Device, judgement: identity.Judgement, named: dict[str, list[str]]) -> _Verdict:
    name = device.alias
    if name in named:
        return Outcome.CONFLICT, f'{len(named[name])} devices have this alias: {", ".join(named[name])}', name
    if judgement.is_disputed:
        return Outcome.CONFLICT, f'its evidence contradicts itself: {judgement.words()}; {_REMEDY}', name
    found = judgement.identity
    if found is not None and found.evidence is not identity.Evidence.ALIAS:
        why = f'its id is {found.device_id}, {identity.reason(found.evidence)}, but its alias names another'
        return Outcome.CONFLICT, why, name
    return Outcome.ALIASED, 'by its alias', name


def _of_unclaimed(
    device: base.Device,
    judgement: identity.Judgement,
    holders: collections.Counter[str],
    instance: str,
    no_port_left: bool,
) -> _Verdict:
    """Plan the outcome for a device without alias.

    :param no_port_left: whether Nova lists the ports of the guest, and each is a device already.
    """
    found = judgement.identity
    if found is None:
        if judgement.is_disputed:
            return Outcome.CONFLICT, f'its evidence contradicts itself: {judgement.words()}; {_REMEDY}', None
        if judgement.unproven_id is not None:
            reason = f'its source is named after volume {judgement.unproven_id}, which is no proof; {_REMEDY}'
            return Outcome.UNIDENTIFIED, reason, None
        return _of_nameless(device, instance, no_port_left)
    device_id = names.normal(found.device_id)
    if holders[device_id] > 1:
        return Outcome.CONFLICT, f'{holders[device_id]} devices may have the id {device_id}', None
    return Outcome.GETS_ALIAS, identity.reason(found.evidence), alias.make(device_id)


def _of_nameless(device: base.Device, instance: str, no_port_left: bool) -> _Verdict:
    """Plan the outcome for a device about which no evidence names an id."""
    match device:
        case disk.Disk() if names.is_local_disk(device.source or '', instance):
            return Outcome.LOCAL, 'by the name of its source; it is no volume', None
        case hostdev.Hostdev() if device.host_address is not None and no_port_left:
            return Outcome.LOCAL, 'each port of the guest is another device; it is no port', None
        case interface.Interface() if names.port_in(device.target or '') is not None:
            reason = f'its name has the beginning of a port id, which is no proof; {_REMEDY}'
            return Outcome.UNIDENTIFIED, reason, None
        case _:
            return Outcome.UNIDENTIFIED, 'no evidence names its id', None


def settled(domain: Domain, steps: Iterable[Step]) -> list[Record]:
    """List the hints that keep an inventory's decisions about devices."""
    kept = []
    for step in steps:
        if step.outcome is Outcome.CONFLICT and not step.device.is_claimed:
            continue  # several devices may have this id
        record = identity.settled(step.device, step.judgement, domain.devices())
        if record is not None:
            kept.append(record)
    return kept
