# SPDX-License-Identifier: Apache-2.0
"""Works operations off: from the journal, through the guest's queue and the driver, and back into the journal."""

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures

from aliasagent import context
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
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
from aliasagent.requests.base import Detach
from aliasagent.requests.base import Move
from aliasagent.requests.guest import ReconcileInstance
from aliasagent.trouble import Trouble
from aliasagent.virt.driver import Driver
from aliasagent.virt.jobs import Stopping

LOG = logging.getLogger(__name__)


#: Seconds after which what was read of a guest is old, because its record took so long.
_OLD_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class UnderWay:
    """An operation that is taken in and has not ended."""

    operation: Operation
    #: Accepted or running.
    state: State
    #: When it came into this state, in seconds since the epoch.
    since: float


#: Hears of an outcome: the operation, its error if it failed, and the seconds of its work if that began here.
Observer = Callable[[Operation, BaseException | None, float | None], None]


class Runner:
    """Takes operations in and does them, each guest's in order.

    :param moves: where guests move, or wait for their turn to.
    :param reconnect_timeout: seconds to wait for a hypervisor that went away under an operation; asked each time.
    :param on_finished: hears of each outcome.
    """

    def __init__(
        self,
        journal: Journal,
        queues: GuestQueues,
        driver: Driver,
        reconciler: Reconciler,
        relocation: Relocation,
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
        self._moves = moves or Moves(len(MOVES))
        self._overdue = Overdue(journal, driver)
        self._reconnect_timeout = reconnect_timeout
        self._on_finished = on_finished
        self._accepting = threading.Lock()
        self._counting = threading.Lock()
        #: What is taken in and has not ended, and when it came in, in seconds since the epoch.
        self._unfinished: dict[str, tuple[Operation, float]] = {}
        #: The operations that this process has begun and not finished, and when. Each is touched by its own queue only.
        self._begun: dict[str, float] = {}
        #: The same operations, as the journal has them since they were begun.
        self._begun_as: dict[str, Operation] = {}
        self._closing = threading.Event()
        self._late_writer = LateWriter()

    def accept(self, operation: Operation, most: int | None = None) -> Operation:
        """Take an operation in. Once this returns, it will be done, whatever happens to this process.

        An id that is known already is not done again.

        :param most: how many may wait, with this one; None for any number.
        :return: what the journal has of it.
        :raises ServiceBusy: so many wait already.
        :raises OperationConflict: the id was used for another request.
        :raises JournalError: it could not be recorded, and will not be done.
        """
        (accepted,) = self.accept_all([operation], most)
        accepted.check(operation)
        return accepted.record

    def accept_all(self, operations: Sequence[Operation], most: int | None = None) -> list[Accepted]:
        """Take operations in, all of them or none; those that have ended already are only recorded.

        :param most: how many may wait, with these; None for any number.
        :return: what the journal says to each.
        :raises ServiceBusy: there is no room for all of them.
        :raises JournalError: they could not be recorded.
        """
        new = [operation for operation in operations if not operation.is_finished]
        # One at a time, so that the queues have the order of the journal.
        with self._accepting:
            has_room = most is None or len(self._unfinished) + len(new) <= most
            if not has_room and not all(self._journal.has(operation.id) for operation in new):
                raise exception.ServiceBusy(reason=f'{most} operations wait to be done')
            accepted = self._journal.accept(*operations)
            for operation, answer in zip(operations, accepted, strict=True):
                if not operation.is_finished:
                    self._go_on_with(operation, answer)
        return accepted

    def _go_on_with(self, operation: Operation, accepted: Accepted) -> None:
        with _under(operation):
            if accepted.is_new:
                LOG.info('Accepted %s', _words(operation))
                self._submit(operation)
            elif accepted.is_of(operation):
                LOG.info('Asked again, and not done again: %s', _words(operation))

    def release(self, instance: str, device_id: str) -> None:
        """Record that a guest let go of a device after all whose detach had failed."""
        # What waits for a journal is looked at once more: another client may have put the device back meanwhile.
        self._late_writer.write(
            functools.partial(self._journal.release, instance, device_id),
            functools.partial(self._overdue.look_again, instance, device_id),
        )

    def remember(self, instance: str, device_id: str, device: DeviceFingerprint) -> None:
        """Record what became known of a device since its guest was asked to release it."""
        self._late_writer.write(functools.partial(self._journal.remember, instance, device_id, device))

    @property
    def running(self) -> int:
        """How many operations are begun and not finished."""
        return len(self._begun)

    @property
    def waiting(self) -> int:
        """How many operations are taken in and not begun."""
        with self._counting:
            return max(0, len(self._unfinished) - len(self._begun))

    def under_way(self) -> list[UnderWay]:
        """What is taken in and has not ended, in the order it came in. Waits for no disk."""
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
        """Take up what an earlier process accepted and did not finish, or gave up too early; how many are done now."""
        self._overdue.watch(self._journal.overdue())
        unfinished = self._journal.unfinished()
        for operation in unfinished:
            with _under(operation):
                LOG.info('Taken up after a restart: %s', _words(operation))
                self._overdue.take_up(operation)
                self._submit(operation)
        return len(unfinished)

    def close(self) -> None:
        """Do not wait for the journal any more: what is not in it is looked at after the next start."""
        self._closing.set()
        self._late_writer.close()

    def _submit(self, operation: Operation) -> None:
        with self._counting:
            self._unfinished[operation.id] = (operation, operation.accepted_at or time.time())
        self._queues.submit(operation.instance, functools.partial(self._run, operation))

    def _run(self, operation: Operation) -> 'futures.Future[None] | None':
        if operation.action not in MOVES:
            return self._run_here(operation)
        # A guest stands still while it is saved: that is waited for at a stop. One that migrates runs on.
        return self._moves.submit(
            lambda: self._move(operation),
            holds_stop=operation.action is Action.RECONCILE_LIVE,
            at_once=operation.state is State.RUNNING,
        )

    def _move(self, operation: Operation) -> None:
        """Do a move, in a thread that is its own."""
        pending = self._run_here(operation)
        assert pending is None, 'a move is waited for by its own thread'

    def _run_here(self, operation: Operation) -> 'futures.Future[None] | None':
        with _under(operation):
            try:
                return self._do(operation)
            except Stopping:
                return None

    def _do(self, operation: Operation) -> 'futures.Future[None] | None':
        if operation.action not in DETACHES | MOVES:
            self._begin(operation)
        for last in (False, False, True):
            try:
                pending = self._work(operation)
                break
            except exception.HypervisorUnavailable as error:
                # What was done already is seen when it is done again: each action looks first.
                operation = self._begun_as.get(operation.id, operation)
                if last or not self._wait_connected():
                    # Should it be the stop that took the hypervisor away, the next agent goes on with this.
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
        """Do what was asked; the future tells when it is done, None if it is."""
        match operation.request:
            case Attach() as request:
                self._driver.attach(operation.instance, request)
            case Detach() as request:
                return self._detach(operation, request.kind)
            case ReconcileInstance() as request:
                self._reconciler.reconcile(operation.instance, inventory.records_of(request.inventory))
            case Move() as request:
                # A move that was begun before is gone on with, and not begun anew.
                begin = functools.partial(self._begin, operation)
                begun_before = operation.state is State.RUNNING
                self._relocation.move(operation.instance, request, begin=begin, begun_before=begun_before)
            case _:
                raise exception.InvalidInput(field='arguments', reason='what is recorded of them makes no sense here')
        return None

    def _detach(self, operation: Operation, kind: str | None) -> 'futures.Future[None] | None':
        """Begin when the device was found, with a record of it: what is gone on with is that very device."""
        begin = functools.partial(self._begin, operation)
        detach = functools.partial(self._driver.detach, operation.instance, operation.device, kind, begin=begin)
        try:
            return detach(asked=operation.asked)
        except exception.DeviceNotFound:
            # Whoever asks once more for what the guest has released late is told that it is done, unless another
            # client has plugged it in since, with nothing that says whose it is.
            released = self._released(operation)
            if released is None and operation.state is State.RUNNING and operation.asked is None:
                reason = 'an older release has begun it and did not record what it found: see whether the guest has it'
                raise exception.DetachFailed(
                    instance=operation.instance, device=operation.device, reason=reason
                ) from None
            if released is None:
                raise
            return None if released.asked is None else detach(asked=released.asked.of_any_run())

    def _released(self, operation: Operation) -> Operation | None:
        """The earlier detach after which the guest has released the device; None if it is not known of any."""
        try:
            return self._journal.released(operation.instance, operation.device)
        except exception.JournalError as error:
            LOG.warning('It is not known whether %s was released late: %s', operation.device, error)
            return None

    def _wait_connected(self) -> bool:
        """Wait for a hypervisor that went away; False if it stays away or the agent stops."""
        end = time.monotonic() + self._reconnect_timeout()
        while not self._closing.is_set():
            left = end - time.monotonic()
            if self._driver.wait_connected(max(0.0, min(left, RETRY_SECONDS))):
                return True
            if left <= RETRY_SECONDS:
                return False
        return False

    def _begin(self, operation: Operation, asked: DeviceFingerprint | None = None) -> bool:
        """Record that work begins, before it does: after a crash it is known what may have happened.

        With no journal nothing begins. It is waited for. Outcomes that wait for it are written first: they are of what
        came before, and of the guest as it was then.

        :param asked: the device that a detach is about to take out.
        :return: whether it was waited for: what was read of the guest before is old.
        :raises Stopping: the agent stops first.
        """
        begun = self._begun_as.get(operation.id)
        if begun is not None and asked in (None, begun.asked):
            return False
        trouble, began = Trouble(), time.monotonic()
        while True:
            try:
                self._late_writer.flush()
                if begun is None:
                    self._journal.start(operation.id, asked)
                elif asked is not None:
                    self._journal.found(operation.id, asked)
            except exception.JournalError as error:
                if trouble.is_new(error):
                    LOG.error('Waiting to begin: %s: %s', _words(operation), error)
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
            LOG.info('Begun after all: %s', _words(operation))
        return has_waited or time.monotonic() - began > _OLD_SECONDS

    def _on_done(
        self, operation: Operation, pending: 'futures.Future[None]', finished: 'futures.Future[None]'
    ) -> None:
        try:
            with _under(operation):
                self._finish(operation, pending.exception())
        finally:
            finished.set_result(None)

    def _finish(self, operation: Operation, error: BaseException | None) -> None:
        if error is None:
            LOG.info('Succeeded: %s', _words(operation))
        elif isinstance(error, exception.AliasAgentError):
            LOG.error('Failed: %s: %s: %s', _words(operation), type(error).__name__, error)
        else:
            LOG.error('Failed because of an internal error: %s', _words(operation), exc_info=error)
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


def _under(operation: Operation) -> 'contextlib.AbstractContextManager[None]':
    """Have this thread write its log under an operation's ids."""
    return context.bound_to(operation.id, operation.request_id, operation.instance)


def _words(operation: Operation) -> str:
    device = f' of {operation.device}' if operation.device else ''
    return f'{operation.action}{device}, instance {operation.instance}, operation {operation.id}'
