# SPDX-License-Identifier: Apache-2.0
"""Where operations come in: no more than may wait, and none before the journal has it."""

import contextlib
import logging
import threading
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent import context
from aliasagent import exception
from aliasagent.operations.model import Operation
from aliasagent.operations.runner import Runner
from aliasagent.trouble import Trouble

LOG = logging.getLogger(__name__)

#: Seconds after which somebody who waits for room looks again.
_PAUSE = 0.05


class Intake:
    """The door to the runner.

    :param most: how many operations may wait to be done; asked each time.
    """

    def __init__(self, runner: Runner, most: Callable[[], int]) -> None:
        self._runner = runner
        self._most = most
        self._closing = threading.Event()
        #: Why a request was left with the broker for the next agent; None if none was.
        self._left: exception.JournalError | None = None
        #: Why requests have to wait.
        self._trouble = Trouble()
        self._holding = 0
        #: What this thread has taken, if it takes several together.
        self._brought = threading.local()
        self._lock = threading.Lock()

    @property
    def is_held(self) -> bool:
        """Whether requests are left with the message broker at this moment."""
        return self._holding > 0

    def submit(self, operation: Operation) -> Operation:
        """Take an operation in at once, or not at all. See :meth:`aliasagent.operations.runner.Runner.accept`.

        :return: what the journal has of it.
        :raises ServiceBusy: there is no room; the same request may be made again.
        """
        self._refuse_after_left()
        return self._runner.accept(operation, self._most())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Have what this thread takes inside taken in at the end, at the cost of one.

        :raises JournalError: as :meth:`take`; what came after the one that was not taken was not taken, either.
        """
        self._brought.operations = brought = list[Operation]()
        try:
            yield
        finally:
            del self._brought.operations
        self._take(brought)

    def take(self, operation: Operation) -> None:
        """Take an operation in, however long it takes: its sender is gone and cannot ask again.

        Whoever brings it waits here, and so leaves the next one where it is: with the broker. One that was refused has
        to be recorded like the others, or a client that waits for its outcome would never learn it.

        :raises JournalError: the agent stops, and the journal still cannot be written. The operation was not taken.
        """
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
                LOG.error('Left with the message broker: operation %s: %s', left, error)
                raise
            except Exception:
                # Left with the broker it would come again and again, and keep the others from us.
                words = f'{operation.action}, operation {operation.id}'
                LOG.exception('Not accepted because of an internal error: %s', words)

    def _take_one(self, operation: Operation) -> None:
        if self._try(operation):
            self._say_at_once()
        else:
            self._wait(operation)

    def _take_at_once(self, operations: list[Operation]) -> bool:
        """Take several in; False if there is no room for all of them, and each has to wait for its own."""
        if self._closing.is_set():
            return False
        try:
            self._accept(operations, self._most())
        except Exception:  # noqa: BLE001 - each by itself raises what it has to raise; the others are taken
            return False
        self._say_at_once()
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
        """Take an operation in; False if it has to wait."""
        self._refuse_after_left()
        closing = self._closing.is_set()
        try:
            # At the end what is in our hands has to go somewhere, and the journal is safer than here.
            self._accept([operation], None if closing else self._most())
        except (exception.ServiceBusy, exception.JournalError) as error:
            if closing:
                self._left = error if isinstance(error, exception.JournalError) else None
                raise
            if self._trouble.is_new(error):
                LOG.warning('Requests are left with the message broker for now: %s', error)
            return False
        return True

    def _accept(self, operations: list[Operation], most: int | None) -> None:
        for operation, accepted in zip(operations, self._runner.accept_all(operations, most), strict=True):
            try:
                accepted.check(operation)
            except exception.OperationConflict as error:
                # Nobody waits for an answer.
                with context.bound_to(operation.id, operation.request_id, operation.instance):
                    LOG.error('Not accepted: %s, operation %s: %s', operation.action, operation.id, error)

    def _say_at_once(self) -> None:
        # Not before one came in without waiting: under load there is room for one now, and for none then.
        if self._trouble.is_over():
            LOG.info('Requests are taken in at once again')

    def _refuse_after_left(self) -> None:
        """Take nothing in after what was left: it comes again first, and is done first.

        :raises JournalError: something was left.
        """
        if self._left is not None:
            raise self._left

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closing.set()
