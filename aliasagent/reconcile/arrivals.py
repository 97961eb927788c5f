# SPDX-License-Identifier: Apache-2.0
"""Have a guest reconciled soon after it was defined, started or resumed, or got a device, once it is quiet.

Nova writes a guest's definition anew at a hard reboot, a start, a resize and a migration, without the aliases that it
does not know. It takes several steps for each of these, and libvirt reports an event for each step. So the agent waits
until a guest has had no event for a moment.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable

from aliasagent.devices import alias
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
        #: The guests that will be reconciled, each with the time of its last event.
        self._last: dict[str, float] = {}
        #: Those of them that are left alone, because Nova is at work on them.
        self._left: set[str] = set()
        #: How often each guest was reconciled since a time.
        self._counts: collections.Counter[str] = collections.Counter()
        self._counted_since = _now()
        host.subscribe(self._on_event)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.LifecycleChanged(instance, lifecycle) if lifecycle in _ARRIVES:
                self._note(instance, arrives=True)
            # A device that has a user alias needs none.
            case events.DeviceAdded(instance, name):
                self._note(instance, arrives=not alias.is_user(name))
            case events.GuestEvent(instance):
                self._note(instance, arrives=False)

    def _note(self, instance: str, *, arrives: bool) -> None:
        """Note the time of a guest's event.

        :param arrives: whether the guest is to be reconciled because of the event.
        """
        with self._lock:
            waits = instance in self._last
            if waits or arrives:
                self._last[instance] = _now()
            is_left = arrives and instance in self._left
            if is_left:
                self._left.discard(instance)
        if arrives and (is_left or not waits):
            self._call_in(self._quiet, lambda: self._look(instance))

    def _look(self, instance: str, pause: float = _FIRST_PAUSE) -> None:
        """Have a guest reconciled if it is quiet, else check again later.

        :param pause: seconds until the next look, if Nova is at work on the guest.
        """
        with self._lock:
            last = self._last.get(instance)
            if last is None:
                return  # an event came while the guest was left alone, and with it an earlier look
            remaining = last + self._quiet - _now()
            if remaining <= 0:
                del self._last[instance]
                self._left.discard(instance)
        if remaining > 0:
            self._call_in(remaining, lambda: self._look(instance, pause))
        elif pause > _FIRST_PAUSE or self._count(instance) <= _MOST:
            self._reconcile(instance, lambda: self._leave(instance, pause))

    def _leave(self, instance: str, pause: float) -> None:
        """Have a guest reconciled later, because Nova is at work on it."""
        with self._lock:
            if instance in self._last:
                return
            self._last[instance] = _now()
            self._left.add(instance)
        self._call_in(pause, lambda: self._look(instance, min(2 * pause, _LONGEST_PAUSE)))

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
