# SPDX-License-Identifier: Apache-2.0
"""Passes over the guests of the host, and what is known of them since."""

import collections
import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures

from aliasagent import exception
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.virt import events
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Does a job on a guest when what is done or waits there before is done.
Submit = Callable[[str, Callable[[], None]], None]
#: Does a job on a guest if nothing else is done or waits there, and tells when; None if something is.
SubmitIfIdle = Callable[[str, Callable[[], None]], 'futures.Future[None] | None']

#: How many guests a pass looks at side by side.
_WIDTH = 4
#: How many guests a pass reads before it writes to the ones that it read before them: that takes about as long as these
#: are to stay the same.
_BATCH = 16
#: Seconds that a pass waits for what it does with one guest. It takes milliseconds, unless libvirt hangs.
_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True)
class GuestStatus:
    """What was seen at a guest, last time."""

    name: str
    report: apply.Report
    #: Why it could not be looked at; empty if it could.
    error: str = ''


class Reconciler:
    """Looks at the host's guests, each while no operation on it is under way.

    :param known: what is known of a guest's devices from elsewhere.
    :param keep: takes what an inventory has said of a guest's devices, to be among what is known later.
    """

    def __init__(
        self,
        host: Host,
        submit: Submit,
        submit_if_idle: SubmitIfIdle,
        known: Callable[[str], Iterable[plan.Record]] = lambda _instance: (),
        keep: Callable[[str, list[plan.Record]], None] = lambda _instance, _records: None,
    ) -> None:
        self._host = host
        self._known = known
        self._keep_records = keep
        self._submit = submit
        self._submit_if_idle = submit_if_idle
        self._lock = threading.Lock()
        self._looks: dict[str, GuestStatus] = {}
        #: Guests of which an event told, and that were not looked at since.
        self._told: set[str] = set()
        host.subscribe(self._on_event)

    def run(self) -> None:
        """Look at each guest once; one on which something is under way is left for the next pass.

        :raises HypervisorUnavailable: the guests could not be listed.
        """
        guests = self._host.guests()
        self._forget_others({guest.uuid for guest in guests})
        given: list[str] = []
        # A batch is begun before the last one is finished: a guest is to stay the same for a moment before it is
        # written to, and this way nobody waits for that.
        begun: list[apply.Draft] = []
        for start in range(0, len(guests) + _BATCH, _BATCH):
            # A copy: what hung until now, and comes late, has not stayed the same for a moment yet.
            ripe, begun = tuple(begun), []
            batch = guests[start : start + _BATCH]
            self._side_by_side((guest, functools.partial(self._begin, guest, begun)) for guest in batch)
            self._side_by_side((draft.guest, functools.partial(self._finish, draft, given)) for draft in ripe)
        looks = self.looks()
        LOG.info(
            'Reconciled %d guests: %d devices have their alias, %d of them since now; %d remain without; '
            '%d are not live yet; %d guests could not be looked at',
            len(guests),
            sum(look.report.aliased for look in looks.values()),
            len(given),
            sum(look.report.remaining for look in looks.values()),
            sum(len(look.report.pending) for look in looks.values()),
            sum(1 for look in looks.values() if look.error),
        )

    def looks(self) -> dict[str, GuestStatus]:
        """What was seen last at each guest."""
        with self._lock:
            return dict(self._looks)

    def look(self, instance: str, records: Iterable[plan.Record] = ()) -> GuestStatus:
        """What would be done about a guest now, without doing it.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: nothing is known of its devices.
        """
        guest = self._host.guest(instance)
        return GuestStatus(guest.name, apply.look(guest, [*records, *self._known(instance)]))

    def reconcile(self, instance: str, records: Iterable[plan.Record] = ()) -> GuestStatus:
        """Look at a guest and give its devices their aliases, in the persistent config.

        Nothing else may be under way on the guest.

        :raises InstanceNotFound: there is no such guest.
        :raises GuestUnreadable: nothing is known of its devices, and nothing was changed.
        :raises JournalError: what the inventory says could not be kept, and nothing was changed.
        """
        guest = self._host.guest(instance)
        known = [*records, *self._known(guest.uuid)]
        # Kept before anything is written: an alias that only the inventory vouches for is doubtful without it.
        planned = apply.look(guest, known) if records else None
        if planned is not None and planned.settled:
            self._keep_records(guest.uuid, planned.settled)
        return self._keep(guest, apply.reconcile(guest, known))

    def _keep(self, guest: Guest, report: apply.Report, error: str = '') -> GuestStatus:
        look = GuestStatus(guest.name, report, error)
        with self._lock:
            self._looks[guest.uuid] = look
        return look

    def _side_by_side(self, jobs: Iterable[tuple[Guest, Callable[[], None]]]) -> None:
        """Do these jobs, each on its guest, and wait for them.

        A guest that is busy, or does not answer, is left for the next pass.
        """
        under_way: collections.deque[tuple[Guest, futures.Future[None], float]] = collections.deque()
        for guest, job in jobs:
            if len(under_way) >= _WIDTH:
                self._wait(*under_way.popleft())
            begun = self._submit_if_idle(guest.uuid, job)
            if begun is None:
                LOG.debug('Instance %s is busy, and left for the next pass', guest.uuid)
            else:
                under_way.append((guest, begun, time.monotonic() + _PATIENCE))
        for each in under_way:
            self._wait(*each)

    def _wait(self, guest: Guest, look: 'futures.Future[None]', until: float) -> None:
        """Wait for a look to end. One that never begins, because the agent stops, is cancelled."""
        try:
            look.result(max(0.0, until - time.monotonic()))
        except futures.CancelledError:
            LOG.debug('Instance %s is not looked at any more', guest.uuid)
        except futures.TimeoutError:
            # Its queue stays closed until libvirt answers.
            LOG.warning('Instance %s is left for the next pass: no answer within %.0f s', guest.uuid, _PATIENCE)
            self._keep(guest, apply.Report(), f'no answer within {_PATIENCE:.0f} s')

    def _begin(self, guest: Guest, begun: list[apply.Draft]) -> None:
        """Read a guest, if it is not as it was seen last."""
        with self._lock:
            self._told.discard(guest.uuid)
        with self._left_if_broken(guest):
            last = self._looks.get(guest.uuid)
            if last is None or last.error or last.report.seen != apply.digest(guest):
                begun.append(apply.draft(guest, functools.partial(self._known, guest.uuid)))

    def _finish(self, draft: apply.Draft, given: list[str]) -> None:
        with self._left_if_broken(draft.guest):
            given.extend(self._keep(draft.guest, apply.finish(draft)).report.given)

    @contextlib.contextmanager
    def _left_if_broken(self, guest: Guest) -> Iterator[None]:
        """Nothing that is wrong with one guest stops a pass."""
        try:
            yield
        except exception.InstanceNotFound:
            LOG.debug('Instance %s went away meanwhile', guest.uuid)
        except exception.AliasAgentError as error:
            LOG.warning('Instance %s is left for the next pass: %s', guest.uuid, error)
            self._keep(guest, apply.Report(), str(error))

    def _look_again(self, instance: str) -> None:
        """Look at a guest of which an event told."""
        with self._lock:
            self._told.discard(instance)
        try:
            guest = self._host.guest(instance)
        except exception.InstanceNotFound:
            LOG.debug('Instance %s went away meanwhile', instance)
            return
        except exception.HypervisorUnavailable as error:
            LOG.warning('Instance %s is left for the next pass: %s', instance, error)
            return
        begun: list[apply.Draft] = []
        self._begin(guest, begun)
        for draft in begun:
            self._finish(draft, [])

    def _forget_others(self, instances: set[str]) -> None:
        with self._lock:
            self._looks = {instance: look for instance, look in self._looks.items() if instance in instances}

    def _on_event(self, event: events.Event) -> None:
        """Look at a guest that was defined or started, has arrived, or was reverted to a snapshot, before a pass does.

        A revert ends with DEFINED, whatever the guest was and is; STARTED comes before, when libvirt is still at it.
        """
        match event:
            case events.LifecycleChanged(instance, events.Lifecycle.DEFINED | events.Lifecycle.STARTED):
                with self._lock:
                    waits = instance in self._told
                    self._told.add(instance)
                # Not only if nothing is under way: what is may have read the guest before it changed.
                if not waits:
                    self._submit(instance, lambda: self._look_again(instance))
