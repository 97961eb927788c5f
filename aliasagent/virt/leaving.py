# SPDX-License-Identifier: Apache-2.0
"""A device on its way out of a running guest: what it is, and whether it is still there."""

import dataclasses
import time
from concurrent import futures
from typing import Self

from oslo_context import context as oslo_context

from aliasagent import context
from aliasagent import exception
from aliasagent.devices import base
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain

LEFT = 'it is still in the running guest'
LEFT_LIVE_ONLY = 'it is gone from the persistent config and still in the running guest'


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a guest may take."""

    #: Seconds to wait before asking again.
    timeout: float
    #: How often to ask.
    attempts: int


@dataclasses.dataclass(frozen=True)
class Sight:
    """A device without a user alias, as it was seen when its guest was asked to release it.

    The alias that libvirt made for it says where it sits (``virtio-disk1``), and is that of the next device that comes
    to sit there, in this run of the guest or in another one.
    """

    runtime_id: str | None
    looks: identity.Claim

    @classmethod
    def of(cls, live: Domain, device: base.Device) -> Self:
        return cls(live.runtime_id, identity.claim(device))


@dataclasses.dataclass
class Unplug:
    """A device on its way out of a running guest."""

    instance: str
    alias: str
    device_id: str
    patience: Patience
    #: Where the device still is if the guest does not release it, for the error's words.
    left: str = LEFT
    #: None of a device with a user alias: that is its own.
    sight: Sight | None = None
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

    def is_in(self, live: Domain) -> bool:
        """Whether the device is in the running guest, as that was just read.

        :raises DeviceConflict: something has its alias of which it cannot be told whether it is the device.
        """
        found = live.by_alias(self.alias)
        if not found or self.sight is None:
            return bool(found)
        if live.runtime_id != self.sight.runtime_id:
            return False
        looks = identity.claim(found[0])
        if identity.are_apart(looks, self.sight.looks):
            return False
        if looks != self.sight.looks:
            raise exception.DeviceConflict(
                instance=self.instance,
                device=self.device_id,
                reason=f'{found[0].describe()} has its alias by now, and may be another one; it is asked for no more',
            )
        return True

    def failed(self, reason: object) -> exception.DetachFailed:
        """The error of a detach that has ended without the device going."""
        return exception.DetachFailed(
            instance=self.instance, device=self.device_id, reason=f'{reason}; {self.left}'
        )

    def timed_out(self) -> exception.DetachTimeout:
        """The error of a detach whose guest has used up its attempts."""
        return exception.DetachTimeout(
            instance=self.instance,
            device=self.device_id,
            attempts=self.patience.attempts,
            timeout=f'{self.patience.timeout:g}',
            left=self.left,
        )
