# SPDX-License-Identifier: Apache-2.0
"""Whose device is this that has no user alias, and on what evidence.

Only what the device itself carries counts: never its position (target name, slot, order), for a position is reused by
the next device that comes along. That is how one volume's look-up comes to hand back another volume's disk.
"""

import dataclasses
import enum
import re

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface

_UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
_IS_UUID = re.compile(_UUID, re.IGNORECASE)
#: Cinder's default name template, ``volume-<uuid>``, wherever it stands in a path or name.
_VOLUME_NAME = re.compile(rf'(?<![0-9a-z])volume-({_UUID})(?![0-9a-z])', re.IGNORECASE)
#: The names that Neutron's agents know: ``tap`` and the first 11 characters of the port's id.
_TAP_NAME = re.compile(r'tap([0-9a-f]{8}-[0-9a-f]{2})', re.IGNORECASE)


class Evidence(enum.StrEnum):
    """How we know whose a device is, the strongest first."""

    ALIAS = 'alias'
    SERIAL = 'serial'
    SOURCE_NAME = 'source name'
    INTERFACEID = 'interfaceid'
    TAP_NAME = 'tap name'
    MDEV_UUID = 'mdev uuid'
    #: The rest say whose the device is only to somebody who knows what the device of that id looks like.
    SOURCE = 'source'
    HOST_ADDRESS = 'host address'
    MAC = 'mac'


#: What tells two devices apart only as long as nothing else looks the same.
WEAK = frozenset({Evidence.SOURCE, Evidence.HOST_ADDRESS, Evidence.MAC})


@dataclasses.dataclass(frozen=True)
class Identity:
    """Whose a device is."""

    device_id: str
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is known of the device of an id, from a request, from an inventory or from its other definition."""

    kind: str
    serial: str | None = None
    source: str | None = None
    mac: str | None = None
    host_address: str | None = None
    mdev_uuid: str | None = None


def identify(device: base.Device, ports: frozenset[str]) -> Identity | None:
    """Whose the device is, by what it carries; None if it does not say.

    :param ports: the ids of the ports that the guest's metadata lists.
    """
    if device.is_claimed:
        return Identity(device.device_id, Evidence.ALIAS) if device.device_id is not None else None
    match device:
        case disk.Disk():
            return _identify_disk(device)
        case interface.Interface():
            return _identify_interface(device, ports)
        case hostdev.Hostdev() if _IS_UUID.fullmatch(device.mdev_uuid or ''):
            return Identity(str(device.mdev_uuid).lower(), Evidence.MDEV_UUID)
        case _:
            return None


def _identify_disk(device: disk.Disk) -> Identity | None:
    # The serial comes first: after a volume migration Cinder keeps the id, but the name is another volume's.
    serial = (device.serial or '').strip()
    if _IS_UUID.fullmatch(serial):
        return Identity(serial.lower(), Evidence.SERIAL)
    named = {found.lower() for text in device.source_texts for found in _VOLUME_NAME.findall(text)}
    return Identity(named.pop(), Evidence.SOURCE_NAME) if len(named) == 1 else None


def _identify_interface(device: interface.Interface, ports: frozenset[str]) -> Identity | None:
    if device.interfaceid is not None and _IS_UUID.fullmatch(device.interfaceid):
        return Identity(device.interfaceid.lower(), Evidence.INTERFACEID)
    tap = _TAP_NAME.fullmatch(device.target_dev or '')
    if tap is None:
        return None
    owners = [port for port in ports if port.startswith(tap.group(1).lower()) and _IS_UUID.fullmatch(port)]
    return Identity(owners[0], Evidence.TAP_NAME) if len(owners) == 1 else None


def claim(device: base.Device) -> Claim:
    """What can be said of a device so that its other definition is recognised."""
    match device:
        case disk.Disk():
            return Claim(kind=device.kind, serial=device.serial, source=device.source)
        case interface.Interface():
            return Claim(kind=device.kind, mac=_lower(device.mac), host_address=device.host_address)
        case hostdev.Hostdev():
            return Claim(
                kind=device.kind,
                # A USB or SCSI device is what it is plugged into.
                source=device.source if device.type in ('usb', 'scsi') else None,
                host_address=device.host_address,
                mdev_uuid=_lower(device.mdev_uuid),
            )
        case _:
            return Claim(kind=device.kind)


def supports(device: base.Device, known: Claim) -> Evidence | None:
    """On what evidence the device is the one that is known, if it is."""
    if device.kind != known.kind:
        return None
    own = claim(device)
    for evidence, have, want in (
        (Evidence.SOURCE, own.source, known.source),
        (Evidence.HOST_ADDRESS, own.host_address, known.host_address),
        (Evidence.MDEV_UUID, own.mdev_uuid, known.mdev_uuid),
        (Evidence.MAC, own.mac, known.mac),
    ):
        if have is not None and have == want:
            return evidence
    return None


def are_apart(one: Claim, other: Claim) -> bool:
    """Whether two devices are known to be two, by what does not change as long as a device is in a guest.

    The source does: a snapshot or a block job gives a disk another one.
    """
    if one.kind != other.kind:
        return True
    return any(
        have is not None and want is not None and have != want
        for have, want in (
            (one.serial, other.serial),
            (one.mac, other.mac),
            (one.host_address, other.host_address),
            (one.mdev_uuid, other.mdev_uuid),
        )
    )


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


class Verdict(enum.Enum):
    """The answer to a question of identity."""

    YES = 'yes'
    NO = 'no'
    CANNOT_TELL = 'cannot tell'


def same(one: Claim, other: Claim) -> Verdict:
    """Judge whether two looks at what sits in one place of one run of a guest show one device.

    The place (its alias in that run) is the same, so what is alike in all it carries is the same device. What differs
    in something that cannot change while it is plugged in is another device. A disk of which only the source differs
    may be the same one with a snapshot on it, or the next one.
    """
    if are_apart(one, other):
        return Verdict.NO
    return Verdict.YES if one == other else Verdict.CANNOT_TELL
