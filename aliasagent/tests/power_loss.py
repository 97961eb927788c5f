# SPDX-License-Identifier: Apache-2.0
"""What a power loss of the host leaves of a journal: all up to the last sync to the disk, and nothing after it."""

import itertools
import os
import shutil
from typing import Any

import fixtures

from aliasagent.operations.journal import Journal
from aliasagent.tests import base

#: SQLite's level at which it syncs the log after each transaction: FULL.
SYNCED = 2
_numbers = itertools.count()


def level(journal: Journal) -> int:
    """Return the level of syncing at which the journal has made its last change."""
    # Each time in other words: SQLite may answer when it compiles a statement, and Python keeps compiled statements.
    (found,) = journal._db.execute(f'PRAGMA synchronous -- {next(_numbers)}').fetchone()
    return int(found)


class PowerLoss:
    """Notes how much of each journal's log is synced, as long as SQLite has not begun to overwrite it."""

    def __init__(self, test: base.TestCase) -> None:
        self._test = test
        self._synced: dict[str, int] = {}
        for name in ('accept', 'start', 'found', 'remember', 'finish', 'release', 'sent'):
            self._note_after(name)

    def _note_after(self, name: str) -> None:
        method = getattr(Journal, name)

        def change(journal: Journal, *args: Any, **kwargs: Any) -> Any:
            result = method(journal, *args, **kwargs)
            if level(journal) == SYNCED:
                self._synced[journal.path] = os.path.getsize(f'{journal.path}-wal')
            return result

        self._test.useFixture(fixtures.MonkeyPatch(f'aliasagent.operations.journal.Journal.{name}', change))

    def copy(self, path: str, to: str) -> int:
        """Copy a journal as a power loss would leave it now, and return how many bytes of its log are lost."""
        log = f'{path}-wal'
        shutil.copy(path, to)
        shutil.copy(log, f'{to}-wal')
        os.truncate(f'{to}-wal', self._synced[path])
        return os.path.getsize(log) - self._synced[path]
