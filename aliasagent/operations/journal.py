# SPDX-License-Identifier: Apache-2.0
"""The durable record of operations: a SQLite file on the host's disk.

SQLite in WAL mode with ``synchronous=FULL``: what a method has returned from survives the loss of the process and of
the machine. One connection, used by one thread at a time.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from aliasagent import exception
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import Action
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State

#: The layout of the file, kept in it as ``user_version``.
VERSION = 1

_SCHEMA = f"""
CREATE TABLE operations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    instance TEXT NOT NULL,
    device TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    error_class TEXT,
    error TEXT,
    accepted_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    attempts INTEGER NOT NULL,
    request_id TEXT,
    released_at REAL
);
CREATE INDEX operations_state ON operations (state);
PRAGMA user_version = {VERSION};
"""
_COLUMNS = (
    'id, action, instance, device, arguments, state, error_class, error, accepted_at, started_at, finished_at, '
    'attempts, request_id, released_at'
)


class Journal:
    """The record of one host's operations.

    Every method raises :exc:`JournalError` if the file cannot be read or written.

    :param path: the file; made if it is not there, its directory is not.
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        with self._translated():
            # Requests may hold passwords. What SQLite makes beside the file gets the file's mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute('PRAGMA journal_mode = WAL')
            self._db.execute('PRAGMA synchronous = FULL')
            (version,) = self._db.execute('PRAGMA user_version').fetchone()
            if version == 0:
                self._db.executescript(f'BEGIN; {_SCHEMA} COMMIT;')
            elif version != VERSION:
                raise exception.JournalError(path=path, reason=f'it has layout {version}, known here is {VERSION}')

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def accept(self, operation: Operation) -> Operation | None:
        """Record a new operation; None if that was done, else the operation that already has this id."""
        with self._transaction() as db:
            known = self._select(db, 'WHERE id = ?', operation.id)
            if known:
                return known[0]
            db.execute(
                f'INSERT INTO operations ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)',
                (
                    operation.id,
                    operation.action,
                    operation.instance,
                    _storable(operation.device),
                    json.dumps(operation.arguments),
                    operation.state,
                    operation.error_class,
                    _storable(operation.error),
                    self._clock(),
                    None,
                    self._clock() if operation.is_finished else None,
                    0,
                    _storable(operation.request_id),
                ),
            )
        return None

    def start(self, operation_id: str) -> None:
        """Record that work on an operation begins."""
        with self._transaction() as db:
            db.execute(
                'UPDATE operations SET state = ?, started_at = coalesce(started_at, ?), attempts = attempts + 1 '
                'WHERE id = ?',
                (State.RUNNING, self._clock(), operation_id),
            )

    def finish(self, operation_id: str, error: BaseException | None = None) -> None:
        """Record an operation's outcome."""
        outcome: tuple[str | None, ...] = (State.SUCCEEDED, None, None)
        if error is not None:
            outcome = (State.FAILED, type(error).__name__, _storable(str(error)))
        with self._transaction() as db:
            db.execute(
                'UPDATE operations SET state = ?, error_class = ?, error = ?, finished_at = ? WHERE id = ?',
                (*outcome, self._clock(), operation_id),
            )

    def release(self, instance: str, device: str) -> None:
        """Record that a guest has let go of a device after its detach had failed."""
        actions = sorted(DETACHES)
        with self._transaction() as db:
            db.execute(
                'UPDATE operations SET released_at = ? WHERE sequence = (SELECT max(sequence) FROM operations '
                f'WHERE instance = ? AND device = ? AND state = ? AND action IN ({", ".join("?" * len(actions))}))',
                (self._clock(), instance, device, State.FAILED, *actions),
            )

    def get(self, operation_id: str) -> Operation:
        """One operation.

        :raises OperationNotFound: there is no record of it.
        """
        with self._transaction() as db:
            found = self._select(db, 'WHERE id = ?', operation_id)
        if not found:
            raise exception.OperationNotFound(operation=operation_id)
        return found[0]

    def unfinished(self) -> list[Operation]:
        """What was accepted and has no outcome yet, in the order it came in."""
        with self._transaction() as db:
            return self._select(db, 'WHERE state IN (?, ?) ORDER BY sequence', State.ACCEPTED, State.RUNNING)

    def _select(self, db: sqlite3.Connection, where: str, *values: str) -> list[Operation]:
        rows = db.execute(f'SELECT {_COLUMNS} FROM operations {where}', values).fetchall()
        try:
            return [
                Operation(id_, Action(action), instance, device, json.loads(arguments), State(state), *rest)
                for id_, action, instance, device, arguments, state, *rest in rows
            ]
        except ValueError as error:
            raise exception.JournalError(path=self.path, reason=f'a record in it makes no sense: {error}') from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._db.execute('BEGIN IMMEDIATE')
            try:
                yield self._db
            except BaseException:
                self._db.execute('ROLLBACK')
                raise
            self._db.execute('COMMIT')

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise exception.JournalError(path=self.path, reason=error) from error


def _storable(text: str | None) -> str | None:
    """A text as SQLite can hold it: JSON may carry half a character, and no record must be lost for that."""
    return None if text is None else text.encode('utf-8', 'backslashreplace').decode()
