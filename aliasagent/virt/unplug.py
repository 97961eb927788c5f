# SPDX-License-Identifier: Apache-2.0
"""What is on its way out of running guests, and the events and deadlines that end it.

A guest may take its time to release a device, or never do so. Nobody waits for it in a thread: an unplug is an entry
here, with a future that is resolved by whatever ends it first:

* the event that the device was removed, or its absence from the live definition read anew: done;
* the event that the guest refused: failed, for good;
* the end of the guest: done, the device went with it, unless the guest was saved or moved with it;
* the last deadline: failed. The entry is kept, and a device that goes later is told to ``on_late``.
"""

import functools
import logging
import threading
from collections.abc import Callable
from concurrent import futures

from aliasagent import context
from aliasagent import exception
from aliasagent.virt import deadlines
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import LEFT
from aliasagent.virt.leaving import Patience
from aliasagent.virt.leaving import Sight
from aliasagent.virt.leaving import Unplug

LOG = logging.getLogger(__name__)

#: Seconds after which a guest is looked at again that was reset, or whose hot-plug controller is busy (for up to 5 s).
_PAUSE = 1.0


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
        #: What was seen to be gone, and its event has not come yet: it is not that of the next device of this alias.
        self._unheard: set[tuple[str, str]] = set()
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
        sight: Sight | None = None,
    ) -> 'futures.Future[None]':
        """Ask a running guest to release a device; the future tells when it has, or why not.

        The future fails with :exc:`DetachFailed`, :exc:`DetachTimeout`, :exc:`Unsupported`, :exc:`InstanceNotFound`,
        :exc:`DeviceConflict` if another device may have come by its alias, or :exc:`HypervisorUnavailable` if nothing
        could be learned through all attempts. It is never resolved if the agent stops first.

        :param guest: as it was just looked up; looked up here if None, and whenever it is asked again.
        :param sight: of a device whose alias libvirt made, what it looks like.
        """
        unplug = Unplug(instance, alias, device_id, patience, left, sight)
        with self._lock:
            running = self._pending.get(unplug.key)
            if running is not None:
                return running.future
            # Registered before the guest is asked: the event may come before the call returns.
            self._pending[unplug.key] = unplug
            self._overdue.pop(unplug.key, None)
        self._logged(functools.partial(self._attempt, guest=guest), unplug)
        return unplug.future

    def watch(self, instance: str, alias: str, device_id: str) -> None:
        """Follow a device that an earlier process could not get back in time: the guest may still release it."""
        unplug = Unplug(instance, alias, device_id, Patience(0.0, 0))
        unplug.future.set_exception(unplug.timed_out())
        with self._lock:
            self._overdue.setdefault(unplug.key, unplug)
        self._submit(self._look_after, unplug)

    @property
    def pending(self) -> int:
        """How many devices are on their way out."""
        with self._lock:
            return len(self._pending)

    def under_way(self) -> list[Unplug]:
        """What is on its way out."""
        return self._pending_of()

    def refuse_if_leaving(self, instance: str, alias: str) -> None:
        """Stop here if a guest was asked to release a device, has not done so in time, and may do so at any moment.

        :raises GuestBusy: it was.
        """
        with self._lock:
            overdue = self._overdue.get((instance, alias))
        # What an earlier process has asked may have ended with the guest's life; a device that is back is back.
        asked = overdue is not None and overdue.attempts > 0
        if overdue is not None and asked and isinstance(overdue.future.exception(), exception.DetachTimeout):
            raise exception.GuestBusy(
                instance=instance,
                reason=f'it was asked to release {overdue.device_id}, and may do so at any moment: detach that once '
                'more, or reset the guest',
            )

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
            # Of a request that cannot be, nothing must be done: if something is, it is a failure.
            self._end(unplug, error if unplug.left == LEFT else unplug.failed(error))
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
            if not self._has_ended(unplug):
                self._end(unplug, unplug.failed(error))
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug))
        except exception.HypervisorError as unread:
            # Could not tell. Looked at again when the deadline comes.
            LOG.warning('Instance %s would not release %s: %s; %s', unplug.instance, unplug.alias, error, unread)

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
            if self._has_ended(unplug):
                return
            if unplug.attempts < unplug.patience.attempts:
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
                self._end(unplug, unplug.timed_out())
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug))
        except exception.HypervisorError as error:
            # Could not tell. An attempt is used up, so that this ends, too.
            unplug.attempts += 1
            if unplug.attempts > unplug.patience.attempts:
                self._end(unplug, error)
            else:
                self._set_deadline(unplug, unplug.patience.timeout)

    def _has_ended(self, unplug: Unplug) -> bool:
        """Read the guest, and end the unplug if the device is not there any more.

        :raises InstanceNotFound: the guest is not on this host any more.
        :raises HypervisorError: it could not be told.
        """
        guest = self._host.guest(unplug.instance)
        live = guest.live_definition()
        if live is None:
            cause = guest.stopped_by()
            if cause is not None:
                self._end_stopped(unplug, cause)
            return cause is not None
        try:
            there = unplug.is_in(live)
        except exception.DeviceConflict as error:
            self._end(unplug, error)
            return True
        if not there:
            with self._lock:
                self._unheard.add(unplug.key)
            self._end(unplug)
        return not there

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.DeviceRemoved(instance, alias):
                self._on_removed(instance, alias)
            case events.DeviceRemovalFailed(instance, alias):
                for unplug in self._pending_of(instance, alias):
                    self._end(unplug, unplug.failed('the guest refused to release it'))
            case events.LifecycleChanged(instance, events.Lifecycle.STOPPED, cause):
                self._on_stopped(instance, cause)
            case events.LifecycleChanged(instance, events.Lifecycle.STARTED | events.Lifecycle.REBOOTED):
                for unplug in self._pending_of(instance):
                    self._look_again_soon(unplug)
            case events.Reconnected():
                for unplug in self._pending_of():
                    self._look_again_soon(unplug)
                with self._lock:
                    self._unheard.clear()
                    overdue = list(self._overdue.values())
                for unplug in overdue:
                    self._submit(self._look_after, unplug)

    def _look_again_soon(self, unplug: Unplug) -> None:
        """Something happened to the guest, or to the way to it: it is not the one any more that was asked.

        Not at once: a guest that is reset releases the device by itself, and libvirtd 9.0 crashes (it uses the device
        after it was freed) if it is asked for the device at the very moment in which that goes.
        """
        if unplug.attempts > 0:
            unplug.attempts -= 1
        self._set_deadline(unplug, min(unplug.patience.timeout, _PAUSE))

    def _look_after(self, unplug: Unplug) -> None:
        """Whether an overdue device has gone while nothing was told."""
        try:
            guest = self._host.guest(unplug.instance)
            live = guest.live_definition()
            if live is None:
                cause = guest.stopped_by()
                if cause is not None:
                    self._on_stopped(unplug.instance, cause)
            elif not unplug.is_in(live):
                self._on_removed(*unplug.key)
        except exception.InstanceNotFound:
            LOG.debug('Instance %s is not here any more, with %s or without', *unplug.key)
        except exception.AliasAgentError as error:
            # Not known, and not made up.
            LOG.warning('Instance %s: it is not known whether %s is still there: %s', *unplug.key, error)

    def _look_now(self, unplug: Unplug, stopped_by: events.Cause | None = None) -> None:
        """End the unplug if what was told is true of it: it may be of what was there before the guest was asked.

        :param stopped_by: why the guest was said to have stopped.
        """
        try:
            if stopped_by is None:
                self._has_ended(unplug)
            elif self._host.guest(unplug.instance).is_active():
                self._look_again_soon(unplug)
            else:
                self._end_stopped(unplug, stopped_by)
        except exception.InstanceNotFound:
            self._end(unplug, self._moved(unplug)) if stopped_by is None else self._end_stopped(unplug, stopped_by)
        except exception.HypervisorError as error:
            # Looked at again when the deadline comes.
            LOG.warning('Instance %s: it is not known whether %s is still there: %s', *unplug.key, error)

    def _on_removed(self, instance: str, alias: str) -> None:
        with self._lock:
            overdue = self._overdue.pop((instance, alias), None)
            may_be_old = (instance, alias) in self._unheard
            self._unheard.discard((instance, alias))
        if overdue is not None:
            with context.bound(overdue.context):
                LOG.info('Instance %s has released %s after all', instance, alias)
                if self._on_late is not None:
                    self._on_late(instance, overdue.device_id)
        for unplug in self._pending_of(instance, alias):
            if may_be_old:
                self._submit(self._look_now, unplug)
            else:
                self._end(unplug)

    def _on_stopped(self, instance: str, cause: events.Cause) -> None:
        for unplug in self._pending_of(instance):
            self._submit(functools.partial(self._look_now, stopped_by=cause), unplug)
        with self._lock:
            self._unheard = {key for key in self._unheard if key[0] != instance}
            overdue = [key for key in self._overdue if key[0] == instance]
            if cause is not events.Cause.OTHER:
                for key in overdue:
                    del self._overdue[key]
                return
        for key in overdue:
            self._on_removed(*key)

    def _end_stopped(self, unplug: Unplug, cause: events.Cause) -> None:
        """The guest has stopped: with the device, if it goes on elsewhere or later."""
        match cause:
            case events.Cause.MIGRATED:
                self._end(unplug, unplug.failed('the guest has moved to another host with it'))
            case events.Cause.SAVED:
                self._end(unplug, unplug.failed('the guest was saved with it'))
            case _:
                self._end(unplug)

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
                self._end(unplug, unplug.failed(error))

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

    def _moved(self, unplug: Unplug) -> exception.InstanceNotFound:
        return exception.InstanceNotFound(instance=unplug.instance)
