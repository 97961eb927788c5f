# SPDX-License-Identifier: Apache-2.0
"""The one judge of which device is meant: whose a device is, on what evidence, and what the evidence is worth.

What each evidence is worth:

=====================  ============  ==================================================================================
evidence               worth         why
=====================  ============  ==================================================================================
user alias             proof         libvirt keeps it with the device; but a volume that Nova swapped has the alias of
                                     the one before
serial that is a UUID  proof         the attaching client wrote it; but a volume that Nova swapped has the serial
                                     of the one before
interfaceid            proof         Open vSwitch finds the port by it
tap, vhu or nic name   proof         only if it names one port alone of those in Nova's metadata of the guest
mdev UUID              proof         a mediated device is its UUID
``volume-<uuid>`` as   hint          a volume that Cinder migrated or retyped keeps its id, and lies in what is named
the source's last part               after another; other copies can have the name, too
record of its attach   word          this agent attached it, and nothing else can have taken over what the record says
inventory              last word     the control plane says so, now or earlier; a newer inventory replaces an older one
source, host address,  recognition   tell that two definitions show one device; they say nothing of whose it is
MAC
target, slot, order    nothing       the next device has the same ones
=====================  ============  ==================================================================================

What follows for a device:

==========================================  ===========================================================================
situation                                   judgement
==========================================  ===========================================================================
one proof, or several that agree            that id
a hint alone                                unknown; the hint is reported. With a word that agrees or not: the word's id
a word alone                                that id
words that differ                           the inventory's before the record's; two of one rank: disputed
a proof against a hint                      disputed, until an inventory names one of the two, or the record of an
                                            attach agrees with the proof
a proof against a word, and no hint that    disputed
agrees with the word
a user alias that is a UUID, with a serial  the alias if the source's name agrees with it; else disputed, until an
or a source name of another                 inventory names one of them, or the record of an attach agrees with it
a user alias otherwise                      the alias, whatever else the device says
==========================================  ===========================================================================

A disputed device goes by no id: it gets no alias, keeps the one it has, and is not found by any of the ids that it
could be.
"""

import dataclasses
import enum
from collections.abc import Iterable
from collections.abc import Iterator

from aliasagent.devices import base
from aliasagent.devices import claims
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.claims import Claim as Claim
from aliasagent.devices.claims import Record as Record
from aliasagent.devices.claims import claim as claim


class Evidence(enum.StrEnum):
    """How we know whose a device is."""

    ALIAS = 'alias'
    SERIAL = 'serial'
    SOURCE_NAME = 'source name'
    INTERFACEID = 'interfaceid'
    TAP_NAME = 'tap name'
    MDEV_UUID = 'mdev uuid'
    #: Somebody who knows says so, in this request or in an earlier one.
    INVENTORY = 'inventory'
    EARLIER_INVENTORY = 'earlier inventory'
    #: This agent attached it.
    ATTACH = 'record of its attach'
    #: The rest say whose the device is only to somebody who knows what the device of that id looks like.
    SOURCE = 'source'
    HOST_ADDRESS = 'host address'
    MAC = 'mac'


#: What tells two devices apart only as long as nothing else looks the same.
WEAK = frozenset({Evidence.SOURCE, Evidence.HOST_ADDRESS, Evidence.MAC})
#: What records and inventories say, the last word first.
_WORDS = (Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.ATTACH)
WORDS = frozenset(_WORDS)
#: The words that are stronger than what a device says of itself, where that contradicts itself.
_INVENTORIES = frozenset({Evidence.INVENTORY, Evidence.EARLIER_INVENTORY})


@dataclasses.dataclass(frozen=True)
class Identity:
    """An id that a device may have, and the evidence."""

    device_id: str
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whose a device is."""

    #: None if nothing proves it, or if the evidence contradicts itself.
    whose: Identity | None
    #: All evidence that names an id, the device's own first.
    said: tuple[Identity, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids that the device could have."""
        settled = (self.whose,) if self.whose is not None else self.said
        return frozenset(names.normal(it.device_id) for it in settled)

    @property
    def hint(self) -> str | None:
        """The volume that the source is named after, if there is no other evidence."""
        alone = len(self.said) == 1 and self.said[0].evidence is Evidence.SOURCE_NAME
        return self.said[0].device_id if self.whose is None and alone else None

    @property
    def is_disputed(self) -> bool:
        """Whether the evidence contradicts itself."""
        return self.whose is None and bool(self.said) and self.hint is None

    def words(self) -> str:
        """The evidence in words: ``by its serial it is X, by its source name Y``."""
        return ', '.join(
            f'{_by(it.evidence)} {"" if number else "it is "}{it.device_id}' for number, it in enumerate(self.said)
        )


def reason(evidence: Evidence) -> str:
    """The evidence as the reason for something."""
    return f'as the {evidence} says' if evidence in _WORDS else f'by its {evidence}'


def _by(evidence: Evidence) -> str:
    return f'by the {evidence}' if evidence in _WORDS else f'by its {evidence}'


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
    """Whose the device is, by the table above.

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
    decides = word.evidence in _INVENTORIES and word.device_id in {it.device_id for it in own}
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
    decides = word.evidence in _INVENTORIES and word.device_id in own_ids
    return word if decides else None


def _told(device: base.Device, records: Iterable[Record]) -> tuple[Identity, ...]:
    """What the records say of the device: of those that fit only the ones with the last word."""
    found = {Identity(names.normal(it.device_id), Evidence(it.told_by)) for it in records if it.fits(device)}
    for evidence in _WORDS:
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


def supports(device: base.Device, known: Claim) -> Evidence | None:
    """On what evidence the device is the one that is known, if it is."""
    if device.kind != known.kind:
        return None
    own = claim(device)
    if any(_differ(own, known, name) for name in ('wwn', 'usb_address')):
        return None
    if own.source is not None and known.source is not None and claims.is_same_source(own.source, known.source):
        return Evidence.SOURCE
    for evidence, have, want in (
        (Evidence.HOST_ADDRESS, own.host_address, known.host_address),
        (Evidence.MDEV_UUID, own.mdev_uuid, known.mdev_uuid),
        (Evidence.MAC, own.mac, known.mac),
    ):
        if have is not None and have == want:
            return evidence
    return None


def are_apart(one: Claim, other: Claim) -> bool:
    """Whether two devices are known to be two, by what does not change as long as a device is in a guest.

    The source does: a snapshot or a block job gives a disk another one. So does the bridge of an interface.
    """
    if one.kind != other.kind:
        return True
    stays = ('serial', 'mac', 'host_address', 'mdev_uuid', 'wwn', 'usb_address')
    return any(_differ(one, other, name) for name in stays)


def lasting(device: base.Device, device_id: str) -> Record | None:
    """What an inventory said of a device, so that it is known later; None if nothing tells the device from the next.

    A place in the guest is not kept, nor a name that the kernel gives to the next device.
    """
    look = claim(device)
    match device:
        case disk.Disk():
            source = look.source if look.source is not None and names.is_lasting(look.source) else None
            kept = Record(
                device_id, device.kind, Evidence.EARLIER_INVENTORY, source=source, serial=look.serial, wwn=look.wwn
            )
        case interface.Interface():
            return lasting_port(device, device_id, Evidence.EARLIER_INVENTORY)
        case hostdev.Hostdev():
            kept = Record(device_id, device.kind, Evidence.EARLIER_INVENTORY, mdev_uuid=look.mdev_uuid)
        case _:
            return None
    return kept if lasts(kept) and kept.fits(device) else None


def lasts(record: Record) -> bool:
    """Whether what a record says tells the device from the next one, too.

    A serial that is no UUID does not by itself: whoever attaches a disk may write the same into each.
    """
    match record.kind:
        case disk.Disk.tag:
            has_name = record.source is not None and names.is_lasting(record.source)
            return has_name or record.wwn is not None or names.is_uuid((record.serial or '').strip())
        case interface.Interface.tag:
            return record.mac is not None and (record.host_address is not None or record.target is not None)
        case _:
            return record.mdev_uuid is not None


def lasting_port(device: interface.Interface, device_id: str, told_by: Evidence) -> Record | None:
    """What tells a port's interface from the next one; None if nothing does.

    A MAC address alone does not: a port that is made anew may have it, too. So it counts with the function of the
    network card that the port is on, or with the name that was asked for its tap.
    """
    look = claim(device)
    tap = None if look.target is None or names.is_made_up(look.target) else look.target
    kept = Record(device_id, device.kind, told_by, mac=look.mac, host_address=look.host_address, target=tap)
    return kept if lasts(kept) else None


def may_be(device: base.Device, looks: Claim, *, is_same_run: bool, counts_place: bool) -> bool:
    """Whether a device may be the one that looked so, in another definition or at another time.

    It may be if it has the same source, MAC address or address of the host, or is in the same place of the guest, and
    nothing that stays as it is tells the two apart. The source of a disk does not stay: a snapshot changes it.

    :param is_same_run: a device keeps its place and its serial while it is plugged in. So a MAC address elsewhere is
        that of another interface: two ports may have one.
    :param counts_place: whether what is in its place may be it; not if it was seen to be taken out of there.
    """
    now = claim(device)
    if are_apart(now, looks) or (is_same_run and (now.serial, now.wwn) != (looks.serial, looks.wwn)):
        return False
    # A serial is not lost from one run to the next.
    keeps_serial = looks.serial in (None, now.serial) and looks.wwn in (None, now.wwn)
    sits_there = keeps_serial and any(
        have is not None and have == want for have, want in ((now.target, looks.target), (now.address, looks.address))
    )
    evidence = supports(device, looks)
    if is_same_run and evidence is Evidence.MAC:
        return sits_there
    return evidence is not None or (sits_there and counts_place)


class Verdict(enum.Enum):
    """The answer to a question of identity."""

    YES = 'yes'
    NO = 'no'
    CANNOT_TELL = 'cannot tell'


def same(one: Claim, other: Claim) -> Verdict:
    """Judge whether two looks at what sits in one place of one run of a guest show one device.

    The place (its alias in that run) is the same, so what is alike in all it carries is the same device. What differs
    in something that cannot change while it is plugged in is another device, and so is one that has come by a serial
    or lost it. A disk of which only the source differs may be the same one with a snapshot on it, or the next one.
    """
    if are_apart(one, other) or (one.serial, one.wwn) != (other.serial, other.wwn):
        return Verdict.NO
    return Verdict.YES if one == other else Verdict.CANNOT_TELL


def _differ(one: Claim, other: Claim, name: str) -> bool:
    """Whether both say something of this, and not the same."""
    have, want = getattr(one, name), getattr(other, name)
    return have is not None and want is not None and have != want
