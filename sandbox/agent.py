# SPDX-License-Identifier: Apache-2.0
"""Runs the agent as a separate process."""

import ctypes
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Sequence

from aliasagent.allowed.rules import Bounds
from sandbox import processes
from sandbox import unprivileged

#: Options of a group, by name.
Options = dict[str, dict[str, object]]


class Agent:
    """An ``aliasagent-compute`` process.

    :param directory: has the configuration, log and journal; a second agent with the same directory resumes the work
    :param host: the host name of the agent
    :param options: more options, by group
    :param module: the module to run: the entry point of the agent, or a module that wraps it
    :param groups: run without root, as a member of these groups; None to run as the current user
    :param inside: makes of a command line the one that runs it elsewhere, such as in the namespaces of a libvirtd
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        host: str,
        rabbit_url: str,
        libvirt_uri: str,
        options: Options | None = None,
        environment: dict[str, str] | None = None,
        module: str = 'aliasagent.cmd.compute',
        groups: Sequence[int] | None = None,
        inside: Callable[..., list[str | os.PathLike[str]]] | None = None,
    ) -> None:
        self.directory = directory
        self.host = host
        self.environment = environment or {}
        self.module = module
        self._groups = groups
        self._inside = inside
        self.config = directory / 'aliasagent.conf'
        self.journal = directory / 'journal.sqlite'
        self._process = processes.Process('agent', directory)
        self.options: Options = {
            'DEFAULT': {'host': host, 'transport_url': rabbit_url, 'debug': True},
            'libvirt': {'uri': libvirt_uri, 'reconnect_interval': 0.2},
            'operations': {'journal': str(self.journal)},
            'reconcile': {'save_directory': str(directory / 'save')},
            # The tests have disks in any directory; other tests check what the agent refuses.
            'allowed': {kind: ', '.join(patterns) for kind, patterns in vars(Bounds.everything()).items()},
        }
        for group, values in (options or {}).items():
            self.options.setdefault(group, {}).update(values)

    @property
    def log(self) -> pathlib.Path:
        """The log of all its runs."""
        return self._process.log

    @property
    def pid(self) -> int | None:
        """The process id; None while the agent does not run."""
        return self._process.pid

    def write_config(self) -> None:
        """Write ``options`` to the configuration file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = []
        for group, values in self.options.items():
            lines.append(f'[{group}]')
            lines.extend(f'{name} = {value}' for name, value in values.items())
        self.config.write_text('\n'.join(lines) + '\n')
        self.config.chmod(0o600)
        if self._groups is not None:
            for path in (self.directory, self.config):
                os.chown(path, unprivileged.USER, unprivileged.GROUP)

    def start(self, timeout: float = 60, interval: float = 0.1) -> None:
        """Start the agent, and wait until it listens.

        :param interval: seconds between two looks
        :raises PartFailed: the agent ended or does not listen in time; the error includes the end of the log
        """
        self.begin()
        self.wait_said('Ready: serving host', timeout, interval)

    def begin(self) -> None:
        """Start the agent without waiting."""
        self.write_config()
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, '-m', self.module, '--config-file', str(self.config)]
        if self._groups is not None:
            scratch = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
            command = unprivileged.command(command, scratch, *self._groups)
        self._process.start(
            command if self._inside is None else self._inside(*command),
            environment={**os.environ, 'PYTHONUNBUFFERED': '1', **self.environment},
        )

    def wait_said(self, words: str, timeout: float = 60, interval: float = 0.1) -> None:
        """Wait until the log since the last start contains a text.

        :param interval: seconds between two looks
        :raises PartFailed: the agent ended, or the timeout has expired
        """
        self._process.wait_ready(lambda: words in self.said(), timeout, interval)

    def said(self) -> str:
        """Return the log since the last start."""
        with self.log.open('rb') as log:
            log.seek(self._said_before)
            return log.read().decode(errors='replace')

    def stop(self, timeout: float = 30) -> None:
        """Stop the agent with SIGTERM."""
        self._process.end(signal.SIGTERM, timeout)

    def wait_end(self, timeout: float = 30) -> int:
        """Wait until the agent ends, and return its exit code.

        :raises PartFailed: the agent still runs after ``timeout`` seconds.
        """
        return self._process.wait_end(timeout)

    def kill(self) -> None:
        """Kill the agent with SIGKILL."""
        self._process.end(signal.SIGKILL)

    def signal(self, number: signal.Signals, *, main: bool = True) -> None:
        """Send a signal to the agent; without ``main``, to its newest thread."""
        pid = self.pid
        if pid is None:
            raise processes.PartFailed('the agent does not run')
        if main:
            os.kill(pid, number)
            return
        thread = max(int(path.name) for path in pathlib.Path('/proc', str(pid), 'task').iterdir())
        if thread == pid:
            raise processes.PartFailed('the agent has one thread only')
        # Python has no tgkill for another process
        if ctypes.CDLL(None, use_errno=True).tgkill(pid, thread, int(number)) != 0:
            raise processes.PartFailed(f'tgkill: {os.strerror(ctypes.get_errno())}')
