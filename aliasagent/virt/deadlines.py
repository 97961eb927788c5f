# SPDX-License-Identifier: Apache-2.0
"""Calls functions at their due times, from one thread for all of them."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Deadlines:
    """Calls functions at their due times. All run in one thread, so they must not take long."""

    # The thread is started at once: a thread that could not be started later would lose the calls that are due.

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name='deadlines', daemon=True)
        self._thread.start()

    def call_in(self, seconds: float, function: Callable[[], None]) -> None:
        """Call the function once after so many seconds, unless this is closed before."""
        entry = (time.monotonic() + seconds, next(self._order), function)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:  # else the thread waits for an earlier one, and need not wake
                self._changed.notify()

    def close(self) -> None:
        """Make no more calls."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (function := self._next()) is not None:
            try:
                function()
            except Exception:
                # NOTE: one call that fails must not end the deadlines of all others.
                LOG.exception('A deadline was not handled')

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closing:
                if not self._heap:
                    self._changed.wait()
                elif (remaining := self._heap[0][0] - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                else:
                    return heapq.heappop(self._heap)[2]
            return None
