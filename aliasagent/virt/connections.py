# SPDX-License-Identifier: Apache-2.0
"""Further connections to the hypervisor: each call has a connection of its own while it lasts.

libvirtd works on five calls of one connection at the same time (max_client_requests in libvirtd.conf). With five calls
hanging it reads nothing more, not even keepalive messages, and closes the connection after half a minute. A call about
a guest whose QEMU does not answer counts for as long as it hangs, and so does a migration or a save. And while one
thread waits for its reply, libvirt 9.0 may not notice another thread's call before the next keepalive message. So no
call is made beside another one. Connections are opened when needed, and closed when idle for a while. Events come over
the first connection alone.

A handle on a guest belongs to a connection, and on another connection the guest must be looked up again. So a call
about a guest gets a connection on which the guest was looked up before, if no other call uses it; any other call gets
the connection that its thread had last.

libvirtd has twenty threads for all its clients (max_workers). Calls that hang in all of them block other clients' calls
as well, so the number of the agent's calls is limited.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.virt import errors

LOG = logging.getLogger(__name__)

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

    :param first: the connection that events come over.
    :param open_further: opens another connection.
    :param most_calls: how many calls are made at the same time over all connections.
    """

    def __init__(self, first: Any, open_further: Callable[[], Any], most_calls: int) -> None:
        self.first = first
        self._open = open_further
        self._most_calls = most_calls
        self._lock = threading.Lock()
        #: Notified when a call has ended.
        self._ended = threading.Condition(self._lock)
        #: The number of calls under way on each connection, the first one first.
        self._calls: dict[Any, int] = {first: 0}
        #: The number of calls under way on all connections.
        self._under_way = 0
        #: For each connection: since when it has no call under way.
        self._idle_since: dict[Any, float] = {}
        self._last = threading.local()
        self._closed = False

    def call(self) -> 'Loan':
        """Lend a connection for one call.

        :raises ConnectionLost: a further connection was lost during the call. If the first was, libvirt's error is
            raised.
        :raises HypervisorUnavailable: too many calls hang already.
        """
        return Loan(self)

    @contextlib.contextmanager
    def calls(self, most: int) -> Iterator[list[Any]]:
        """Lend several connections for a call over each: one, and others unless many calls are under way.

        :raises: what :meth:`call` raises.
        """
        with contextlib.ExitStack() as stack:
            lent = [stack.enter_context(self.call())]
            while len(lent) < most and self._under_way < self._most_calls // 2:
                lent.append(stack.enter_context(self.call()))
            yield lent

    def lender(self) -> Callable[[Any], 'Loan']:
        """Return a function that lends handles on one guest, each for one call.

        The function takes a handle on the guest, and lends this one or one of a connection that no other call uses. It
        raises what :meth:`call` raises.
        """
        others: dict[Any, Any] = {}
        return lambda domain: Loan(self, domain, others)

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

    def take(self, preferred: Iterable[Any] = ()) -> Any:
        """Choose a connection for one call; :meth:`give_back` must follow.

        :param preferred: the connections to choose one of, the best first, if no call uses it.
        :raises HypervisorUnavailable: too many calls hang already.
        """
        now = time.monotonic()
        with self._lock:
            if not self._has_room() and not self._ended.wait_for(self._has_room, WAIT):
                reason = f'{self._most_calls} calls wait for libvirt already, the limit of [libvirt] max_calls'
                raise exception.HypervisorUnavailable(reason=reason)
            self._under_way += 1
            connection = self._choose((*preferred, getattr(self._last, 'connection', None)))
            if connection is not None:
                self._calls[connection] += 1
            idle = self._drop_idle(now)
        for each in idle:
            _close_aside(each)
        if connection is None:
            connection = self._take_further()
        self._last.connection = connection
        return connection

    def give_back(self, connection: Any) -> None:
        """Record that a call has ended."""
        lost = connection is not self.first and not is_up(connection)
        with self._lock:
            self._under_way -= 1
            self._ended.notify()
            if connection not in self._calls:
                return  # closed meanwhile
            self._calls[connection] -= 1
            if lost:
                del self._calls[connection]
                self._idle_since.pop(connection, None)
            elif not self._calls[connection]:
                self._idle_since[connection] = time.monotonic()
        if lost:
            _close_aside(connection)

    def _has_room(self) -> bool:
        return self._under_way < self._most_calls

    def _choose(self, preferred: Iterable[Any]) -> Any:
        """Choose a connection that no call uses; None if another must be opened."""
        for connection in preferred:
            if self._calls.get(connection) == 0:
                return connection
        free = next((connection for connection, calls in self._calls.items() if not calls), None)
        return self.first if free is None and self._closed else free

    def _take_further(self) -> Any:
        connection = None
        try:
            connection = self._open()
        except libvirt.libvirtError as error:
            LOG.warning('All connections to libvirt are in use, and no other can be opened: %s', error)
        except BaseException:
            with self._lock:
                self._under_way -= 1
                self._ended.notify()
            raise
        with self._lock:
            if connection is not None and not self._closed:
                self._calls[connection] = 1
                LOG.debug('Connection %d to libvirt is opened', len(self._calls))
                return connection
            # Rather a further connection than the first: if libvirtd closed the first, events would be lost.
            fewest = min(reversed(self._calls), key=lambda each: self._calls[each])
            self._calls[fewest] += 1
        if connection is not None:
            _close_aside(connection)
        return fewest

    def _drop_idle(self, now: float) -> list[Any]:
        idle = [
            connection
            for connection, since in self._idle_since.items()
            if now - since >= IDLE and connection is not self.first and not self._calls[connection]
        ]
        for connection in idle:
            del self._calls[connection], self._idle_since[connection]
        return idle


class Loan:
    """A connection, or a handle on a guest, for one call; a context manager.

    :param domain: a handle on the guest; None to lend the connection.
    :param others: the handles on the guest that earlier loans looked up, by their connections. Like the given one, each
        names the guest by its UUID, and a call with it fails if the guest is gone.
    """

    def __init__(self, connections: Connections, domain: Any = None, others: dict[Any, Any] | None = None) -> None:
        self._connections = connections
        self._domain = domain
        self._others: dict[Any, Any] = {} if others is None else others
        self._connection: Any = None

    def __enter__(self) -> Any:
        domain = self._domain
        if domain is None:
            self._connection = self._connections.take()
            return self._connection
        own = domain.connect()
        connection = self._connection = self._connections.take((own, *self._others))
        if connection is own:
            return domain
        other = self._others.get(connection)
        if other is None:
            try:
                other = self._others[connection] = connection.lookupByUUIDString(domain.UUIDString())
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return other

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        connection, first = self._connection, self._connections.first
        self._connections.give_back(connection)
        if isinstance(error, libvirt.libvirtError) and connection is not first and not is_up(connection):
            raise errors.ConnectionLost(reason=error) from error


def _close_aside(connection: Any) -> None:
    """Close a connection in its own thread, because libvirt waits for the daemon's reply to a close."""
    try:
        threading.Thread(target=close, args=(connection,), name='close-connection', daemon=True).start()
    except (RuntimeError, MemoryError):
        LOG.exception('No thread could be started to close a connection')
