# SPDX-License-Identifier: Apache-2.0
"""One guest in order, many guests side by side.

Each guest has a lane. The jobs of a lane are done one after the other, in the order they came; those of other lanes at
the same time, as many as there are workers. A job that has to wait for its guest returns a future: its lane stays
closed until that is resolved, but no worker waits for it.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

LOG = logging.getLogger(__name__)

Job = Callable[[], 'futures.Future[None] | None']


class Lanes:
    """The lanes of all guests.

    :param workers: how many lanes can move at the same time.
    """

    def __init__(self, workers: int) -> None:
        self._pool = futures.ThreadPoolExecutor(workers, thread_name_prefix='operation')
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._waiting: dict[str, collections.deque[Job]] = {}
        self._closing = False

    def submit(self, guest: str, job: Job) -> None:
        """Put a job at the end of a guest's lane."""
        with self._lock:
            lane = self._waiting.get(guest)
            if lane is not None:
                lane.append(job)
                return
            self._waiting[guest] = collections.deque()
        self._begin(guest, job)

    def submit_if_idle(self, guest: str, job: Job) -> 'futures.Future[None] | None':
        """Do a job if nothing is done or waits on a guest's lane; None if something does.

        The future is resolved when the job was done, and cancelled if it is not begun any more.
        """
        with self._lock:
            if guest in self._waiting or self._closing:
                return None
            self._waiting[guest] = collections.deque()
        return self._begin(guest, job)

    def close(self, timeout: float | None = None) -> bool:
        """Begin no more jobs, and wait for those that run now; one that waits for its guest is not waited for.

        :param timeout: seconds to wait at most; None for as long as it takes.
        :return: whether all have ended.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._closing = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._idle:
            while self._running:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._idle.wait(left)
        return True

    def _begin(self, guest: str, job: Job) -> 'futures.Future[None]':
        try:
            return self._pool.submit(self._do, guest, job)
        except RuntimeError:  # closed meanwhile: what did not begin stays in the journal
            LOG.debug('Not begun any more on instance %s', guest)
            never: futures.Future[None] = futures.Future()
            never.cancel()
            return never

    def _do(self, guest: str, job: Job) -> None:
        with self._lock:
            self._running += 1
        try:
            pending = job()
        except Exception:
            # NOTE: jobs account for their own errors; this one is a bug, and must not close the lane for good.
            LOG.exception('A job on instance %s failed', guest)
            pending = None
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()
        if pending is None:
            self._next(guest)
        else:
            pending.add_done_callback(lambda _future: self._next(guest))

    def _next(self, guest: str) -> None:
        with self._lock:
            lane = self._waiting[guest]
            if not lane or self._closing:
                del self._waiting[guest]
                return
            job = lane.popleft()
        self._begin(guest, job)
