# SPDX-License-Identifier: Apache-2.0
"""An operation: a request and its outcome."""

import dataclasses
import enum
from typing import NamedTuple

from aliasagent import actions
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.actions import Kind
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.requests.base import Request

#: Actions that add a device to a guest.
ATTACHES = actions.of_kind(Kind.ATTACH)
#: Actions that remove a device from a guest.
DETACHES = actions.of_kind(Kind.DETACH)
#: Actions that save and restore a running guest, or migrate it.
MOVES = actions.of_kind(Kind.MOVE)


class State(enum.StrEnum):
    """The state of an operation. The last two are final."""

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
    #: None if the request was refused before it was accepted, or if the record is not valid in this release.
    request: Request | None
    state: State = State.ACCEPTED
    error_class: str | None = None
    error: str | None = None
    accepted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    #: How often the agent started the operation: more than once after a restart of the agent. A power loss of the host
    #: may leave the last start of an attach or a reconcile uncounted.
    attempts: int = 0
    request_id: str | None = None
    #: When the guest released the device after the detach had failed.
    released_at: float | None = None
    #: The device as a detach found it, before it changed anything.
    asked: DeviceFingerprint | None = None
    #: Of a failed detach, whether the guest may still release the device; None if that is unknown.
    may_still_go: bool | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in (State.SUCCEEDED, State.FAILED)


class Accepted(NamedTuple):
    """The answer of the journal to a new operation."""

    #: The record under the id of the operation.
    record: Operation
    #: False if the record existed before, perhaps for another request.
    is_new: bool

    def is_of(self, asked: Operation) -> bool:
        """Return whether the record is of the same request."""
        record = self.record
        return (record.action, record.instance, record.request) == (asked.action, asked.instance, asked.request)

    def check(self, asked: Operation) -> None:
        """Check that the record is of the same request.

        :raises OperationConflict: the id was used for another request.
        """
        if not self.is_of(asked):
            raise exception.OperationConflict(operation=asked.id)


class Phase(enum.StrEnum):
    """The phase of an operation that a notification reports."""

    START = 'start'
    END = 'end'
    ERROR = 'error'
    #: The guest has released the device after the error was reported.
    RELEASED = 'released'


@dataclasses.dataclass(frozen=True)
class Notice:
    """A notification that is to be sent about an operation."""

    #: The order of notices.
    sequence: int
    phase: Phase
    #: The operation as it is now, which may be later than the phase.
    operation: Operation
