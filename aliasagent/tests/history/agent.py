# SPDX-License-Identifier: Apache-2.0
"""The agent of a history: the real service, with stand-ins for the broker, the metrics and the disk.

This is the one place that knows how the agent is put together. It uses ComputeService as the command does, so that a
changed constructor of a part of it changes nothing here.
"""

import contextlib
import sqlite3
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from aliasagent import conf
from aliasagent.client import rpc
from aliasagent.compute import service
from aliasagent.context import RequestContext
from aliasagent.messaging import notify
from aliasagent.messaging import rpc_server
from aliasagent.reconcile import exchange
from aliasagent.tests.history import patching
from aliasagent.tests.history import threads
from aliasagent.tests.history.scheduler import Life
from aliasagent.virt.host import Host

#: How long a guest may take, and how often it is asked: short, so that histories are.
UNPLUG_TIMEOUT, UNPLUG_ATTEMPTS = 5.0, 2


def options(paths: list[str], journal: str, save_directory: str) -> Any:
    """The options, as plain attributes: the real ones are looked up too often for that many histories."""
    found: dict[str, dict[str, Any]] = {}
    for module in conf.MODULES:
        for group, opts in module.list_opts():
            for opt in opts:
                section = found.setdefault(str(group or 'DEFAULT').lower(), {})
                section[opt.dest] = opt.default
    found['allowed'] |= {'paths': paths, 'pci': ['*'], 'mdevs': ['*'], 'bridges': ['*'], 'migration_hosts': ['*']}
    found['unplug'] |= {'timeout': UNPLUG_TIMEOUT, 'attempts': UNPLUG_ATTEMPTS}
    found['operations'] |= {'journal': journal}
    found['reconcile'] |= {'save_directory': save_directory}
    default = found.pop('default', {})
    groups = {name: _Group(**values) for name, values in found.items()}
    return types.SimpleNamespace(**{**default, **groups, 'host': 'history', 'graceful_shutdown_timeout': 60})


class _Group(types.SimpleNamespace):
    """The options of one group."""

    def items(self) -> Any:
        return vars(self).items()


class Disk:
    """What the journal is on."""

    def __init__(self) -> None:
        self.is_full = False
        self.name = f'file:history-{id(self)}?mode=memory&cache=shared'
        # What is in memory is there as long as somebody has it open.
        self._keeper = sqlite3.connect(self.name, uri=True)
        self.connections: list[Connection] = []
        #: Called before a transaction that changes something is committed, and after it.
        self.at_point: Callable[[str], None] = lambda _point: None
        self.on_commit: Callable[[sqlite3.Connection], None] = lambda _connection: None

    def close(self) -> None:
        """The process that had the journal open is gone."""
        for connection in self.connections:
            connection.close()
        self.connections.clear()

    def end(self) -> None:
        """Nobody will have it open any more."""
        self._keeper.close()


#: That of the history that runs.
_DISK: list[Disk] = []


class Connection(sqlite3.Connection):
    """A connection to the journal."""

    is_changed = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if not _DISK:
            return super().execute(sql, parameters)
        word = sql.lstrip()[:6].upper()
        if word in ('INSERT', 'UPDATE', 'DELETE'):
            disk = _DISK[0]
            disk.at_point('journal')
            if disk.is_full:
                raise sqlite3.OperationalError('database or disk is full')
            self.is_changed = True
        elif word == 'COMMIT' and self.is_changed:
            self._commit()
            return super().execute('SELECT 1')
        elif word == 'ROLLBA':
            self.is_changed = False
        return super().execute(sql, parameters)

    def _commit(self) -> None:
        disk = _DISK[0]
        disk.at_point('before commit')
        super().execute('COMMIT')
        self.is_changed = False
        disk.on_commit(self)
        disk.at_point('after commit')


def _connect(path: str, **options: Any) -> sqlite3.Connection:
    if not _DISK:
        return sqlite3.connect(path, **options)  # type: ignore[no-any-return]
    disk = _DISK[0]
    connection: Connection = sqlite3.connect(disk.name, **{**options, 'factory': Connection, 'uri': True})
    disk.connections.append(connection)
    return connection


class _Nothing:
    """Takes whatever it is told."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


class _Timers:
    """The service's timers."""

    def add_dynamic_timer(self, callback: Callable[..., Any], initial_delay: float = 0.0, *args: Any, **_: Any) -> None:
        def run() -> None:
            threads.sleep(float(initial_delay or 0.0))
            while True:
                threads.sleep(float(callback()))

        threads.scheduler().spawn(run)

    def stop(self, *_: Any) -> None:
        pass

    def wait(self) -> None:
        pass


class Broker:
    """The queue of the agent's topic, and what was sent to others."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, RequestContext, dict[str, Any]]] = []
        self.came = threads.Event()
        #: What was told: the event type, and the payload.
        self.notified: list[tuple[str, dict[str, Any]]] = []
        self.server: Any = None

    def cast(self, method: str, operation_id: str, arguments: dict[str, Any]) -> None:
        self.messages.append((method, RequestContext(operation_id=operation_id), arguments))
        self.came.set()

    def info(self, _ctxt: object, event_type: str, payload: dict[str, Any]) -> None:
        threads.scheduler().latency(0.002)
        self.notified.append((event_type, payload))

    error = info


class _Server:
    """Takes messages to the endpoint as :class:`aliasagent.messaging.rpc_server.InOrderServer` does."""

    def __init__(self, broker: Broker, endpoint: Any, together: Callable[[], Any], topic: str) -> None:
        self._broker, self.endpoint, self._together, self._topic = broker, endpoint, together, topic
        self.is_connected = True
        self._stopping = False
        self._thread = threads.Thread(target=self._run)

    def start(self) -> None:
        if self._topic == rpc.TOPIC:
            self._broker.server = self
            self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._broker.came.set()

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        broker = self._broker
        while not self._stopping:
            if not broker.messages:
                broker.came.clear()
                broker.came.wait()
                continue
            messages = broker.messages[:20]
            threads.scheduler().latency(0.002)
            try:
                with self._together():
                    for method, ctxt, arguments in messages:
                        getattr(self.endpoint, method)(ctxt, **arguments)
            except rpc_server.NotAccepted:
                threads.sleep(1.0)
            else:
                del broker.messages[: len(messages)]


class Agent:
    """One process of the agent."""

    def __init__(self, number: int, options: Any, opener: Callable[[str], Any], broker: Broker) -> None:
        self.life = Life(f'agent {number}')
        self.service: Any = None
        self.is_stopping = False
        self._options, self._opener, self._broker = options, opener, broker

    def start(self) -> None:
        threads.scheduler().spawn(self._main, self.life)

    def _main(self) -> None:
        _forget()
        _BROKER[:] = [self._broker]
        host = Host('qemu:///system', reconnect_interval=self._options.libvirt.reconnect_interval, opener=self._opener)
        self.service = service.ComputeService(self._options, host=host)
        self.service.tg = _Timers()
        self.service.start()
        self.service._ready.wait()
        assert self.service._failure is None, self.service._failure

    @property
    def endpoint(self) -> Any:
        """What answers calls; None if it does not listen yet."""
        server = self._broker.server
        return None if server is None or self.life.dead else server.endpoint

    def stop(self) -> None:
        """As on SIGTERM. To be called by a task of the agent."""
        self.service.stop()


_BROKER: list[Broker] = []


def _forget() -> None:
    """What a process has in modules, a new one has not."""
    exchange._WRITERS = type(exchange._WRITERS)()


def _server(_transport: Any, _host: str, endpoints: list[Any], *, topic: str, together: Any, **_: Any) -> _Server:
    return _Server(_BROKER[0], endpoints[0], together, topic)


@contextlib.contextmanager
def assembled() -> Iterator[None]:
    """Have all of the agent use the machine's parts inside."""
    disk = patching._Standin(sqlite3, connect=_connect)
    names = {
        'rpc': patching._Standin(rpc, transport=lambda _conf: types.SimpleNamespace(conf=cfg.CONF)),
        'rpc_server': patching._Standin(rpc_server, make=_server),
        'notify': patching._Standin(notify, notifier=lambda _conf, _host: _BROKER[0]),
        'systemd': patching._Standin(types.ModuleType('systemd'), notify_once=lambda: None),
        'Metrics': _Nothing,
        'reports': patching._Standin(types.ModuleType('reports'), sections=lambda _parts: []),
        # The kernel takes the lock from a process that is killed; all agents of a history are one process.
        'JournalLock': lambda _path: _Nothing(),
    }
    before = {name: getattr(service, name) for name in names}
    writers = exchange._WRITERS
    with patching.patched(sqlite3=disk):
        for name, value in names.items():
            setattr(service, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(service, name, value)
            exchange._WRITERS = writers


@contextlib.contextmanager
def using(disk: Disk) -> Iterator[None]:
    """Have journals be on this disk inside."""
    _DISK[:] = [disk]
    try:
        yield
    finally:
        disk.close()
        disk.end()
        _DISK.clear()
