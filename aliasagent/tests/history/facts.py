# SPDX-License-Identifier: Apache-2.0
"""What a history's judges know in common."""

import collections
import dataclasses
import re
from typing import Any

from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history.chronicle import Stay
from aliasagent.tests.history.hypervisor import Hypervisor

#: Seconds between a reading and the call that is made because of it, at most.
WINDOW = 0.05
#: Seconds in which what could not be written is written once the disk is free, at most.
RETRIES = 1.5
#: How an operation ends.
FINAL = frozenset({'succeeded', 'failed'})

_IDS = re.compile(r'\(operation [0-9]+\)|[0-9a-f-]{8,}|net[0-9]+|virtio-disk[0-9]+|_volume|_interface|_hostdev')


@dataclasses.dataclass(frozen=True)
class Lie:
    """Something untrue."""

    rule: str
    words: str
    at: float

    @property
    def kind(self) -> str:
        """What it has in common with others of its kind: all but who and what it is about."""
        return f'{self.rule}: {_IDS.sub("", self.words)}'


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
        return self.state not in FINAL

    @property
    def began(self) -> float:
        """When it was begun last; when it was accepted, if it was not begun."""
        return self.accepted if self.begun is None else self.begun

    @property
    def words(self) -> str:
        device = f' {self.device[:8]}' if self.device else ''
        return f'{self.action}{device} of guest {self.guest[:8]} (operation {self.sequence})'

    def is_about(self, guest: str, device: str, actions: frozenset[Any]) -> bool:
        """Whether it does one of these things to a device."""
        return (self.guest, self.device) == (guest, device) and self.action in actions


class Facts:
    """The operations, what the agent has read, and what others have done."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.hypervisor = hypervisor
        self.chronicle = hypervisor.chronicle
        self.lies: list[Lie] = []
        self.ops: dict[str, Op] = {}
        #: When the agent last read a definition, by guest and side.
        self.readings: dict[tuple[str, str], float] = {}
        #: The last of these times, the newest last.
        self._readings: dict[tuple[str, str], collections.deque[float]] = {}
        #: When another client, or the guest itself, last changed a guest.
        self._touched: dict[str, float] = {}
        #: When the disk was full last, from and to. Once more before all was written, it is the same time.
        self.full_since, self.full_until = -1e9, -1e9
        #: When it was full within that time, for nothing may have been written in between.
        self._full_at: list[float] = []
        #: Whether a device has gone of which libvirt told nobody.
        self.is_untold = False
        #: What another client has asked a running guest to release, with the guest's run.
        self._asked_by_others: set[tuple[str, int, str]] = set()

    @property
    def now(self) -> float:
        return self.hypervisor.scheduler.stamp()

    def lie(self, rule: str, words: str) -> None:
        """Write down something untrue."""
        self.lies.append(Lie(rule, words, self.hypervisor.scheduler.now))

    def disk_is_full(self) -> None:
        """The disk is full from now on."""
        is_full = self.full_until < self.full_since
        if not is_full and self.now - self.full_until > RETRIES:
            self.full_since = self.now
            self._full_at.clear()
        self._full_at.append(self.now)

    def disk_is_free(self) -> None:
        """The disk is full no more."""
        self.full_until = self.now

    def writable_until(self, begun: float) -> float:
        """Until when the outcome of an operation that was begun then could be written: it may be as old as that."""
        if self.full_since <= begun <= self.full_until:
            return begun  # its begin was written just before the disk was full
        return min((at for at in self._full_at if at > begun), default=self.now)

    def touched(self, guest: str) -> None:
        """Another client, or the guest itself, does something."""
        self._touched[guest] = self.now

    def asked_by_other(self, guest: FakeGuest, device: str) -> None:
        """Another client asks a running guest to release a device."""
        self._asked_by_others.add((guest.uuid, guest.id, device))

    def read_at(self, guest: str, side: str) -> float:
        """When the agent last read a definition."""
        return self.readings.get((guest, side), -1e9)

    def read(self, guest: str, side: str) -> None:
        """The agent reads a definition."""
        self.readings[guest, side] = self.now
        self.chronicle.read(guest, side)
        self._readings.setdefault((guest, side), collections.deque(maxlen=4)).append(self.now)

    def is_asked_by_other(self, guest: str, run: int, device: str) -> bool:
        """Whether another client has asked a run of a guest to release a device."""
        return (guest, run, device) in self._asked_by_others

    def in_exchange(self, guest: str, side: str) -> bool:
        """As :meth:`in_window`, of a write that is sent together with a reading, and that is put right after another.

        See :mod:`aliasagent.reconcile.exchange`.
        """
        touched, now = self._touched.get(guest, -1.0), self.now
        return any(now - read_at <= WINDOW and touched >= read_at for read_at in self._readings.get((guest, side), ()))

    def is_asked(self, guest: str, device: str, actions: frozenset[Any]) -> bool:
        """Whether an operation under way names the device."""
        return any(op.is_about(guest, device, actions) and op.is_under_way for op in self.ops.values())

    def in_window(self, guest: str, side: str) -> bool:
        """Whether another client has changed the guest between the agent's reading and its call, which followed."""
        read_at = self.read_at(guest, side)
        return self.now - read_at <= WINDOW and self._touched.get(guest, -1.0) >= read_at


def came_by_other(stay: Stay, since: float) -> bool:
    """Whether another client put a device there after an operation began."""
    return stay.origin_by == 'other' and stay.origin > since
