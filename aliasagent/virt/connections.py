# SPDX-License-Identifier: Apache-2.0
"""Further connections to the hypervisor, for when calls hang on the first.

libvirtd works on five calls of one connection at the same time (max_client_requests in libvirtd.conf). It reads no
more, keepalive messages neither, so it closes the connection after half a minute. A call about a guest whose QEMU does
not answer is one of them for as long as it hangs, and so is a migration or a save. And while one thread waits for its
reply, libvirt 9.0 may not notice another's call before the next keepalive message. So no more than :data:`CALLS` are
made over one connection at the same time, and none beside one that has waited for longer than :data:`LONG`. Others are
made over further connections, which are opened when they are needed, and closed when they were not for a while. Events
come over the first alone.

libvirtd has twenty threads for all its clients (max_workers). Calls that hang in all of them hang the others' calls as
well, so there is a bound for those of the agent.
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

#: How many calls are made over one connection at the same time, while there is room elsewhere.
CALLS = 4
#: Seconds that a call may take before others keep away from its connection. Most take milliseconds.
LONG = 0.2
#: Seconds to wait while the agent makes as many calls as it may.
WAIT = 30.0
#: Seconds after which a further connection that was not used is closed.
IDLE = 60.0


def stands(connection: Any) -> bool:
    """Whether a connection still stands. Asks nobody."""
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
    """The connections to a hypervisor, from when the first is up to when that is lost.

    :param first: the connection that is used as long as not too many calls hang on it.
    :param open_further: opens another one.
    :param most_calls: how many calls are made at the same time over all of them.
    """

    def __init__(self, first: Any, open_further: Callable[[], Any], most_calls: int) -> None:
        self.first = first
        self._open = open_further
        self._most_calls = most_calls
        self._room = threading.Semaphore(most_calls)
        self._lock = threading.Lock()
        #: When each call that is under way began, in order, on each connection, the first one first.
        self._calls: dict[Any, list[float]] = {first: []}
        #: Since when no call is under way on each further connection.
        self._idle_since: dict[Any, float] = {}
        self._closed = False

    @contextlib.contextmanager
    def call(self, preferred: Any = None) -> Iterator[Any]:
        """Lend a connection for one call.

        :param preferred: a connection that is used if there is room on it.
        :raises ConnectionLost: a further connection was lost during the call. Of the first, libvirt's error tells.
        :raises HypervisorUnavailable: too many calls hang already.
        """
        if not self._room.acquire(timeout=WAIT):
            reason = f'{self._most_calls} calls wait for libvirt already, as many as may ([libvirt] max_calls)'
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
            if connection is self.first or stands(connection):
                raise
            raise errors.ConnectionLost(reason=error) from error
        finally:
            self._give_back(connection, begun)

    @contextlib.contextmanager
    def lend(self, domain: Any) -> Iterator[Any]:
        """Lend a handle on a guest for one call: this one, or the same guest's of a connection that has room."""
        own = domain.connect()
        with self.call(own) as connection:
            yield domain if connection is own else connection.lookupByUUIDString(domain.UUIDString())

    def close(self, *, with_first: bool) -> None:
        """Close the further connections, and the first if it is not lost. Does not wait for calls that hang."""
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
        """A connection that has room, best one without a call; None if another is to be opened."""
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
            # With the first one, the events would be lost.
            fewest = min(reversed(self._calls), key=lambda each: len(self._calls[each]))
            self._calls[fewest].append(now)
        if connection is not None:
            _close_aside(connection)
        return fewest

    def _give_back(self, connection: Any, begun: float) -> None:
        lost = connection is not self.first and not stands(connection)
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
    """Close a connection from a thread of its own: to close one says good-bye, and waits for an answer."""
    try:
        threading.Thread(target=close, args=(connection,), name='close-connection', daemon=True).start()
    except (RuntimeError, MemoryError):
        LOG.exception('No thread could be started to close a connection')
