# SPDX-License-Identifier: Apache-2.0
"""Starts processes that outlive the command that started them, and waits for them."""

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
    """A part (broker, hypervisor, guest) could not be built, started or stopped."""


def wait_until(probe: Callable[[], T | None], timeout: float, what: str, interval: float = 0.1) -> T:
    """Call ``probe`` until it returns a true value, and return that.

    :param timeout: seconds
    :param what: the expected event, for the error
    :param interval: seconds between two calls
    :raises PartFailed: the timeout has expired
    """
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise PartFailed(f'timed out after {timeout:g} s: waiting for {what}')
        time.sleep(interval)


def tail(path: pathlib.Path, lines: int = 15) -> str:
    """Return the last lines of a log, or a note that the file does not exist."""
    if not path.exists():
        return f'({path} does not exist)'
    return '\n'.join(path.read_text(errors='replace').splitlines()[-lines:])


def free_port() -> int:
    """Return a TCP port on the loopback address that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port: int = listener.getsockname()[1]
        return port


def run(*command: str | os.PathLike[str], cwd: pathlib.Path | None = None) -> str:
    """Run a command, and return its standard output.

    :raises PartFailed: the exit code was not 0; the error includes the standard error of the command
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        words = ' '.join(str(word) for word in command)
        raise PartFailed(f'{words}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}')
    return done.stdout


def started_at(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it does not run or is a zombie."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the second field is the command in parentheses, and can contain spaces and parentheses
    fields = stat.rpartition(')')[2].split()
    return None if fields[0] in ('Z', 'X') else fields[19]


def processes_with(mark: Callable[[pathlib.Path], bool]) -> list[int]:
    """Return the ids of the other running processes whose directory in /proc satisfies ``mark``."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if started_at(int(entry.name)) is not None and mark(entry):
                found.append(int(entry.name))
    return found


def kill_all(find: Callable[[], list[int]], what: str, timeout: float = 20) -> None:
    """Kill the processes that ``find`` returns, until it returns none.

    :raises PartFailed: some still run after ``timeout`` seconds
    """

    def gone() -> bool:
        left = find()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(gone, timeout, f'the end of {what}', interval=0.05)


class Process:
    """A process in its own session, with a pid file, so that another command can stop it."""

    # The file has the start time with the id, so that a reused id is not mistaken for the process.

    def __init__(self, name: str, directory: pathlib.Path) -> None:
        self.name = name
        self.log = directory / f'{name}.log'
        self._file = directory / f'{name}.pid'
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None while the process does not run."""
        if self._child is not None:
            self._child.poll()  # so that no zombie is left
        if not self._file.exists():
            return None
        pid, _, start = self._file.read_text().partition(' ')
        return int(pid) if started_at(int(pid)) == start else None

    def start(self, command: Sequence[str | os.PathLike[str]], environment: Mapping[str, str] | None = None) -> None:
        """Start the process; its output is appended to ``log``.

        :param environment: the whole environment; that of this process by default
        :raises PartFailed: the command cannot be executed
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

    def wait_ready(self, probe: Callable[[], T | None], timeout: float, interval: float = 0.1) -> T:
        """Wait until ``probe`` returns a true value, and return that.

        :param interval: seconds between two calls
        :raises PartFailed: the process ended, or the timeout has expired; the error includes the end of the log
        """

        def alive_and_ready() -> T | None:
            if self.pid is None:
                raise PartFailed(f'{self.name} ended during its start')
            return probe()

        try:
            return wait_until(alive_and_ready, timeout, f'{self.name} to be ready', interval)
        except PartFailed as error:
            raise PartFailed(f'{error}; the end of {self.log}:\n{tail(self.log)}') from error

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        """Send a signal, and wait until the process has ended; do nothing if it does not run.

        :raises PartFailed: the process still runs after ``timeout`` seconds
        """
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            wait_until(lambda: self.pid is None, timeout, f'{self.name} (process {pid}) to end on {number.name}')
        self._file.unlink(missing_ok=True)

    def wait_end(self, timeout: float = 30) -> int:
        """Wait until the process ends by itself, and return its exit code.

        :raises PartFailed: the process still runs after ``timeout`` seconds, or another command has started it.
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
    """Report the start of a stage and, at its end, its duration."""
    say(f'{what} ...')
    begin = time.monotonic()
    yield
    say(f'{what}: {time.monotonic() - begin:.1f} s')
