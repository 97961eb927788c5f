# SPDX-License-Identifier: Apache-2.0
"""Threads that take turns, and time that passes only when all of them wait.

A task is a greenlet. It runs until it waits for something; then the scheduler chooses another one that can go on, by
the seed. If none can, the clock is set to the moment of the next timer.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

import greenlet

#: What the clock of a history shows at its begin, in seconds since the epoch.
EPOCH = 1_800_000_000.0
#: How often, of 100 times, another task than the one that waits longest goes on.
_OUT_OF_TURN = 25


class Killed(BaseException):  # noqa: N818
    """The process that this task belongs to was killed."""


class Life:
    """A process: its tasks, which end with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.tasks: dict[Task, None] = {}


class Task:
    """One thread of a process."""

    def __init__(self, scheduler: 'Scheduler', function: Callable[[], object], life: Life) -> None:
        self.scheduler = scheduler
        self.life = life
        self.ended = False
        #: Those that wait for this task to end.
        self.joiners: list[Task] = []
        self._function = function
        self.greenlet = greenlet.greenlet(self._run, scheduler.hub)
        #: Changes with each wait, so that a timer of an earlier one is void.
        self.wait_number = 0
        self.waiting = False
        #: What a test's part may keep with a thread.
        self.notes: dict[str, Any] = {}

    def _run(self) -> None:
        try:
            self._function()
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001 - judged by whoever runs the history
            self.scheduler.crashes.append((self.life.name, error))
        finally:
            self.ended = True
            self.life.tasks.pop(self, None)
            for joiner in self.joiners:
                self.scheduler.wake(joiner)


class Scheduler:
    """Runs the tasks of a history."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.world = Life('world')
        self.current: Task | None = None
        #: What ended tasks that should not have ended so: the name of the process, and the exception.
        self.crashes: list[tuple[str, Exception]] = []
        #: How often tasks have taken turns: what has no end is seen by it.
        self.turns = 0
        self._stamps = 0
        self._random = random.Random(seed)
        self._lives: set[Life] = {self.world}
        self._ready: list[Task] = []
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0
        #: Where tasks go back to.
        self.hub: Any = greenlet.getcurrent()

    def stamp(self) -> float:
        """The time, a little later each time that it is asked for: what came first can be told."""
        self._stamps += 1
        return self.now + self._stamps * 1e-9

    # For tasks

    def spawn(self, function: Callable[[], object], life: Life | None = None) -> Task:
        """Start a task, of the process of the running one if none is named."""
        if life is None:
            life = self.world if self.current is None else self.current.life
        task = Task(self, function, life)
        if life.dead:
            task.ended = True
            return task
        self._lives.add(life)
        life.tasks[task] = None
        self._ready.append(task)
        return task

    def at(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function in so many seconds, outside of all tasks: it must not wait."""
        self._number += 1
        heapq.heappush(self._timers, (self.now + seconds, self._number, function))

    def later(self, seconds: float, function: Callable[[], object], life: Life | None = None) -> None:
        """Start a task in so many seconds."""
        self.at(seconds, lambda: self.spawn(function, life or self.world))

    def wait(self, timeout: float | None = None) -> None:
        """Let others go on until :meth:`wake`, or until so many seconds have passed."""
        task = self.current
        assert task is not None, 'only a task can wait'
        if task.life.dead:
            raise Killed
        task.wait_number += 1
        task.waiting = True
        if timeout is not None:
            number = task.wait_number
            self.at(max(0.0, timeout), lambda: self._time_out(task, number))
        self.hub.switch()
        if task.life.dead:
            raise Killed

    def _time_out(self, task: Task, number: int) -> None:
        if task.wait_number == number:
            self.wake(task)

    def wake(self, task: Task) -> None:
        """Let a task go on that waits."""
        if task.waiting:
            task.waiting = False
            self._ready.append(task)

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        end = self.now + seconds
        while True:
            self.wait(end - self.now)
            if self.now >= end:
                return

    def latency(self, most: float) -> None:
        """Wait for as long as the way to another process may take."""
        self.sleep(self._random.random() * most)

    def chance(self, of_hundred: int) -> bool:
        """Whether something happens that happens so often of 100 times."""
        return self._random.random() * 100 < of_hundred

    def kill(self, life: Life) -> None:
        """End a process where it stands. If it is that of the running task, this does not return."""
        life.dead = True
        me, others = self.current, list(life.tasks)
        for task in others:
            if task is not me and not task.ended:
                self._end(task)
        self._ready = [task for task in self._ready if not task.life.dead]
        if me is not None and me.life is life:
            raise Killed

    def end(self) -> None:
        """End all tasks of all processes."""
        for life in list(self._lives):
            life.dead = True
            for task in list(life.tasks):
                self._end(task)

    def _end(self, task: Task) -> None:
        before, self.current = self.current, task
        task.greenlet.parent = greenlet.getcurrent()
        if task.greenlet:
            task.greenlet.throw(Killed)
        else:
            task.ended = True
        self.current = before

    # For whoever runs the history

    def run(self, until: float, done: Callable[[], bool], most_turns: int = 1_000_000) -> bool:
        """Let tasks run until something is true, at most until the clock shows so much; whether it became true."""
        while not done():
            if self._ready:
                self._turn()
                if self.turns > most_turns:
                    return False
            elif self._timers and self._timers[0][0] <= until:
                self.now, _, function = heapq.heappop(self._timers)
                function()
            else:
                return done()
        return True

    def _turn(self) -> None:
        self.turns += 1
        number = 0
        if len(self._ready) > 1 and self.chance(_OUT_OF_TURN):
            number = self._random.randrange(len(self._ready))
        task = self._ready.pop(number)
        if task.ended or task.life.dead:
            return
        self.current = task
        task.greenlet.switch()
        self.current = None
