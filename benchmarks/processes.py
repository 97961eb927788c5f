# SPDX-License-Identifier: Apache-2.0
"""Processes next to the agent, and what a process costs."""

import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Self

from sandbox import processes
from sandbox.agent import Agent

_PROJECT = pathlib.Path(__file__).parents[1]
#: Seconds until a signal has reached the agent's main thread for certain.
_TO_BEGIN = 1.0
_ENVIRONMENT = {
    'PYTHONWARNINGS': 'ignore',
    'PYTHONPATH': os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get('PYTHONPATH')])),
}


def bytecode(directory: pathlib.Path) -> dict[str, str]:
    """An environment in which Python keeps the bytecode of all modules, in this directory: from the second start on."""
    return {'PYTHONDONTWRITEBYTECODE': '', 'PYTHONPYCACHEPREFIX': str(directory)}


class Bare:
    """The bare service (:mod:`benchmarks.bare_service`) as a process of its own; a context manager.

    :param environment: variables that are added to those of this process.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        rabbit_url: str,
        libvirt_uri: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.host = directory.name
        self.url = rabbit_url
        self._environment = environment or {}
        self._libvirt = [] if libvirt_uri is None else ['--libvirt', libvirt_uri]
        directory.mkdir(parents=True, exist_ok=True)
        self._process = processes.Process('bare', directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.kill()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def start(self, interval: float = 0.1) -> None:
        """Start it, and wait until it listens.

        :param interval: seconds between two looks.
        :raises PartFailed: it ended.
        """
        before = self._process.log.stat().st_size if self._process.log.exists() else 0
        self._process.start(
            [sys.executable, '-m', 'benchmarks.bare_service', '--url', self.url, '--host', self.host, *self._libvirt],
            environment={**os.environ, **_ENVIRONMENT, 'PYTHONUNBUFFERED': '1', **self._environment},
        )
        self._process.wait_ready(lambda: b'ready\n' in self._process.log.read_bytes()[before:], 60, interval)

    def kill(self) -> None:
        self._process.end(signal.SIGKILL)

    def said(self, word: str) -> int:
        """How often it has said a word in a line of its own."""
        return self._process.log.read_bytes().split(b'\n').count(word.encode())


def cpu_seconds(pid: int) -> float:
    """The CPU that the threads of a process have used, by the scheduler's own account."""
    used = 0
    for task in pathlib.Path('/proc', str(pid), 'task').iterdir():
        used += int((task / 'schedstat').read_text().split()[0])
    return used / 1e9


def cpu_of_programs(own: Mapping[int, str]) -> dict[tuple[str, int], float]:
    """The CPU seconds of this machine's processes so far, by program and pid.

    :param own: what to call some of them, by pid. The kernel's own threads, which change their names with their work,
        are all called ``kernel``.
    """
    used: dict[tuple[str, int], float] = {}
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        pid = int(process.name)
        try:
            is_kernel = not (process / 'cmdline').read_bytes()
            name = own.get(pid) or ('kernel' if is_kernel else (process / 'comm').read_text().strip())
            used[name, pid] = cpu_seconds(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return used


def resident_bytes(pid: int) -> int:
    """The memory that a process holds (``VmRSS``)."""
    for line in pathlib.Path('/proc', str(pid), 'status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    raise processes.PartFailed(f'process {pid} is gone')


def profiled(agent: Agent, work: Callable[[], object]) -> str:
    """Start an agent anew under a profiler, have it work, and say where its CPU went.

    :raises PartFailed: it does not write its profile.
    """
    path = agent.directory / 'profile.txt'
    path.unlink(missing_ok=True)
    before = agent.module, agent.environment
    agent.stop()
    agent.module = 'benchmarks.profiled_agent'
    agent.environment = {**_ENVIRONMENT, 'ALIASAGENT_BENCH_PROFILE': str(path)}
    agent.start()
    agent.signal(signal.SIGUSR1)
    time.sleep(_TO_BEGIN)
    work()
    agent.signal(signal.SIGUSR1)
    processes.wait_until(path.exists, 30, 'the profile to be written')
    agent.stop()
    agent.module, agent.environment = before
    return path.read_text().strip()
