# SPDX-License-Identifier: Apache-2.0
"""What is true: judges each call of the agent and each word that it writes, by what really happened in the fake.

* succeeded detach: the device is in neither definition when that is written, and each run of the guest that had it
  while the operation was under way has released it or has ended, and was not saved or moved with it;
* succeeded attach: it is on both sides, and no request to the guest of the agent's may still take it away;
* failed: what the words say is left is left, what they say is gone is gone; an attach whose words name nothing has left
  nothing; "not found" is not said of a device that says itself whose it is, nor of one that was asked for already;
* released: the device is gone with its run, and was not attached since;
* calls: the agent asks for, writes to and gives aliases to the devices only that an operation under way names, each its
  own alias, and reconciling changes aliases only;
* operations: none is lost, doubled or without an end, and one guest's begin in the order in which they were accepted.

Three things are not the agent's fault, and as little as can be is counted as one of them:

* libvirt has no compare-and-swap. A call that libvirt matches by a place (a target, a MAC address, an alias of libvirt's
  own) may meet another device if another client changed the guest after the agent's last reading of that definition,
  and that reading was not longer ago than :data:`WINDOW`, which is about how long the two calls travel.
* What another client puts into the guest, or takes out of it, after the operation began is not the operation's doing.
* What happens after the agent's last reading of a definition, it cannot know when it writes what is left.
"""

import dataclasses
import sqlite3
from typing import Any

import libvirt
from lxml import etree

from aliasagent import exception
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history import chronicle
from aliasagent.tests.history.chronicle import CONFIG
from aliasagent.tests.history.chronicle import LIVE
from aliasagent.tests.history.chronicle import Stay
from aliasagent.tests.history.hypervisor import Hypervisor
from aliasagent.virt import errors

#: Seconds between a reading and the call that is made because of it, at most.
WINDOW = 0.05
#: Seconds after a device went in which the agent may not have heard of it.
SOON = 1.0
#: Seconds in which what could not be written is written once the disk is free, at most.
RETRIES = 1.5
_COLUMNS = 'sequence, id, action, instance, device, state, error_class, error, attempts, released_at'
_READS = frozenset({'lookupByUUIDString', 'isActive', 'isPersistent', 'state', 'info', 'jobStats', 'hasManagedSaveImage'})
_FINAL = frozenset({'succeeded', 'failed'})


@dataclasses.dataclass(frozen=True)
class Lie:
    """Something untrue."""

    rule: str
    words: str
    at: float


@dataclasses.dataclass
class Op:
    """An operation as the journal has it."""

    sequence: int
    id: str
    action: str
    guest: str
    device: str
    state: str = ''
    error_class: str | None = None
    error: str | None = None
    attempts: int = 0
    released_at: float | None = None
    accepted: float = 0.0
    #: When it was begun last.
    begun: float | None = None
    ended: float | None = None

    @property
    def is_under_way(self) -> bool:
        return self.state not in _FINAL


@dataclasses.dataclass
class _Reading:
    at: float = -1e9
    targets: dict[str, str] = dataclasses.field(default_factory=dict)
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)


class Oracle:
    """Judges one history."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._chronicle = hypervisor.chronicle
        self.lies: list[Lie] = []
        self.ops: dict[str, Op] = {}
        self._readings: dict[tuple[str, str], _Reading] = {}
        #: When another client, or the guest itself, last changed a guest.
        self._touched: dict[str, float] = {}
        #: When the disk was full last, from and to.
        self.full_since, self.full_until = -1.0, -1.0
        #: What another client has asked a running guest to release, with the guest's run.
        self._asked_by_others: set[tuple[str, int, str]] = set()
        self._before: Any = None

    @property
    def _now(self) -> float:
        return self._hypervisor.scheduler.stamp()

    def _lie(self, rule: str, words: str) -> None:
        self.lies.append(Lie(rule, words, self._hypervisor.scheduler.now))

    # What others do

    def touched(self, guest: str) -> None:
        """Another client, or the guest itself, does something."""
        self._touched[guest] = self._now

    def asked_by_other(self, guest: FakeGuest, device: str) -> None:
        """Another client asks a running guest to release a device."""
        self._asked_by_others.add((guest.uuid, guest.id, device))

    # The agent's calls

    def before_call(self, method: str, arguments: tuple[object, ...]) -> None:
        """See what a call will meet."""
        guest = self._hypervisor.guest_of(method, arguments)
        self._before = None if guest is None else guest.config
        if guest is None:
            return
        if method == 'detachDeviceAlias':
            self._judge_alias(guest, str(arguments[1]), int(str(arguments[2])))
        elif method == 'detachDeviceFlags':
            self._judge_place(guest, str(arguments[1]), int(str(arguments[2])))
        elif method == 'attachDeviceFlags':
            device = chronicle.truth(definition.parse_device(str(arguments[1])))
            if device is None or not self._is_asked(guest, device, ATTACHES):
                self._lie('wrong device', f'{device} is attached and nothing asks for it')

    def after_call(self, method: str, arguments: tuple[object, ...]) -> None:
        """See what a call has done."""
        guest = self._hypervisor.guest_of(method, arguments)
        if guest is None:
            return
        if method == 'XMLDesc':
            self._read(guest, int(str(arguments[1])) if len(arguments) > 1 else 0)
        elif method not in _READS:
            self._chronicle.observe(guest, 'agent')
        if method in ('updateDeviceFlags', 'defineXML', 'defineXMLFlags'):
            self._judge_write(guest, self._before)

    def _read(self, guest: FakeGuest, flags: int) -> None:
        inactive = bool(flags & libvirt.VIR_DOMAIN_XML_INACTIVE) or guest.live is None
        side, tree = (CONFIG, guest.config) if inactive else (LIVE, guest.live)
        reading = _Reading(self._now)
        for device, element in chronicle.found(tree):
            reading.targets[definition.target_of(element) or definition.mac_of(element)] = device
            reading.aliases[aliases.alias_of(element) or ''] = device
        self._readings[guest.uuid, side] = reading
        if guest.live is None:
            self._readings[guest.uuid, LIVE] = _Reading(self._now)

    def _reading(self, guest: str, side: str) -> _Reading:
        return self._readings.get((guest, side), _Reading())

    def _is_asked(self, guest: FakeGuest, device: str, actions: frozenset[Any]) -> bool:
        """Whether an operation under way names the device."""
        return any(
            op.guest == guest.uuid and op.device == device and op.action in actions and op.is_under_way
            for op in self.ops.values()
        )

    def _in_window(self, guest: FakeGuest, side: str) -> bool:
        """Whether another client has changed the guest between the agent's reading and its call, which followed."""
        read_at = self._reading(guest.uuid, side).at
        return self._now - read_at <= WINDOW and self._touched.get(guest.uuid, -1.0) >= read_at

    def _judge_alias(self, guest: FakeGuest, alias: str, flags: int) -> None:
        for side, tree, flag in (
            (LIVE, guest.live, libvirt.VIR_DOMAIN_AFFECT_LIVE),
            (CONFIG, guest.config, libvirt.VIR_DOMAIN_AFFECT_CONFIG),
        ):
            if not flags & flag or tree is None:
                continue
            for device, element in chronicle.found(tree):
                if aliases.alias_of(element) == alias and not self._is_asked(guest, device, DETACHES):
                    if alias.startswith('ua-') or not self._in_window(guest, side):
                        self._lie('wrong device', f'{device} is taken from the {side} as {alias}, nothing asks for it')

    def _judge_place(self, guest: FakeGuest, xml: str, flags: int) -> None:
        live, tree = bool(flags & libvirt.VIR_DOMAIN_AFFECT_LIVE), guest.config
        if live:
            tree = guest.live
        try:
            element = hotplug._match(tree, definition.parse_device(xml), '{}')
        except libvirt.libvirtError:
            return
        device = chronicle.truth(element)
        if device is None:
            self._lie('wrong device', f'{etree.tostring(element).decode()} is taken out')
        elif not self._is_asked(guest, device, DETACHES) and not self._in_window(guest, LIVE if live else CONFIG):
            self._lie('wrong device', f'{device} is taken from the {LIVE if live else CONFIG}, and nothing asks for it')

    def _judge_write(self, guest: FakeGuest, before: Any) -> None:
        """A write to the saved definition changes aliases only, and gives each device its own."""
        old, new = (
            {device: element for device, element in chronicle.found(tree)} for tree in (before, guest.config)
        )
        if self._in_window(guest, CONFIG):
            return
        if set(old) != set(new):
            self._lie('wrong device', f'{sorted(set(old) ^ set(new))} came or went by reconciling')
        for device in set(old) & set(new):
            was, now = aliases.alias_of(old[device]), aliases.alias_of(new[device])
            if was != now and now != f'ua-{device}':
                self._lie('wrong device', f'{device} had the alias {was} and was given {now}')
            if _but_alias(old[device]) != _but_alias(new[device]):
                self._lie('wrong device', f'{device} was changed by reconciling')

    # The agent's words

    def on_commit(self, db: sqlite3.Connection) -> None:
        """The journal has changed."""
        rows = sqlite3.Connection.execute(db, f'SELECT {_COLUMNS} FROM operations ORDER BY sequence').fetchall()  # noqa: S608
        for sequence, id_, action, guest, device, state, error_class, error, attempts, released_at in rows:
            op = self.ops.get(id_)
            if op is None:
                op = self.ops[id_] = Op(sequence, id_, action, guest, device, accepted=self._now)
            if (op.state, op.attempts, op.released_at) == (state, attempts, released_at):
                continue
            was, old_attempts, old_release = op.state, op.attempts, op.released_at
            op.state, op.attempts, op.error_class, op.error = state, attempts, error_class, error
            op.released_at = released_at
            if was in _FINAL and (state != was or attempts != old_attempts):
                self._lie('doubled', f'{self.words(op)} had ended as {was}, and is {state}')
            if attempts != old_attempts and state not in _FINAL:
                op.begun = self._now
            if was in ('', 'accepted') and state != 'accepted' and not (was == '' and state in _FINAL):
                self._judge_order(op)
            if state in _FINAL and was not in _FINAL:
                op.ended = self._now
                self._judge_outcome(op)
            if released_at is not None and released_at != old_release:
                self._judge_release(op)

    def words(self, op: Op) -> str:
        device = f' {op.device[:8]}' if op.device else ''
        return f'{op.action}{device} of guest {op.guest[:8]} (operation {op.sequence})'

    def _judge_order(self, op: Op) -> None:
        for other in self.ops.values():
            if other.guest == op.guest and other.sequence < op.sequence and other.state == 'accepted':
                if max(self.full_since, self.full_until) + RETRIES >= other.accepted:
                    continue  # it has ended, and that could not be written yet
                self._lie('order', f'{self.words(op)} begins before {self.words(other)}')

    def _judge_outcome(self, op: Op) -> None:
        known = op.error_class is None or hasattr(exception, op.error_class) or hasattr(errors, op.error_class)
        if not known:
            self._lie('internal error', f'{self.words(op)}: {op.error_class}: {op.error}')
        guest = self._hypervisor.guests.get(op.guest)
        if op.action in DETACHES:
            if op.state == 'succeeded':
                self._judge_detached(op)
            else:
                self._judge_not_detached(op, guest)
        elif op.action in ATTACHES:
            if op.state == 'succeeded':
                self._judge_attached(op, guest)
            else:
                self._judge_not_attached(op)

    def _begun(self, op: Op) -> float:
        return op.accepted if op.begun is None else op.begun

    def _came_by_other(self, stay: Stay, since: float) -> bool:
        """Whether another client put the device there after the operation began."""
        return stay.origin_by == 'other' and stay.origin > since

    def _is_overtaken(self, op: Op, actions: frozenset[Any]) -> bool:
        """Whether a later operation on the device has begun before the outcome of this one could be written."""
        return any(
            other.guest == op.guest
            and other.device == op.device
            and other.sequence > op.sequence
            and other.action in actions
            and other.begun is not None
            for other in self.ops.values()
        )

    def _judge_detached(self, op: Op) -> None:
        begun = self._begun(op)
        for side in (CONFIG, LIVE):
            stay = self._chronicle.there(op.guest, side, op.device)
            if stay is None or self._came_by_other(stay, begun):
                continue
            if stay.by == 'agent' and self._is_overtaken(op, ATTACHES):
                continue
            self._lie('false success', f'{self.words(op)} succeeded, and the device is in the {side}')
        for stay in self._chronicle.of(op.guest, LIVE, op.device):
            if stay.how in chronicle.CARRIED_ON and stay.until is not None and stay.until > begun:
                if not self._came_by_other(stay, begun):
                    self._lie('false success', f'{self.words(op)} succeeded, and the guest was {stay.how} with the device')

    def _judge_not_detached(self, op: Op, guest: FakeGuest | None) -> None:
        said, begun = op.error or '', self._begun(op)
        there = {side: self._chronicle.there(op.guest, side, op.device) for side in (CONFIG, LIVE)}
        config, live = there[CONFIG], there[LIVE]
        if 'gone from the persistent config' in said and config is not None:
            overtaken = config.by == 'agent' and self._is_overtaken(op, ATTACHES)
            if not self._came_by_other(config, begun) and not overtaken:
                self._lie('untrue words', f'{self.words(op)}: {said!r}, and it is in the persistent config')
        if 'still in the running guest' in said and live is None:
            last = self._chronicle.last(op.guest, LIVE, op.device)
            read_at = self._reading(op.guest, LIVE).at
            carried = last is not None and last.how in chronicle.CARRIED_ON
            known = min(read_at, self._now - SOON)
            if self.full_since > begun:
                known = min(known, self.full_since)  # since then it may have been known and could not be written
            late = last is not None and last.until is not None and last.until >= known
            if not carried and not late:
                self._lie('untrue words', f'{self.words(op)}: {said!r}, and it is not in the running guest')
        if op.error_class == 'DeviceNotFound' and guest is not None:
            self._judge_not_found(op, guest, [stay for stay in (config, live) if stay is not None])

    def _judge_not_found(self, op: Op, guest: FakeGuest, stays: list[Stay]) -> None:
        old = [stay for stay in stays if stay.since < op.accepted]
        says = [
            element
            for tree in (guest.config, guest.live)
            for device, element in chronicle.found(tree)
            if device == op.device and _says(element, op.device)
        ]
        if old and says:
            self._lie('false not found', f'{self.words(op)}: it is in the {" and the ".join(s.side for s in old)}')
            return
        live = next((stay for stay in old if stay.side == LIVE), None)
        if live is not None and any(
            other.device == op.device
            and other.guest == op.guest
            and other.action in DETACHES
            and other.state == 'failed'
            and 'still in the running guest' in (other.error or '')
            and other.ended is not None
            and live.since < other.ended < op.accepted
            for other in self.ops.values()
        ):
            self._lie('false not found', f'{self.words(op)}: an earlier one said that it is still in the running guest')

    def _judge_attached(self, op: Op, guest: FakeGuest | None) -> None:
        if guest is None:
            return
        begun = self._begun(op)
        for side, tree in ((CONFIG, guest.config), (LIVE, guest.live)):
            if tree is None or self._chronicle.there(op.guest, side, op.device) is not None:
                continue
            if self._is_overtaken(op, DETACHES):
                continue
            gone = [
                stay
                for stay in self._chronicle.of(op.guest, side, op.device)
                if stay.until is not None and stay.until > begun and stay.ended_by == 'other' and stay.how != 'released'
            ]
            new = side == LIVE and self._chronicle.run_since.get(op.guest, 0.0) > self._reading(op.guest, LIVE).at
            taken = side == LIVE and any(
                stay.how == 'released' and stay.until is not None and stay.until > self._reading(op.guest, LIVE).at
                and (op.guest, stay.run, op.device) in self._asked_by_others
                for stay in self._chronicle.of(op.guest, side, op.device)
            )
            if not gone and not new and not taken:
                self._lie('false success', f'{self.words(op)} succeeded, and the device is not in the {side}')
        element = chronicle.element_of(guest.live, op.device)
        alias = None if element is None else aliases.alias_of(element)
        if alias is not None and alias in guest.pending:
            if (guest.uuid, guest.id, op.device) not in self._asked_by_others and not self._is_overtaken(op, DETACHES):
                self._lie('false success', f'{self.words(op)} succeeded, and the guest was asked to release the device')

    def _judge_not_attached(self, op: Op) -> None:
        said = op.error or ''
        if op.error_class != 'AttachFailed' or 'may be there' in said:
            return
        for side in (CONFIG, LIVE):
            stay = self._chronicle.there(op.guest, side, op.device)
            named = 'left in the' in said and side in said.partition('left in the')[2]
            if named and stay is None:
                last = self._chronicle.last(op.guest, side, op.device)
                if last is None or (last.until or 0.0) < self._reading(op.guest, side).at:
                    self._lie('untrue words', f'{self.words(op)}: {said!r}, and it is not in the {side}')
            if not named and stay is not None and stay.by == 'agent' and stay.since >= self._begun(op):
                self._lie('untrue words', f'{self.words(op)}: {said!r}, and it is in the {side}')

    def _judge_release(self, op: Op) -> None:
        ended = op.ended or 0.0
        live = self._chronicle.there(op.guest, LIVE, op.device)
        config = self._chronicle.there(op.guest, CONFIG, op.device)
        if live is not None:
            what = 'was attached since' if live.since > ended else 'has it'
            self._lie('false release', f'{self.words(op)} is said to be released, and the running guest {what}')
            return
        if config is not None and config.since > ended:
            self._lie('false release', f'{self.words(op)} is said to be released, and it was attached since')
            return
        last = self._chronicle.last(op.guest, LIVE, op.device)
        if last is not None and last.how in chronicle.CARRIED_ON:
            self._lie('false release', f'{self.words(op)} is said to be released, and the guest was {last.how} with it')

    # The end

    def judge_end(self, accepted: set[str], refused: set[str]) -> None:
        """Whether each operation has come to one end.

        :param accepted: the ids of those that the agent has taken in.
        :param refused: those that it has refused to take in.
        """
        for op_id in sorted(accepted - set(self.ops)):
            self._lie('lost', f'operation {op_id} was taken in, and the journal does not have it')
        for op in self.ops.values():
            if op.is_under_way:
                self._lie('without end', f'{self.words(op)} is {op.state}')
            if op.id in refused and op.begun is not None:
                self._lie('doubled', f'{self.words(op)} was refused and done')


def _says(element: Any, device: str) -> bool:
    """Whether a device's own element says whose it is."""
    if aliases.alias_of(element) == f'ua-{device}':
        return True
    parameters = element.find('virtualport/parameters')
    address = element.find('source/address')
    return device in (
        element.findtext('serial'),
        None if parameters is None else parameters.get('interfaceid'),
        None if address is None else address.get('uuid'),
    )


def _but_alias(element: Any) -> list[str]:
    """A device without its alias, whatever the order of what it is made of."""
    parts = sorted(
        etree.tostring(child, method='c14n').decode().strip() for child in element if child.tag != 'alias'
    )
    return [*sorted(f'{name}={value}' for name, value in element.attrib.items()), *parts]
