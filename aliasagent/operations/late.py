# SPDX-License-Identifier: Apache-2.0
"""Outcomes that the journal would not take: kept, and written as soon as it does."""

import collections
import logging
import threading
from collections.abc import Callable

from aliasagent import exception

LOG = logging.getLogger(__name__)

#: Seconds after which a journal that could not be written is tried again.
RETRY_SECONDS = 1.0


class LateWriter:
    """Writes to the journal, in order; what cannot be written now, as soon as it can be.

    Until then the work is done and the journal does not say so. If the agent stops first, the next one looks at the
    guest, and finds that it is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unwritten: collections.deque[Callable[[], None]] = collections.deque()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def write(self, write: Callable[[], None], later: Callable[[], None] | None = None) -> None:
        """Write now, or later if something else waits or the journal cannot be written.

        :param later: done instead of it if it cannot be written now, for it may not be true any more then.
        """
        with self._lock:
            if not self._unwritten:
                try:
                    write()
                except exception.JournalError as error:
                    LOG.error('An outcome is kept until it can be written: %s', error)
                else:
                    return
            self._unwritten.append(later or write)
            self._try_again_later()

    def flush(self) -> None:
        """Write now what waits to be written.

        :raises JournalError: some of it still cannot be written.
        """
        with self._lock:
            try:
                self._write_waiting()
            finally:
                self._try_again_later()

    def close(self) -> None:
        """Try no more."""
        self._closing.set()
        with self._lock:
            thread, left = self._thread, len(self._unwritten)
        if thread is not None:
            thread.join()
        if left:
            LOG.error('%d outcomes could not be written; the guests are looked at after the next start', left)

    def _run(self) -> None:
        while not self._closing.wait(RETRY_SECONDS):
            with self._lock:
                try:
                    self._write_waiting()
                except exception.JournalError:
                    LOG.debug('%d outcomes still cannot be written', len(self._unwritten))
                except Exception:
                    # NOTE: a bug, which must not keep the outcomes of all others from being written.
                    LOG.exception('Outcomes were not written, and are tried again')
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
                # NOTE: a bug, and no full disk: it would fail again, and hold up all outcomes behind it.
                LOG.exception('An outcome is given up; its guest is looked at after the next start')
            self._unwritten.popleft()

    def _try_again_later(self) -> None:
        """See that a thread writes what is not written."""
        if not self._unwritten or self._thread is not None or self._closing.is_set():
            return
        thread = threading.Thread(target=self._run, name='late-writer', daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            # The next outcome tries it again, and so does the next operation that begins.
            LOG.exception('No thread could be started to write %d outcomes', len(self._unwritten))
        else:
            self._thread = thread
