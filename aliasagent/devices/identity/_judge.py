# SPDX-License-Identifier: Apache-2.0
"""Decide which id a device has, by the tables of :mod:`aliasagent.devices.identity`."""

from collections.abc import Iterable
from collections.abc import Iterator

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.identity._claims import Record
from aliasagent.devices.identity._evidence import HINTS_BY_RANK
from aliasagent.devices.identity._evidence import INVENTORIES
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Identity
from aliasagent.devices.identity._evidence import Judgement


def rests_on_name(device: base.Device) -> bool:
    """Return whether, of a device's own evidence, only the source's name agrees with the device's user alias."""
    # Earlier releases gave an alias on the source's name alone.
    own = [it for it in _own_evidence(device, frozenset()) if it.device_id == names.normal(device.device_id or '')]
    return [it.evidence for it in own] == [Evidence.SOURCE_NAME]


def identify(device: base.Device, ports: frozenset[str]) -> Identity | None:
    """Return the id of a device by its user alias, else by proof; None if neither names an id.

    :param ports: the ids of the ports in the guest's metadata.
    """
    if device.is_claimed:
        return Identity(device.device_id, Evidence.ALIAS) if device.device_id is not None else None
    return judge(device, ports).identity


def judge(device: base.Device, ports: frozenset[str], records: Iterable[Record] = ()) -> Judgement:
    """Decide which id a device has.

    :param ports: the ids of the ports in the guest's metadata.
    :param records: hints from the journal and from inventories, in any order.
    """
    own = tuple(_own_evidence(device, ports))
    hints = _hints_for(device, records)
    candidates = (*own, *hints)
    if not device.is_claimed:
        return Judgement(_judge_unclaimed(own, hints), candidates)
    if device.device_id is None:
        return Judgement(None)
    name = Identity(device.device_id, Evidence.ALIAS)
    if _is_trusted(name, own):
        return Judgement(name, (name, *candidates))
    return Judgement(_judge_contradicted(name, own, hints), (name, *candidates))


def _is_trusted(name: Identity, own: tuple[Identity, ...]) -> bool:
    """Return whether the device's own evidence does not contradict its alias."""
    if not names.is_uuid(name.device_id):
        return True  # ids of volumes are UUIDs, so a serial or source name cannot contradict this alias
    disks = {it.evidence: it.device_id for it in own if it.evidence in (Evidence.SERIAL, Evidence.SOURCE_NAME)}
    wanted = names.normal(name.device_id)
    return disks.get(Evidence.SOURCE_NAME) == wanted or all(it == wanted for it in disks.values())


def _judge_contradicted(name: Identity, own: tuple[Identity, ...], hints: tuple[Identity, ...]) -> Identity | None:
    """Return the id that the hints decide on, for a device whose evidence contradicts its alias."""
    if len({it.device_id for it in hints}) != 1:
        return None
    hint = hints[0]
    if hint.device_id == names.normal(name.device_id):
        return name
    decides = hint.evidence in INVENTORIES and hint.device_id in {it.device_id for it in own}
    return hint if decides else None


def _judge_unclaimed(own: tuple[Identity, ...], hints: tuple[Identity, ...]) -> Identity | None:
    """Return the id of a device without user alias."""
    proofs = [it for it in own if it.evidence is not Evidence.SOURCE_NAME]
    own_ids = {it.device_id for it in own}
    if not hints:
        return proofs[0] if proofs and len(own_ids) == 1 else None
    if len({it.device_id for it in hints}) > 1:
        return None
    hint = hints[0]
    if not proofs:
        return hint
    if {it.device_id for it in proofs} == {hint.device_id}:
        return proofs[0] if len(own_ids) == 1 else hint
    decides = hint.evidence in INVENTORIES and hint.device_id in own_ids
    return hint if decides else None


def _hints_for(device: base.Device, records: Iterable[Record]) -> tuple[Identity, ...]:
    """Return the ids that hints name for a device: of the hints that fit, only those of the highest rank."""
    found = {Identity(names.normal(it.device_id), Evidence(it.told_by)) for it in records if it.fits(device)}
    if not found:
        return ()
    for evidence in HINTS_BY_RANK:
        of_one_rank = sorted((it for it in found if it.evidence is evidence), key=lambda it: it.device_id)
        if of_one_rank:
            return tuple(of_one_rank)
    return ()


def _own_evidence(device: base.Device, ports: frozenset[str]) -> Iterator[Identity]:
    """Yield the ids that a device's own properties other than its alias name, the strongest first, in lower case."""
    match device:
        case disk.Disk():
            serial = (device.serial or '').strip()
            if names.is_uuid(serial):
                yield Identity(serial.lower(), Evidence.SERIAL)
            if (volume := _volume_in_source(device)) is not None:
                yield Identity(volume, Evidence.SOURCE_NAME)
        case interface.Interface():
            if device.interfaceid is not None and names.is_uuid(device.interfaceid):
                yield Identity(device.interfaceid.lower(), Evidence.INTERFACEID)
            elif (port := _port_of_tap(device, ports)) is not None:
                yield Identity(port, Evidence.TAP_NAME)
        case hostdev.Hostdev() if names.is_uuid(device.mdev_uuid or ''):
            yield Identity(str(device.mdev_uuid).lower(), Evidence.MDEV_UUID)


def _volume_in_source(device: disk.Disk) -> str | None:
    if device.element.find('source/snapshot') is not None:
        return None  # a snapshot is not the volume
    named = {names.volume_in(text) for text in device.source_texts} - {None}
    return named.pop() if len(named) == 1 else None


def _port_of_tap(device: interface.Interface, ports: frozenset[str]) -> str | None:
    socket = (device.source_path or '').rpartition('/')[2].lower() if device.type == 'vhostuser' else ''
    prefixes = {prefix for name in (device.target_dev or '', socket) if (prefix := names.port_in(name)) is not None}
    listed = [port for port in ports if names.is_uuid(port)]
    if socket in listed:
        prefixes.add(socket)  # VPP names the socket by the whole id
    matches = [port for port in listed if all(port.startswith(it) for it in prefixes)]
    return matches[0] if prefixes and len(matches) == 1 else None
