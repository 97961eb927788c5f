# SPDX-License-Identifier: Apache-2.0
"""Have a guest reconciled soon after it was defined, started or resumed, once it is quiet.

Nova writes a guest's definition anew at a hard reboot, a start, a resize and a migration, without the aliases that it
does not know. It takes several steps for each of these, and libvirt reports an event for each step. So the agent waits
until a guest has had no event for a moment.
"""

import collections
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable

from aliasagent.virt import events
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], None]
Reconcile = Callable[[str, Callable[[], None]], None]

#: Seconds without an event after which a guest is quiet.
QUIET = 0.3
#: How often a guest is reconciled because of events within :data:`_SPELL`. If another client keeps writing definitions
#: without aliases, the agent leaves the guest for the next reconcile run.
_MOST = 20
#: Seconds.
_SPELL = 60.0
#: Seconds for which a guest is left alone on which Nova is at work, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_now = time.monotonic

#: After a revert to a snapshot, libvirt reports a start before it has finished, and always a definition at the end.
_ARRIVES = (events.Lifecycle.DEFINED, events.Lifecycle.STARTED, events.Lifecycle.RESUMED)


@dataclasses.dataclass(eq=False)
class _Wait:
    """A guest that will be reconciled."""

    instance: str
    #: The time of its last event.
    last: float = 0.0
    #: Whether it is left alone, because Nova is at work on it.
    is_left: bool = False


class Arrivals:
    """Calls a function for each guest that came or changed, once the guest is quiet.

    :param reconcile: called with the guest's id, and with what it calls if it leaves the guest for a while. It must not
        take long.
    :param call_in: calls a function after so many seconds.
    :param quiet: seconds without an event after which a guest is quiet.
    """

    def __init__(self, host: Host, reconcile: Reconcile, call_in: Later, quiet: float = QUIET) -> None:
        self._reconcile = reconcile
        self._call_in = call_in
        self._quiet = quiet
        self._lock = threading.Lock()
        #: The guests that will be reconciled.
        self._waiting: dict[str, _Wait] = {}
        #: How often each guest was reconciled since a time.
        self._counts: collections.Counter[str] = collections.Counter()
        self._counted_since = _now()
        host.subscribe(self._on_event)

    def expect(self, instance: str) -> None:
        """Have a guest reconciled once it is quiet, without an event."""
        self._note(instance, arrives=True)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.LifecycleChanged(instance, lifecycle) if lifecycle in _ARRIVES:
                self._note(instance, arrives=True)
            case events.GuestEvent(instance):
                self._note(instance, arrives=False)

    def _note(self, instance: str, *, arrives: bool) -> None:
        """Note the time of a guest's event.

        :param arrives: whether the guest is to be reconciled because of the event.
        """
        with self._lock:
            waiting = self._waiting.get(instance)
            # A guest that is left alone gets a new wait, and its old one ends.
            is_new = arrives and (waiting is None or waiting.is_left)
            if is_new:
                waiting = self._waiting[instance] = _Wait(instance)
            if waiting is not None:
                waiting.last = _now()
        if is_new and waiting is not None:
            self._call_in(self._quiet, functools.partial(self._check, waiting))

    def _check(self, waiting: '_Wait', pause: float = _FIRST_PAUSE) -> None:
        """Have a guest reconciled if it is quiet, else check again later.

        :param pause: seconds until the next check, if Nova is at work on the guest.
        """
        instance = waiting.instance
        with self._lock:
            if self._waiting.get(instance) is not waiting:
                return  # an event came while the guest was left alone
            remaining = waiting.last + self._quiet - _now()
            if remaining <= 0:
                del self._waiting[instance]
        if remaining > 0:
            self._call_in(remaining, functools.partial(self._check, waiting, pause))
        elif pause > _FIRST_PAUSE or self._count(instance) <= _MOST:
            self._reconcile(instance, functools.partial(self._leave, instance, pause))

    def _leave(self, instance: str, pause: float) -> None:
        """Have a guest reconciled later, because Nova is at work on it."""
        with self._lock:
            if instance in self._waiting:
                return
            waiting = self._waiting[instance] = _Wait(instance, _now(), is_left=True)
        self._call_in(pause, functools.partial(self._check, waiting, min(2 * pause, _LONGEST_PAUSE)))

    def _count(self, instance: str) -> int:
        """Count a guest, and return how often it was counted lately."""
        now = _now()
        if now - self._counted_since > _SPELL:
            self._counts.clear()
            self._counted_since = now
        self._counts[instance] += 1
        if self._counts[instance] == _MOST + 1:
            LOG.warning(
                'Instance %s has changed %d times within a minute; it is left for the next reconcile run',
                instance,
                self._counts[instance],
            )
        return self._counts[instance]
