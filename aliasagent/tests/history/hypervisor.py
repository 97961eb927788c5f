# SPDX-License-Identifier: Apache-2.0
"""The fake hypervisor on the machine's clock: calls take time, steps come in between, and all is written down."""

import os
import typing
from collections.abc import Callable
from typing import Any

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import FakeConnect
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history.chronicle import Chronicle
from aliasagent.tests.history.scheduler import Life
from aliasagent.tests.history.scheduler import Scheduler

#: Seconds that a call takes to libvirtd, and its answer back, at most.
LATENCY = 0.002
#: Methods that say nothing of a guest and change nothing.
_QUIET = frozenset({'setKeepAlive', 'registerCloseCallback', 'domainEventRegisterAny', 'open', 'close'})


class _Clock:
    """The fake's clock, on the machine's."""

    def __init__(self, scheduler: Scheduler, after: Callable[[], object], life: Callable[[], Life | None]) -> None:
        self._scheduler, self._after, self._life = scheduler, after, life

    def later(self, delay: float, what: Callable[[], object]) -> None:
        def do() -> None:
            what()
            self._after()

        life = self._life()
        self._scheduler.at(delay, lambda: self._scheduler.spawn(do, life))

    def stop(self) -> None:
        pass

    def idle(self, timeout: float = 5) -> bool:
        return True


class SavedImages(dict[str, tuple[str, str]]):
    """What was saved, each with a file of its name: the agent looks for it, and removes it."""

    def __setitem__(self, path: str, image: tuple[str, str]) -> None:
        super().__setitem__(path, image)
        if path.startswith('/'):
            with open(path, 'w', encoding='utf-8'):
                pass

    def __contains__(self, path: object) -> bool:
        return super().__contains__(path) and (not str(path).startswith('/') or os.path.exists(str(path)))


class Interference(typing.Protocol):
    """Whoever has a say in each call of the agent."""

    def before_call(self, method: str, arguments: tuple[object, ...]) -> None: ...
    def after_call(self, method: str, arguments: tuple[object, ...]) -> None: ...
    def at_point(self, point: str) -> None: ...


class Hypervisor(FakeHypervisor):
    """A hypervisor that only one agent at a time talks to; the rest of the world reaches right into its guests."""

    def __init__(self, scheduler: Scheduler, chronicle: Chronicle) -> None:
        super().__init__()
        self.scheduler, self.chronicle = scheduler, chronicle
        self.saved = SavedImages()
        self.interference: Interference | None = None
        self.agent: Life | None = None
        self.guests_clock = _Clock(scheduler, self.observe_all, lambda: None)  # type: ignore[assignment]
        self.event_clock = _Clock(scheduler, lambda: None, lambda: self.agent)  # type: ignore[assignment]
        #: Grows when connections are lost.
        self.losses = 0

    def observe_all(self, by: str = 'other') -> None:
        for guest in list(self.guests.values()):
            self.chronicle.observe(guest, by)

    def enter(self, method: str, arguments: tuple[object, ...]) -> None:
        task = self.scheduler.current
        if task is None or self.interference is None or task.life is not self.agent:
            super().enter(method, arguments)
            return
        task.notes['losses'] = self.losses
        if method not in _QUIET:
            self.scheduler.latency(LATENCY)
            self.interference.at_point(f'before {method}')
        super().enter(method, arguments)
        self.interference.before_call(method, arguments)

    def leave(self, method: str, arguments: tuple[object, ...]) -> None:
        super().leave(method, arguments)
        task = self.scheduler.current
        if task is None or self.interference is None or task.life is not self.agent:
            return
        self.interference.after_call(method, arguments)
        if method in _QUIET:
            return
        self.interference.at_point(f'after {method}')
        self.scheduler.latency(LATENCY)
        if task.notes['losses'] != self.losses:
            raise errors.cut_off()

    def lose_connections(self) -> None:
        """The connections are lost; libvirtd answers new ones."""
        self.losses += 1
        self.drop_connections()

    def forget_agent(self) -> None:
        """The agent's process is gone, and its connections with it."""
        for connection in list(self.connections):
            connection.close()
        self.agent = None

    def emit(self, event: int, guest: FakeGuest, *arguments: Any, delay: float = 0) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE:
            if arguments[0] == libvirt.VIR_DOMAIN_EVENT_STOPPED:
                self.chronicle.stopped(guest, arguments[1])
            elif arguments[0] == libvirt.VIR_DOMAIN_EVENT_STARTED:
                self.chronicle.started(guest, arguments[1])
        super().emit(event, guest, *arguments, delay=delay)

    def forget(self, guest: FakeGuest) -> None:
        super().forget(guest)
        self.chronicle.observe(guest, 'other')

    def open(self, uri: str | None = None) -> FakeConnect:
        connection = super().open(uri)
        return connection

    def guest_of(self, method: str, arguments: tuple[object, ...]) -> FakeGuest | None:
        """The guest that a call is about."""
        first = str(arguments[0]) if arguments else ''
        if method in ('defineXML', 'defineXMLFlags', 'createXML'):
            first = etree.fromstring(first).findtext('uuid', '')
        elif method in ('restore', 'restoreFlags'):
            first = self.saved.get(first, ('', ''))[0]
        return self.guests.get(first)
