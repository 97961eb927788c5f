# SPDX-License-Identifier: Apache-2.0
"""Short calls to the hypervisor about guests: each guest's in order, and no guest holds up another.

A call about a guest whose QEMU does not answer may hang in libvirt for as long as it likes, and cannot be interrupted.
So there is a thread for each guest that something is asked about at the moment, and none for the others.
"""

import collections
import logging
import threading
from collections.abc import Callable

LOG = logging.getLogger(__name__)

Call = Callable[[], None]


class GuestCallers:
    """Threads that call the hypervisor, one for each guest at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[Call]] = {}
        self._closed = False

    def submit(self, instance: str, call: Call) -> bool:
        """Make a call after the others about this guest; False if it is not made any more."""
        with self._lock:
            if self._closed:
                return False
            waiting = self._waiting.get(instance)
            if waiting is not None:
                waiting.append(call)
                return True
            self._waiting[instance] = collections.deque([call])
        # A daemon: a call that hangs in libvirt must not keep the process from ending.
        threading.Thread(target=self._run, args=(instance,), name=f'guest-{instance}', daemon=True).start()
        return True

    def close(self) -> None:
        """Make no more calls. One that is being made is not waited for: it may hang."""
        with self._lock:
            self._closed = True
            for waiting in self._waiting.values():
                waiting.clear()

    def _run(self, instance: str) -> None:
        while (call := self._next(instance)) is not None:
            try:
                call()
            except Exception:
                # NOTE: calls account for their own errors; this one is a bug, and must not end the calls after it.
                LOG.exception('A call about instance %s failed', instance)

    def _next(self, instance: str) -> Call | None:
        with self._lock:
            waiting = self._waiting[instance]
            if waiting:
                return waiting.popleft()
            del self._waiting[instance]
            return None
