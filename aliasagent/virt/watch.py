# SPDX-License-Identifier: Apache-2.0
"""Watches one guest during long work: which of its runs begin, and how they end."""

import dataclasses
import threading
from typing import Any
from typing import Self

from aliasagent import exception
from aliasagent.virt import events
from aliasagent.virt.host import Host


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment after which the agent can say whether a guest has started or stopped."""

    connection: Any
    #: How many starts and stops had been seen at that moment.
    starts: int
    stops: int


class Watch:
    """Collects a guest's starts and stops while this context is entered."""

    def __init__(self, host: Host, instance: str) -> None:
        self._host = host
        self._instance = instance
        self._changed = threading.Condition()
        #: libvirt's numbers of the runs that began.
        self._starts: list[int] = []
        self._stops: list[events.Cause] = []

    def __enter__(self) -> Self:
        self._host.subscribe(self._on_event)
        return self

    def __exit__(self, *_error: object) -> None:
        self._host.unsubscribe(self._on_event)

    def now(self) -> Moment:
        """Return the current moment.

        :raises HypervisorUnavailable: there is no connection that could report events of the guest.
        """
        with self._changed:
            return Moment(self._host.connection(), len(self._starts), len(self._stops))

    def has_not_started(self, since: Moment, number: int = -1) -> bool:
        """Return whether it is certain that no other run of the guest has begun since a moment.

        :param number: libvirt's number of the run that the guest was in at that moment. The event of that run's start
            may come late; a later run has a higher number, for as long as libvirtd runs.
        """
        try:
            seen_all = self._host.connection() is since.connection
        except exception.HypervisorUnavailable:
            return False
        return seen_all and not self.has_started(since, number)

    def has_started(self, since: Moment, number: int = -1) -> bool:
        """Return whether another run of the guest was seen to begin since a moment."""
        with self._changed:
            return any(start > number for start in self._starts[since.starts :])

    def ended_by(self, cause: events.Cause, since: Moment, timeout: float) -> bool:
        """Return whether libvirt reported a stop of the guest since a moment, and this cause for the first stop.

        :param timeout: seconds that the event may take to come.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._stops) > since.stops, timeout)
            return self._stops[since.stops : since.stops + 1] == [cause]

    def _on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.LifecycleChanged) or event.instance != self._instance:
            return
        with self._changed:
            if event.lifecycle is events.Lifecycle.STARTED:
                self._starts.append(event.number)
            elif event.lifecycle is events.Lifecycle.STOPPED:
                self._stops.append(event.cause)
                self._changed.notify_all()
