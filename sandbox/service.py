# SPDX-License-Identifier: Apache-2.0
"""Runs a service of OpenStack in a process and a virtual environment of its own, on the loopback address only."""

import json
import os
import pathlib
import signal
import sqlite3
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import ClassVar
from typing import Self

from sandbox import processes
from sandbox import rest

_PROJECT = pathlib.Path(__file__).parents[1]

#: The directory of the virtual environments that are kept; build in this clone by default.
VENVS = 'ALIASAGENT_TEST_VENVS'

Command = list[str | os.PathLike[str]]


def venv(name: str) -> pathlib.Path:
    """Return the directory of a virtual environment that the tools make."""
    return pathlib.Path(os.environ.get(VENVS) or _PROJECT / 'build', name).absolute()


class Service:
    """One service; a context manager.

    Started again in the same directory, it has the same port and the same data. Another object with the same directory
    finds the running service.

    :param directory: has all its files; created if it does not exist
    """

    name: ClassVar[str]

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory.resolve()
        self._process = processes.Process(self.name, self.directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    @property
    def log(self) -> pathlib.Path:
        """The log of all its runs."""
        return self._process.log

    @property
    def pid(self) -> int | None:
        """Its process id; None while the service does not run."""
        return self._process.pid

    @property
    def address(self) -> str:
        """Its host and port.

        :raises PartFailed: the service has never been started
        """
        return f'127.0.0.1:{self.settings()["port"]}'

    def settings(self) -> dict[str, Any]:
        """Return what a client has to know.

        :raises PartFailed: the service has never been started
        """
        try:
            found: dict[str, Any] = json.loads(self._settings.read_text())
        except FileNotFoundError:
            raise processes.PartFailed(f'no {self.name} was started in {self.directory}') from None
        return found

    def start(self) -> None:
        """Start the service, and wait until it is ready; do nothing if it runs.

        :raises PartFailed: the service is not installed, ended, or is not ready in time
        """
        raise NotImplementedError

    def stop(self) -> None:
        """End the service, and keep its data; do nothing if it does not run."""
        self._process.end(signal.SIGTERM, timeout=20)

    def kill(self) -> None:
        """Kill the service (SIGKILL)."""
        self._process.end(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP.

        :raises PartFailed: the service does not run
        """
        pid = self.pid
        if pid is None:
            raise processes.PartFailed(f'{self.name} does not run')
        os.kill(pid, number)

    # What each service's start() is made of

    @property
    def _settings(self) -> pathlib.Path:
        return self.directory / 'settings.json'

    def _save(self, **settings: Any) -> None:
        new = self._settings.with_suffix('.new')
        new.write_text(json.dumps(settings, indent=1) + '\n')
        new.rename(self._settings)

    def _command(self, *arguments: str | os.PathLike[str]) -> Command:
        """Return the command line of the module beside this one that serves."""
        return [_python(), '-W', 'ignore', '-m', f'sandbox.{self.name}_process', *arguments]

    def _run(self, command: Sequence[str | os.PathLike[str]]) -> None:
        """Run a command to its end, with its output in the log.

        :raises PartFailed: its exit code is not 0
        """
        self._process.start(command, _environment())
        if self._process.wait_end(120) != 0:
            raise processes.PartFailed(f'{command} failed; the end of {self.log}:\n{processes.tail(self.log, 30)}')

    def _serve(
        self, command: Command, ready: Callable[[], object], more: Mapping[str, str] | None = None, timeout: float = 120
    ) -> None:
        """Start the service, and wait until ``ready`` returns a true value; a service that cannot is stopped."""
        self._process.start(command, {**_environment(), **(more or {})})
        try:
            self._process.wait_ready(ready, timeout)
        except BaseException:
            self.kill()
            raise

    def _answers(self, path: str = '/') -> bool:
        """Return whether the service answers at all."""
        try:
            rest.call('GET', f'http://{self.address}{path}', timeout=10)
        except OSError:
            return False
        return True


def database(path: pathlib.Path) -> str:
    """Return the options of a SQLite database that the threads of one process share."""
    connection = sqlite3.connect(path)
    try:
        connection.execute('PRAGMA journal_mode=WAL')
    finally:
        connection.close()
    return f'[database]\nconnection = sqlite:///{path}?timeout=30\nsqlite_synchronous = false\n'


def _python() -> pathlib.Path:
    python = venv('clouds-venv') / 'bin' / 'python'
    if not python.exists():
        raise processes.PartFailed(f'{python} does not exist: run tools/run-tests cloud, which installs the services')
    return python


def _environment() -> dict[str, str]:
    """Return the environment of a service, whose own programs are beside its interpreter."""
    path = f'{_python().parent}:{os.environ["PATH"]}'
    return {**os.environ, 'PYTHONPATH': str(_PROJECT), 'PYTHONUNBUFFERED': '1', 'PATH': path}
