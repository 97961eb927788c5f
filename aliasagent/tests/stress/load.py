# SPDX-License-Identifier: Apache-2.0
"""A load of requests, and the audit of what became of them.

Each sender has guests of its own, to which it sends one request after the other, so that their order is known: volumes
are attached, and some of them are detached later. Half of the guests get their requests by the call ``submit``, made
again with the same context until it is answered; the other half by casts, made again until the broker has confirmed
them.
"""

import collections
import dataclasses
import random
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from concurrent import futures
from typing import Any

import oslo_messaging

from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.shell.remote import messaging
from aliasagent.tests.contract import harness
from aliasagent.tests.stress.bench import Bench
from sandbox import processes

#: What a sender asks again after: no answer, no confirmation, or a refusal that will not last.
AGAIN = (
    oslo_messaging.MessagingTimeout,
    oslo_messaging.MessageUndeliverable,
    *messaging.BROKER_ERRORS,
    exception.ServiceBusy,
    exception.JournalError,
)
#: A guest has no more volumes than these at a time, unless detaches fail.
_MOST_VOLUMES = 4
_OUTCOME = re.compile(r'(Succeeded|Failed|Failed because of an internal error): .*operation ([0-9a-f-]{36})')


@dataclasses.dataclass
class Request:
    """A request, as its sender knows it."""

    guest: str
    action: str
    volume: str
    #: Its arguments beside guest and volume.
    more: dict[str, Any]
    by_call: bool
    id: str = dataclasses.field(default_factory=harness.new_id)
    #: Whether it was answered, or confirmed by the broker.
    taken: bool = False
    #: How often it was made in vain, by why.
    in_vain: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class Load:
    """Requests to a bench's guests, sent from some threads.

    :param operations: how many requests.
    :param senders: how many threads.
    :param pause: seconds between two requests of a thread.
    """

    def __init__(self, bench: Bench, operations: int, seed: int, *, senders: int = 6, pause: float = 0.0) -> None:
        self.bench = bench
        self.operations = operations
        self.requests: list[Request] = []
        self._seed = seed
        self._senders = min(senders, len(bench.guests))
        self._pause = pause
        self._giving_up = threading.Event()
        self._lock = threading.Lock()
        self._pool = futures.ThreadPoolExecutor(senders, thread_name_prefix='sender')
        self._sending: list[futures.Future[None]] = []

    @property
    def taken(self) -> int:
        """How many requests were answered or confirmed so far."""
        with self._lock:
            return sum(request.taken for request in self.requests)

    def start(self) -> None:
        for number in range(self._senders):
            guests = list(enumerate(self.bench.guests))[number :: self._senders]
            share = self.operations // self._senders + (number < self.operations % self._senders)
            self._sending.append(self._pool.submit(self._send_all, number, guests, share))

    def wait_taken(self, share: float, timeout: float = 300) -> None:
        """Wait until this share of the requests was answered or confirmed.

        :raises PartFailed: time is up.
        """
        wanted = int(self.operations * share)
        processes.wait_until(
            lambda: self.taken >= wanted or self._failure(), timeout, f'{wanted} requests to be taken', 0.02
        )

    def join(self, timeout: float = 300) -> None:
        """Wait until all is sent.

        :raises Exception: what made a sender fail.
        """
        try:
            for future in self._sending:
                future.result(timeout)
        finally:
            self._giving_up.set()
            self._pool.shutdown()

    def _failure(self) -> bool:
        return any(future.done() and future.exception() is not None for future in self._sending)

    def _send_all(self, number: int, guests: list[tuple[int, str]], share: int) -> None:
        chance = random.Random(f'{self._seed}-{number}')
        attached: dict[str, list[str]] = {guest: [] for _index, guest in guests}
        for turn in range(share):
            index, guest = guests[turn % len(guests)]
            there = attached[guest]
            if len(there) >= _MOST_VOLUMES or (there and chance.random() < 0.4):
                volume = there.pop(chance.randrange(len(there)))
                self._send(Request(guest, 'detach_volume', volume, {}, index % 2 == 0))
            else:
                volume, connection = self.bench.new_volume()
                there.append(volume)
                more = {'connection_info': connection, 'disk_bus': 'scsi'}
                self._send(Request(guest, 'attach_volume', volume, more, index % 2 == 0))
            time.sleep(self._pause)

    def _send(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
        send(self.bench, request, self._giving_up)


def send(bench: Bench, request: Request, giving_up: threading.Event | None = None) -> Request:
    """Make a request under its id, again and again until it is taken or somebody gives up."""
    ctxt, api = RequestContext(operation_id=request.id), bench.api()
    arguments = {'instance_uuid': request.guest, 'volume_id': request.volume, **request.more}
    while giving_up is None or not giving_up.is_set():
        try:
            if request.by_call:
                api.submit(ctxt, request.action, **arguments)
            else:
                getattr(api, request.action)(ctxt, **arguments)
        except AGAIN as error:
            request.in_vain[type(error).__name__.removesuffix('_Remote')] += 1
            time.sleep(0.1)
        else:
            request.taken = True
            break
    return request


@dataclasses.dataclass
class Audit:
    """What became of a load."""

    sent: int
    by_call: int
    asked_again: int
    succeeded: int
    failed: dict[str, int]
    #: What was taken and has no outcome.
    lost: list[str]
    #: What was begun or ended more than once.
    doubled: list[str]
    #: Guests whose XML is not what the outcomes say.
    wrong: list[str]
    #: What the failed ones say.
    errors: list[str]

    def row(self) -> str:
        """A line of a table."""
        casts = self.sent - self.by_call
        failed = ', '.join(f'{count} {name}' for name, count in sorted(self.failed.items()))
        return (
            f'sent {self.sent} (submit {self.by_call}, cast {casts}; asked again {self.asked_again}), '
            f'succeeded {self.succeeded}, failed {sum(self.failed.values())}{f" ({failed})" if failed else ""}, '
            f'lost {len(self.lost)}, doubled {len(self.doubled)}, guests with other devices {len(self.wrong)}'
        )

    @property
    def kept(self) -> bool:
        """Whether what was promised was kept."""
        return not (self.lost or self.doubled or self.wrong)


def wait_ended(bench: Bench, requests: Collection[Request], timeout: float = 300) -> None:
    """Wait until all that was taken has ended; what has not by then, the audit will show."""
    wanted = {request.id for request in requests if request.taken}
    deadline = time.monotonic() + timeout
    while wanted and time.monotonic() < deadline:
        for guest in bench.guests:
            try:
                wanted -= {found['id'] for found in bench.operations(guest) if found['finished_at'] is not None}
            except AGAIN:
                time.sleep(1)
        time.sleep(0.2)


def audit(bench: Bench, requests: Collection[Request], *, agents: int = 1) -> Audit:
    """Compare what was sent with what the agent says, and that with what the guests have.

    :param agents: how many agents in a row worked on it; an operation may be begun once by each.
    """
    wait_ended(bench, requests)
    known = {found['id']: found for guest in bench.guests for found in bench.operations(guest)}
    ended = {id_: found for id_, found in known.items() if found['state'] in ('succeeded', 'failed')}
    outcomes = collections.Counter(
        match[2] for line in bench.logged(' operation ') if (match := _OUTCOME.search(line)) is not None
    )
    return Audit(
        sent=len(requests),
        by_call=sum(request.by_call for request in requests),
        asked_again=sum(request.in_vain.total() for request in requests),
        succeeded=sum(found['state'] == 'succeeded' for found in ended.values()),
        failed=dict(
            collections.Counter(found['error_class'] for found in ended.values() if found['state'] == 'failed')
        ),
        lost=[request.id for request in requests if request.taken and request.id not in ended],
        doubled=[id_ for id_, found in known.items() if found['attempts'] > agents or outcomes[id_] > agents],
        wrong=[guest for guest in bench.guests if not agrees(bench, guest)],
        errors=[f'{found["action"]}: {found["error"]}' for found in ended.values() if found['state'] == 'failed'],
    )


def agrees(bench: Bench, guest: str) -> bool:
    """Whether a guest has, live and persistent, just what the operations on it that succeeded put there and left."""
    there: set[str] = set()
    doubtful: set[str] = set()
    for found in bench.operations(guest):
        change: Callable[[str], None] = there.add if found['action'].startswith('attach') else there.discard
        if found['state'] == 'succeeded':
            change(found['device'])
            doubtful.discard(found['device'])
        elif found['error_class'] == 'HypervisorUnavailable':
            # It says that nothing is known.
            doubtful.add(found['device'])
    ids = bench.ids(guest)
    return ids.live - doubtful == ids.persistent - doubtful == there - doubtful
