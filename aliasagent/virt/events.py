# SPDX-License-Identifier: Apache-2.0
"""The events that the hypervisor reports."""

import dataclasses
import enum


class Lifecycle(enum.Enum):
    """What happened to a guest (libvirt, ``virDomainEventType``)."""

    DEFINED = enum.auto()
    UNDEFINED = enum.auto()
    STARTED = enum.auto()
    SUSPENDED = enum.auto()
    RESUMED = enum.auto()
    STOPPED = enum.auto()
    #: The guest panicked and is kept as it was, with its devices (``on_crash`` preserve).
    CRASHED = enum.auto()
    REBOOTED = enum.auto()


class Cause(enum.Enum):
    """Why a guest started or stopped, where it matters to its devices."""

    OTHER = enum.auto()
    #: The guest moved to or from another host, with its devices.
    MIGRATED = enum.auto()
    #: The guest was saved to or restored from a file, or reverted to a snapshot, with its devices.
    SAVED = enum.auto()
    #: libvirt does not report why: the guest was shut off when libvirtd started.
    UNKNOWN = enum.auto()


@dataclasses.dataclass(frozen=True)
class GuestEvent:
    """Something happened to a guest."""

    instance: str


@dataclasses.dataclass(frozen=True)
class DeviceRemoved(GuestEvent):
    """The running guest has released a device."""

    alias: str


@dataclasses.dataclass(frozen=True)
class DeviceRemovalFailed(GuestEvent):
    """The running guest refused to release a device."""

    alias: str


@dataclasses.dataclass(frozen=True)
class LifecycleChanged(GuestEvent):
    """The guest was defined, started, stopped, ..."""

    lifecycle: Lifecycle
    cause: Cause = Cause.OTHER
    #: libvirt's number of the guest's run, if the guest started; each start has another number.
    number: int = dataclasses.field(default=-1, compare=False)


@dataclasses.dataclass(frozen=True)
class Reconnected:
    """The connection is up again; events from meanwhile are lost."""


Event = GuestEvent | Reconnected
