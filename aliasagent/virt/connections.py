# SPDX-License-Identifier: Apache-2.0
"""Further connections to the hypervisor, used when calls hang on the first.

libvirtd works on five calls of one connection at the same time (max_client_requests in libvirtd.conf). With five calls
hanging it reads nothing more, not even keepalive messages, and closes the connection after half a minute. A call about
a guest whose QEMU does not answer counts for as long as it hangs, and so does a migration or a save. And while one
thread waits for its reply, libvirt 9.0 may not notice another thread's call before the next keepalive message. So at
most :data:`CALLS` calls are made over one connection at the same time, and none beside a call that has waited longer
than :data:`LONG`. Other calls use further connections, which are opened when needed, and closed when idle for a while.
Events come over the first connection alone.

libvirtd has twenty threads for all its clients (max_workers). Calls that hang in all of them block other clients' calls
as well, so the number of the agent's calls is limited.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.virt import errors

LOG = logging.getLogger(__name__)

#: How many calls are made over one connection at the same time, while other connections have room.
CALLS = 4
#: Seconds that a call may take before other calls avoid its connection. Most calls take milliseconds.
LONG = 0.2
#: Seconds to wait while the agent makes as many calls as allowed.
WAIT = 30.0
#: Seconds after which a further connection that was not used is closed.
IDLE = 60.0


def is_up(connection: Any) -> bool:
    """Return whether a connection is up, as far as libvirt's client library has noticed; makes no call."""
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def close(connection: Any) -> None:
    """Close a connection that may be lost already."""
    try:
        connection.close()
    except libvirt.libvirtError as error:
        LOG.debug('A connection could not be closed: %s', error)


class Connections:
    """The connections to a hypervisor, as long as the first of them is up.

    :param first: the connection that is used as long as not too many calls hang on it.
    :param open_further: opens another connection.
    :param most_calls: how many calls are made at the same time over all connections.
    """

    def __init__(self, first: Any, open_further: Callable[[], Any], most_calls: int) -> None:
        self.first = first
        self._open = open_further
        self._most_calls = most_calls
        self._room = threading.Semaphore(most_calls)
        self._lock = threading.Lock()
        #: For each connection, the first one first: when each of its running calls began, in order.
        self._calls: dict[Any, list[float]] = {first: []}
        #: For each connection: since when it has no running call.
        self._idle_since: dict[Any, float] = {}
        self._closed = False

    @contextlib.contextmanager
    def call(self, preferred: Any = None) -> Iterator[Any]:
        """Lend a connection for one call.

        :param preferred: a connection that is used if there is room on it.
        :raises ConnectionLost: a further connection was lost during the call. If the first was, libvirt's error is
            raised.
        :raises HypervisorUnavailable: too many calls hang already.
        """
        if not self._room.acquire(timeout=WAIT):
            reason = f'{self._most_calls} calls wait for libvirt already, the limit of [libvirt] max_calls'
            raise exception.HypervisorUnavailable(reason=reason)
        try:
            with self._lent(preferred) as connection:
                yield connection
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _lent(self, preferred: Any) -> Iterator[Any]:
        connection, begun = self._take(preferred)
        try:
            yield connection
        except libvirt.libvirtError as error:
            if connection is self.first or is_up(connection):
                raise
            raise errors.ConnectionLost(reason=error) from error
        finally:
            self._give_back(connection, begun)

    @contextlib.contextmanager
    def lend(self, domain: Any) -> Iterator[Any]:
        """Lend a handle on a guest for one call: the given one, or one of a connection that has room."""
        own = domain.connect()
        with self.call(own) as connection:
            yield domain if connection is own else connection.lookupByUUIDString(domain.UUIDString())

    def close(self, *, with_first: bool) -> None:
        """Close the further connections, and the first if ``with_first``. Does not wait for calls that hang."""
        with self._lock:
            self._closed = True
            calls, self._calls = self._calls, {self.first: self._calls[self.first]}
            self._idle_since.clear()
        for connection in calls:
            if connection is not self.first:
                _close_aside(connection)
        if with_first and calls[self.first]:
            _close_aside(self.first)
        elif with_first:
            close(self.first)

    def _take(self, preferred: Any) -> tuple[Any, float]:
        now = time.monotonic()
        with self._lock:
            idle = self._drop_idle(now)
            connection = self._choose(preferred, now)
            if connection is not None:
                self._calls[connection].append(now)
        for each in idle:
            _close_aside(each)
        return (self._take_further(now) if connection is None else connection), now

    def _choose(self, preferred: Any, now: float) -> Any:
        """Choose a connection that has room, preferably one without a call; None if another must be opened."""
        with_room = [
            connection
            for connection in (preferred, *self._calls)
            if (begun := self._calls.get(connection)) is not None
            and (not begun or (len(begun) < CALLS and now - begun[0] < LONG))
        ]
        if not with_room:
            return self.first if self._closed else None
        return next((connection for connection in with_room if not self._calls[connection]), with_room[0])

    def _take_further(self, now: float) -> Any:
        connection = None
        try:
            connection = self._open()
        except libvirt.libvirtError as error:
            LOG.warning('Calls hang in libvirt, and no other connection can be opened: %s', error)
        with self._lock:
            if connection is not None and not self._closed:
                self._calls[connection] = [now]
                LOG.info('Connection %d is opened, since calls hang in libvirt', len(self._calls))
                return connection
            # Rather a further connection than the first: if libvirtd closed the first, events would be lost.
            fewest = min(reversed(self._calls), key=lambda each: len(self._calls[each]))
            self._calls[fewest].append(now)
        if connection is not None:
            _close_aside(connection)
        return fewest

    def _give_back(self, connection: Any, begun: float) -> None:
        lost = connection is not self.first and not is_up(connection)
        with self._lock:
            if connection not in self._calls:
                return  # closed meanwhile
            self._calls[connection].remove(begun)
            if lost:
                del self._calls[connection]
                self._idle_since.pop(connection, None)
            elif not self._calls[connection]:
                self._idle_since[connection] = time.monotonic()
        if lost:
            _close_aside(connection)

    def _drop_idle(self, now: float) -> list[Any]:
        idle = [
            connection
            for connection, since in self._idle_since.items()
            if connection is not self.first and not self._calls[connection] and now - since >= IDLE
        ]
        for connection in idle:
            del self._calls[connection], self._idle_since[connection]
        return idle


def _close_aside(connection: Any) -> None:
    """Close a connection in its own thread, because libvirt waits for the daemon's reply to a close."""
    try:
        threading.Thread(target=close, args=(connection,), name='close-connection', daemon=True).start()
    except (RuntimeError, MemoryError):
        LOG.exception('No thread could be started to close a connection')
