# SPDX-License-Identifier: Apache-2.0
"""Runs operations: from the journal through the queue of the guest to the driver, and the outcome into the journal."""

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

from aliasagent import context
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.connecting import Connecting
from aliasagent.operations.journal import Journal
from aliasagent.operations.late import RETRY_SECONDS
from aliasagent.operations.late import LateWriter
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import Accepted
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.operations.moves import Moves
from aliasagent.operations.overdue import Overdue
from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests import inventory
from aliasagent.requests.base import Attach
from aliasagent.requests.base import AttachById
from aliasagent.requests.base import Detach
from aliasagent.requests.base import Move
from aliasagent.requests.guest import ReconcileInstance
from aliasagent.trouble import Trouble
from aliasagent.virt.driver import Driver
from aliasagent.virt.jobs import Stopping

LOG = logging.getLogger(__name__)


#: Seconds that a write to the journal may take before the definition of the guest has to be read again.
_OLD_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class UnderWay:
    """An operation that is accepted and has not ended."""

    operation: Operation
    #: Accepted or running.
    state: State
    #: When the operation entered this state, in seconds since the epoch.
    since: float


#: Receives an outcome: the operation, its error if it failed, and its duration in seconds if it started here.
Observer = Callable[[Operation, BaseException | None, float | None], None]


class Runner:
    """Accepts operations and runs them, those of each guest in order.

    :param connecting: attaches and detaches devices with a connection.
    :param moves: runs the moves of guests.
    :param reconnect_timeout: returns how many seconds an operation waits for a lost hypervisor; called each time.
    :param on_finished: called with each outcome.
    """

    def __init__(
        self,
        journal: Journal,
        queues: GuestQueues,
        driver: Driver,
        reconciler: Reconciler,
        relocation: Relocation,
        connecting: Connecting,
        *,
        moves: Moves | None = None,
        reconnect_timeout: Callable[[], float] = lambda: 0.0,
        on_finished: Observer = lambda _operation, _error, _seconds: None,
    ) -> None:
        self._journal = journal
        self._queues = queues
        self._driver = driver
        self._reconciler = reconciler
        self._relocation = relocation
        self._connecting = connecting
        self._moves = moves or Moves(len(MOVES))
        self._overdue = Overdue(journal, driver)
        self._reconnect_timeout = reconnect_timeout
        self._on_finished = on_finished
        self._accepting = threading.Lock()
        self._counting = threading.Lock()
        #: The operations that are accepted and have not ended, with the time of acceptance in seconds since the epoch.
        self._unfinished: dict[str, tuple[Operation, float]] = {}
        #: The operations that this process has started and not finished, by id, with the start time. Only the queue
        #: of an operation changes its entry.
        self._begun: dict[str, float] = {}
        #: The same operations, as the journal has them since their start.
        self._begun_as: dict[str, Operation] = {}
        self._closing = threading.Event()
        self._late_writer = LateWriter()

    def accept(self, *operations: Operation, most: int | None = None) -> list[Accepted]:
        """Accept operations with one write, all of them or none; those that have ended already are only recorded.

        Once this returns, the operations survive a crash of this process. An operation whose id is in the journal
        already is not run again.

        :param most: how many operations may wait, including these; None for no limit.
        :return: the answer of the journal to each.
        :raises ServiceBusy: there is no room for all of them.
        :raises JournalError: the operations could not be recorded, and will not be run.
        """
        new = [operation for operation in operations if not operation.is_finished]
        # One call at a time, so that the queues have the order of the journal.
        with self._accepting:
            has_room = most is None or len(self._unfinished) + len(new) <= most
            if not has_room and not all(self._journal.has(operation.id) for operation in new):
                raise exception.ServiceBusy(reason=f'{most} operations wait to be done')
            accepted = self._journal.accept(*operations)
            for operation, answer in zip(operations, accepted, strict=True):
                if not operation.is_finished:
                    self._enqueue(operation, answer)
        return accepted

    def _enqueue(self, operation: Operation, accepted: Accepted) -> None:
        with _log_context(operation):
            if accepted.is_new:
                LOG.info('Accepted %s', _description(operation))
                self._submit(operation)
            elif accepted.is_of(operation):
                LOG.info('Duplicate request, not run again: %s', _description(operation))

    def release(self, instance: str, device_id: str) -> None:
        """Record that a guest has released a device after its detach had failed."""
        # If the journal cannot be written now, the guest is read again later: another client may have attached the
        # device meanwhile.
        self._late_writer.write(
            functools.partial(self._journal.release, instance, device_id),
            functools.partial(self._overdue.recheck, instance, device_id),
        )
        self._connecting.released(instance, device_id)

    def remember(self, instance: str, device_id: str, device: DeviceFingerprint) -> None:
        """Update the recorded device of its detaches, after its guest was asked to release it."""
        self._late_writer.write(functools.partial(self._journal.remember, instance, device_id, device))

    @property
    def running(self) -> int:
        """The number of operations that are started and not finished."""
        return len(self._begun)

    @property
    def waiting(self) -> int:
        """The number of operations that are accepted and not started."""
        with self._counting:
            return max(0, len(self._unfinished) - len(self._begun))

    def under_way(self) -> list[UnderWay]:
        """Return the operations that are accepted and have not ended, in order. Does not wait for the disk."""
        with self._counting:
            unfinished, begun = list(self._unfinished.values()), dict(self._begun)
        now, steady = time.time(), time.monotonic()
        return [
            UnderWay(operation, State.RUNNING, now - (steady - begun[operation.id]))
            if operation.id in begun
            else UnderWay(operation, State.ACCEPTED, accepted_at)
            for operation, accepted_at in unfinished
        ]

    def recover(self) -> int:
        """Resume the operations that an earlier process did not finish, and return how many.

        Also follows the devices that guests may release after a failed detach.
        """
        self._overdue.watch(self._journal.overdue())
        unfinished = self._journal.unfinished()
        for operation in unfinished:
            with _log_context(operation):
                LOG.info('Resumed after a restart: %s', _description(operation))
                self._overdue.take_up(operation)
                self._submit(operation)
        return len(unfinished)

    def close(self) -> None:
        """Stop waiting for the journal. The next agent checks the guests whose outcomes could not be written."""
        self._closing.set()
        self._late_writer.close()

    def _submit(self, operation: Operation) -> None:
        with self._counting:
            self._unfinished[operation.id] = (operation, operation.accepted_at or time.time())
        self._queues.submit(operation.instance, functools.partial(self._run, operation))

    def _run(self, operation: Operation) -> 'futures.Future[None] | None':
        if operation.action not in MOVES:
            return self._run_here(operation)
        # A guest is paused while it is saved, so that a stop of the agent waits for it. A guest that migrates runs.
        return self._moves.submit(
            lambda: self._move(operation),
            holds_stop=operation.action is Action.RECONCILE_LIVE,
            at_once=operation.state is State.RUNNING,
        )

    def _move(self, operation: Operation) -> None:
        """Run a move, in its own thread."""
        pending = self._run_here(operation)
        assert pending is None, 'a move waits in its own thread'

    def _run_here(self, operation: Operation) -> 'futures.Future[None] | None':
        with _log_context(operation):
            try:
                return self._do(operation)
            except Stopping:
                return None

    def _do(self, operation: Operation) -> 'futures.Future[None] | None':
        if operation.action not in DETACHES | MOVES and not isinstance(operation.request, (Attach, AttachById)):
            self._begin(operation)
        for last in (False, False, True):
            try:
                pending = self._work(operation)
                break
            except exception.HypervisorUnavailable as error:
                # Each action reads the guest first, so that a second run finds what the first one has done.
                operation = self._begun_as.get(operation.id, operation)
                if last or not self._wait_connected():
                    # If the agent stops, the next agent continues with the operation.
                    if not self._closing.is_set():
                        self._finish(operation, error)
                    return None
            except Stopping:
                raise
            except Exception as error:  # noqa: BLE001 - becomes the operation's outcome, and is logged there
                self._finish(operation, error)
                return None
        if pending is None or pending.done():
            self._finish(operation, None if pending is None else pending.exception())
            return None
        finished: futures.Future[None] = futures.Future()
        pending.add_done_callback(lambda future: self._on_done(operation, future, finished))
        return finished

    def _work(self, operation: Operation) -> 'futures.Future[None] | None':
        """Run the request; return a future that is resolved at its end, or None if it has ended."""
        # What an earlier process, or an earlier try, has begun is continued, and not decided again.
        begin, begun_before = functools.partial(self._begin, operation), operation.state is State.RUNNING
        match operation.request:
            case AttachById() as request:
                self._connecting.attach(operation, request, begin)
            case Attach() as request:
                self._connecting.check_plain(operation)
                self._driver.attach(operation.instance, request, begin=begin, begun_before=begun_before)
            case Detach() as request:
                detach = functools.partial(self._detach, operation, request.kind)
                return self._connecting.detach(operation, request.kind, detach, begin)
            case ReconcileInstance() as request:
                self._reconciler.reconcile(operation.instance, inventory.records_of(request.inventory))
            case Move() as request:
                if operation.action is Action.LIVE_MIGRATE and not begun_before:
                    self._connecting.check_move(operation.instance)
                self._relocation.move(operation.instance, request, begin=begin, begun_before=begun_before)
            case _:
                raise exception.InvalidInput(field='arguments', reason='the record is not valid in this release')
        return None

    def _detach(self, operation: Operation, kind: str | None) -> 'futures.Future[None] | None':
        """Detach the device of an operation."""
        # The operation starts when the device is found, with a record of the device: after a restart the agent
        # continues with that same device.
        begin = functools.partial(self._begin, operation)
        detach = functools.partial(self._driver.detach, operation.instance, operation.device, kind, begin=begin)
        try:
            return detach(asked=operation.asked)
        except exception.DeviceNotFound:
            # A second detach of a device that the guest has released late succeeds, unless another client has attached
            # the device since, without an alias or other evidence of its id.
            released = self._released(operation)
            if released is None and operation.state is State.RUNNING and operation.asked is None:
                reason = 'an older release started it and did not record the device: check the guest'
                raise exception.DetachFailed(
                    instance=operation.instance, device=operation.device, reason=reason
                ) from None
            if released is None:
                raise
            return None if released.asked is None else detach(asked=released.asked.of_any_run())

    def _released(self, operation: Operation) -> Operation | None:
        """Return the earlier detach after which the guest released the device; None if the journal has none."""
        try:
            return self._journal.released(operation.instance, operation.device)
        except exception.JournalError as error:
            LOG.warning('The journal cannot be read for a late release of %s: %s', operation.device, error)
            return None

    def _wait_connected(self) -> bool:
        """Wait for a lost hypervisor; return False if it does not return in time, or the agent stops."""
        end = time.monotonic() + self._reconnect_timeout()
        while not self._closing.is_set():
            left = end - time.monotonic()
            if self._driver.wait_connected(max(0.0, min(left, RETRY_SECONDS))):
                return True
            if left <= RETRY_SECONDS:
                return False
        return False

    def _begin(self, operation: Operation, asked: DeviceFingerprint | None = None) -> bool:
        """Record the start of an operation before its work starts, and wait until the journal can be written.

        :param asked: the device that a detach is about to remove.
        :return: whether the write took so long that the guest has to be read again.
        :raises Stopping: the agent stops first.
        """
        # Outcomes that wait for the journal are written first: they belong to earlier operations, and to the guest as
        # it was then.
        begun = self._begun_as.get(operation.id)
        if begun is not None and asked in (None, begun.asked):
            return False
        trouble, began = Trouble(), time.monotonic()
        while True:
            try:
                self._late_writer.flush()
                if begun is None:
                    # After a power loss the next agent must know that a move was started, and which device a detach was
                    # about to remove. An attach or a reconcile reads the guest and does what is missing, whether it was
                    # started before or not, so that its start is synced together with its outcome.
                    synced = operation.action in DETACHES | MOVES
                    self._journal.start(operation.id, asked, synced=synced)
                elif asked is not None:
                    self._journal.found(operation.id, asked)
            except exception.JournalError as error:
                if trouble.is_new(error):
                    LOG.error('Waiting for the journal before the start of %s: %s', _description(operation), error)
                if self._closing.wait(RETRY_SECONDS):
                    raise Stopping from error
            else:
                break
        with self._counting:
            self._begun_as[operation.id] = dataclasses.replace(
                operation, state=State.RUNNING, asked=asked or operation.asked
            )
            self._begun.setdefault(operation.id, time.monotonic())
        if has_waited := trouble.is_over():
            LOG.info('Started after waiting for the journal: %s', _description(operation))
        return has_waited or time.monotonic() - began > _OLD_SECONDS

    def _on_done(
        self, operation: Operation, pending: 'futures.Future[None]', finished: 'futures.Future[None]'
    ) -> None:
        try:
            with _log_context(operation):
                self._finish(operation, pending.exception())
        finally:
            finished.set_result(None)

    def _finish(self, operation: Operation, error: BaseException | None) -> None:
        if error is None:
            LOG.info('Succeeded: %s', _description(operation))
        elif isinstance(error, exception.AliasAgentError):
            LOG.error('Failed: %s: %s: %s', _description(operation), type(error).__name__, error)
        else:
            LOG.error('Failed because of an internal error: %s', _description(operation), exc_info=error)
        with self._counting:
            self._unfinished.pop(operation.id, None)
            begun_at = self._begun.pop(operation.id, None)
            asked = self._begun_as.pop(operation.id, operation).asked
        error = None if error is None else exception.public(error)
        self._on_finished(operation, error, None if begun_at is None else time.monotonic() - begun_at)
        may_still_go = self._overdue.follow(operation, asked, error) if error is not None else None
        self._late_writer.write(functools.partial(self._journal.finish, operation.id, error, may_still_go))
        if error is not None and operation.action in ATTACHES:
            self._overdue.watch_again(operation)


def _log_context(operation: Operation) -> 'contextlib.AbstractContextManager[None]':
    """Return a context in which log lines of this thread carry the ids of an operation."""
    return context.bound_to(operation.id, operation.request_id, operation.instance)


def _description(operation: Operation) -> str:
    device = f' of {operation.device}' if operation.device else ''
    return f'{operation.action}{device}, instance {operation.instance}, operation {operation.id}'
