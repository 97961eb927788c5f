# SPDX-License-Identifier: Apache-2.0
"""Whose a device is, by the table of :mod:`aliasagent.devices.identity`."""

from collections.abc import Iterable
from collections.abc import Iterator

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.identity._claims import Record
from aliasagent.devices.identity._evidence import INVENTORIES
from aliasagent.devices.identity._evidence import WORDS_BY_RANK
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Identity
from aliasagent.devices.identity._evidence import Judgement


def rests_on_name(device: base.Device) -> bool:
    """Whether nothing but the name of its source agrees with a disk's alias: once, that alone gave it."""
    own = [it for it in _own(device, frozenset()) if it.device_id == names.normal(device.device_id or '')]
    return [it.evidence for it in own] == [Evidence.SOURCE_NAME]


def identify(device: base.Device, ports: frozenset[str]) -> Identity | None:
    """Whose the device is: by its user alias if it has one, else by what proves it; None if it does not say.

    :param ports: the ids of the ports that the guest's metadata lists.
    """
    if device.is_claimed:
        return Identity(device.device_id, Evidence.ALIAS) if device.device_id is not None else None
    return judge(device, ports).whose


def judge(device: base.Device, ports: frozenset[str], records: Iterable[Record] = ()) -> Judgement:
    """Whose the device is, by the table.

    :param ports: the ids of the ports that the guest's metadata lists.
    :param records: what is known from elsewhere; their order does not matter.
    """
    own = tuple(_own(device, ports))
    told = _told(device, records)
    said = (*own, *told)
    if not device.is_claimed:
        return Judgement(_judge_unclaimed(own, told), said)
    if device.device_id is None:
        return Judgement(None)
    name = Identity(device.device_id, Evidence.ALIAS)
    if _is_trusted(name, own):
        return Judgement(name, (name, *said))
    return Judgement(_judge_contradicted(name, own, told), (name, *said))


def _is_trusted(name: Identity, own: tuple[Identity, ...]) -> bool:
    """Whether nothing that the device says makes its alias doubtful."""
    if not names.is_uuid(name.device_id):
        return True  # of another kind than the ids of volumes, and no statement about them
    disks = {it.evidence: it.device_id for it in own if it.evidence in (Evidence.SERIAL, Evidence.SOURCE_NAME)}
    wanted = names.normal(name.device_id)
    return disks.get(Evidence.SOURCE_NAME) == wanted or all(it == wanted for it in disks.values())


def _judge_contradicted(name: Identity, own: tuple[Identity, ...], told: tuple[Identity, ...]) -> Identity | None:
    """The identity that a word decides on, of those of a device with a doubtful alias."""
    if len({it.device_id for it in told}) != 1:
        return None
    (word, *_rest) = told
    if word.device_id == names.normal(name.device_id):
        return name
    decides = word.evidence in INVENTORIES and word.device_id in {it.device_id for it in own}
    return word if decides else None


def _judge_unclaimed(own: tuple[Identity, ...], told: tuple[Identity, ...]) -> Identity | None:
    proofs = [it for it in own if it.evidence is not Evidence.SOURCE_NAME]
    own_ids = {it.device_id for it in own}
    if not told:
        return proofs[0] if proofs and len(own_ids) == 1 else None
    if len({it.device_id for it in told}) > 1:
        return None
    word = told[0]
    if not proofs:
        return word
    if {it.device_id for it in proofs} == {word.device_id}:
        return proofs[0] if len(own_ids) == 1 else word
    decides = word.evidence in INVENTORIES and word.device_id in own_ids
    return word if decides else None


def _told(device: base.Device, records: Iterable[Record]) -> tuple[Identity, ...]:
    """What the records say of the device: of those that fit only the ones with the last word."""
    found = {Identity(names.normal(it.device_id), Evidence(it.told_by)) for it in records if it.fits(device)}
    for evidence in WORDS_BY_RANK:
        of_one_rank = sorted((it for it in found if it.evidence is evidence), key=lambda it: it.device_id)
        if of_one_rank:
            return tuple(of_one_rank)
    return ()


def _own(device: base.Device, ports: frozenset[str]) -> Iterator[Identity]:
    """What the device itself says but for its alias, the strongest first. UUIDs are in lower case."""
    match device:
        case disk.Disk():
            serial = (device.serial or '').strip()
            if names.is_uuid(serial):
                yield Identity(serial.lower(), Evidence.SERIAL)
            if (volume := _named_by_source(device)) is not None:
                yield Identity(volume, Evidence.SOURCE_NAME)
        case interface.Interface():
            if device.interfaceid is not None and names.is_uuid(device.interfaceid):
                yield Identity(device.interfaceid.lower(), Evidence.INTERFACEID)
            elif (port := _named_by_tap(device, ports)) is not None:
                yield Identity(port, Evidence.TAP_NAME)
        case hostdev.Hostdev() if names.is_uuid(device.mdev_uuid or ''):
            yield Identity(str(device.mdev_uuid).lower(), Evidence.MDEV_UUID)


def _named_by_source(device: disk.Disk) -> str | None:
    if device.element.find('source/snapshot') is not None:
        return None  # what the volume was once
    named = {names.volume_in(text) for text in device.source_texts} - {None}
    return named.pop() if len(named) == 1 else None


def _named_by_tap(device: interface.Interface, ports: frozenset[str]) -> str | None:
    socket = (device.source_path or '').rpartition('/')[2] if device.type == 'vhostuser' else ''
    begun = {names.port_in(name) for name in (device.target_dev or '', socket)} - {None}
    if len(begun) != 1:
        return None
    (beginning,) = begun
    owners = [port for port in ports if port.startswith(str(beginning)) and names.is_uuid(port)]
    return owners[0] if len(owners) == 1 else None
