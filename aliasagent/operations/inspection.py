# SPDX-License-Identifier: Apache-2.0
"""A look into a journal from outside: while an agent works with it or not, and without changing it."""

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
    """What a journal's file says of itself."""

    #: Its layout; :data:`aliasagent.operations.journal.VERSION` is the one that an agent of this release brings it to.
    version: int
    #: How many operations have no outcome yet.
    unfinished: int

    @property
    def is_known(self) -> bool:
        """Whether an agent of this release can use it."""
        return 0 <= self.version <= journal.VERSION


def inspect(path: str) -> Inspection | None:
    """Read what there is; None if there is no such file, which an agent would make.

    :raises JournalError: it cannot be read, is damaged, or is no journal.
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
    """List the guests and devices of which the journal says whose they are: by an attach, or by an inventory.

    :raises JournalError: it cannot be read, or is no journal.
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
    # SQLite would make a log beside a journal that has none, and could not take it away again. Without a log nobody
    # writes, and the file alone is all there is.
    how = 'mode=ro' if os.path.exists(f'{path}-wal') else 'immutable=1'
    return sqlite3.connect(f'file:{urllib.parse.quote(os.path.abspath(path))}?{how}', uri=True, timeout=_BUSY_SECONDS)
