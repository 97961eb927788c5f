# SPDX-License-Identifier: Apache-2.0
"""Bounds the backlog, and accepts an operation only once it is in the journal."""

import contextlib
import logging
import threading
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent import context
from aliasagent import exception
from aliasagent.operations.gathering import Gathering
from aliasagent.operations.model import Operation
from aliasagent.operations.runner import Runner
from aliasagent.trouble import Trouble

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to accept an operation that waits for room.
_PAUSE = 0.05


class Intake:
    """Accepts operations for the runner.

    :param most: returns how many operations may wait at most; called for each operation.
    """

    def __init__(self, runner: Runner, most: Callable[[], int]) -> None:
        self._runner = runner
        self._most = most
        self._closing = threading.Event()
        #: Why a request was not acknowledged at the stop, so that the next agent receives it; None if all were.
        self._left: exception.JournalError | None = None
        #: Logs why requests have to wait.
        self._trouble = Trouble()
        self._gathering = Gathering(lambda operations: runner.accept(*operations, most=most()))
        self._holding = 0
        #: The operations of this thread inside :meth:`together`.
        self._brought = threading.local()
        self._lock = threading.Lock()

    @property
    def is_blocked(self) -> bool:
        """Whether requests wait now, unacknowledged at the message broker."""
        return self._holding > 0

    def submit(self, operation: Operation) -> Operation:
        """Accept an operation at once, or refuse it. Threads that call this at the same time share a write.

        :return: the operation as the journal has it.
        :raises ServiceBusy: too many operations wait; the client may retry the request.
        :raises OperationConflict: the id was used for another request.
        :raises JournalError: the operation could not be recorded, and will not be run.
        """
        self._refuse_after_left()
        accepted = self._gathering.accept(operation)
        accepted.check(operation)
        return accepted.record

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Collect what this thread passes to :meth:`take` inside, and accept it with one write at the end.

        :raises JournalError: as :meth:`take`; the operations after the one that failed are not accepted, either.
        """
        self._brought.operations = brought = list[Operation]()
        try:
            yield
        finally:
            del self._brought.operations
        self._take(brought)

    def take(self, operation: Operation) -> None:
        """Accept an operation, and wait as long as that takes.

        :raises JournalError: the agent stops, and the journal still cannot be written. The operation was not accepted.
        """
        # The client has sent a cast and does not wait for an answer, so that it could not retry. The thread that
        # receives messages waits here: the messages behind this one stay with the broker, unacknowledged. A refused
        # operation is recorded, too: a client that waits for its outcome would otherwise never read one.
        brought = getattr(self._brought, 'operations', None)
        if brought is None:
            self._take([operation])
        else:
            brought.append(operation)

    def _take(self, operations: list[Operation]) -> None:
        if len(operations) > 1 and self._take_at_once(operations):
            return
        for number, operation in enumerate(operations):
            try:
                self._take_one(operation)
            except exception.JournalError as error:
                left = ', '.join(one.id for one in operations[number:])
                LOG.error('Not acknowledged, the broker will redeliver operation %s: %s', left, error)
                raise
            except Exception:
                # Unacknowledged, the message would be redelivered again and again, and block the ones behind it.
                what = f'{operation.action}, operation {operation.id}'
                LOG.exception('Not accepted because of an internal error: %s', what)

    def _take_one(self, operation: Operation) -> None:
        if self._try(operation):
            self._log_recovery()
        else:
            self._wait(operation)

    def _take_at_once(self, operations: list[Operation]) -> bool:
        """Accept several operations with one write; return False if each has to be tried by itself."""
        if self._closing.is_set():
            return False
        try:
            self._accept(operations, self._most())
        except Exception:  # noqa: BLE001 - tried by itself, the one that fails raises its error, and the others are accepted
            return False
        self._log_recovery()
        return True

    def _wait(self, operation: Operation) -> None:
        with self._lock:
            self._holding += 1
        try:
            while not self._try(operation):
                self._closing.wait(_PAUSE)
        finally:
            with self._lock:
                self._holding -= 1

    def _try(self, operation: Operation) -> bool:
        """Accept an operation; return False if it has to wait."""
        self._refuse_after_left()
        closing = self._closing.is_set()
        try:
            # While the agent stops, an operation that it has received is accepted beyond the limit, so that it is
            # kept.
            self._accept([operation], None if closing else self._most())
        except (exception.ServiceBusy, exception.JournalError) as error:
            if closing:
                self._left = error if isinstance(error, exception.JournalError) else None
                raise
            if self._trouble.is_new(error):
                LOG.warning('Requests wait unacknowledged at the message broker: %s', error)
            return False
        return True

    def _accept(self, operations: list[Operation], most: int | None) -> None:
        for operation, accepted in zip(operations, self._runner.accept(*operations, most=most), strict=True):
            try:
                accepted.check(operation)
            except exception.OperationConflict as error:
                # A cast has no answer, so that the log alone can report the error.
                with context.bound_to(operation.id, operation.request_id, operation.instance):
                    LOG.error('Not accepted: %s, operation %s: %s', operation.action, operation.id, error)

    def _log_recovery(self) -> None:
        # Only after an operation that did not have to wait: under load the room for one may be the last.
        if self._trouble.is_over():
            LOG.info('Requests are accepted again')

    def _refuse_after_left(self) -> None:
        """Refuse every operation after one that was not acknowledged.

        :raises JournalError: an operation was not acknowledged.
        """
        # The broker redelivers that one first, and it has to be executed first.
        if self._left is not None:
            raise self._left

    def close(self) -> None:
        """Stop waiting for room, because the agent stops."""
        self._closing.set()
