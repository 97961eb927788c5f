# SPDX-License-Identifier: Apache-2.0
"""The durable record of operations: a SQLite file on the host's disk.

SQLite runs in WAL mode: once a method has returned, its change survives a crash of the process. It also survives a
power loss of the host, because SQLite syncs the log to the disk. Only two changes are not synced by themselves, but
together with the next change: the start of an operation that need not know of it (:meth:`Journal.start`), and the
deletion of a notice that was sent. A power loss can undo the last changes only, never one before a synced change.

One connection writes, used by one thread at a time. Methods that only read use connections of their own: they do not
wait for a write, no write waits for them, and they see each change that was made before.

The notices of an operation are written in the same transaction as the operation, and stay until they are sent as
notifications (:mod:`aliasagent.notifications`).
"""

import contextlib
import dataclasses
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from aliasagent import exception
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations import rows
from aliasagent.operations.layouts import ADDED
from aliasagent.operations.layouts import LAYOUTS
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.operations.model import Accepted
from aliasagent.operations.model import Notice
from aliasagent.operations.model import Operation
from aliasagent.operations.model import Phase
from aliasagent.operations.model import State

VERSION = len(LAYOUTS)

_ADVICE = (
    'move the file away, with its -wal and -shm files, and start the agent again; the agent creates an empty journal, '
    'and clients must repeat the operations that had not finished (sqlite3 FILE .recover may still list them)'
)
#: How many operations one transaction deletes at most, because other changes wait meanwhile.
_BATCH = 1000
#: How many connections for reading are kept open at most while they are not in use.
_KEPT_READERS = 4


def _now() -> float:
    # As precise as the times that clients receive: a query by such a time finds its operation.
    return round(time.time(), 6)


class Journal:
    """The record of one host's operations.

    Every method raises :exc:`JournalError` if the file cannot be read or written.

    :param path: the file, created if it does not exist; its directory must exist.
    :param notices: whether to keep notices, for a sender of notifications that removes them again.
    """

    def __init__(self, path: str, *, notices: bool = False, clock: Callable[[], float] = _now) -> None:
        self.path = path
        self._clock = clock
        self._notices = notices
        self._lock = threading.Lock()
        #: Set when there may be a new notice.
        self.noticed = threading.Event()
        #: Whether the transaction under way has written a notice.
        self._has_noticed = False
        #: Whether SQLite syncs each transaction to the disk now.
        self._is_synced = False
        #: The connections for reading that are not in use; None after :meth:`close`.
        self._readers: list[sqlite3.Connection] | None = []
        self._lending = threading.Lock()
        with self._translated():
            # Requests may hold passwords. SQLite creates its other files with the mode of this one.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = self._connect()
            self._db.execute('PRAGMA journal_mode = WAL')
            self._set_synced(True)
            self._check()
            self._bring_up_to_date()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)

    def _check(self) -> None:
        (found,) = self._db.execute('PRAGMA quick_check(1)').fetchone()
        if found != 'ok':
            # SQLite's finding has several lines; the advice must be on the first one.
            reason = f'it is damaged: {" ".join(found.split())}; {_ADVICE}'
            raise exception.JournalError(path=self.path, reason=reason)

    def _bring_up_to_date(self) -> None:
        (version,) = self._db.execute('PRAGMA user_version').fetchone()
        if not 0 <= version <= VERSION:
            raise exception.JournalError(
                path=self.path, reason=f'it has layout {version}, and this release knows layouts up to {VERSION} only'
            )
        for number in range(version, VERSION):
            self._db.executescript(f'BEGIN; {LAYOUTS[number]} PRAGMA user_version = {number + 1}; COMMIT;')
        existing = {name for (name,) in self._db.execute('SELECT name FROM sqlite_master')}
        for name in ADDED.keys() - existing:
            self._db.executescript(f'BEGIN; {ADDED[name]} COMMIT;')

    def close(self) -> None:
        with self._lending:
            idle, self._readers = self._readers or [], None
        for reader in idle:
            reader.close()
        with self._lock:
            self._db.close()

    def accept(self, *operations: Operation) -> list[Accepted]:
        """Record new operations with one write: all of them, or none if it fails."""
        now = self._clock()
        new = [_stored(operation, now) for operation in operations]
        # A transaction, because the answer to one of them may fail after the others are inserted.
        with self._transaction() as db:
            added = self._insert(db, new)
            return [self._accepted(db, operation, added) for operation in new]

    def _insert(self, db: sqlite3.Connection, operations: list[Operation]) -> set[str]:
        """Insert operations in their order, except those whose id is there already, and return the inserted ids."""
        inserted = db.execute(
            f'INSERT INTO operations ({rows.COLUMNS}) VALUES {", ".join([rows.VALUES] * len(operations))} '  # nosec B608
            'ON CONFLICT (id) DO NOTHING RETURNING id',
            [value for operation in operations for value in rows.values_of(operation)],
        )
        return {operation_id for (operation_id,) in inserted.fetchall()}

    def _accepted(self, db: sqlite3.Connection, operation: Operation, added: set[str]) -> Accepted:
        """Return the answer to an operation.

        :param added: the ids that were inserted and not answered yet; the id of this operation is removed.
        """
        if operation.id not in added:
            (known,) = self._select(db, 'WHERE id = ?', operation.id)
            return Accepted(known, is_new=False)
        added.remove(operation.id)
        if operation.is_finished:
            self._notice(db, operation.id, Phase.ERROR)
        return Accepted(operation, is_new=True)

    def start(self, operation_id: str, asked: DeviceFingerprint | None = None, *, synced: bool = True) -> None:
        """Record that the agent starts an operation.

        :param asked: the device that a detach is about to remove.
        :param synced: whether the start must survive a power loss of the host. A start with a notice always does: its
            notification may be sent before the power loss.
        :raises OperationNotFound: the journal has no record of it.
        """
        with self._with_notices(synced=synced) as db:
            self._notice_first_start(db, operation_id)
            changed = db.execute(
                'UPDATE operations SET state = ?, started_at = coalesce(started_at, ?), attempts = attempts + 1, '
                'asked = coalesce(?, asked) WHERE id = ?',
                (State.RUNNING, self._clock(), rows.dumped(asked), operation_id),
            )
            _check_changed(changed, operation_id)

    def found(self, operation_id: str, asked: DeviceFingerprint) -> None:
        """Replace the device that a detach is about to remove, after its guest has changed since the detach began."""
        with self._statement() as db:
            db.execute('UPDATE operations SET asked = ? WHERE id = ?', (rows.dumped(asked), operation_id))

    def remember(self, instance: str, device: str, asked: DeviceFingerprint) -> None:
        """Update the recorded device of its running and failed detaches, after a guest was asked to release it."""
        detaches = sorted(DETACHES)
        with self._statement() as db:
            db.execute(
                'UPDATE operations SET asked = ? WHERE instance = ? AND device = ? AND state IN (?, ?) '  # nosec B608
                f'AND action IN ({rows.marks(detaches)}) AND released_at IS NULL '
                "AND json_extract(asked, '$.run') IS NOT NULL",
                (rows.dumped(asked), instance, device, State.RUNNING, State.FAILED, *detaches),
            )

    def finish(
        self, operation_id: str, error: BaseException | None = None, may_still_go: bool | None = None
    ) -> None:
        """Record the outcome of an operation; one that failed before it started is recorded as started now.

        :param may_still_go: of a failed detach, whether the guest may still release the device.
        :raises OperationNotFound: the journal has no record of it.
        """
        # A success is synced, too. Clients read an outcome as soon as it is recorded: if a power loss took the outcome,
        # the operation would run again, and its outcome could change. A detach could even remove a device that another
        # client has attached since, because all evidence matches.
        outcome: tuple[str | None, ...] = (State.SUCCEEDED, None, None)
        if error is not None:
            outcome = (State.FAILED, type(error).__name__, rows.storable(str(error)))
        now = self._clock()
        with self._with_notices() as db:
            self._notice_first_start(db, operation_id)
            changed = db.execute(
                'UPDATE operations SET state = ?, error_class = ?, error = ?, started_at = coalesce(started_at, ?), '
                'finished_at = ?, may_still_go = ?, attempts = max(attempts, 1) WHERE id = ?',
                (*outcome, now, now, may_still_go, operation_id),
            )
            _check_changed(changed, operation_id)
            self._notice(db, operation_id, Phase.END if error is None else Phase.ERROR)

    def release(self, instance: str, device: str) -> None:
        """Record that a guest has released a device after the detaches of the device had failed.

        Records nothing once an attach of the device has begun: the guest may have the device again.
        """
        attaches = sorted(ATTACHES)
        with self._transaction() as db:
            begun = (
                'NOT EXISTS (SELECT 1 FROM operations AS begun WHERE begun.instance = failed.instance AND '  # nosec B608
                'begun.device = failed.device AND begun.sequence > failed.sequence '
                f"AND begun.state = '{State.RUNNING}' AND begun.action IN ({rows.marks(attaches)}))"
            )
            where = f'instance = ? AND device = ? AND {begun}'
            for operation in self._overdue(db, where, instance, device, *attaches):
                db.execute('UPDATE operations SET released_at = ? WHERE id = ?', (self._clock(), operation.id))
                self._notice(db, operation.id, Phase.RELEASED)

    def released(self, instance: str, device: str) -> Operation | None:
        """Return the last failed detach after which a guest released a device.

        Returns None if there is none, or if a later operation on the device succeeded.
        """
        with self.reading() as db:
            last = self._select(
                db,
                f"WHERE instance = ? AND device = ? AND (released_at IS NOT NULL OR state = '{State.SUCCEEDED}') "
                'ORDER BY sequence DESC LIMIT 1',
                instance,
                device,
            )
        return last[0] if last and last[0].released_at is not None else None

    def get(self, operation_id: str) -> Operation:
        """Return an operation.

        :raises OperationNotFound: the journal has no record of it.
        """
        with self.reading() as db:
            found = self._select(db, 'WHERE id = ?', operation_id)
        if not found:
            raise exception.OperationNotFound(operation=operation_id)
        return found[0]

    def has(self, operation_id: str) -> bool:
        """Return whether the journal has a record of an operation."""
        with self.reading() as db:
            return db.execute('SELECT 1 FROM operations WHERE id = ?', (operation_id,)).fetchone() is not None

    def unfinished(self) -> list[Operation]:
        """Return the operations that are accepted or running, in the order in which they were accepted."""
        with self.reading() as db:
            return self._select(db, 'WHERE state IN (?, ?) ORDER BY sequence', State.ACCEPTED, State.RUNNING)

    def overdue(self, instance: str | None = None, device: str | None = None) -> list[Operation]:
        """Return the failed detaches that asked a running guest for a device that the guest may still have.

        A device that another operation has attached or detached since is left out.

        :param instance: only detaches from this guest, and of this device; None for all.
        """
        with self.reading() as db:
            if instance is None:
                return self._overdue(db)
            return self._overdue(db, 'instance = ? AND device = ?', instance, device)

    def _overdue(self, db: sqlite3.Connection, condition: str = 'true', *values: object) -> list[Operation]:
        detaches = sorted(DETACHES)
        changes = sorted(ATTACHES | DETACHES)
        return self._select(
            db,
            f"AS failed WHERE {condition} AND state = '{State.FAILED}' AND released_at IS NULL "  # nosec B608
            f'AND action IN ({rows.marks(detaches)}) '
            # An older release did not record the device.
            "AND (json_extract(asked, '$.run') IS NOT NULL OR asked IS NULL AND error_class = ?) "
            'AND NOT EXISTS (SELECT 1 FROM operations AS later WHERE later.instance = failed.instance '
            'AND later.device = failed.device AND later.sequence > failed.sequence '
            f"AND later.state = '{State.SUCCEEDED}' AND later.action IN ({rows.marks(changes)})) ORDER BY sequence",
            *values,
            *detaches,
            exception.DetachTimeout.__name__,
            *changes,
        )

    def select(
        self,
        instance: str | None = None,
        states: Collection[State] = (),
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[Operation]:
        """Return the newest operations that match, in the order in which they were accepted.

        :param instance: only operations on this guest.
        :param states: only operations in these states; in any state if empty.
        :param since: accepted at this time or later (seconds since the epoch).
        :param until: accepted before this time (seconds since the epoch).
        """
        conditions: dict[str, tuple[object, ...]] = {}
        if instance is not None:
            conditions['instance = ?'] = (instance,)
        if states:
            conditions[f'state IN ({rows.marks(states)})'] = tuple(states)
        if since is not None:
            conditions['accepted_at >= ?'] = (since,)
        if until is not None:
            conditions['accepted_at < ?'] = (until,)
        where = f'WHERE {" AND ".join(conditions)}' if conditions else ''
        values = [value for some in conditions.values() for value in some]
        with self.reading() as db:
            return self._select(db, f'{where} ORDER BY sequence DESC LIMIT ?', *values, limit)[::-1]

    def attached(self, instance: str) -> list[Operation]:
        """Return the last successful attach of each device that was not detached or released since, by the journal.

        A detach that has not ended is ignored.
        """
        # Such a detach is itself the caller, or comes after the caller in the queue of the guest.
        with self.reading() as db:
            return self._select(db, 'WHERE sequence IN (SELECT operation FROM attached WHERE instance = ?)', instance)

    def prune(self, seconds: float, count: int) -> int:
        """Delete old finished operations, and return how many.

        Operations with an unsent notice are kept, and so are old attaches whose device was not detached since.

        :param seconds: delete operations that finished longer ago.
        :param count: delete operations that are not among this many newest.
        """
        # The record of such an attach can be the only evidence for the id of the device.
        forgotten = 0
        while True:
            with self._statement() as db:
                gone = db.execute(
                    'DELETE FROM operations WHERE sequence IN (SELECT sequence FROM operations WHERE state IN (?, ?) '
                    'AND (finished_at < ? AND sequence NOT IN (SELECT operation FROM attached) OR sequence <= coalesce('
                    '  (SELECT sequence FROM operations ORDER BY sequence DESC LIMIT 1 OFFSET ?), 0)) '
                    'AND sequence NOT IN (SELECT operation FROM notices) ORDER BY sequence LIMIT ?)',
                    (State.SUCCEEDED, State.FAILED, self._clock() - seconds, count, _BATCH),
                ).rowcount
            forgotten += gone
            if gone < _BATCH:
                return forgotten

    def notices(self, limit: int = 100) -> list[Notice]:
        """Return the notices that are not sent yet, the oldest first."""
        with self.reading() as db:
            found = db.execute(
                f'SELECT n.sequence, n.phase, {rows.COLUMNS} FROM notices n JOIN operations o '  # nosec B608
                'ON o.sequence = n.operation ORDER BY n.sequence LIMIT ?',
                (limit,),
            ).fetchall()
        return [Notice(sequence, Phase(phase), self._loaded(row)) for sequence, phase, *row in found]

    def sent(self, notice: Notice) -> None:
        """Delete a notice after it was sent."""
        # Not synced: after a power loss the notification is sent again, and a listener detects the duplicate.
        with self._statement(synced=False) as db:
            db.execute('DELETE FROM notices WHERE sequence = ?', (notice.sequence,))

    def _notice_first_start(self, db: sqlite3.Connection, operation_id: str) -> None:
        """Write the notice of an operation's start, unless the operation has started before."""
        self._notice(db, operation_id, Phase.START, 'AND attempts = 0')

    def _notice(self, db: sqlite3.Connection, operation_id: str, phase: Phase, condition: str = '') -> None:
        if self._notices:
            db.execute(
                f'INSERT INTO notices (operation, phase) SELECT sequence, ? FROM operations WHERE id = ? {condition}',  # nosec B608
                (phase, operation_id),
            )
            self._has_noticed = True

    def _select(self, db: sqlite3.Connection, where: str, *values: object) -> list[Operation]:
        found = db.execute(f'SELECT {rows.COLUMNS} FROM operations {where}', values).fetchall()  # nosec B608
        return [self._loaded(row) for row in found]

    def _loaded(self, row: Sequence[Any]) -> Operation:
        try:
            return rows.loaded(row)
        except ValueError as error:
            raise exception.JournalError(path=self.path, reason=f'a record in it is not valid: {error}') from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one statement that only reads."""
        with self._translated(), self._reader() as reader:
            yield reader

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._lending:
            if self._readers is None:
                raise sqlite3.ProgrammingError('the journal is closed')
            reader = self._readers.pop() if self._readers else None
        if reader is None:
            reader = self._connect()
            reader.execute('PRAGMA query_only = ON')
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        with self._lending:
            if self._readers is not None and len(self._readers) < _KEPT_READERS:
                self._readers.append(reader)
                return
        reader.close()

    def transaction(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Open a transaction, which is committed at the end or rolled back by an error."""
        return self._transaction()

    def _with_notices(self, *, synced: bool = True) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Lend the connection for one statement that changes the journal, and for its notices if they are kept."""
        return self._transaction() if self._notices else self._statement(synced=synced)

    @contextlib.contextmanager
    def _statement(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one statement that changes the journal, which SQLite makes a transaction.

        :param synced: whether the change must survive a power loss of the host.
        """
        with self._lock, self._translated():
            self._set_synced(synced)
            yield self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._has_noticed = False
            with self._rolled_back():
                self._set_synced(True)
                self._db.execute('BEGIN IMMEDIATE')
                yield self._db
                self._db.execute('COMMIT')
            # Not before the end: the sender would not find the notice yet, and would wait for the next one.
            if self._has_noticed:
                self.noticed.set()

    def _set_synced(self, synced: bool) -> None:
        """Set whether SQLite syncs the next transactions to the disk."""
        if synced is not self._is_synced:
            # Not execute(), which keeps compiled statements: SQLite may set the level when it compiles the statement.
            self._db.executescript(f'PRAGMA synchronous = {"FULL" if synced else "NORMAL"}')
            self._is_synced = synced

    @contextlib.contextmanager
    def _rolled_back(self) -> Iterator[None]:
        """Roll back after an error."""
        try:
            yield
        except BaseException:
            # SQLite rolls back by itself after some errors, such as a full disk.
            if self._db.in_transaction:
                self._db.execute('ROLLBACK')
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise exception.JournalError(path=self.path, reason=_reason(error)) from error


def _stored(operation: Operation, now: float) -> Operation:
    """Return a new operation as the journal stores it.

    :param now: when the operation is accepted, in seconds since the epoch.
    """
    return dataclasses.replace(
        operation,
        device=rows.storable(operation.device),
        error=rows.storable(operation.error),
        accepted_at=now,
        finished_at=now if operation.is_finished else None,
        request_id=rows.storable(operation.request_id),
    )


def _check_changed(changed: sqlite3.Cursor, operation_id: str) -> None:
    """Check that a statement has changed an operation.

    :raises OperationNotFound: it has not.
    """
    if not changed.rowcount:
        raise exception.OperationNotFound(operation=operation_id)


def _reason(error: Exception) -> str:
    if getattr(error, 'sqlite_errorcode', None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f'{error}; {_ADVICE}'
    return str(error)
