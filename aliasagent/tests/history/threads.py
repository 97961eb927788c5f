# SPDX-License-Identifier: Apache-2.0
"""The parts of threading and time that the agent uses, on a :class:`Scheduler`.

Each class has the names and the meaning of the standard library's. They find the scheduler of the history that runs by
:func:`scheduler`.
"""

import collections
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from aliasagent.tests.history.scheduler import EPOCH
from aliasagent.tests.history.scheduler import Scheduler
from aliasagent.tests.history.scheduler import Task

_running: list[Scheduler] = []


def scheduler() -> Scheduler:
    """The scheduler of the history that runs."""
    return _running[-1]


def is_running() -> bool:
    """Whether a history runs."""
    return bool(_running)


def begin(one: Scheduler) -> None:
    """Have what is below use this scheduler."""
    _running[:] = [one]


def current() -> Task:
    task = scheduler().current
    assert task is not None
    return task


def is_dead() -> bool:
    task = scheduler().current
    return task is not None and task.life.dead


def _wait_in(waiters: 'collections.deque[Task]', timeout: float | None) -> None:
    task = current()
    waiters.append(task)
    try:
        scheduler().wait(timeout)
    finally:
        if task in waiters:
            waiters.remove(task)


def wait_until(waiters: 'collections.deque[Task]', is_true: Callable[[], bool], timeout: float | None) -> bool:
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
        task = current()
        if self._owner is None or (self.again and self._owner is task) or task.life.dead:
            self._owner = task
            self._count += 1
            return True
        if not blocking:
            return False
        if not wait_until(self._waiters, lambda: self._owner is None, None if timeout < 0 else timeout):
            return False
        self._owner, self._count = task, 1
        return True

    def release(self) -> None:
        if is_dead():
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
        task = current()
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
        return wait_until(self._waiters, lambda: self._set or self._times != before, timeout)


class Semaphore:
    def __init__(self, value: int = 1) -> None:
        self._value = value
        self._waiters: collections.deque[Task] = collections.deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if not blocking and self._value <= 0:
            return False
        if not wait_until(self._waiters, lambda: self._value > 0, timeout):
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
        wait_until(self._waiters, lambda: self._there >= self._parties, timeout)
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
            task.joiners.append(current())
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
        notes = current().notes.get(f'local {id(self)}', {})
        if name == '__dict__':
            return notes
        if name in notes:
            return notes[name]
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        current().notes.setdefault(f'local {id(self)}', {})[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del current().notes.get(f'local {id(self)}', {})[name]
        except KeyError:
            raise AttributeError(name) from None


_MAIN, _OTHER = Thread(name='main'), Thread(name='task')


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
