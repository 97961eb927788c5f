# SPDX-License-Identifier: Apache-2.0
"""The lock that keeps a second agent from a journal."""

import contextlib
import fcntl
import os

from aliasagent import exception

#: What is appended to the journal's path for the lock file.
SUFFIX = '.lock'


class JournalLock:
    """Locks a journal for this process until :meth:`release`, or until the process ends, however it ends.

    :param path: the journal's file; its directory must exist.
    :raises JournalError: another agent holds the lock, or the directory cannot be written.
    """

    # The lock is a separate file: SQLite locks the journal with POSIX locks, and the kernel drops all POSIX locks of a
    # process on a file when the process closes any descriptor of that file. The file stays after release: if it were
    # removed, two agents could each lock a different file of the same name.

    def __init__(self, path: str) -> None:
        # Two names of the same journal must have one lock.
        self.path = os.path.realpath(path) + SUFFIX
        try:
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise exception.JournalError(path=path, reason=error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            self.release()
            raise exception.JournalError(
                path=path,
                reason=f'another agent works with it ({holder}, which holds {self.path}); stop that agent, or give '
                'this one a journal of its own with the option [operations] journal',
            ) from error
        except OSError as error:
            self.release()
            raise exception.JournalError(path=path, reason=f'{self.path} cannot be locked: {error.strerror}') from error
        # This text only informs an operator: the lock holds without it, also on a full disk.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f'{os.getpid()} {os.uname().nodename}\n'.encode(), 0)

    def _holder(self) -> str:
        """Name the process that holds the lock, as the process wrote it into the file."""
        # A container has its own process ids and host name, so that the id alone could name another process.
        try:
            pid, host = os.pread(self._descriptor, 200, 0).decode().split()
        except (OSError, ValueError):
            return 'an unknown process'
        return f'process {pid} on {host}'

    def release(self) -> None:
        """Unlock the journal for another agent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
