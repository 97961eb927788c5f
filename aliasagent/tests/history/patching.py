# SPDX-License-Identifier: Apache-2.0
"""Puts the machine's threads and clock where the agent's modules have the standard library's.

Only names in the agent's modules are changed (``threading``, ``time``, ``queue``, ``futures``, and functions of them
that a module keeps under a name of its own), and put back afterwards: no code of the agent has to know of it.
"""

import contextlib
import queue
import sys
import threading
import time
import types
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from aliasagent.tests.history import pools
from aliasagent.tests.history import threads


class _Standin(types.ModuleType):
    """A module with some of its names replaced."""

    def __init__(self, real: types.ModuleType, **names: Any) -> None:
        super().__init__(real.__name__)
        self._real = real
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


#: What has the same name in threading and in the machine's threads.
_SAME_NAMES = (
    *('Lock', 'RLock', 'Condition', 'Event', 'Semaphore', 'Barrier'),
    *('Thread', 'Timer', 'current_thread', 'main_thread'),
)
_THREADING = _Standin(
    threading,
    BoundedSemaphore=threads.Semaphore,
    local=threads.Local,
    **{name: getattr(threads, name) for name in _SAME_NAMES},
)
_TIME = _Standin(
    time, time=threads.now, monotonic=threads.monotonic, perf_counter=threads.monotonic, sleep=threads.sleep
)
_QUEUE = _Standin(queue, Queue=pools.Queue, SimpleQueue=pools.Queue, Empty=pools.Empty)
_FUTURES = _Standin(futures, ThreadPoolExecutor=pools.Pool, wait=pools.wait)
_MODULES: dict[int, Any] = {
    id(real): standin
    for real, standin in ((threading, _THREADING), (time, _TIME), (queue, _QUEUE), (futures, _FUTURES))
}
_FUNCTIONS: dict[int, Any] = {
    id(time.sleep): threads.sleep, id(time.monotonic): threads.monotonic, id(time.time): threads.now
}  # fmt: skip


def agent_modules() -> list[types.ModuleType]:
    """The modules of the agent that are loaded, and none of its tests."""
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith('aliasagent.') and not name.startswith('aliasagent.tests')
    ]


@contextlib.contextmanager
def patched(**more: Any) -> Iterator[None]:
    """Have the agent's modules use the machine's threads and clock inside.

    :param more: what else to put, by the name under which modules have it: a module, or a class.
    """
    changed: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        changed.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for module in agent_modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType):
                standin = more.get(name) if name in more else _MODULES.get(id(value))
            else:
                standin = _FUNCTIONS.get(id(value))
            if standin is not None:
                put(module, name, standin)
    put(futures.Future, 'result', pools.future_result)
    put(futures.Future, 'exception', pools.future_exception)
    try:
        yield
    finally:
        for owner, name, value in reversed(changed):
            setattr(owner, name, value)
