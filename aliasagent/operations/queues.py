# SPDX-License-Identifier: Apache-2.0
"""One guest in order, many guests side by side.

Each guest has a queue. The jobs of a queue are done one after the other, in the order they came; those of other queues
at the same time, as many as there are workers. A job that has to wait for its guest returns a future: its queue stays
closed until that is resolved, but no worker waits for it.

A call to libvirt cannot be interrupted, and may hang for as long as a guest's QEMU or its storage does not answer. So a
job that has run for some seconds is stuck: it does not count as one of those that are done at the same time, and
another thread takes its place. Its own guest waits on.
"""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

LOG = logging.getLogger(__name__)

Job = Callable[[], 'futures.Future[None] | None']

#: Seconds after which a running job is stuck. Most take milliseconds.
STUCK_AFTER = 10.0
#: How many jobs may be stuck at most. Past that no other takes their place.
MOST_STUCK = 256


@dataclasses.dataclass(eq=False)
class _Ready:
    """A job that is the first of its queue."""

    guest: str
    job: Job
    #: Resolved when the job was done, cancelled if it does not begin any more.
    done: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)


class GuestQueues:
    """The queues of all guests.

    :param workers: how many queues can move at the same time, beside those that are stuck.
    :param stuck_after: seconds after which a running job is stuck.
    :param most_stuck: how many stuck jobs do not count at most.
    """

    def __init__(self, workers: int, *, stuck_after: float = STUCK_AFTER, most_stuck: int = MOST_STUCK) -> None:
        self._workers = workers
        self._stuck_after = stuck_after
        self._most_stuck = most_stuck
        self._lock = threading.Lock()
        #: Notified when a job becomes ready, and when one has ended.
        self._changed = threading.Condition(self._lock)
        self._ready: collections.deque[_Ready] = collections.deque()
        #: What runs, and when that began. The first has run for longest.
        self._running: dict[_Ready, float] = {}
        #: Threads that run no job.
        self._spare = 0
        #: What waits behind the job that is ready or runs, or is waited for, of each guest that has one.
        self._waiting: dict[str, collections.deque[Job]] = {}
        self._closing = False

    def submit(self, guest: str, job: Job) -> None:
        """Put a job at the end of a guest's queue."""
        with self._lock:
            queue = self._waiting.get(guest)
            if queue is not None:
                queue.append(job)
                self._see_that_one_is_spare()
                return
            self._waiting[guest] = collections.deque()
        self._begin(guest, job)

    def submit_if_idle(self, guest: str, job: Job) -> 'futures.Future[None] | None':
        """Do a job if nothing is done or waits on a guest's queue; None if something does.

        The future is resolved when the job was done, and cancelled if it is not begun any more.
        """
        with self._lock:
            if guest in self._waiting or self._closing:
                self._see_that_one_is_spare()
                return None
            self._waiting[guest] = collections.deque()
        return self._begin(guest, job)

    def close(self, timeout: float | None = None) -> bool:
        """Begin no more jobs, and wait for those that run now; one that waits for its guest is not waited for.

        :param timeout: seconds to wait at most; None for as long as it takes.
        :return: whether all have ended.
        """
        with self._changed:
            self._closing = True
            never = list(self._ready)
            self._ready.clear()
            self._changed.notify_all()
        for ready in never:
            ready.done.cancel()
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def _begin(self, guest: str, job: Job) -> 'futures.Future[None]':
        ready = _Ready(guest, job)
        with self._changed:
            if not self._closing:
                self._ready.append(ready)
                self._see_that_one_is_spare()
                self._changed.notify()
                return ready.done
        LOG.debug('Not begun any more on instance %s', guest)  # closed meanwhile: it stays in the journal
        ready.done.cancel()
        return ready.done

    def _see_that_one_is_spare(self) -> None:
        """While a job is ready, a thread waits for its turn to come: for one to end, or to be stuck."""
        if not self._ready or self._spare:
            return
        try:
            # A daemon: a job that hangs in libvirt must not keep the process from ending.
            threading.Thread(target=self._work, name='operation', daemon=True).start()
        except (RuntimeError, MemoryError):
            # What is ready stays so: a thread that ends its job takes it, or the next that somebody asks for does.
            LOG.exception('No thread could be started, %d guests wait for one', len(self._ready))
        else:
            self._spare += 1

    def _work(self) -> None:
        while (ready := self._take()) is not None:
            self._do(ready)
            with self._lock:
                self._spare += 1

    def _take(self) -> _Ready | None:
        """Wait for a job, and for its turn; None if this thread is not needed any more."""
        with self._changed:
            while not (self._ready and self._has_turn()):
                if self._closing or (not self._ready and self._spare > self._workers):
                    self._spare -= 1
                    return None
                self._changed.wait(self._until_next_is_stuck() if self._ready else None)
            ready = self._ready.popleft()
            ready.done.set_running_or_notify_cancel()
            self._running[ready] = time.monotonic()
            self._spare -= 1
            self._see_that_one_is_spare()
            return ready

    def _has_turn(self) -> bool:
        limit = time.monotonic() - self._stuck_after
        stuck = sum(begun <= limit for begun in self._running.values())
        return len(self._running) - min(stuck, self._most_stuck) < self._workers

    def _until_next_is_stuck(self) -> float | None:
        """Seconds until the next of the running jobs is stuck; None if all are."""
        now = time.monotonic()
        left = (begun + self._stuck_after - now for begun in self._running.values())
        return next((seconds for seconds in left if seconds > 0), None)

    def _do(self, ready: _Ready) -> None:
        try:
            pending = ready.job()
        except Exception:
            # NOTE: jobs account for their own errors; this one is a bug, and must not close the queue for good.
            LOG.exception('A job on instance %s failed', ready.guest)
            pending = None
        finally:
            with self._changed:
                seconds = time.monotonic() - self._running.pop(ready)
                self._changed.notify_all()
        if seconds >= self._stuck_after:
            LOG.info('What was done on instance %s took %.0f s', ready.guest, seconds)
        if pending is None:
            self._next(ready.guest)
        else:
            pending.add_done_callback(lambda _future: self._next(ready.guest))
        ready.done.set_result(None)

    def _next(self, guest: str) -> None:
        with self._lock:
            queue = self._waiting[guest]
            if not queue or self._closing:
                del self._waiting[guest]
                return
            job = queue.popleft()
        self._begin(guest, job)
