# SPDX-License-Identifier: Apache-2.0
"""The connection to the hypervisor: its events, its loss, and its reopening.

libvirt's events arrive in the thread of its event loop, which must never wait. The callbacks put the events into a
queue there, and another thread of the agent delivers them to the listeners.
"""

import contextlib
import dataclasses
import logging
import queue
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.trouble import Trouble
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.connections import Connections
from aliasagent.virt.connections import close
from aliasagent.virt.connections import is_up
from aliasagent.virt.guest import Guest

LOG = logging.getLogger(__name__)

Listener = Callable[[events.Event], None]
#: Opens a connection: ``libvirt.open``, or a stand-in for it.
Opener = Callable[[str], Any]

#: The connection is lost if the peer answers none of so many keepalive messages, sent so many seconds apart.
_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 5, 3

_LIFECYCLES = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: events.Lifecycle.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: events.Lifecycle.UNDEFINED,
    libvirt.VIR_DOMAIN_EVENT_STARTED: events.Lifecycle.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: events.Lifecycle.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: events.Lifecycle.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: events.Lifecycle.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: events.Lifecycle.CRASHED,
}
_CAUSES = {
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED): events.Cause.MIGRATED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED): events.Cause.MIGRATED,
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED): events.Cause.MIGRATED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED): events.Cause.SAVED,
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT): events.Cause.SAVED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED): events.Cause.SAVED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT): events.Cause.SAVED,
}

#: The first libvirt that detaches a device by its alias, and the driver of it that does.
_BY_ALIAS, _BY_ALIAS_DRIVER = 4_004_000, 'QEMU'


@dataclasses.dataclass(frozen=True)
class Version:
    """The versions that a hypervisor reports. Numbers are libvirt's: 9.0.1 is 9000001."""

    driver: str
    libvirt: int
    #: The version of the emulator that runs the guests.
    emulator: int

    @property
    def detaches_by_alias(self) -> bool:
        """Whether both the hypervisor and this process's libvirt library can detach a device by its alias."""
        return self.driver == _BY_ALIAS_DRIVER and min(self.libvirt, libvirt.getVersion()) >= _BY_ALIAS

    def __str__(self) -> str:
        return f'libvirt {_dotted(self.libvirt)}, {self.driver} {_dotted(self.emulator)}'


@dataclasses.dataclass(frozen=True)
class Listed:
    """A guest, and its state when the guests were listed."""

    guest: Guest
    is_active: bool
    is_persistent: bool


def _dotted(number: int) -> str:
    return f'{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}'


_event_loop_lock = threading.Lock()
_event_loop: threading.Thread | None = None


def open_libvirt(uri: str) -> Any:
    """Open a real connection, with libvirt's event loop running in a thread of this process."""
    global _event_loop
    with _event_loop_lock:
        if _event_loop is None:
            # NOTE: errors are raised as well; libvirt's own copy on stderr would repeat them.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            loop = threading.Thread(target=_run_event_loop, name='libvirt-events', daemon=True)
            loop.start()
            _event_loop = loop  # set last: if the thread could not be started, the next call tries again
    return libvirt.open(uri)


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Host:
    """The hypervisor of this host.

    :param uri: libvirt URI.
    :param reconnect_interval: seconds between two attempts to connect.
    :param settle: seconds to wait after a daemon has come up: libvirtd 9.0 crashes if a running guest's device is
        detached before libvirtd has reconnected to the guest's QEMU.
    :param max_calls: how many calls are made at the same time.
    """

    def __init__(
        self,
        uri: str,
        *,
        reconnect_interval: float = 2.0,
        settle: float = 1.0,
        max_calls: int = 16,
        opener: Opener = open_libvirt,
    ) -> None:
        self.uri = uri
        self._max_calls = max_calls
        self._interval = reconnect_interval
        self._settle = settle
        self._open = opener
        self._lock = threading.Lock()
        self._connections: Connections | None = None
        self._connected = threading.Event()
        self._closing = threading.Event()
        self._waits_end = threading.Event()
        self._lost = threading.Event()
        self._events: queue.SimpleQueue[events.Event | None] = queue.SimpleQueue()
        self._listeners: list[Listener] = []
        self._threads: list[threading.Thread] = []

    def subscribe(self, listener: Listener) -> None:
        """Call a function with each event, from one thread, in order. The function must not take long."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling a function; a call may still be running."""
        self._listeners.remove(listener)

    def start(self) -> None:
        """Start to connect, and to reconnect whenever the connection is lost. Returns at once."""
        for name, target in (('host-events', self._deliver_events), ('host-connection', self._keep_connected)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Wait until the hypervisor is connected; return False after ``timeout`` seconds, or when this is closed."""
        return not self._closing.is_set() and self._connected.wait(timeout) and not self._closing.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait for some seconds; return False, at once, if the agent stops."""
        return not self._waits_end.wait(seconds)

    def end_waits(self) -> None:
        """End each :meth:`pause`, because the agent stops. Everything else continues until :meth:`close`."""
        self._waits_end.set()

    def close(self) -> None:
        """Close the connection and end the threads."""
        self._waits_end.set()
        self._closing.set()
        self._lost.set()
        self._events.put(None)
        for thread in self._threads:
            thread.join()
        with self._lock:
            connections, self._connections = self._connections, None
        self._connected.set()  # wakes the threads in wait_connected()
        self._connected.clear()
        if connections is not None:
            connections.close(with_first=True)

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    def connection(self) -> Any:
        """Return the libvirt connection that events come over. For calls use :meth:`call`.

        :raises HypervisorUnavailable: there is no connection at the moment.
        """
        return self._current().first

    def call(self) -> contextlib.AbstractContextManager[Any]:
        """Lend a libvirt connection for one call: the one that events come over, unless too many calls hang on it.

        :raises HypervisorUnavailable: there is no connection at the moment.
        """
        return self._current().call()

    def _current(self) -> Connections:
        with self._lock:
            if self._connections is None:
                raise exception.HypervisorUnavailable(reason=f'no connection to {self.uri}')
            return self._connections

    @contextlib.contextmanager
    def calling(self, action: str, instance: str = '') -> Iterator[Any]:
        """Lend a libvirt connection for one call, as :meth:`call` does, with libvirt's errors translated.

        :param action: what is being done, for the error message.
        :param instance: the guest's UUID; empty if the call is not about one guest.
        """
        connections = self._current()
        with errors.translated(action, instance, self._liveness(connections)), connections.call() as connection:
            yield connection

    def _liveness(self, connections: Connections) -> Callable[[], bool]:
        """Return a function that returns whether these connections are still in use and up."""
        return lambda: connections is self._connections and self.is_alive()

    def is_alive(self) -> bool:
        """Return whether the connection is up; a lost one is given up here, and reopened in the background."""
        with self._lock:
            connections = self._connections
        if connections is None:
            return False
        alive = is_up(connections.first)
        if not alive:
            self._give_up(connections.first)
        return alive

    def open_other(self, uri: str) -> Any:
        """Open a connection to another host. This may take long, and the caller must close the connection.

        :raises libvirt.libvirtError: the host cannot be reached.
        """
        return self._open(uri)

    def version(self) -> Version:
        """Return the hypervisor's versions.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        with self.calling('read the version') as connection:
            return Version(connection.getType(), connection.getLibVersion(), connection.getVersion())

    def guest(self, instance: str) -> Guest:
        """Return the guest with this UUID.

        :raises InstanceNotFound: the hypervisor answered that there is no such guest.
        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        connections = self._current()
        is_alive = self._liveness(connections)
        with errors.translated('look up the guest', instance, is_alive), connections.call() as connection:
            return Guest(connection.lookupByUUIDString(instance), is_alive, connections.lender())

    def guests(self) -> list[Guest]:
        """Return all guests, running or not.

        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        return self._list(0)

    def listed(self, spread: int = 1) -> list[Listed]:
        """Return all guests with their states, in a few calls for all of them.

        The state of a guest that is defined, undefined, started or stopped meanwhile may be the one before or after.

        :param spread: over how many connections to list the guests, at most. So many guests in a row then belong to
            different connections, and can be read at the same time without being looked up again.
        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        transient = {guest.uuid for guest in self._list(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)}
        guests = self._list(0, spread)
        return [Listed(guest, guest.number() != -1, guest.uuid not in transient) for guest in guests]

    def _list(self, flags: int, spread: int = 1) -> list[Guest]:
        connections = self._current()
        is_alive = self._liveness(connections)
        with errors.translated('list the guests', '', is_alive), connections.calls(spread) as lent:
            domains = lent[0].listAllDomains(flags)
            for number, connection in enumerate(lent[1:], 1):
                others = {domain.UUIDString(): domain for domain in connection.listAllDomains(flags)}
                for index in range(number, len(domains), len(lent)):
                    domains[index] = others.get(domains[index].UUIDString(), domains[index])
        return [Guest(domain, is_alive, connections.lender()) for domain in domains]

    def _keep_connected(self) -> None:
        trouble = Trouble()
        was_down = False
        while True:
            self._lost.clear()
            if self._closing.is_set():  # checked after the clear, which may have undone the set() of close()
                return
            try:
                connection = self._connect()
            except Exception as error:
                if trouble.is_new(error):
                    LOG.warning('Waiting for the hypervisor at %s: %s', self.uri, error)
                    if not isinstance(error, libvirt.libvirtError):
                        # NOTE: an internal error, or a host that has no room for a thread. Try again all the same.
                        LOG.exception('Unexpected error while connecting to the hypervisor')
                was_down = True
                self._closing.wait(self._interval)
                continue
            if was_down:
                self._closing.wait(self._settle)
            trouble.is_over()
            was_down = True  # for the next round, after a loss
            if not self._publish(connection):
                LOG.warning('Lost the connection to the hypervisor at %s before it was used', self.uri)
                close(connection)
                self._closing.wait(self._interval)
                continue
            LOG.info('Connected to the hypervisor at %s', self.uri)
            self._events.put(events.Reconnected())
            self._lost.wait()

    def _connect(self) -> Any:
        """Open the connection that events come over."""
        connection = self._open_kept_alive()
        try:
            connection.registerCloseCallback(self._on_closed, None)
            for event_id, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._on_removal_failed),
            ):
                connection.domainEventRegisterAny(None, event_id, callback, None)
        except Exception:
            close(connection)
            raise
        return connection

    def _open_kept_alive(self) -> Any:
        connection = self._open(self.uri)
        try:
            if connection.setKeepAlive(_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT) != 0:
                LOG.debug('%s needs no keepalive', self.uri)
        except Exception:
            close(connection)
            raise
        return connection

    def _publish(self, connection: Any) -> bool:
        """Make a connection available to all callers; return False if the connection is lost already."""
        # If the connection is lost before it is published, _on_closed finds nothing to give up. So it is checked again
        # afterwards: from then on _on_closed gives it up.
        if not is_up(connection):
            return False
        with self._lock:
            self._connections = Connections(connection, self._open_kept_alive, self._max_calls)
            self._connected.set()
        return self.is_alive()

    def _give_up(self, connection: Any) -> None:
        with self._lock:
            connections = self._connections
            if connections is None or connections.first is not connection:
                return
            self._connections = None
            self._connected.clear()
        connections.close(with_first=False)
        LOG.warning('Lost the connection to the hypervisor at %s', self.uri)
        self._lost.set()

    # The callbacks run in libvirt's event loop: they put the event into the queue, and do nothing else.

    def _on_closed(self, connection: Any, _reason: int, _opaque: object) -> None:
        self._give_up(connection)

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: object) -> None:
        lifecycle = _LIFECYCLES.get(event)
        if lifecycle is not None:
            cause = _CAUSES.get((event, detail), events.Cause.OTHER)
            self._events.put(events.LifecycleChanged(domain.UUIDString(), lifecycle, cause, domain.ID()))

    def _on_reboot(self, _connection: Any, domain: Any, _opaque: object) -> None:
        self._events.put(events.LifecycleChanged(domain.UUIDString(), events.Lifecycle.REBOOTED))

    def _on_removed(self, _connection: Any, domain: Any, alias: str, _opaque: object) -> None:
        self._events.put(events.DeviceRemoved(domain.UUIDString(), alias))

    def _on_removal_failed(self, _connection: Any, domain: Any, alias: str, _opaque: object) -> None:
        self._events.put(events.DeviceRemovalFailed(domain.UUIDString(), alias))

    def _deliver_events(self) -> None:
        while (event := self._events.get()) is not None:
            for listener in tuple(self._listeners):
                try:
                    listener(event)
                except Exception:
                    # NOTE: a listener that fails must not end the events for the other listeners.
                    LOG.exception('An event was not handled: %s', event)
