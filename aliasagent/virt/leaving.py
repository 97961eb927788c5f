# SPDX-License-Identifier: Apache-2.0
"""An unplug as a state machine: its state and the next step. Pure: this module calls and reads nothing.

The state is in :class:`Unplug`: the number of attempts and the current deadline. The events, and what follows:

=====================================  ====================  ===========================================
libvirt replied to the request         next
=====================================  ====================  ===========================================
accepted                               wait for a timeout    the guest has the request
busy                                   wait a moment         the agent asks again within the same attempt
no answer                              wait for a timeout    the guest may have the request
refused, never possible                end: failed
refused otherwise                      read the guest        the reason may be that the device is removed
=====================================  ====================  ===========================================

=====================================  ====================  ===========================================
a read of the guest showed             after what            next
=====================================  ====================  ===========================================
the device is removed                  anything              end: done
lost: the guest kept it elsewhere      anything              end: failed
nothing, the guest is unreadable       anything              an attempt is used up; wait, or end: failed
the device is there                    a refusal             end: failed
the device is there                    a deadline            ask again, or end: timed out
the device is there                    a restart             wait a moment, ask again
the device is there                    a removal             keep waiting: another device with its alias is removed
=====================================  ====================  ===========================================

While libvirt does not answer a request or a read at all, each deadline uses up an attempt. The deadline after the last
attempt ends the unplug: timed out.

An event is only a reason to read the guest: the event may be about an earlier device with the same alias, or about an
earlier run of the guest.
"""

import dataclasses
import enum
import time
from concurrent import futures

from oslo_context import context as oslo_context

from aliasagent import context
from aliasagent import exception
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.virt import events

LEFT = 'it is still in the running guest'
LEFT_LIVE_ONLY = 'it is gone from the persistent config and still in the running guest'
LEFT_UNKNOWN = (
    'libvirt does not answer about this guest, so it is not known whether the running guest still has the device'
)
LEFT_UNKNOWN_LIVE_ONLY = f'it is gone from the persistent config; {LEFT_UNKNOWN}'

#: Why a device is not removed though the guest is stopped: the guest continues elsewhere or later, with the device.
KEPT = {
    events.Cause.MIGRATED: 'the guest has moved to another host with it',
    events.Cause.SAVED: 'the guest was saved with it',
    events.Cause.UNKNOWN: 'libvirt does not report how the guest stopped; a guest saved to a file still has the device',
}
#: What a fingerprint stores of them: once a guest runs again, libvirt no longer reports how it stopped before.
_REMEMBERED = {'migrated': events.Cause.MIGRATED, 'saved': events.Cause.SAVED}

#: Seconds to wait before the agent asks a guest again that was reset or started, or whose hot-plug controller is busy
#: (for up to 5 s). A guest that is reset releases the device by itself, and libvirtd 9.0 crashes (use after free) if
#: the agent asks for the device at the very moment of that release.
PAUSE = 1.0


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How long and how often to wait for a guest to release a device."""

    #: Seconds to wait before asking again.
    timeout: float
    #: How often to ask.
    attempts: int


class Reply(enum.Enum):
    """What libvirt replied to a request to unplug."""

    ACCEPTED = enum.auto()
    BUSY = enum.auto()
    NO_ANSWER = enum.auto()


class Seen(enum.Enum):
    """What a read of the guest showed."""

    GONE = enum.auto()
    THERE = enum.auto()
    #: The device is not removed, and this detach can no longer remove it.
    LOST = enum.auto()
    UNREADABLE = enum.auto()


class Why(enum.Enum):
    """Why the guest is read."""

    DEADLINE = enum.auto()
    #: The guest or libvirt refused to release the device.
    REFUSAL = enum.auto()
    #: The guest was reset, stopped or started, or the connection to the hypervisor was lost and is up again.
    RESTART = enum.auto()
    #: libvirt reported that the device was removed.
    REMOVAL = enum.auto()


class Next(enum.Enum):
    """What to do next."""

    ASK = enum.auto()
    WAIT = enum.auto()
    #: Leave the deadline as it is.
    KEEP_WAITING = enum.auto()
    END = enum.auto()
    TIME_OUT = enum.auto()


@dataclasses.dataclass
class Unplug:
    """An unplug in progress: a device that a running guest is to release."""

    instance: str
    device_id: str
    #: The device, in the run of the guest that was asked.
    device: DeviceFingerprint
    retry_policy: RetryPolicy
    #: Where the device still is if the guest does not release it, for the error message.
    left: str = LEFT
    future: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)
    attempts: int = 0
    #: Seconds of the current attempt during which the guest was too busy to accept a request.
    busy: float = 0.0
    #: Seconds from now to the next deadline, and the number of that deadline: older deadlines are ignored.
    wait: float = 0.0
    deadline: int = 0
    #: Whether a libvirt call about the guest has not returned yet.
    is_calling: bool = False
    #: Whether a request that the guest has not answered may still remove the device.
    may_still_go: bool = False
    #: When the guest was asked first, in seconds since the epoch.
    since: float = dataclasses.field(default_factory=time.time)
    #: The request context, with which every thread that continues this unplug logs.
    context: 'oslo_context.RequestContext | None' = dataclasses.field(default_factory=context.current)

    @property
    def key(self) -> tuple[str, str]:
        """The key of the unplug."""
        # Without the alias: the running guest may have no alias that is the device's own.
        return (self.instance, self.device_id)

    @property
    def alias(self) -> str:
        """The device's alias in the run that was asked."""
        return self.device.alias or ''

    def ended(self, cause: events.Cause | None) -> None:
        """Store how the run that was asked has ended, if the guest may continue with the device."""
        for how, remembered in _REMEMBERED.items():
            if cause is remembered:
                self.device = dataclasses.replace(self.device, kept=how)

    def after_reply(self, reply: Reply) -> Next:
        """Decide what follows libvirt's reply to a request."""
        self.wait = self.retry_policy.timeout
        if reply is Reply.ACCEPTED:
            self.may_still_go = True
        if reply is Reply.BUSY:
            self.wait = min(self.wait, PAUSE)
            self.busy += self.wait
            if self.busy < self.retry_policy.timeout:
                self.attempts -= 1  # the guest is asked again within the same attempt
            else:
                self.busy = 0.0
        return Next.WAIT

    def after_read(self, why: Why, seen: Seen) -> Next:
        """Decide what follows a read of the guest."""
        self.wait = self.retry_policy.timeout
        match seen, why:
            case (Seen.GONE | Seen.LOST), _:
                return Next.END
            case Seen.UNREADABLE, _:
                self.attempts += 1
                return Next.END if self.attempts > self.retry_policy.attempts else Next.WAIT
            case _, Why.REFUSAL:
                return Next.END
            case _, Why.REMOVAL:
                return Next.KEEP_WAITING
            case _, Why.RESTART:
                # The run or the connection that got the request may have ended, so the attempt does not count.
                self.attempts = max(0, self.attempts - 1)
                self.wait = min(self.wait, PAUSE)
                return Next.WAIT
            case _:
                return Next.ASK if self.attempts < self.retry_policy.attempts else Next.TIME_OUT

    def after_silence(self) -> Next:
        """Decide what follows a deadline while libvirt has not answered the last request or read."""
        self.wait = self.retry_policy.timeout
        self.attempts += 1
        if self.attempts <= self.retry_policy.attempts:
            return Next.WAIT
        self.left = LEFT_UNKNOWN_LIVE_ONLY if self.left == LEFT_LIVE_ONLY else LEFT_UNKNOWN
        return Next.TIME_OUT

    def failed(self, reason: object) -> exception.DetachFailed:
        """Build the error of a detach that has failed; the message says where the device still is."""
        return exception.DetachFailed(
            instance=self.instance, device=self.device_id, reason=f'{reason}; {self.left}'
        )

    def lost(self, reason: str) -> exception.DetachFailed:
        """Build the error of a detach that can no longer remove the device; the reason says where the device is."""
        return exception.DetachFailed(instance=self.instance, device=self.device_id, reason=reason)

    def timed_out(self) -> exception.DetachTimeout:
        """Build the error of a detach whose guest has used up its attempts."""
        return exception.DetachTimeout(
            instance=self.instance,
            device=self.device_id,
            attempts=self.retry_policy.attempts,
            timeout=f'{self.retry_policy.timeout:g}',
            left=self.left,
        )


def kept_elsewhere(device: DeviceFingerprint) -> str | None:
    """Return how the guest kept a device that it does not show now; None if no save or migration is recorded."""
    return None if device.kept is None else KEPT[_REMEMBERED[device.kept]]
