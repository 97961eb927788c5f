# SPDX-License-Identifier: Apache-2.0
"""The parts of concurrent.futures and queue that the agent uses, on a :class:`Scheduler`."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures
from typing import Any
from typing import Self

from aliasagent.tests.history import threads
from aliasagent.tests.history.scheduler import Killed
from aliasagent.tests.history.scheduler import Life
from aliasagent.tests.history.scheduler import Task


class Pool:
    """concurrent.futures.ThreadPoolExecutor."""

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = '', **_: Any) -> None:
        self._most = max_workers or 8
        self._closed = False
        self._running = 0
        self._waiting: collections.deque[tuple[Any, Callable[[], Any]]] = collections.deque()
        self._life: Life | None = None
        self._idle: collections.deque[Task] = collections.deque()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> 'futures.Future[Any]':
        if self._closed:
            raise RuntimeError('cannot schedule new futures after shutdown')
        future: futures.Future[Any] = futures.Future()
        self._life = self._life or threads.current().life
        if self._running < self._most:
            self._running += 1
            threads.scheduler().spawn(lambda: self._work(future, lambda: function(*args, **kwargs)), self._life)
        else:
            self._waiting.append((future, lambda: function(*args, **kwargs)))
        return future

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None) -> Any:
        return [future.result() for future in [self.submit(function, *each) for each in zip(*iterables, strict=False)]]

    def _work(self, future: Any, function: Callable[[], Any]) -> None:
        try:
            while True:
                if future.set_running_or_notify_cancel():
                    try:
                        result = function()
                    except Killed:
                        raise
                    except BaseException as error:  # noqa: BLE001 - as the real one does
                        future.set_exception(error)
                    else:
                        future.set_result(result)
                if not self._waiting:
                    return
                future, function = self._waiting.popleft()
        finally:
            self._running -= 1
            for task in self._idle:
                threads.scheduler().wake(task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        if cancel_futures:
            while self._waiting:
                self._waiting.popleft()[0].cancel()
        if wait and not threads.is_dead():
            threads.wait_until(self._idle, lambda: self._running == 0, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def wait(fs: Iterable[Any], timeout: float | None = None, return_when: str = futures.ALL_COMPLETED) -> Any:
    """concurrent.futures.wait."""
    all_of = list(fs)
    waiters: collections.deque[Task] = collections.deque()
    enough = len(all_of) if return_when == futures.ALL_COMPLETED else 1

    def wake(_future: Any) -> None:
        for task in waiters:
            threads.scheduler().wake(task)

    for future in all_of:
        future.add_done_callback(wake)
    threads.wait_until(waiters, lambda: sum(future.done() for future in all_of) >= enough, timeout)
    done = {future for future in all_of if future.done()}
    return done, set(all_of) - done


_real_result, _real_exception = futures.Future.result, futures.Future.exception


def _await(future: Any, timeout: float | None) -> None:
    if not future.done() and threads.is_running() and threads.scheduler().current is not None:
        done, _ = wait([future], timeout)
        if not done:
            raise futures.TimeoutError


def future_result(self: Any, timeout: float | None = None) -> Any:
    """Future.result, which every future has while a history runs: some are made by classes that knew the real one."""
    _await(self, timeout)
    return _real_result(self, timeout)


def future_exception(self: Any, timeout: float | None = None) -> Any:
    """Future.exception."""
    _await(self, timeout)
    return _real_exception(self, timeout)


class Empty(Exception):
    """queue.Empty."""


class Queue:
    """queue.Queue and queue.SimpleQueue."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: collections.deque[Any] = collections.deque()
        self._waiters: collections.deque[Task] = collections.deque()

    @classmethod
    def __class_getitem__(cls, _item: object) -> type['Queue']:
        return cls

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        if self._waiters:
            threads.scheduler().wake(self._waiters[0])

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not threads.wait_until(self._waiters, lambda: bool(self._items), timeout if block else 0):
            raise Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)
