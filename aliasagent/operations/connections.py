# SPDX-License-Identifier: Apache-2.0
"""Keeps in the journal what lies between the cloud and a guest's device: its table ``connections``.

A volume that the agent gets from Cinder has an attachment there and a connection of this host, and a port of Neutron
has a binding. Each is recorded before and after each step, and stays until the last step is undone: no pruning deletes
it.
"""

import dataclasses
import enum
import json
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from aliasagent import exception
from aliasagent.operations import rows
from aliasagent.operations.journal import Journal

Json = dict[str, Any]


class Stage(enum.StrEnum):
    """How far a connection is. The guest can have the device only in the second."""

    PREPARING = 'preparing'
    GIVEN = 'given'
    UNDOING = 'undoing'


@dataclasses.dataclass(frozen=True)
class Connection:
    """A connection of a guest's device."""

    instance: str
    device: str
    #: What it is made of: ``volume`` or ``port``.
    kind: str
    stage: Stage
    #: The operation that made it, or that made the guest have the device again.
    operation: str
    #: What its steps need, to be repeated or undone. Never a secret.
    details: Json = dataclasses.field(default_factory=dict)
    #: Whether the service knows that the guest has the device.
    is_complete: bool = False
    #: Whether a detach was requested since.
    is_leaving: bool = False
    #: The arguments of the request to attach the device, with what the service has answered; empty before that.
    given: Json = dataclasses.field(default_factory=dict)
    #: Whether a running guest has had the device.
    was_live: bool = False
    #: The run of the guest that was asked to take the device; None if the guest was shut off.
    run: str | None = None
    #: Why that run may have the device although no definition has it: until its attach has ended.
    doubt: str | None = None
    #: Why it is being undone although no detach was requested.
    problem: str | None = None
    #: When the record changed last, in seconds since the epoch.
    changed_at: float = 0.0


_NAMES = tuple(field.name for field in dataclasses.fields(Connection))
_COLUMNS = ', '.join(_NAMES)


class Connections:
    """The records of all connections.

    Every method raises :exc:`JournalError` if the journal cannot be read or written.
    """

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock

    def get(self, instance: str, device: str) -> Connection | None:
        """Return the connection of a guest's device; None if the agent has not made one."""
        with self._journal.reading() as db:
            found = db.execute(
                f'SELECT {_COLUMNS} FROM connections WHERE instance = ? AND device = ?',  # nosec B608
                (instance, device),
            ).fetchone()
        return None if found is None else self._loaded(found)

    def all(self, instance: str | None = None) -> list[Connection]:
        """Return the connections of all guests, or of one."""
        with self._journal.reading() as db:
            found = db.execute(
                f'SELECT {_COLUMNS} FROM connections WHERE instance = coalesce(?, instance) '  # nosec B608
                'ORDER BY instance, device',
                (instance,),
            ).fetchall()
        return [self._loaded(row) for row in found]

    def other_details(self, instance: str, device: str) -> list[Json]:
        """Return the details of all connections of the same kind as that of a guest's device, but not its own."""
        found = self.all()
        kinds = {it.kind for it in found if (it.instance, it.device) == (instance, device)}
        return [it.details for it in found if it.kind in kinds and (it.instance, it.device) != (instance, device)]

    def put(self, connection: Connection) -> Connection:
        """Write a connection, in place of an earlier record; return it as written."""
        written = dataclasses.replace(connection, changed_at=self._clock())
        row = [getattr(written, name) for name in _NAMES]
        with self._journal.transaction() as db:
            db.execute(
                f'INSERT OR REPLACE INTO connections ({_COLUMNS}) VALUES ({rows.marks(_NAMES)})',  # nosec B608
                [json.dumps(value) if isinstance(value, dict) else value for value in row],
            )
        return written

    def delete(self, connection: Connection) -> None:
        """Delete a connection whose last step is undone."""
        with self._journal.transaction() as db:
            db.execute(
                'DELETE FROM connections WHERE instance = ? AND device = ?', (connection.instance, connection.device)
            )

    def _loaded(self, row: Sequence[Any]) -> Connection:
        found = dict(zip(_NAMES, row, strict=True))
        try:
            found |= {name: json.loads(found[name]) for name in ('details', 'given')}
            found |= {name: bool(found[name]) for name in ('is_complete', 'is_leaving', 'was_live')}
            return Connection(**{**found, 'stage': Stage(found['stage'])})
        except ValueError as error:
            reason = f'its record of the connection of {found["device"]} is not valid: {error}'
            raise exception.JournalError(path=self._journal.path, reason=reason) from error
