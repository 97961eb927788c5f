# SPDX-License-Identifier: Apache-2.0
"""Where operations come in: no more than may wait, and none before the journal has it."""

import logging
import threading
from collections.abc import Callable

from aliasagent import exception
from aliasagent.operations.model import Operation
from aliasagent.operations.runner import Runner

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
        #: Why requests had to wait when one came last; empty if that one did not have to.
        self._said = ''
        self._holding = 0
        self._lock = threading.Lock()

    @property
    def is_held(self) -> bool:
        """Whether requests are left with the message broker at this moment."""
        return self._holding > 0

    def submit(self, operation: Operation) -> None:
        """Take an operation in at once, or not at all. See :meth:`aliasagent.operations.runner.Runner.accept`.

        :raises ServiceBusy: there is no room; the same request may be made again.
        """
        self._refuse_after_left()
        self._runner.accept(operation, self._most())

    def take(self, operation: Operation) -> None:
        """Take an operation in, however long it takes: its sender is gone and cannot ask again.

        Whoever brings it waits here, and so leaves the next one where it is: with the broker.

        :raises OperationConflict: its id was used for another request.
        :raises JournalError: the agent stops, and the journal still cannot be written. The operation was not taken.
        """
        if self._try(operation):
            # Not before one came in without waiting: under load there is room for one now, and for none then.
            if self._said:
                self._said = ''
                LOG.info('Requests are taken in at once again')
            return
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
            self._runner.accept(operation, None if closing else self._most())
        except (exception.ServiceBusy, exception.JournalError) as error:
            if closing:
                self._left = error if isinstance(error, exception.JournalError) else None
                raise
            if str(error) != self._said:
                self._said = str(error)
                LOG.warning('Requests are left with the message broker for now: %s', error)
            return False
        return True

    def _refuse_after_left(self) -> None:
        """Take nothing in after what was left: it comes again first, and is done first.

        :raises JournalError: something was left.
        """
        if self._left is not None:
            raise self._left

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closing.set()
