# SPDX-License-Identifier: Apache-2.0
"""Runs a real Nova in a process and an environment of its own, on a private libvirtd."""

import json
import os
import pathlib
import signal
import subprocess
import threading
from typing import Any
from typing import Self

from sandbox import guest_image
from sandbox import processes
from sandbox import service

_PROJECT = pathlib.Path(__file__).parents[1]

#: The interpreter of the environment that tools/run-tests and tools/bench make.
PYTHON = service.venv('nova-venv') / 'bin' / 'python'


class NovaFailed(Exception):
    """Nova did not start, or failed at a request."""


class Nova:
    """API, scheduler, conductor and compute of Nova; a context manager.

    :param directory: for the files of Nova and its guests
    :param uri: the libvirtd
    """

    def __init__(self, directory: pathlib.Path, uri: str, image: guest_image.GuestImage) -> None:
        self.directory = directory.resolve()
        self._uri = uri
        self._image = image
        self._lock = threading.Lock()

    @property
    def log(self) -> pathlib.Path:
        """The log of all its services."""
        return self.directory / 'nova.log'

    def __enter__(self) -> Self:
        if not PYTHON.exists():
            raise processes.PartFailed(f'{PYTHON} does not exist: run tools/run-tests integration, which installs Nova')
        self.directory.mkdir(parents=True, exist_ok=True)
        self._output = (self.directory / 'nova.output').open('w+')
        files = (self.directory, self._uri, self._image.kernel, self._image.initramfs)
        self._process = subprocess.Popen(
            [PYTHON, '-W', 'ignore', '-m', 'sandbox.nova_process', *files],
            cwd=_PROJECT,
            # as nova-compute itself does it, but Nova's tests do not by default
            env={**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
        )
        try:
            self._answer('its start')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_raised: object) -> None:
        # NOTE: not at the end of its input: the services would take long to stop, and nothing of them is kept.
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._output.close()

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of :class:`sandbox.nova_process.Requests`, and return what it returns.

        :raises NovaFailed: with the traceback
        """
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps([method, arguments]) + '\n')
                self._process.stdin.flush()
            except BrokenPipeError:
                pass  # reading tells why
            return self._answer(method)

    def _answer(self, method: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NovaFailed(f'Nova ended at {method}: {processes.tail(pathlib.Path(self._output.name), 30)}')
        outcome, value = json.loads(line)
        if outcome == 'failed':
            raise NovaFailed(f'{method}: {value}')
        return value
