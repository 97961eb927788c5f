# SPDX-License-Identifier: Apache-2.0
"""Runs the jobs of each guest in order, and the jobs of different guests at the same time.

Each guest has a queue. The jobs of a queue run one after the other, in the order in which they were submitted; jobs of
different queues run at the same time, as many as there are workers. A job that has to wait for its guest returns a
future: the queue of the guest stays closed until the future is resolved, but no worker waits.

A call to libvirt cannot be interrupted, and may hang for as long as the QEMU of a guest or its storage does not answer.
So a job that has run for some seconds is stuck: it no longer counts towards the limit of workers, and another thread
takes its place. The other jobs of its guest still wait.
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
#: How many stuck jobs are replaced at most.
MOST_STUCK = 256


@dataclasses.dataclass(eq=False)
class _Ready:
    """A job that is the first one in its queue."""

    guest: str
    job: Job
    #: Resolved when the job has ended, cancelled if the agent stops before the job starts.
    done: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)


class GuestQueues:
    """The queues of all guests.

    :param workers: how many jobs run at the same time, not counting stuck ones.
    :param stuck_after: seconds after which a running job is stuck.
    :param most_stuck: how many stuck jobs are left out of that count at most.
    """

    def __init__(self, workers: int, *, stuck_after: float = STUCK_AFTER, most_stuck: int = MOST_STUCK) -> None:
        self._workers = workers
        self._stuck_after = stuck_after
        self._most_stuck = most_stuck
        self._lock = threading.Lock()
        #: Notified when a job becomes ready, and when one has ended.
        self._changed = threading.Condition(self._lock)
        self._ready: collections.deque[_Ready] = collections.deque()
        #: The running jobs, each with its start time. The first one has run for longest.
        self._running: dict[_Ready, float] = {}
        #: Threads that run no job.
        self._spare = 0
        #: The jobs that wait behind the current one, for each guest that has a current job.
        self._waiting: dict[str, collections.deque[Job]] = {}
        self._closing = False

    def submit(self, guest: str, job: Job) -> None:
        """Put a job at the end of a guest's queue."""
        with self._lock:
            queue = self._waiting.get(guest)
            if queue is not None:
                queue.append(job)
                self._ensure_spare_thread()
                return
            self._waiting[guest] = collections.deque()
        self._begin(guest, job)

    def submit_if_idle(self, guest: str, job: Job) -> 'futures.Future[None] | None':
        """Run a job if the queue of a guest is empty and has no current job; return None otherwise.

        The future is resolved when the job has ended, and cancelled if the agent stops before the job starts.
        """
        with self._lock:
            if guest in self._waiting or self._closing:
                self._ensure_spare_thread()
                return None
            self._waiting[guest] = collections.deque()
        return self._begin(guest, job)

    def close(self, timeout: float | None = None) -> bool:
        """Start no more jobs, and wait for those that run now, but not for pending futures of jobs.

        :param timeout: seconds to wait at most; None for no limit.
        :return: whether all running jobs have ended.
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
                self._ensure_spare_thread()
                self._changed.notify()
                return ready.done
        LOG.debug('Job not started on instance %s: the agent stops', guest)  # its operation stays in the journal
        ready.done.cancel()
        return ready.done

    def _ensure_spare_thread(self) -> None:
        """Ensure that, while a job is ready, a thread waits for its turn."""
        if not self._ready or self._spare:
            return
        try:
            # A daemon thread: a job that hangs in libvirt must not keep the process from ending.
            threading.Thread(target=self._work, name='operation', daemon=True).start()
        except (RuntimeError, MemoryError):
            # The job stays ready: a thread whose job has ended takes it, or the next call starts a thread.
            LOG.exception('No thread could be started, %d guests wait for one', len(self._ready))
        else:
            self._spare += 1

    def _work(self) -> None:
        while (ready := self._take()) is not None:
            self._do(ready)
            with self._lock:
                self._spare += 1

    def _take(self) -> _Ready | None:
        """Wait for a job and for its turn; return None if this thread is no longer needed."""
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
            self._ensure_spare_thread()
            return ready

    def _has_turn(self) -> bool:
        limit = time.monotonic() - self._stuck_after
        stuck = sum(begun <= limit for begun in self._running.values())
        return len(self._running) - min(stuck, self._most_stuck) < self._workers

    def _until_next_is_stuck(self) -> float | None:
        """Return the seconds until the next running job is stuck; None if all are."""
        now = time.monotonic()
        left = (begun + self._stuck_after - now for begun in self._running.values())
        return next((seconds for seconds in left if seconds > 0), None)

    def _do(self, ready: _Ready) -> None:
        try:
            pending = ready.job()
        except Exception:
            # NOTE: jobs handle their own errors; this one is a bug, and must not close the queue forever.
            LOG.exception('A job on instance %s failed', ready.guest)
            pending = None
        finally:
            with self._changed:
                seconds = time.monotonic() - self._running.pop(ready)
                self._changed.notify_all()
        if seconds >= self._stuck_after:
            LOG.info('A job on instance %s took %.0f s', ready.guest, seconds)
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
