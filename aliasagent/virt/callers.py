# SPDX-License-Identifier: Apache-2.0
"""Short calls to the hypervisor about guests: in order for each guest, and no guest blocks another.

A call about a guest whose QEMU does not answer may hang in libvirt without a limit, and cannot be interrupted. So each
guest with calls waiting or running has its own thread, and other guests have none.
"""

import collections
import logging
import threading
from collections.abc import Callable

LOG = logging.getLogger(__name__)

Call = Callable[[], None]


class GuestCallers:
    """Threads that call the hypervisor, at most one for each guest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[tuple[Call, threading.Event]]] = {}
        #: Guests that wait for a thread, because none could be started.
        self._unserved: set[str] = set()
        self._closed = False

    def submit(self, instance: str, call: Call) -> threading.Event | None:
        """Queue a call after the others about this guest; return None if this is closed.

        The event is set when the call has returned, or will not be made because this was closed.
        """
        returned = threading.Event()
        with self._lock:
            if self._closed:
                return None
            if instance not in self._waiting:
                self._waiting[instance] = collections.deque()
                self._unserved.add(instance)
            self._waiting[instance].append((call, returned))
            self._serve()
        return returned

    def close(self) -> None:
        """Make no more calls. Does not wait for a running call, which may hang."""
        with self._lock:
            self._closed = True
            for waiting in self._waiting.values():
                for _call, returned in waiting:
                    returned.set()
                waiting.clear()

    def _serve(self) -> None:
        """Start a thread for each guest that waits for one."""
        for instance in tuple(self._unserved):
            try:
                # A daemon: a call that hangs in libvirt must not keep the process from ending.
                threading.Thread(target=self._run, args=(instance,), name=f'guest-{instance}', daemon=True).start()
            except (RuntimeError, MemoryError):
                # The next call tries again, and an unplug submits calls until its attempts are used up.
                LOG.exception('No thread could be started for the calls about %d guests', len(self._unserved))
                return
            self._unserved.discard(instance)

    def _run(self, instance: str) -> None:
        while (following := self._next(instance)) is not None:
            call, returned = following
            try:
                call()
            except Exception:
                # NOTE: calls account for their own errors; this one is a bug, and must not end the calls after it.
                LOG.exception('A call about instance %s failed', instance)
            finally:
                returned.set()

    def _next(self, instance: str) -> tuple[Call, threading.Event] | None:
        with self._lock:
            waiting = self._waiting[instance]
            if waiting:
                return waiting.popleft()
            del self._waiting[instance]
            return None
