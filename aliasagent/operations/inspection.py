# SPDX-License-Identifier: Apache-2.0
"""Reads a journal from another process, whether an agent runs or not, and never changes it."""

import contextlib
import dataclasses
import os
import sqlite3
import urllib.parse

from aliasagent import exception
from aliasagent.operations import journal
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import State

#: Seconds to wait for an agent that is writing.
_BUSY_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The layout of a journal, and the number of its unfinished operations."""

    #: The layout of the file. An agent of this release upgrades it to :data:`aliasagent.operations.journal.VERSION`.
    version: int
    #: The number of operations that are accepted or running.
    unfinished: int

    @property
    def is_known(self) -> bool:
        """Whether an agent of this release can use the journal."""
        return 0 <= self.version <= journal.VERSION


def inspect(path: str) -> Inspection | None:
    """Read a journal. Returns None if the file does not exist: the agent creates it at its start.

    :raises JournalError: the file cannot be read, is damaged, or is not a journal.
    """
    if not os.path.exists(path):
        return None
    try:
        with contextlib.closing(_open(path)) as db:
            (found,) = db.execute('PRAGMA quick_check(1)').fetchone()
            if found != 'ok':
                raise exception.JournalError(path=path, reason=f'it is damaged: {" ".join(found.split())}')
            (version,) = db.execute('PRAGMA user_version').fetchone()
            unfinished = 0
            if 0 < version <= journal.VERSION:
                (unfinished,) = db.execute(
                    'SELECT count(*) FROM operations WHERE state IN (?, ?)', (State.ACCEPTED, State.RUNNING)
                ).fetchone()
    except (sqlite3.Error, OSError) as error:
        raise exception.JournalError(path=path, reason=error) from error
    return Inspection(version, unfinished)


def recorded(path: str) -> frozenset[tuple[str, str]]:
    """List the pairs of guest and device id that an attach or an inventory has put into the journal.

    :raises JournalError: the file cannot be read, or is not a journal.
    """
    if not os.path.exists(path):
        return frozenset()
    attaches = sorted(ATTACHES)
    marks = ', '.join('?' * len(attaches))
    try:
        with contextlib.closing(_open(path)) as db:
            found = db.execute(
                f'SELECT DISTINCT instance, lower(device) FROM operations WHERE state = ? AND action IN ({marks})',  # nosec B608
                (State.SUCCEEDED, *attaches),
            ).fetchall()
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'told'").fetchone() is not None:
                found += db.execute('SELECT instance, device FROM told').fetchall()
    except (sqlite3.Error, OSError) as error:
        raise exception.JournalError(path=path, reason=error) from error
    return frozenset(found)


def _open(path: str) -> sqlite3.Connection:
    # SQLite would create a write-ahead log beside a journal that has none, and could not remove it again. Without a
    # log no process writes to the journal, and the file holds everything.
    how = 'mode=ro' if os.path.exists(f'{path}-wal') else 'immutable=1'
    return sqlite3.connect(f'file:{urllib.parse.quote(os.path.abspath(path))}?{how}', uri=True, timeout=_BUSY_SECONDS)
