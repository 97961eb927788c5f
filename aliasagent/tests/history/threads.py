# SPDX-License-Identifier: Apache-2.0
"""The parts of threading, concurrent.futures, queue and time that the agent uses, on a :class:`Scheduler`.

Each class has the names and the meaning of the standard library's. They find the scheduler of the history that runs by
:func:`scheduler`.
"""

import collections
import time
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures
from typing import Any
from typing import Self

from aliasagent.tests.history.scheduler import EPOCH
from aliasagent.tests.history.scheduler import Killed
from aliasagent.tests.history.scheduler import Life
from aliasagent.tests.history.scheduler import Scheduler
from aliasagent.tests.history.scheduler import Task

_running: list[Scheduler] = []


def scheduler() -> Scheduler:
    """The scheduler of the history that runs."""
    return _running[-1]


def begin(one: Scheduler) -> None:
    """Have what is below use this scheduler."""
    _running[:] = [one]


def _current() -> Task:
    task = scheduler().current
    assert task is not None
    return task


def _is_dead() -> bool:
    task = scheduler().current
    return task is not None and task.life.dead


def _wait_in(waiters: 'collections.deque[Task]', timeout: float | None) -> None:
    task = _current()
    waiters.append(task)
    try:
        scheduler().wait(timeout)
    finally:
        if task in waiters:
            waiters.remove(task)


def _wait_until(waiters: 'collections.deque[Task]', is_true: Callable[[], bool], timeout: float | None) -> bool:
    """Wait among others until something is true; False if it does not become so in time."""
    if is_true():
        return True
    if timeout is not None and timeout <= 0:
        return False
    end = None if timeout is None else scheduler().now + timeout
    while not is_true():
        left = None if end is None else end - scheduler().now
        if left is not None and left <= 0:
            return False
        _wait_in(waiters, left)
    return True


class Lock:
    """threading.Lock, and RLock if ``again`` is set."""

    again = False

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._count = 0
        self._waiters: collections.deque[Task] = collections.deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        task = _current()
        if self._owner is None or (self.again and self._owner is task) or task.life.dead:
            self._owner = task
            self._count += 1
            return True
        if not blocking:
            return False
        if not _wait_until(self._waiters, lambda: self._owner is None, None if timeout < 0 else timeout):
            return False
        self._owner, self._count = task, 1
        return True

    def release(self) -> None:
        if _is_dead():
            self._owner, self._count = None, 0
            return
        assert self._owner is not None, 'release of a lock that is not held'
        self._count -= 1
        if self._count == 0:
            self._owner = None
            if self._waiters:
                scheduler().wake(self._waiters[0])

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    again = True


class Condition:
    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiters: collections.deque[Task] = collections.deque()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        task = _current()
        self._waiters.append(task)
        owner, count = self._lock._owner, self._lock._count
        self._lock._count = 1
        self._lock.release()
        try:
            scheduler().wait(timeout)
        finally:
            timed_out = task in self._waiters
            if timed_out:
                self._waiters.remove(task)
            self._lock.acquire()
            self._lock._owner, self._lock._count = owner, count
        return not timed_out

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else scheduler().now + timeout
        while not (result := predicate()):
            left = None if end is None else end - scheduler().now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        for _ in range(min(n, len(self._waiters))):
            scheduler().wake(self._waiters.popleft())

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class Event:
    def __init__(self) -> None:
        self._set = False
        self._times = 0
        self._waiters: collections.deque[Task] = collections.deque()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._times += 1
        for task in self._waiters:
            scheduler().wake(task)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        # One that is set and cleared again meanwhile has been set.
        before = self._times
        return _wait_until(self._waiters, lambda: self._set or self._times != before, timeout)


class Semaphore:
    def __init__(self, value: int = 1) -> None:
        self._value = value
        self._waiters: collections.deque[Task] = collections.deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if not blocking and self._value <= 0:
            return False
        if not _wait_until(self._waiters, lambda: self._value > 0, timeout):
            return False
        self._value -= 1
        return True

    def release(self, n: int = 1) -> None:
        self._value += n
        for task in self._waiters:
            scheduler().wake(task)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Barrier:
    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._there = 0
        self._waiters: collections.deque[Task] = collections.deque()

    def wait(self, timeout: float | None = None) -> int:
        number = self._there
        self._there += 1
        if self._there >= self._parties:
            for task in self._waiters:
                scheduler().wake(task)
        _wait_until(self._waiters, lambda: self._there >= self._parties, timeout)
        return number


class Thread:
    _main: 'Thread | None' = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name, self.daemon = name or 'thread', daemon
        self._target, self._args, self._kwargs = target, tuple(args), kwargs or {}
        self._task: Task | None = None

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        self._task = scheduler().spawn(self.run)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.ended

    def join(self, timeout: float | None = None) -> None:
        task = self._task
        if task is None or task.ended or task is scheduler().current:
            return
        end = None if timeout is None else scheduler().now + timeout
        while not task.ended:
            left = None if end is None else end - scheduler().now
            if left is not None and left <= 0:
                return
            task.joiners.append(_current())
            scheduler().wait(left)


class Timer(Thread):
    def __init__(self, interval: float, function: Callable[..., object], args: Any = None, kwargs: Any = None) -> None:
        super().__init__(target=function, args=args or (), kwargs=kwargs)
        self._interval, self._cancelled = interval, False

    def run(self) -> None:
        scheduler().sleep(self._interval)
        if not self._cancelled:
            super().run()

    def cancel(self) -> None:
        self._cancelled = True


class Local:
    """threading.local: what each thread keeps for itself."""

    def __getattribute__(self, name: str) -> Any:
        notes = _current().notes.get(id(self), {})
        if name == '__dict__':
            return notes
        if name in notes:
            return notes[name]
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _current().notes.setdefault(id(self), {})[name] = value  # type: ignore[arg-type]

    def __delattr__(self, name: str) -> None:
        try:
            del _current().notes.get(id(self), {})[name]  # type: ignore[arg-type]
        except KeyError:
            raise AttributeError(name) from None


_MAIN, _OTHER = Thread(name='main'), Thread(name='task')


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
        self._life = self._life or _current().life
        if self._running < self._most:
            self._running += 1
            scheduler().spawn(lambda: self._work(future, lambda: function(*args, **kwargs)), self._life)
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
                scheduler().wake(task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        if cancel_futures:
            while self._waiting:
                self._waiting.popleft()[0].cancel()
        if wait and not _is_dead():
            _wait_until(self._idle, lambda: self._running == 0, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def wait(fs: Iterable[Any], timeout: float | None = None, return_when: str = futures.ALL_COMPLETED) -> Any:
    """concurrent.futures.wait."""
    all_of = list(fs)
    waiters: collections.deque[Task] = collections.deque()
    enough = len(all_of) if return_when == futures.ALL_COMPLETED else 1
    for future in all_of:
        future.add_done_callback(lambda _future: [scheduler().wake(task) for task in waiters])
    _wait_until(waiters, lambda: sum(future.done() for future in all_of) >= enough, timeout)
    done = {future for future in all_of if future.done()}
    return done, set(all_of) - done


_real_result, _real_exception = futures.Future.result, futures.Future.exception


def _await(future: Any, timeout: float | None) -> None:
    if not future.done() and _running and scheduler().current is not None:
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
            scheduler().wake(self._waiters[0])

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not _wait_until(self._waiters, lambda: bool(self._items), timeout if block else 0):
            raise Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


def now() -> float:
    """time.time."""
    return EPOCH + (scheduler().now if _running else 0.0)


def monotonic() -> float:
    """time.monotonic."""
    return 1000.0 + scheduler().now if _running else time.monotonic()


def sleep(seconds: float) -> None:
    """time.sleep."""
    scheduler().sleep(seconds)


def current_thread() -> Thread:
    return _OTHER


def main_thread() -> Thread:
    return _MAIN
