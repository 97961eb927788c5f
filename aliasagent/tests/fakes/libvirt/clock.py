# SPDX-License-Identifier: Apache-2.0
"""A thread that does things later: the guest's side of an unplug, and the event loop that delivers callbacks."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Clock:
    """Runs functions in one thread of its own, in order of when they are due. The thread starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._busy = False

    def later(self, delay: float, what: Callable[[], object]) -> None:
        with self._changed:
            if self._stopped:
                return
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._count), what))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """What is not yet due is dropped. Waits for what is running, unless it is the caller."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def idle(self, timeout: float = 5) -> bool:
        """Wait until nothing is waiting or running; False if that did not come."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._due and not self._busy, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._stopped and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._stopped:
                    return
                what = heapq.heappop(self._due)[2]
                self._busy = True
            try:
                what()
            except Exception:
                LOG.exception('In %s', self._name)
