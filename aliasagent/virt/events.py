# SPDX-License-Identifier: Apache-2.0
"""What the hypervisor tells us unasked, in our own words."""

import dataclasses
import enum


class Lifecycle(enum.Enum):
    """What became of a guest (libvirt, ``virDomainEventType``)."""

    DEFINED = enum.auto()
    UNDEFINED = enum.auto()
    STARTED = enum.auto()
    SUSPENDED = enum.auto()
    RESUMED = enum.auto()
    STOPPED = enum.auto()
    #: It panicked and is kept as it was, with its devices (``on_crash`` preserve).
    CRASHED = enum.auto()
    REBOOTED = enum.auto()


class Cause(enum.Enum):
    """Why a guest started or stopped, where it matters to its devices."""

    OTHER = enum.auto()
    #: It moved to or from another host, with its devices.
    MIGRATED = enum.auto()
    #: It was saved to, restored from, or reverted to a file, with its devices.
    SAVED = enum.auto()
    #: libvirt does not say: it was shut off when libvirtd started.
    UNKNOWN = enum.auto()


@dataclasses.dataclass(frozen=True)
class GuestEvent:
    """Something happened to a guest."""

    instance: str


@dataclasses.dataclass(frozen=True)
class DeviceRemoved(GuestEvent):
    """The running guest has let go of a device."""

    alias: str


@dataclasses.dataclass(frozen=True)
class DeviceRemovalFailed(GuestEvent):
    """The running guest refused to let go of a device."""

    alias: str


@dataclasses.dataclass(frozen=True)
class LifecycleChanged(GuestEvent):
    """The guest was defined, started, stopped, ..."""

    lifecycle: Lifecycle
    cause: Cause = Cause.OTHER
    #: libvirt's number of the guest's run, if it started; another one with each start.
    number: int = dataclasses.field(default=-1, compare=False)


@dataclasses.dataclass(frozen=True)
class Reconnected:
    """The connection stands again; what happened meanwhile was not told."""


Event = GuestEvent | Reconnected
