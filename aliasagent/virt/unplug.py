# SPDX-License-Identifier: Apache-2.0
"""Unplugs in progress: asks running guests to release devices, reads the guests, and keeps the deadlines.

A guest may take long to release a device, or never release it. No thread waits for the guest: an unplug is an entry
here, with a future that a read of the guest resolves. :mod:`aliasagent.virt.leaving` decides when to read the guest
and what follows; :mod:`aliasagent.devices.fingerprint` decides which device is meant. An unplug that failed is kept as
*overdue*: the guest may release the device later.
"""

import functools
import logging
import threading
from collections.abc import Callable
from concurrent import futures

from aliasagent import context
from aliasagent import exception
from aliasagent.devices import alias as aliases
from aliasagent.devices.domain import Domain
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.virt import callers
from aliasagent.virt import deadlines
from aliasagent.virt import errors
from aliasagent.virt import events
from aliasagent.virt import runs
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from aliasagent.virt.leaving import KEPT
from aliasagent.virt.leaving import LEFT
from aliasagent.virt.leaving import Next
from aliasagent.virt.leaving import Reply
from aliasagent.virt.leaving import RetryPolicy
from aliasagent.virt.leaving import Seen
from aliasagent.virt.leaving import Unplug
from aliasagent.virt.leaving import Why
from aliasagent.virt.leaving import kept_elsewhere

LOG = logging.getLogger(__name__)

#: Seconds to wait for libvirt's reply to the first request. It takes milliseconds, unless the guest's QEMU hangs.
_REPLY = 5.0
_PUT_BACK = 'another client has put it into the persistent config again; detach it again'


class Unplugs:
    """All unplugs of a host.

    :param on_late: called with the instance and the device's id when a device is removed after its unplug has failed.
    :param on_kept: called with the instance, the device's id and the device when the guest was saved or moved with the
        device, or runs with it again.
    :param on_retry: called when a guest is asked again.
    :param on_timeout: called when a guest has used up its attempts.
    """

    def __init__(
        self,
        host: Host,
        *,
        on_late: Callable[[str, str], None] = lambda _instance, _device_id: None,
        on_kept: Callable[[str, str, DeviceFingerprint], None] = lambda _instance, _device_id, _device: None,
        on_retry: Callable[[], None] = lambda: None,
        on_timeout: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._on_late = on_late
        self._on_kept = on_kept
        self._on_retry = on_retry
        self._on_timeout = on_timeout
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], Unplug] = {}
        #: The guests of pending unplugs as their detaches looked them up.
        self._guests: dict[tuple[str, str], Guest] = {}
        self._overdue: dict[tuple[str, str], Unplug] = {}
        self._deadlines = deadlines.Deadlines()
        self._callers = callers.GuestCallers()
        host.subscribe(self._on_event)

    def start(
        self,
        instance: str,
        device_id: str,
        device: DeviceFingerprint,
        retry_policy: RetryPolicy,
        left: str = LEFT,
        guest: Guest | None = None,
    ) -> 'futures.Future[None]':
        """Ask a running guest to release a device; the future resolves when the device is removed, or with the error.

        The future fails with :exc:`DetachFailed`, :exc:`DetachTimeout`, :exc:`Unsupported`, :exc:`InstanceNotFound`,
        :exc:`DeviceConflict` if the definition does not show whether the device is still there, or
        :exc:`HypervisorUnavailable` if the guest could not be read in any attempt. The future is never resolved if the
        agent stops first.

        :param device: the device as just read.
        :param guest: the guest as just looked up; None to look the guest up here.
        """
        unplug = Unplug(instance, device_id, device, retry_policy, left)
        with self._lock:
            running = self._pending.get(unplug.key)
            if running is not None:
                return running.future
            # Registered before the guest is asked: the event may come before the call returns.
            self._pending[unplug.key] = unplug
            if guest is not None:
                self._guests[unplug.key] = guest
            before = self._overdue.pop(unplug.key, None)
            unplug.may_still_go = before is not None and before.may_still_go
        if aliases.is_user(unplug.alias):
            returned = self._call_soon(unplug, self._ask)
        else:
            # An alias that libvirt generated may belong to another device by now, so the guest is read first.
            returned = self._check_soon(unplug, Why.DEADLINE)
        if returned is not None:
            returned.wait(_REPLY)
        return unplug.future

    def watch(self, instance: str, device_id: str, device: DeviceFingerprint | None, may_still_go: bool) -> None:
        """Follow a device that an earlier agent process could not detach: the guest may still release the device.

        :param device: the device as that process recorded it; None if that process did not record it.
        :param may_still_go: whether the guest may still answer a request of that process.
        """
        asked, never_again = device or DeviceFingerprint(), RetryPolicy(0.0, 0)
        unplug = Unplug(instance, device_id, asked, never_again, may_still_go=may_still_go)
        with self._lock:
            before = self._overdue.setdefault(unplug.key, unplug)
            before.may_still_go = before.may_still_go or may_still_go
            if device is not None:
                before.device = device
        if before is unplug:
            self._submit(unplug, self._check_overdue)

    def forget(self, instance: str, device_id: str) -> None:
        """Stop following a device: it was attached again, or detached."""
        with self._lock:
            self._overdue.pop((instance, device_id), None)

    def may_still_go(self, instance: str, device_id: str) -> bool | None:
        """Return whether an unanswered request may still remove a device; None if the device is not overdue."""
        with self._lock:
            overdue = self._overdue.get((instance, device_id))
        return None if overdue is None else overdue.may_still_go

    def asked(self, instance: str, device_id: str) -> DeviceFingerprint | None:
        """Return an overdue device as it was when the guest was asked to release it; None if the guest was not."""
        with self._lock:
            overdue = self._overdue.get((instance, device_id))
        return None if overdue is None or not overdue.device.is_live else overdue.device

    @property
    def pending(self) -> int:
        """The number of unplugs in progress."""
        with self._lock:
            return len(self._pending)

    def under_way(self) -> list[Unplug]:
        """Return the unplugs in progress."""
        return self._of(self._pending, None, None)

    def refuse_if_leaving(self, instance: str, device_id: str, live: Domain) -> None:
        """Raise if a guest was asked to release a device, has not done so in time, and may do so at any moment.

        :param live: the guest's running definition, just read. A request ends with the run that got it.
        :raises GuestBusy: the guest may still release the device.
        :raises Conflict: the guest has a device that may be this one or another.
        """
        with self._lock:
            overdue = self._overdue.get((instance, device_id))
        run = runs.run_of(live)
        # An earlier version of the agent did not record the run that it asked.
        if overdue is None or not overdue.may_still_go or overdue.device.run not in (None, run):
            return
        if overdue.device.find_live(device_id, live, run) is not None:
            raise exception.GuestBusy(
                instance=instance,
                reason=f'it was asked to release {device_id}, and may do so at any moment: detach it again, or '
                'reset the guest',
            )

    def close(self) -> None:
        """Stop following all devices. Pending futures stay unresolved, because their outcome is not known."""
        self._deadlines.close()
        self._callers.close()
        with self._lock:
            self._pending.clear()
            self._guests.clear()

    def _guest(self, unplug: Unplug) -> Guest:
        """Return the guest of an unplug; look it up if it was not, or over a connection that was lost since.

        :raises: what :meth:`aliasagent.virt.host.Host.guest` raises.
        """
        with self._lock:
            guest = self._guests.get(unplug.key)
        return guest if guest is not None and guest.is_connected() else self._host.guest(unplug.instance)

    def _ask(self, unplug: Unplug) -> None:
        if unplug.future.done():
            return  # the unplug has ended before this call's turn
        unplug.attempts += 1
        reply = Reply.ACCEPTED
        # From here on the guest may get the request, even if libvirt never replies.
        before, unplug.may_still_go = unplug.may_still_go, True
        unplug.is_calling = True
        try:
            self._guest(unplug).detach(unplug.alias, Side.LIVE)
        except errors.UnplugPending as error:
            LOG.debug('Instance %s has not answered the last request for %s: %s', unplug.instance, unplug.alias, error)
        except errors.UnplugBusy as error:
            LOG.debug('Instance %s cannot release %s yet: %s', unplug.instance, unplug.alias, error)
            reply = Reply.BUSY
            unplug.may_still_go = before
        except exception.Unsupported as error:
            unplug.may_still_go = before
            # Unsupported means that nothing was changed. If the persistent config was, the detach has failed.
            self._end(unplug, error if unplug.left == LEFT else unplug.failed(error))
        except exception.InstanceNotFound as error:
            self._end(unplug, error)
        except (exception.HypervisorUnavailable, exception.GuestBusy) as error:
            LOG.warning('Instance %s could not be asked to release %s: %s', unplug.instance, unplug.alias, error)
            reply = Reply.NO_ANSWER
        except exception.HypervisorError as error:
            unplug.may_still_go = before
            self._check(unplug, Why.REFUSAL, unplug.failed(error))
            return
        unplug.is_calling = False
        if not unplug.future.done() and unplug.after_reply(reply) is Next.WAIT:
            self._set_deadline(unplug)

    def _set_deadline(self, unplug: Unplug) -> None:
        unplug.deadline += 1
        number = unplug.deadline
        self._deadlines.call_in(unplug.wait, lambda: self._on_deadline(unplug, number))

    def _on_deadline(self, unplug: Unplug, number: int) -> None:
        if unplug.deadline != number or unplug.future.done():
            return
        if not unplug.is_calling:
            self._check_soon(unplug, Why.DEADLINE)
        elif unplug.after_silence() is Next.WAIT:
            self._set_deadline(unplug)
        else:
            self._time_out(unplug)

    def _check_soon(
        self, unplug: Unplug, why: Why, error: Exception | None = None, ended: events.Cause | None = None
    ) -> threading.Event | None:
        """Read the guest in its own thread."""
        check = functools.partial(self._check, why=why, error=error, ended=ended)
        return self._call_soon(unplug, check) if why is Why.DEADLINE else self._submit(unplug, check)

    def _call_soon(self, unplug: Unplug, function: Callable[[Unplug], None]) -> threading.Event | None:
        """Submit a call with a deadline, so that the unplug ends even if libvirt hangs."""
        unplug.is_calling = True
        unplug.wait = unplug.retry_policy.timeout
        self._set_deadline(unplug)
        return self._submit(unplug, function)

    def _check(
        self, unplug: Unplug, why: Why, error: Exception | None = None, ended: events.Cause | None = None
    ) -> None:
        """Read the guest, and take the next step.

        :param error: the outcome if the device is still there, after a refusal.
        :param ended: why the guest stopped, as an event reported.
        """
        if unplug.future.done():
            return
        seen, reason = self._check_removed(unplug, ended)
        unplug.is_calling = False
        if unplug.future.done():
            return  # the unplug has ended meanwhile
        match unplug.after_read(why, seen):
            case Next.ASK:
                self._ask_again(unplug)
            case Next.WAIT:
                LOG.debug('Instance %s still has %s, or cannot be read: %s', unplug.instance, unplug.alias, reason)
                self._set_deadline(unplug)
            case Next.TIME_OUT:
                self._time_out(unplug)
            case Next.END:
                self._end(unplug, error if seen is Seen.THERE else reason)

    def _ask_again(self, unplug: Unplug) -> None:
        if unplug.attempts:
            self._on_retry()
            LOG.info(
                'Instance %s still has %s, and is asked again: attempt %d of %d',
                unplug.instance,
                unplug.alias,
                unplug.attempts + 1,
                unplug.retry_policy.attempts,
            )
        self._ask(unplug)

    def _time_out(self, unplug: Unplug) -> None:
        self._on_timeout()
        self._end(unplug, unplug.timed_out())

    def _check_removed(self, unplug: Unplug, ended: events.Cause | None = None) -> tuple[Seen, Exception | None]:
        """Read the guest, and return whether the device is removed from both definitions.

        :param ended: why the guest stopped, as an event reported; a stopped transient guest leaves nothing to read.
        :return: the result, and the error for it unless the device is proven to be removed.
        """
        before = unplug.device.kept
        unplug.ended(ended)
        seen = self._read(unplug, ended)
        if unplug.device.kept != before:
            self._on_kept(unplug.instance, unplug.device_id, unplug.device)
        return seen

    def _read(self, unplug: Unplug, ended: events.Cause | None) -> tuple[Seen, Exception | None]:
        try:
            guest = self._guest(unplug)
            definitions = guest.definitions()
            if definitions.live is not None:
                return self._check_running(unplug, guest, definitions.live, definitions.persistent)
            cause = guest.stopped_by()
            if cause is None:
                reason = 'it is neither running nor shut off'
                return Seen.UNREADABLE, exception.GuestUnreadable(instance=unplug.instance, reason=reason)
            return self._check_stopped(unplug, cause, definitions.persistent)
        except exception.InstanceNotFound as error:
            return (Seen.LOST, error) if ended is None else self._check_stopped(unplug, ended, None)
        except exception.Conflict as error:
            return Seen.LOST, error
        except exception.HypervisorError as error:
            return Seen.UNREADABLE, error

    def _check_running(
        self, unplug: Unplug, guest: Guest, live: Domain, persistent: Domain | None
    ) -> tuple[Seen, Exception | None]:
        run = runs.run_of(live)
        found = unplug.device.find_live(unplug.device_id, live, run)
        if found is None and not unplug.device.is_live:
            # An older version of the agent did not record the device, which may be there without an alias.
            return Seen.LOST, unplug.lost('it is not recorded which device the guest was asked to release')
        if found is None and (kept := kept_elsewhere(unplug.device)) is not None and not guest.continues_from_save():
            return Seen.LOST, unplug.lost(kept)
        if found is None:
            return self._check_persistent(unplug, persistent)
        if found.alias is None:
            return Seen.LOST, unplug.failed(f'{found.describe()} has no alias while running')
        if unplug.device.run not in (None, run) and guest.was_started_anew():
            unplug.may_still_go = False  # the request ended with the run that was asked
        unplug.device = unplug.device.now(run, found)
        return Seen.THERE, None

    def _check_stopped(
        self, unplug: Unplug, cause: events.Cause, persistent: Domain | None
    ) -> tuple[Seen, Exception | None]:
        unplug.ended(cause)
        if (kept := KEPT.get(cause)) is not None:
            return Seen.LOST, unplug.lost(kept)
        return self._check_persistent(unplug, persistent)

    def _check_persistent(self, unplug: Unplug, persistent: Domain | None) -> tuple[Seen, Exception | None]:
        if persistent is None or unplug.device.find_persistent(unplug.device_id, persistent, was_removed=True) is None:
            return Seen.GONE, None
        return Seen.LOST, unplug.lost(_PUT_BACK)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.DeviceRemoved(instance, alias):
                self._hint(Why.REMOVAL, instance, alias)
            case events.DeviceRemovalFailed(instance, alias):
                for unplug in (*self._of(self._pending, instance, alias), *self._of(self._overdue, instance, alias)):
                    unplug.may_still_go = False
                    if not unplug.future.done():
                        self._check_soon(unplug, Why.REFUSAL, unplug.failed('the guest refused to release it'))
            case events.LifecycleChanged(instance, events.Lifecycle.STOPPED, cause):
                self._hint(Why.RESTART, instance, ended=cause)
            case events.LifecycleChanged(instance, events.Lifecycle.STARTED | events.Lifecycle.REBOOTED):
                self._hint(Why.RESTART, instance)
            case events.Reconnected():
                self._hint(Why.RESTART)

    def _hint(
        self, why: Why, instance: str | None = None, alias: str | None = None, ended: events.Cause | None = None
    ) -> None:
        """Read the guests that an event may be about; it may be about a device from before the request."""
        for unplug in self._of(self._pending, instance, alias):
            self._check_soon(unplug, why, ended=ended)
        for unplug in self._of(self._overdue, instance, alias):
            self._submit(unplug, functools.partial(self._check_overdue, ended=ended))

    def _check_overdue(self, unplug: Unplug, ended: events.Cause | None = None) -> None:
        """Check whether an overdue device is removed."""
        seen, error = self._check_removed(unplug, ended)
        if seen is Seen.UNREADABLE:
            # The device stays overdue until the guest can be read.
            LOG.warning(
                'Instance %s cannot be read, so it is not known whether %s is still there: %s',
                unplug.instance,
                unplug.device_id,
                error,
            )
        if seen is not Seen.GONE and not isinstance(error, exception.InstanceNotFound):
            return
        with self._lock:
            if self._overdue.get(unplug.key) is not unplug:
                return
            del self._overdue[unplug.key]
        if seen is Seen.GONE:
            LOG.info('Instance %s has released %s after all', unplug.instance, unplug.device_id)
            self._on_late(unplug.instance, unplug.device_id)

    def _of(self, unplugs: dict[tuple[str, str], Unplug], instance: str | None, alias: str | None) -> list[Unplug]:
        with self._lock:
            return [it for it in unplugs.values() if instance in (None, it.instance) and alias in (None, it.alias)]

    def _submit(self, unplug: Unplug, function: Callable[[Unplug], None]) -> threading.Event | None:
        returned = self._callers.submit(unplug.instance, lambda: self._logged(function, unplug))
        if returned is None:
            LOG.debug('The agent stops, and no longer follows %s of instance %s', unplug.device_id, unplug.instance)
        return returned

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
            self._guests.pop(unplug.key, None)
            if error is not None and not isinstance(error, exception.InstanceNotFound):
                self._overdue[unplug.key] = unplug
        if error is None:
            unplug.future.set_result(None)
        else:
            unplug.future.set_exception(error)
