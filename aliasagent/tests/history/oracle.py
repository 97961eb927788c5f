# SPDX-License-Identifier: Apache-2.0
"""What is true: judges each call of the agent and each word that it writes, by what really happened in the fake.

* succeeded detach: the device is in neither definition when that is written, and each run of the guest that had it
  while the operation was under way has released it or has ended, and was not saved or moved with it;
* succeeded attach: it is on both sides, and no request to the guest of the agent's may still take it away;
* failed: what the words say is left is left, what they say is gone is gone; an attach whose words name nothing has left
  nothing; "not found" is not said of a device that says itself whose it is, nor of one that was asked for already;
* released: the device is gone with its run, and was not attached since;
* late releases: in the end each device that a running guest was asked for in vain, and that is gone since, is said to
  be released, or was attached or detached by a later operation; but for guests that are gone, or of which no agent saw
  that they were moved or saved without it, or that libvirt does not know of how they stopped;
* notifications: each outcome, and each late release, is told, and nothing else is;
* calls: the agent asks for, writes to and gives aliases to the devices only that an operation under way names, each its
  own alias, and reconciling changes aliases only;
* operations: none is lost, doubled or without an end, and one guest's begin in the order in which they were accepted.

Some things are not the agent's fault, and as little as can be is counted as one of them:

* libvirt has no compare-and-swap. A call that libvirt matches by a place (a target, a MAC address, an alias of its
  own) may meet another device if another client changed the guest after the agent's last reading of that definition,
  and that reading was not longer ago than WINDOW (:mod:`aliasagent.tests.history.facts`), about as long as the two
  calls travel.
* What another client puts into the guest, or takes out of it, after the operation began is not the operation's doing.
* What a guest was saved with is given up once the guest is started anew: the memory does not fit its disks any more.
* What happens after the agent's last reading of a definition, it cannot know when it writes what is left.
* A device of which nothing but its look is known may be what stands there without a word of whose it is: of that one
  the agent need not notice that it is gone.
"""

import sqlite3
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history import chronicle
from aliasagent.tests.history.calls import Calls
from aliasagent.tests.history.chronicle import CONFIG
from aliasagent.tests.history.chronicle import LIVE
from aliasagent.tests.history.chronicle import Stay
from aliasagent.tests.history.facts import FINAL
from aliasagent.tests.history.facts import Facts
from aliasagent.tests.history.facts import Op
from aliasagent.tests.history.facts import came_by_other
from aliasagent.tests.history.hypervisor import Hypervisor
from aliasagent.tests.history.plan import THINGS
from aliasagent.tests.history.plan import Thing
from aliasagent.virt import errors

#: Seconds after a device went in which the agent may not have heard of it.
SOON = 1.0
#: Why a guest is shut off that may go on with its devices, or has done so elsewhere; or libvirt has forgotten why.
_GOES_ON = frozenset(
    {
        libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN,
        libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
        libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
        libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT,
    }
)
_COLUMNS = 'sequence, id, action, instance, device, state, error_class, error, attempts, released_at'


class Oracle:
    """Judges one history."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._facts = self.facts = Facts(hypervisor)
        self.calls = Calls(self.facts)

    # The agent's words

    def on_commit(self, db: sqlite3.Connection) -> None:
        """The journal has changed."""
        rows = sqlite3.Connection.execute(db, f'SELECT {_COLUMNS} FROM operations ORDER BY sequence').fetchall()  # nosec B608
        for sequence, id_, action, guest, device, state, error_class, error, attempts, released_at in rows:
            op = self._facts.ops.get(id_)
            if op is None:
                op = self._facts.ops[id_] = Op(sequence, id_, action, guest, device, accepted=self._facts.now)
            if (op.state, op.attempts, op.released_at) == (state, attempts, released_at):
                continue
            was, old_attempts, old_release = op.state, op.attempts, op.released_at
            op.state, op.attempts, op.error_class, op.error = state, attempts, error_class, error
            op.released_at = released_at
            if was in FINAL and (state != was or attempts != old_attempts):
                self._facts.lie('doubled', f'{op.words} had ended as {was}, and is {state}')
            if attempts != old_attempts and state not in FINAL:
                op.begun = self._facts.now
            if was in ('', 'accepted') and state != 'accepted' and not (was == '' and state in FINAL):
                self._judge_order(op)
            if state in FINAL and was not in FINAL:
                op.ended = self._facts.now
                self._judge_outcome(op)
            if released_at is not None and released_at != old_release:
                self._judge_release(op)

    def _judge_order(self, op: Op) -> None:
        for other in self._facts.ops.values():
            if other.guest == op.guest and other.sequence < op.sequence and other.state == 'accepted':
                self._facts.lie('order', f'{op.words} begins before {other.words}')

    def _judge_outcome(self, op: Op) -> None:
        known = op.error_class is None or hasattr(exception, op.error_class) or hasattr(errors, op.error_class)
        if not known or op.error_class == exception.InternalError.__name__:
            self._facts.lie('internal error', f'{op.words}: {op.error_class}: {op.error}')
        guest = self._facts.hypervisor.guests.get(op.guest)
        if op.action in DETACHES:
            if op.state == 'succeeded':
                self._judge_detached(op)
            else:
                self._judge_not_detached(op, guest)
        elif op.action == Action.LIVE_MIGRATE:
            if op.state == 'succeeded' and self._facts.chronicle.moved_at.get(op.guest, -1.0) < op.accepted:
                self._facts.lie('false success', f'{op.words} succeeded, and the guest was not moved')
        elif op.action in ATTACHES:
            if op.state == 'succeeded':
                self._judge_attached(op, guest)
            else:
                self._judge_not_attached(op)

    def _judge_detached(self, op: Op) -> None:
        begun = op.began
        for side in (CONFIG, LIVE):
            stay = self._facts.chronicle.there(op.guest, side, op.device)
            if stay is None or came_by_other(stay, begun):
                continue
            self._facts.lie('false success', f'{op.words} succeeded, and the device is in the {side}')
        for stay in self._facts.chronicle.of(op.guest, LIVE, op.device):
            is_late = stay.until is not None and stay.until > begun
            if stay.how in chronicle.CARRIED_ON and is_late and not came_by_other(stay, begun):
                self._facts.lie('false success', f'{op.words} succeeded, and the guest was {stay.how} with the device')

    def _judge_not_detached(self, op: Op, guest: FakeGuest | None) -> None:
        said, begun = op.error or '', op.began
        there = {side: self._facts.chronicle.there(op.guest, side, op.device) for side in (CONFIG, LIVE)}
        config, live = there[CONFIG], there[LIVE]
        if 'gone from the persistent config' in said and config is not None and not came_by_other(config, begun):
            self._facts.lie('untrue words', f'{op.words}: {said!r}, and it is in the persistent config')
        if 'still in the running guest' in said and live is None:
            last = self._facts.chronicle.last(op.guest, LIVE, op.device)
            read_at = self._facts.read_at(op.guest, LIVE)
            carried = last is not None and last.how in chronicle.CARRIED_ON
            known = min(read_at, self._facts.now - SOON, self._facts.writable_until(begun))
            late = last is not None and last.until is not None and last.until >= known
            if not carried and not late:
                self._facts.lie('untrue words', f'{op.words}: {said!r}, and it is not in the running guest')
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
            self._facts.lie('false not found', f'{op.words}: it is in the {" and the ".join(s.side for s in old)}')
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
            for other in self._facts.ops.values()
        ):
            self._facts.lie('false not found', f'{op.words}: an earlier one said that it is still in the running guest')

    def _judge_attached(self, op: Op, guest: FakeGuest | None) -> None:
        if guest is None:
            return
        for side, tree in ((CONFIG, guest.config), (LIVE, guest.live)):
            if tree is None or self._facts.chronicle.there(op.guest, side, op.device) is not None:
                continue
            if not self._was_taken(op, side):
                self._facts.lie('false success', f'{op.words} succeeded, and the device is not in the {side}')
        element = chronicle.element_of(guest.live, op.device)
        alias = None if element is None else aliases.alias_of(element)
        if alias is None or alias not in guest.pending:
            return
        if not self._facts.is_asked_by_other(guest.uuid, guest.id, op.device):
            self._facts.lie('false success', f'{op.words} succeeded, and the guest was asked to release the device')

    def _was_taken(self, op: Op, side: str) -> bool:
        """Whether what an attach has attached is not there by another client's doing."""
        read_at = min(self._facts.read_at(op.guest, LIVE), self._facts.writable_until(op.began))
        if side == LIVE and self._facts.chronicle.run_since.get(op.guest, 0.0) > read_at:
            return True
        for stay in self._facts.chronicle.of(op.guest, side, op.device):
            if stay.until is None:
                continue
            if stay.how != 'released':
                if stay.until > op.began and stay.ended_by == 'other':
                    return True
            elif stay.until > read_at and self._facts.is_asked_by_other(op.guest, stay.run, op.device):
                return True
        return False

    def _judge_not_attached(self, op: Op) -> None:
        said = op.error or ''
        if op.error_class != 'AttachFailed' or 'may be there' in said:
            return
        for side in (CONFIG, LIVE):
            stay = self._facts.chronicle.there(op.guest, side, op.device)
            named = 'left in the' in said and side in said.partition('left in the')[2]
            if named and stay is None:
                last = self._facts.chronicle.last(op.guest, side, op.device)
                if last is None or (last.until or 0.0) < self._facts.read_at(op.guest, side):
                    self._facts.lie('untrue words', f'{op.words}: {said!r}, and it is not in the {side}')
            if not named and stay is not None and stay.by == 'agent' and stay.since >= op.began:
                self._facts.lie('untrue words', f'{op.words}: {said!r}, and it is in the {side}')

    def _judge_release(self, op: Op) -> None:
        ended = op.ended or 0.0
        live = self._facts.chronicle.there(op.guest, LIVE, op.device)
        config = self._facts.chronicle.there(op.guest, CONFIG, op.device)
        if live is not None:
            what = 'was attached since' if live.since > ended else 'has it'
            self._facts.lie('false release', f'{op.words} is said to be released, and the running guest {what}')
            return
        if config is not None and config.since > ended and not came_by_other(config, ended):
            self._facts.lie('false release', f'{op.words} is said to be released, and it was attached since')
            return
        last = self._facts.chronicle.last(op.guest, LIVE, op.device)
        if last is not None and last.how in chronicle.CARRIED_ON:
            self._facts.lie('false release', f'{op.words} is said to be released, and the guest was {last.how} with it')

    # The end

    def judge_releases(self) -> None:
        """Whether each late release was noticed: nothing has been in the way for a while."""
        for op in self._facts.ops.values():
            if op.action in DETACHES and op.state == 'failed' and op.released_at is None and op.begun is not None:
                self._judge_unnoticed(op, op.began)

    def judge_notifications(self, notified: list[tuple[str, dict[str, Any]]]) -> None:
        """Whether what was told of each operation is what became of it, each thing at least once and in order."""
        told: dict[str, list[str]] = {}
        for event_type, payload in notified:
            told.setdefault(payload['operation_id'], []).append(event_type.rpartition('.')[2])
        for op in self._facts.ops.values():
            wanted = ['end' if op.state == 'succeeded' else 'error']
            wanted += ['released'] if op.released_at is not None else []
            phases = list(dict.fromkeys(told.get(op.id, ())))
            if phases not in (['start', *wanted], wanted):  # what was refused as it came in has not begun
                self._facts.lie('notifications', f'{op.words} is {op.state}, and was told as {phases}')

    def _judge_unnoticed(self, op: Op, begun: float) -> None:
        guest = self._facts.hypervisor.guests.get(op.guest)
        stays = self._facts.chronicle.of(op.guest, LIVE, op.device)
        was_asked = any(stay.since < begun and (stay.until is None or stay.until > begun) for stay in stays)
        is_there = any(self._facts.chronicle.there(op.guest, side, op.device) for side in (LIVE, CONFIG))
        if guest is None or not was_asked or is_there or stays[-1].how in chronicle.WERE_CARRIED_ON:
            return
        carried_on, last = self._facts.chronicle.carried_on_at.get(op.guest, -1.0), stays[-1]
        if carried_on > begun and (not last.was_read or (last.until or 0.0) < carried_on):
            return  # for all that an agent can have seen, the guest was saved or moved with it
        if not guest.active and (guest.managed_save or guest.reason in _GOES_ON):
            return  # how the guest stopped is not known to libvirt any more, or it has moved
        if _may_be_there(guest, THINGS[op.device]):
            return
        if any(
            other.is_about(op.guest, op.device, ATTACHES | DETACHES)
            and other.sequence > op.sequence
            and other.state == 'succeeded'
            for other in self._facts.ops.values()
        ):
            return
        self._facts.lie('late release', f'{op.words} failed as {op.error_class}: {op.error!r}, and the device is gone')

    def judge_end(self, accepted: set[str], refused: set[str]) -> None:
        """Whether each operation has come to one end.

        :param accepted: the ids of those that the agent has taken in.
        :param refused: those that it has refused to take in.
        """
        for op_id in sorted(accepted - set(self._facts.ops)):
            self._facts.lie('lost', f'operation {op_id} was taken in, and the journal does not have it')
        for op in self._facts.ops.values():
            if op.is_under_way:
                self._facts.lie('without end', f'{op.words} is {op.state}')
            if op.id in refused and op.begun is not None:
                self._facts.lie('doubled', f'{op.words} was refused and done')


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


def _may_be_there(guest: FakeGuest, thing: Thing) -> bool:
    """Whether a guest has something that says not whose it is, and nothing tells that from a device that is gone."""
    if thing.form not in ('source', 'name', 'mac'):
        return False
    return any(
        THINGS[device].kind == thing.kind
        and not (aliases.alias_of(element) or '').startswith('ua-')
        and not _says(element, device)
        for tree in (guest.config, guest.live)
        for device, element in chronicle.found(tree)
    )
