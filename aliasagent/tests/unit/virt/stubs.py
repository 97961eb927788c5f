# SPDX-License-Identifier: Apache-2.0
"""A host that is made up, just enough for what waits for its guests."""

import threading
from collections.abc import Callable
from typing import TypeVar

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.virt import events
from aliasagent.virt.guest import Definitions
from aliasagent.virt.guest import Side

T = TypeVar('T')


class StubGuest:
    """Answers each ``detach`` and each look by what it was told, the last answer again and again."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        #: Of the running guest's devices.
        self.aliases: set[str] = set()
        #: Of those in the persistent config.
        self.persistent: set[str] = set()
        self.run = 1
        self.running = True
        self.cause = events.Cause.OTHER
        self.detaches: list[str] = []
        self.looks = 0
        #: Each is raised, or called, when the guest is asked to release a device.
        self.on_detach: list[Exception | Callable[[], None]] = []
        #: Raised when the definition is read.
        self.on_look: list[Exception | None] = []

    def detach(self, alias: str, side: Side) -> None:
        assert side is Side.LIVE
        self.detaches.append(alias)
        answer = _next(self.on_detach)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer()

    def stopped_by(self) -> events.Cause | None:
        return None if self.running else self.cause

    def definitions(self) -> Definitions:
        self.looks += 1
        answer = _next(self.on_look)
        if answer is not None:
            raise answer
        live = self.live if self.running else None
        return Definitions(live=live, persistent=Domain.parse(f'<domain>{_devices(self.persistent)}</domain>'))

    @property
    def live(self) -> Domain:
        return Domain.parse(f"<domain id='{self.run}'>{_devices(self.aliases)}</domain>")


class StubHost:
    """The guests of a host, and who listens to its events."""

    def __init__(self) -> None:
        self.guests: dict[str, StubGuest] = {}
        self._listeners: list[Callable[[events.Event], None]] = []
        self._lock = threading.Lock()
        #: Raised when a guest is looked up.
        self.down: Exception | None = None

    def subscribe(self, listener: Callable[[events.Event], None]) -> None:
        self._listeners.append(listener)

    def guest(self, instance: str) -> StubGuest:
        if self.down is not None:
            raise self.down
        if instance not in self.guests:
            raise exception.InstanceNotFound(instance=instance)
        return self.guests[instance]

    def tell(self, event: events.Event) -> None:
        with self._lock:
            for listener in self._listeners:
                listener(event)


def _devices(aliases: set[str]) -> str:
    return ''.join(
        ('<devices>', *(f"<disk><alias name='{alias}'/></disk>" for alias in sorted(aliases)), '</devices>')
    )


def _next(answers: list[T]) -> T | None:
    if not answers:
        return None
    return answers.pop(0) if len(answers) > 1 else answers[0]
