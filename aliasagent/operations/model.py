# SPDX-License-Identifier: Apache-2.0
"""An operation: what was asked, and what became of it."""

import dataclasses
import enum
from typing import NamedTuple

from aliasagent import actions
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.actions import Kind
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.requests.base import Request

#: What puts a device into a guest.
ATTACHES = actions.of_kind(Kind.ATTACH)
#: What takes a device out of a guest.
DETACHES = actions.of_kind(Kind.DETACH)
#: What makes a running guest anew, here or on another host.
MOVES = actions.of_kind(Kind.MOVE)


class State(enum.StrEnum):
    """Where an operation stands. The last two are final."""

    ACCEPTED = 'accepted'
    RUNNING = 'running'
    SUCCEEDED = 'succeeded'
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Operation:
    """One request and its outcome. Times are seconds since the epoch."""

    id: str
    action: Action
    instance: str
    device: str
    #: What was asked; None of what was refused as it came in, and of a record that makes no sense any more.
    request: Request | None
    state: State = State.ACCEPTED
    error_class: str | None = None
    error: str | None = None
    accepted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    #: How often the work was begun: more than once after a restart of the agent.
    attempts: int = 0
    request_id: str | None = None
    #: When the guest let go of the device after all, though the detach had failed.
    released_at: float | None = None
    #: The device as a detach found it, before it changed anything.
    asked: DeviceFingerprint | None = None
    #: Of a failed detach, whether the guest may still answer a request to release the device. None if it is not known.
    may_still_go: bool | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in (State.SUCCEEDED, State.FAILED)


class Accepted(NamedTuple):
    """What the journal says to a new operation."""

    #: What it has under the operation's id.
    record: Operation
    #: False if it was there before, perhaps for another request.
    is_new: bool

    def is_of(self, asked: Operation) -> bool:
        """Whether the record is of the same request."""
        record = self.record
        return (record.action, record.instance, record.request) == (asked.action, asked.instance, asked.request)

    def check(self, asked: Operation) -> None:
        """See that the record is of the same request.

        :raises OperationConflict: the id was used for another one.
        """
        if not self.is_of(asked):
            raise exception.OperationConflict(operation=asked.id)


class Phase(enum.StrEnum):
    """What is told about an operation."""

    START = 'start'
    END = 'end'
    ERROR = 'error'
    #: The guest has let go of the device, after the error was told.
    RELEASED = 'released'


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something that is to be told about an operation."""

    #: Their order.
    sequence: int
    phase: Phase
    #: As it is by now, which may be later than the phase.
    operation: Operation
