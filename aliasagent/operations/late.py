# SPDX-License-Identifier: Apache-2.0
"""Keeps outcomes in memory while the journal cannot be written, and writes them later."""

import collections
import logging
import threading
from collections.abc import Callable

from aliasagent import exception

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to write the journal.
RETRY_SECONDS = 1.0


class LateWriter:
    """Writes to the journal in order, and retries until the journal can be written.

    If the agent stops first, the journal still has the operation as running. The next agent reads the guest, and finds
    that the work is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unwritten: collections.deque[Callable[[], None]] = collections.deque()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def write(self, write: Callable[[], None], later: Callable[[], None] | None = None) -> None:
        """Write now, or later if another write waits or the journal cannot be written.

        :param later: called later in place of ``write``, which may not be true any more then.
        """
        with self._lock:
            if not self._unwritten:
                try:
                    write()
                except exception.JournalError as error:
                    LOG.error('An outcome is kept in memory until the journal can be written: %s', error)
                else:
                    return
            self._unwritten.append(later or write)
            self._try_again_later()

    def flush(self) -> None:
        """Write all outcomes that wait.

        :raises JournalError: some of the outcomes still cannot be written.
        """
        with self._lock:
            try:
                self._write_waiting()
            finally:
                self._try_again_later()

    def close(self) -> None:
        """Stop retrying."""
        self._closing.set()
        with self._lock:
            thread, left = self._thread, len(self._unwritten)
        if thread is not None:
            thread.join()
        if left:
            LOG.error('%d outcomes could not be written; the agent reads the guests again at its next start', left)

    def _run(self) -> None:
        while not self._closing.wait(RETRY_SECONDS):
            with self._lock:
                try:
                    self._write_waiting()
                except exception.JournalError:
                    LOG.debug('%d outcomes still cannot be written', len(self._unwritten))
                except Exception:
                    # NOTE: a bug, which must not block the other outcomes.
                    LOG.exception('Outcomes could not be written because of an internal error; the agent retries')
                else:
                    LOG.info('All outcomes are written')
                    self._thread = None
                    return

    def _write_waiting(self) -> None:
        while self._unwritten:
            try:
                self._unwritten[0]()
            except exception.JournalError:
                raise
            except Exception:
                # NOTE: a bug, not a full disk: the write would fail again, and block all outcomes behind it.
                LOG.exception('An outcome is discarded; the agent reads its guest again at the next start')
            self._unwritten.popleft()

    def _try_again_later(self) -> None:
        """Start a thread that retries, if outcomes wait and no thread does."""
        if not self._unwritten or self._thread is not None or self._closing.is_set():
            return
        thread = threading.Thread(target=self._run, name='late-writer', daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            # The next outcome retries, and so does the next operation that starts.
            LOG.exception('No thread could be started to write %d outcomes', len(self._unwritten))
        else:
            self._thread = thread
