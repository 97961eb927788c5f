# SPDX-License-Identifier: Apache-2.0
"""What is on its way out of running guests, and the events and deadlines that end it.

A guest may take its time to release a device, or never do so. Nobody waits for it in a thread: an unplug is an entry
here, with a future that is resolved by whatever ends it first:

* the event that the device was removed, or its absence from the live definition read anew: done;
* the event that the guest refused: failed, for good;
* the end of the guest: done, the device went with it;
* the last deadline: failed. The entry is kept, and a device that goes later is told to ``on_late``.
"""

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

from oslo_context import context as oslo_context

from aliasagent import context
from aliasagent import exception
from aliasagent.virt import deadlines
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)

#: Seconds after which a guest is looked at again that was reset, or whose hot-plug controller is busy (for up to 5 s).
_PAUSE = 1.0

LEFT = 'it is still in the running guest'
LEFT_LIVE_ONLY = 'it is gone from the persistent config and still in the running guest'


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a guest may take."""

    #: Seconds to wait before asking again.
    timeout: float
    #: How often to ask.
    attempts: int


@dataclasses.dataclass
class Unplug:
    """A device on its way out of a running guest."""

    instance: str
    alias: str
    device_id: str
    patience: Patience
    #: Where the device still is if the guest does not release it, for the error's words.
    left: str = LEFT
    future: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)
    attempts: int = 0
    #: Seconds of the running attempt that the guest was too busy to be asked.
    busy: float = 0.0
    #: Grows with each deadline that is set, so that an older one is known to be void.
    deadline: int = 0
    #: When the guest was asked first, in seconds since the epoch.
    since: float = dataclasses.field(default_factory=time.time)
    #: Whom it is done for: whatever thread goes on with it says so in the log.
    context: 'oslo_context.RequestContext | None' = dataclasses.field(default_factory=context.current)

    @property
    def key(self) -> tuple[str, str]:
        return (self.instance, self.alias)


class Unplugs:
    """All unplugs of a host.

    :param on_late: called with the instance and the device's id when a device goes after its unplug had failed.
    :param on_retry: called when a guest is asked once more.
    :param on_timeout: called when a guest has used up its attempts.
    """

    def __init__(
        self,
        host: Host,
        *,
        on_late: Callable[[str, str], None] | None = None,
        on_retry: Callable[[], None] = lambda: None,
        on_timeout: Callable[[], None] = lambda: None,
        workers: int = 4,
    ) -> None:
        self._host = host
        self._on_late = on_late
        self._on_retry = on_retry
        self._on_timeout = on_timeout
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], Unplug] = {}
        self._overdue: dict[tuple[str, str], Unplug] = {}
        self._deadlines = deadlines.Deadlines()
        # Only short calls to the hypervisor run here, never a wait.
        self._workers = futures.ThreadPoolExecutor(workers, thread_name_prefix='unplug')
        host.subscribe(self._on_event)

    def start(
        self,
        instance: str,
        alias: str,
        device_id: str,
        patience: Patience,
        left: str = LEFT,
        guest: Guest | None = None,
    ) -> 'futures.Future[None]':
        """Ask a running guest to release a device; the future tells when it has, or why not.

        The future fails with :exc:`DetachFailed`, :exc:`DetachTimeout`, :exc:`Unsupported`, :exc:`InstanceNotFound`, or
        :exc:`HypervisorUnavailable` if nothing could be learned through all attempts. It is never resolved if the agent
        stops first.

        :param guest: as it was just looked up; looked up here if None, and whenever it is asked again.
        """
        unplug = Unplug(instance, alias, device_id, patience, left)
        with self._lock:
            running = self._pending.get(unplug.key)
            if running is not None:
                return running.future
            # Registered before the guest is asked: the event may come before the call returns.
            self._pending[unplug.key] = unplug
            self._overdue.pop(unplug.key, None)
        self._logged(functools.partial(self._attempt, guest=guest), unplug)
        return unplug.future

    @property
    def pending(self) -> int:
        """How many devices are on their way out."""
        with self._lock:
            return len(self._pending)

    def under_way(self) -> list[Unplug]:
        """What is on its way out."""
        return self._pending_of()

    def close(self) -> None:
        """Follow nothing any more. What is pending stays so: its end is not known, and must not be made up."""
        self._deadlines.close()
        self._workers.shutdown(cancel_futures=True)
        with self._lock:
            self._pending.clear()

    def _attempt(self, unplug: Unplug, guest: Guest | None = None) -> None:
        unplug.attempts += 1
        wait = unplug.patience.timeout
        try:
            (guest or self._host.guest(unplug.instance)).detach(unplug.alias, Side.LIVE)
        except errors.UnplugPending as error:
            LOG.debug('Instance %s still has to release %s: %s', unplug.instance, unplug.alias, error)
        except errors.UnplugBusy as error:
            LOG.debug('Instance %s cannot release %s yet: %s', unplug.instance, unplug.alias, error)
            wait = min(wait, _PAUSE)
            unplug.busy += wait
            if unplug.busy < unplug.patience.timeout:
                unplug.attempts -= 1  # it is asked again within the same attempt
            else:
                unplug.busy = 0.0
        except exception.Unsupported as error:
            self._end(unplug, error)
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug))
        except (exception.HypervisorUnavailable, exception.GuestBusy) as error:
            # Asked again when the deadline comes, or sooner if there is a connection again.
            LOG.warning('Instance %s could not be asked to release %s: %s', unplug.instance, unplug.alias, error)
        except exception.HypervisorError as error:
            self._on_error(unplug, error)
        if not unplug.future.done():
            self._set_deadline(unplug, wait)

    def _on_error(self, unplug: Unplug, error: exception.HypervisorError) -> None:
        """libvirt said no: because the device is gone, or for good, unless the guest cannot be read to tell."""
        try:
            gone = self._is_gone(unplug)
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug))
        except exception.HypervisorError as unread:
            # Could not tell. Looked at again when the deadline comes.
            LOG.warning('Instance %s would not release %s: %s; %s', unplug.instance, unplug.alias, error, unread)
        else:
            self._end(unplug, None if gone else self._failed(unplug, error))

    def _set_deadline(self, unplug: Unplug, seconds: float) -> None:
        unplug.deadline += 1
        number = unplug.deadline
        self._deadlines.call_in(seconds, lambda: self._on_deadline(unplug, number))

    def _on_deadline(self, unplug: Unplug, number: int) -> None:
        if unplug.deadline == number and not unplug.future.done():
            self._submit(self._look_again, unplug)

    def _look_again(self, unplug: Unplug) -> None:
        """Read the guest; the device is gone, or is asked for once more, or has used up its attempts."""
        if unplug.future.done():
            return
        try:
            if self._is_gone(unplug):
                self._end(unplug)
            elif unplug.attempts < unplug.patience.attempts:
                self._on_retry()
                LOG.info(
                    'Instance %s still has %s, and is asked once more: attempt %d of %d',
                    unplug.instance,
                    unplug.alias,
                    unplug.attempts + 1,
                    unplug.patience.attempts,
                )
                self._attempt(unplug)
            else:
                self._on_timeout()
                self._end(unplug, self._timed_out(unplug))
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug))
        except exception.HypervisorError as error:
            # Could not tell. An attempt is used up, so that this ends, too.
            unplug.attempts += 1
            if unplug.attempts > unplug.patience.attempts:
                self._end(unplug, error)
            else:
                self._set_deadline(unplug, unplug.patience.timeout)

    def _is_gone(self, unplug: Unplug) -> bool:
        live = self._host.guest(unplug.instance).live_definition()
        return live is None or not live.by_alias(unplug.alias)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.DeviceRemoved(instance, alias):
                self._on_removed(instance, alias)
            case events.DeviceRemovalFailed(instance, alias):
                for unplug in self._pending_of(instance, alias):
                    self._end(unplug, self._failed(unplug, 'the guest refused to release it'))
            case events.LifecycleChanged(instance, events.Lifecycle.STOPPED, cause):
                self._on_stopped(instance, cause)
            case events.LifecycleChanged(instance, events.Lifecycle.STARTED | events.Lifecycle.REBOOTED):
                for unplug in self._pending_of(instance):
                    self._look_again_soon(unplug)
            case events.Reconnected():
                for unplug in self._pending_of():
                    self._look_again_soon(unplug)

    def _look_again_soon(self, unplug: Unplug) -> None:
        """Something happened to the guest, or to the way to it: it is not the one any more that was asked.

        Not at once: a guest that is reset releases the device by itself, and libvirtd 9.0 crashes (it uses the device
        after it was freed) if it is asked for the device at the very moment in which that goes.
        """
        if unplug.attempts > 0:
            unplug.attempts -= 1
        self._set_deadline(unplug, min(unplug.patience.timeout, _PAUSE))

    def _on_removed(self, instance: str, alias: str) -> None:
        with self._lock:
            overdue = self._overdue.pop((instance, alias), None)
        if overdue is not None:
            with context.bound(overdue.context):
                LOG.info('Instance %s has released %s after all', instance, alias)
                if self._on_late is not None:
                    self._on_late(instance, overdue.device_id)
        for unplug in self._pending_of(instance, alias):
            self._end(unplug)

    def _on_stopped(self, instance: str, cause: events.Cause) -> None:
        for unplug in self._pending_of(instance):
            match cause:
                case events.Cause.MIGRATED:
                    self._end(unplug, self._failed(unplug, 'the guest has moved to another host with it'))
                case events.Cause.SAVED:
                    self._end(unplug, self._failed(unplug, 'the guest was saved with it'))
                case _:
                    self._end(unplug)
        with self._lock:
            overdue = [key for key in self._overdue if key[0] == instance]
            if cause is not events.Cause.OTHER:
                for key in overdue:
                    del self._overdue[key]
                return
        for key in overdue:
            self._on_removed(*key)

    def _pending_of(self, instance: str | None = None, alias: str | None = None) -> list[Unplug]:
        with self._lock:
            return [
                unplug
                for unplug in self._pending.values()
                if instance in (None, unplug.instance) and alias in (None, unplug.alias)
            ]

    def _submit(self, function: Callable[[Unplug], None], unplug: Unplug) -> None:
        try:
            self._workers.submit(self._logged, function, unplug)
        except RuntimeError:  # the pool is closed: close() ends what is pending
            with context.bound(unplug.context):
                LOG.debug('Not looked at any more: %s of instance %s', unplug.alias, unplug.instance)

    def _logged(self, function: Callable[[Unplug], None], unplug: Unplug) -> None:
        with context.bound(unplug.context):
            try:
                function(unplug)
            except Exception as error:
                LOG.exception('The unplug of %s from instance %s could not be followed', unplug.alias, unplug.instance)
                self._end(unplug, self._failed(unplug, error))

    def _end(self, unplug: Unplug, error: Exception | None = None) -> None:
        with self._lock:
            if self._pending.get(unplug.key) is not unplug:
                return
            del self._pending[unplug.key]
            if isinstance(error, exception.HypervisorError):
                self._overdue[unplug.key] = unplug
        if error is None:
            unplug.future.set_result(None)
        else:
            unplug.future.set_exception(error)

    def _failed(self, unplug: Unplug, reason: object) -> exception.DetachFailed:
        return exception.DetachFailed(
            instance=unplug.instance, device=unplug.device_id, reason=f'{reason}; {unplug.left}'
        )

    def _timed_out(self, unplug: Unplug) -> exception.DetachTimeout:
        return exception.DetachTimeout(
            instance=unplug.instance,
            device=unplug.device_id,
            attempts=unplug.patience.attempts,
            timeout=f'{unplug.patience.timeout:g}',
            left=unplug.left,
        )

    def _moved(self, unplug: Unplug) -> exception.InstanceNotFound:
        return exception.InstanceNotFound(instance=unplug.instance)
