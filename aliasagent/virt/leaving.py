# SPDX-License-Identifier: Apache-2.0
"""An unplug as a state machine: what is known of it, and what to do next. Pure: nothing is asked or read here.

The states are those of :class:`Unplug`: asked so often, waiting since. What can happen to it, and what follows:

=====================================  ====================  ===========================================
libvirt replied to the request         next
=====================================  ====================  ===========================================
taken                                  wait for a timeout    the guest has been asked
busy                                   wait a moment         asked again within the same attempt
no answer                              wait for a timeout    nothing is known
refused, never possible                end: failed
refused otherwise                      look                  it may be refused because the device is gone
=====================================  ====================  ===========================================

=====================================  ====================  ===========================================
a look at the guest showed             after what            next
=====================================  ====================  ===========================================
the device is gone                     anything              end: done
lost: the guest kept it elsewhere      anything              end: failed
nothing, it cannot be read             anything              an attempt is used up; wait, or end: failed
the device is there                    a refusal             end: failed
the device is there                    a deadline            ask again, or end: timed out
the device is there                    a restart             wait a moment, ask again
the device is there                    a removal             go on waiting: another device of its alias went
=====================================  ====================  ===========================================

While libvirt does not answer a request or a look at all, each deadline uses up an attempt, and the last one ends it:
timed out.

An event is never more than a hint to look: it may be of an earlier device of the same alias, or of an earlier run of
the guest.
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

#: Why a device is not out though the guest does not run: it has the device where it goes on.
KEPT = {
    events.Cause.MIGRATED: 'the guest has moved to another host with it',
    events.Cause.SAVED: 'the guest was saved with it',
    events.Cause.UNKNOWN: 'libvirt does not say how the guest stopped: if it was saved to a file, it goes on with it',
}
#: What a fingerprint remembers of them: of a guest that runs anew, how it stopped before cannot be read any more.
_REMEMBERED = {'migrated': events.Cause.MIGRATED, 'saved': events.Cause.SAVED}

#: Seconds to wait before a guest is asked again that was reset or started, or whose hot-plug controller is busy (for up
#: to 5 s). A guest that is reset releases the device by itself, and libvirtd 9.0 crashes (it uses the device after it
#: was freed) if it is asked for the device at the very moment in which that goes.
PAUSE = 1.0


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How long a guest may take."""

    #: Seconds to wait before asking again.
    timeout: float
    #: How often to ask.
    attempts: int


class Reply(enum.Enum):
    """What libvirt replied to a request to unplug."""

    TAKEN = enum.auto()
    BUSY = enum.auto()
    NO_ANSWER = enum.auto()


class Seen(enum.Enum):
    """What a look at the guest showed."""

    GONE = enum.auto()
    THERE = enum.auto()
    #: The device is not out, and this detach cannot get it out any more.
    LOST = enum.auto()
    UNREADABLE = enum.auto()


class Why(enum.Enum):
    """What a look at the guest was for."""

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
    GO_ON = enum.auto()
    END = enum.auto()
    TIME_OUT = enum.auto()


@dataclasses.dataclass
class Unplug:
    """A device on its way out of a running guest."""

    instance: str
    device_id: str
    #: The device, in the run of the guest that was asked.
    device: DeviceFingerprint
    retry_policy: RetryPolicy
    #: Where the device still is if the guest does not release it, for the error's words.
    left: str = LEFT
    future: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)
    attempts: int = 0
    #: Seconds of the running attempt that the guest was too busy to be asked.
    busy: float = 0.0
    #: Seconds from now to the next deadline, and its number, so that an older one is known to be void.
    wait: float = 0.0
    deadline: int = 0
    #: Whether libvirt is asked something about the guest, and has not answered.
    is_calling: bool = False
    #: Whether a request that the guest has not answered may still take the device out.
    may_still_go: bool = False
    #: When the guest was asked first, in seconds since the epoch.
    since: float = dataclasses.field(default_factory=time.time)
    #: Whom it is done for: whatever thread goes on with it says so in the log.
    context: 'oslo_context.RequestContext | None' = dataclasses.field(default_factory=context.current)

    @property
    def key(self) -> tuple[str, str]:
        """What tells unplugs apart. Not the alias: the running guest may have none that is the device's own."""
        return (self.instance, self.device_id)

    @property
    def alias(self) -> str:
        """The device's alias in the run that was asked."""
        return self.device.alias or ''

    def ended(self, cause: events.Cause | None) -> None:
        """Remember how the run ended that was asked, if the guest may go on with the device."""
        for how, remembered in _REMEMBERED.items():
            if cause is remembered:
                self.device = dataclasses.replace(self.device, kept=how)

    def after_reply(self, reply: Reply) -> Next:
        """Decide what follows libvirt's reply to a request."""
        self.wait = self.retry_policy.timeout
        if reply is Reply.TAKEN:
            self.may_still_go = True
        if reply is Reply.BUSY:
            self.wait = min(self.wait, PAUSE)
            self.busy += self.wait
            if self.busy < self.retry_policy.timeout:
                self.attempts -= 1  # it is asked again within the same attempt
            else:
                self.busy = 0.0
        return Next.WAIT

    def after_look(self, why: Why, seen: Seen) -> Next:
        """Decide what follows a look at the guest."""
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
                return Next.GO_ON
            case _, Why.RESTART:
                # The guest, or the way to it, is not the one any more that was asked.
                self.attempts = max(0, self.attempts - 1)
                self.wait = min(self.wait, PAUSE)
                return Next.WAIT
            case _:
                return Next.ASK if self.attempts < self.retry_policy.attempts else Next.TIME_OUT

    def after_silence(self) -> Next:
        """Decide what follows a deadline while libvirt has not answered the last request or look."""
        self.wait = self.retry_policy.timeout
        self.attempts += 1
        if self.attempts <= self.retry_policy.attempts:
            return Next.WAIT
        self.left = LEFT_UNKNOWN_LIVE_ONLY if self.left == LEFT_LIVE_ONLY else LEFT_UNKNOWN
        return Next.TIME_OUT

    def failed(self, reason: object) -> exception.DetachFailed:
        """The error of a detach that has ended without the device going."""
        return exception.DetachFailed(
            instance=self.instance, device=self.device_id, reason=f'{reason}; {self.left}'
        )

    def lost(self, reason: str) -> exception.DetachFailed:
        """The error of a detach whose guest has the device, or may have it, where it cannot be asked for it."""
        return exception.DetachFailed(instance=self.instance, device=self.device_id, reason=reason)

    def timed_out(self) -> exception.DetachTimeout:
        """The error of a detach whose guest has used up its attempts."""
        return exception.DetachTimeout(
            instance=self.instance,
            device=self.device_id,
            attempts=self.retry_policy.attempts,
            timeout=f'{self.retry_policy.timeout:g}',
            left=self.left,
        )


def kept_elsewhere(device: DeviceFingerprint) -> str | None:
    """Why a device is not out though what runs here has it not; None if nothing of that kind is known."""
    return None if device.kept is None else KEPT[_REMEMBERED[device.kept]]
