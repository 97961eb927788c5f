# SPDX-License-Identifier: Apache-2.0
"""Reconcile the guests of the host, and keep the status of each guest."""

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
from aliasagent.virt.guest import Guest
from aliasagent.virt.host import Host
from aliasagent.virt.host import Listed

LOG = logging.getLogger(__name__)

#: Runs a job on a guest after the jobs that the guest already has.
Submit = Callable[[str, Callable[[], None]], None]
#: Runs a job on a guest that has no other job, and returns the job's future; None if the guest has another job.
SubmitIfIdle = Callable[[str, Callable[[], None]], 'futures.Future[None] | None']

#: Number of guests that a reconcile run handles in parallel.
_WIDTH = 4
#: Number of guests that a reconcile run reads before it writes to the batch before. To read a batch takes about as long
#: as a definition must be stable before a write.
_BATCH = 16
#: Seconds that a reconcile run waits for one guest. A guest takes milliseconds, unless libvirt hangs.
_GUEST_TIMEOUT = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class GuestStatus:
    """The result of a guest's last reconcile."""

    name: str
    report: apply.Report
    #: Why the guest could not be reconciled; empty if it could.
    error: str = ''


class Reconciler:
    """Reconciles the host's guests, each while the guest has no operation.

    :param hints_of: returns the hints for a guest's devices.
    :param keep: keeps hints of an inventory about a guest's devices.
    :param asked: returns what the cloud says of a guest's devices, if it was asked about these definitions of the guest
        (:attr:`apply.Report.seen`); else has the cloud asked later. It must not wait.
    :param is_busy: returns whether Nova is at work on a guest. It may wait for Nova.
    """

    def __init__(
        self,
        host: Host,
        submit: Submit,
        submit_if_idle: SubmitIfIdle,
        hints_of: Callable[[str], Iterable[plan.Record]] = lambda _instance: (),
        keep: Callable[[str, list[plan.Record]], None] = lambda _instance, _records: None,
        asked: Callable[[str, bytes], Iterable[plan.Record]] = lambda _instance, _seen: (),
        is_busy: Callable[[str], bool] = lambda _instance: False,
    ) -> None:
        self._host = host
        self._is_busy = is_busy
        self._asked = asked
        self._hints_of = hints_of
        self._keep_records = keep
        self._submit = submit
        self._submit_if_idle = submit_if_idle
        self._lock = threading.Lock()
        self._statuses: dict[str, GuestStatus] = {}
        #: Guests that came or changed and were not read since.
        self._changed: set[str] = set()

    def run(self) -> None:
        """Reconcile each guest once, except guests that have an operation.

        :raises HypervisorUnavailable: the guests could not be listed.
        """
        guests = self._host.listed(_WIDTH)
        self._forget_others({each.guest.uuid for each in guests})
        given: list[str] = []
        # The run reads a batch before it writes to the batch before: a definition must be stable for a moment before a
        # write, and this way no thread waits for that.
        begun: list[apply.Draft] = []
        for start in range(0, len(guests) + _BATCH, _BATCH):
            # A copy: a job that hung may still add its guest, whose definition has not been stable for a moment.
            ripe, begun = tuple(begun), []
            batch = guests[start : start + _BATCH]
            self._in_parallel((each.guest, functools.partial(self._begin_listed, each, begun)) for each in batch)
            self._in_parallel((draft.guest, functools.partial(self._finish, draft, given)) for draft in ripe)
        statuses = self.statuses().values()
        LOG.info(
            'Reconciled %d guests: %d devices have their alias, %d of them new; %d devices do not; '
            '%d aliases are not live yet; %d guests could not be reconciled',
            len(guests),
            sum(status.report.aliased for status in statuses),
            len(given),
            sum(status.report.remaining for status in statuses),
            sum(len(status.report.pending) for status in statuses),
            sum(1 for status in statuses if status.error),
        )

    def statuses(self) -> dict[str, GuestStatus]:
        """Return the status of each guest, by the guest's id."""
        with self._lock:
            return dict(self._statuses)

    def status(self, instance: str, records: Iterable[plan.Record] = ()) -> GuestStatus:
        """Return what a reconcile of a guest would do, without a change.

        :raises InstanceNotFound: the host does not have the guest.
        :raises GuestUnreadable: the guest's definition could not be read.
        """
        guest = self._host.guest(instance)
        return GuestStatus(guest.name, apply.preview(guest, [*records, *self._hints_of(instance)]))

    def reconcile(self, instance: str, records: Iterable[plan.Record] = ()) -> GuestStatus:
        """Give a guest's devices their aliases, in the persistent config.

        The guest must not have another operation.

        :param records: the hints of this request's inventory.
        :raises InstanceNotFound: the host does not have the guest.
        :raises GuestUnreadable: the guest's definition could not be read, and nothing was changed.
        :raises JournalError: the journal could not keep the inventory's hints, and nothing was changed.
        """
        guest = self._host.guest(instance)
        hints = [*records, *self._hints_of(guest.uuid)]
        # Keep the hints before the write: an alias that only the inventory confirms is disputed without its hint.
        planned = apply.preview(guest, hints) if records else None
        if planned is not None and planned.settled:
            self._keep_records(guest.uuid, planned.settled)
        return self._keep(guest, apply.reconcile(guest, hints))

    def changed(self, instance: str, left: Callable[[], None] = lambda: None) -> None:
        """Reconcile a guest that came or changed, after the jobs that it already has; does not wait for that.

        :param left: called if the guest is left as it is, because Nova is at work on it.
        """
        # Also for a guest that has another job: the job may have read the guest before the change.
        with self._lock:
            waits = instance in self._changed
            self._changed.add(instance)
        if not waits:
            self._submit(instance, lambda: self._reconcile_changed(instance, left))

    def _keep(self, guest: Guest, report: apply.Report, error: str = '') -> GuestStatus:
        status = GuestStatus(guest.name, report, error)
        with self._lock:
            self._statuses[guest.uuid] = status
        return status

    def _in_parallel(self, jobs: Iterable[tuple[Guest, Callable[[], None]]]) -> None:
        """Run jobs, each on its guest, and wait for them. Skip guests that are busy or do not answer."""
        under_way: collections.deque[tuple[Guest, futures.Future[None], float]] = collections.deque()
        for guest, job in jobs:
            if len(under_way) >= _WIDTH:
                self._wait(*under_way.popleft())
            begun = self._submit_if_idle(guest.uuid, job)
            if begun is None:
                LOG.debug('Instance %s is busy, and skipped until the next reconcile run', guest.uuid)
            else:
                under_way.append((guest, begun, time.monotonic() + _GUEST_TIMEOUT))
        for each in under_way:
            self._wait(*each)

    def _wait(self, guest: Guest, job: 'futures.Future[None]', until: float) -> None:
        """Wait for a job on a guest, at most until a time."""
        try:
            job.result(max(0.0, until - time.monotonic()))
        except futures.CancelledError:
            LOG.debug('Instance %s is not reconciled, because the agent stops', guest.uuid)
        except futures.TimeoutError:
            # The guest's queue stays blocked until libvirt answers.
            LOG.warning(
                'Instance %s is skipped until the next reconcile run: no answer within %.0f s',
                guest.uuid,
                _GUEST_TIMEOUT,
            )
            self._keep(guest, apply.Report(), f'no answer within {_GUEST_TIMEOUT:.0f} s')

    def _begin_listed(self, listed: Listed, begun: list[apply.Draft]) -> None:
        """Read a guest as :meth:`_begin` does, without the calls whose answers the list of the guests has."""
        self._begin(listed.guest, begun, persistent=listed.is_persistent, active=listed.is_active)

    def _begin(
        self, guest: Guest, begun: list[apply.Draft], *, persistent: bool | None = None, active: bool = True
    ) -> None:
        """Read a guest, unless the guest's definitions are those of the last report.

        :param persistent: as for :func:`apply.digest`, and so is ``active``.
        """
        with self._lock:
            self._changed.discard(guest.uuid)
        with self._errors_kept(guest):
            last = self._statuses.get(guest.uuid)
            if (
                last is None
                or last.error
                or last.report.seen != apply.digest(guest, persistent=persistent, active=active)
            ):
                begun.append(apply.draft(guest, functools.partial(self._hints_of, guest.uuid)))
            elif told := self._ask_about(guest, last.report):
                begun.append(self._draft_as_told(guest, last.report.seen, told))

    def _finish(self, draft: apply.Draft, given: list[str]) -> None:
        with self._errors_kept(draft.guest):
            report = self._keep(draft.guest, apply.finish(draft)).report
            given.extend(report.given)
            self._ask_about(draft.guest, report)

    def _ask_about(self, guest: Guest, report: apply.Report) -> list[plan.Record]:
        """Return what the cloud says of a guest with devices that nothing else identifies; have it asked if need be."""
        is_unsure = any(_is_unsure(step) for step in report.steps)
        return list(self._asked(guest.uuid, report.seen)) if is_unsure and report.seen else []

    def _draft_as_told(self, guest: Guest, seen: bytes, told: list[plan.Record]) -> apply.Draft:
        """Read a guest, to plan with what the cloud says of these definitions of the guest, and of no others.

        :raises JournalError: the journal could not keep what the cloud decides.
        """

        def hints() -> list[plan.Record]:
            is_same = apply.digest(guest) == seen
            return [*self._hints_of(guest.uuid), *(told if is_same else ())]

        settled = apply.preview(guest, hints()).settled
        if settled and apply.digest(guest) == seen:
            self._keep_records(guest.uuid, settled)
        return apply.draft(guest, hints)

    @contextlib.contextmanager
    def _errors_kept(self, guest: Guest) -> Iterator[None]:
        """Log an error about a guest and keep it as the guest's status, so that the reconcile run continues."""
        try:
            yield
        except exception.InstanceNotFound:
            LOG.debug('Instance %s does not exist any more', guest.uuid)
        except exception.AliasAgentError as error:
            LOG.warning('Instance %s is skipped until the next reconcile run: %s', guest.uuid, error)
            self._keep(guest, apply.Report(), str(error))

    def _reconcile_changed(self, instance: str, left: Callable[[], None]) -> None:
        with self._lock:
            self._changed.discard(instance)
        try:
            guest = self._host.guest(instance)
        except exception.InstanceNotFound:
            LOG.debug('Instance %s does not exist any more', instance)
            return
        except exception.HypervisorUnavailable as error:
            LOG.warning('Instance %s is skipped until the next reconcile run: %s', instance, error)
            return
        # Before an answer of the cloud is taken, which is given only once.
        if self._is_busy(instance):
            LOG.debug('Instance %s is left as it is while Nova is at work on it', instance)
            left()
            return
        begun: list[apply.Draft] = []
        self._begin(guest, begun)
        for draft in begun:
            self._finish(draft, [])

    def _forget_others(self, instances: set[str]) -> None:
        with self._lock:
            self._statuses = {uuid: status for uuid, status in self._statuses.items() if uuid in instances}


def _is_unsure(step: apply.DeviceStatus) -> bool:
    """Return whether the cloud may know more about a device than the definition says."""
    # Nova may not list a port yet that it has attached to the running guest as a whole card.
    is_card = step.outcome is plan.Outcome.LOCAL and step.kind == 'hostdev'
    return is_card or step.outcome in (plan.Outcome.UNIDENTIFIED, plan.Outcome.CONFLICT)
