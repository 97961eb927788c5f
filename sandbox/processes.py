# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the command that started them, and what waiting for them needs."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar('T')


class PartFailed(Exception):
    """A real part (broker, hypervisor, guest) could not be built, started or stopped."""


def wait_until(probe: Callable[[], T | None], timeout: float, what: str, interval: float = 0.1) -> T:
    """Call ``probe`` until it answers something true, and return that.

    :param timeout: seconds
    :param what: what is waited for, as it shall read in the error
    :param interval: seconds between two calls
    :raises PartFailed: nothing true came in time
    """
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise PartFailed(f'waited {timeout:g} s in vain for {what}')
        time.sleep(interval)


def tail(path: pathlib.Path, lines: int = 15) -> str:
    """The last lines of a log, or a sentence that says that there is none."""
    if not path.exists():
        return f'({path} does not exist)'
    return '\n'.join(path.read_text(errors='replace').splitlines()[-lines:])


def free_port() -> int:
    """A TCP port on the loopback address that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port: int = listener.getsockname()[1]
        return port


def run(*command: str | os.PathLike[str], cwd: pathlib.Path | None = None) -> str:
    """Run a command to its end and return its standard output.

    :raises PartFailed: it did not exit with 0; the message carries what it wrote to standard error
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        words = ' '.join(str(word) for word in command)
        raise PartFailed(f'{words}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}')
    return done.stdout


def started_at(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it does not run (a zombie does not)."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the second field is the command in parentheses and may itself contain blanks and parentheses
    fields = stat.rpartition(')')[2].split()
    return None if fields[0] in ('Z', 'X') else fields[19]


def processes_with(mark: Callable[[pathlib.Path], bool]) -> list[int]:
    """The ids of the running processes whose directory under /proc satisfies ``mark``, this one's left out."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if started_at(int(entry.name)) is not None and mark(entry):
                found.append(int(entry.name))
    return found


def kill_all(find: Callable[[], list[int]], what: str, timeout: float = 20) -> None:
    """Kill the processes that ``find`` returns, and those that it returns then, until there are none.

    :raises PartFailed: some are still there after ``timeout`` seconds
    """

    def gone() -> bool:
        left = find()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(gone, timeout, f'the end of {what}', interval=0.05)


class Process:
    """A process of its own session, known by a file, so that another command can end it.

    The file keeps the start time beside the id: an id that was given to somebody else is not taken for ours.
    """

    def __init__(self, name: str, directory: pathlib.Path) -> None:
        self.name = name
        self.log = directory / f'{name}.log'
        self._file = directory / f'{name}.pid'
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None while it does not run."""
        if self._child is not None:
            self._child.poll()  # so that no zombie is left
        if not self._file.exists():
            return None
        pid, _, start = self._file.read_text().partition(' ')
        return int(pid) if started_at(int(pid)) == start else None

    def start(self, command: Sequence[str | os.PathLike[str]], environment: Mapping[str, str] | None = None) -> None:
        """Start it; its output is appended to ``log``.

        :param environment: its whole environment; this process's own by default
        :raises PartFailed: it cannot be executed
        """
        with self.log.open('ab') as output:
            try:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd='/',
                    start_new_session=True,
                )
            except OSError as error:
                raise PartFailed(f'cannot start {self.name} ({command[0]}): {error}') from error
        self._file.write_text(f'{self._child.pid} {started_at(self._child.pid)}')

    def wait_ready(self, probe: Callable[[], T | None], timeout: float) -> T:
        """Wait until ``probe`` answers something true.

        :raises PartFailed: it ended, or ``timeout`` seconds are over; the message carries the end of its log
        """

        def alive_and_ready() -> T | None:
            if self.pid is None:
                raise PartFailed(f'{self.name} ended while it was started')
            return probe()

        try:
            return wait_until(alive_and_ready, timeout, f'{self.name} to be ready')
        except PartFailed as error:
            raise PartFailed(f'{error}; the end of {self.log}:\n{tail(self.log)}') from error

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        """Send a signal and wait until the process is gone; nothing to do if it does not run.

        :raises PartFailed: it is still there after ``timeout`` seconds
        """
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            wait_until(lambda: self.pid is None, timeout, f'{self.name} (process {pid}) to end on {number.name}')
        self._file.unlink(missing_ok=True)

    def wait_end(self, timeout: float = 30) -> int:
        """Wait until it ends by itself, and return its exit code.

        :raises PartFailed: it is still there after ``timeout`` seconds, or was started by somebody else.
        """
        if self._child is None:
            raise PartFailed(f'{self.name} was not started here')
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise PartFailed(f'{self.name} did not end within {timeout:g} s; the end of {self.log}:\n{tail(self.log)}'
                             ) from error


@contextlib.contextmanager
def stage(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say what is being done and, at its end, how long it took."""
    say(f'{what} ...')
    begin = time.monotonic()
    yield
    say(f'{what}: {time.monotonic() - begin:.1f} s')
