# SPDX-License-Identifier: Apache-2.0
"""The agent itself, as a process of its own."""

import ctypes
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Sequence

from aliasagent.allowed.rules import Bounds
from sandbox import processes
from sandbox import unprivileged

#: Options of a group, by name.
Options = dict[str, dict[str, object]]


class Agent:
    """An ``aliasagent-compute`` process.

    :param directory: holds its configuration, log and journal; a second agent with the same one takes up its work
    :param host: the name it is addressed by
    :param options: more options, by group
    :param module: what is run; another than the agent's own entry point is one that wraps it
    :param groups: it runs without root, as a member of these groups; None for as whoever started it
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
    ) -> None:
        self.directory = directory
        self.host = host
        self.environment = environment or {}
        self.module = module
        self._groups = groups
        self.config = directory / 'aliasagent.conf'
        self.journal = directory / 'journal.sqlite'
        self._process = processes.Process('agent', directory)
        self.options: Options = {
            'DEFAULT': {'host': host, 'transport_url': rabbit_url, 'debug': True},
            'libvirt': {'uri': libvirt_uri, 'reconnect_interval': 0.2},
            'operations': {'journal': str(self.journal)},
            'reconcile': {'save_directory': str(directory / 'save')},
            # The tests' disks are wherever the tests are; what is refused is a test of its own.
            'allowed': {kind: ', '.join(patterns) for kind, patterns in vars(Bounds.everything()).items()},
        }
        for group, values in (options or {}).items():
            self.options.setdefault(group, {}).update(values)

    @property
    def log(self) -> pathlib.Path:
        """What it said, through all its lives."""
        return self._process.log

    @property
    def pid(self) -> int | None:
        """The process id; None while it does not run."""
        return self._process.pid

    def write_config(self) -> None:
        """Write ``options`` where the agent reads them."""
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

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it listens.

        :raises PartFailed: it ended or does not get ready; the message carries the end of its log
        """
        self.begin()
        self.wait_said('Ready: serving host', timeout)

    def begin(self) -> None:
        """Start it, and do not wait."""
        self.write_config()
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, '-m', self.module, '--config-file', str(self.config)]
        if self._groups is not None:
            scratch = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
            command = unprivileged.command(command, scratch, *self._groups)
        self._process.start(
            command,
            environment={**os.environ, 'PYTHONUNBUFFERED': '1', **self.environment},
        )

    def wait_said(self, words: str, timeout: float = 60) -> None:
        """Wait until its log holds these words, said since it was started last.

        :raises PartFailed: it ended, or time is up
        """
        self._process.wait_ready(lambda: words in self.said(), timeout)

    def said(self) -> str:
        """The log since it was started last."""
        with self.log.open('rb') as log:
            log.seek(self._said_before)
            return log.read().decode(errors='replace')

    def stop(self, timeout: float = 30) -> None:
        """Have it end in its own time (SIGTERM)."""
        self._process.end(signal.SIGTERM, timeout)

    def wait_end(self, timeout: float = 30) -> int:
        """Wait until it ends, and return its exit code.

        :raises PartFailed: it is still there after ``timeout`` seconds.
        """
        return self._process.wait_end(timeout)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.end(signal.SIGKILL)

    def signal(self, number: signal.Signals, *, main: bool = True) -> None:
        """Send it a signal; without ``main``, to its youngest thread, which is not the main one."""
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
