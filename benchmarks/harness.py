# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: contenders that take turns, what they were measured at, and what was aimed for."""

import contextlib
import cProfile
import dataclasses
import gc
import io
import os
import pstats
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from benchmarks import figures
from benchmarks.nova import Nova

#: Us, in every benchmark.
OURS = 'ours'
#: How many functions a profile shows.
_PROFILED = 25


class Differs(Exception):
    """Two contenders did not do the same work, so they cannot be compared."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One turn of one contender."""

    value: float
    #: What came of the work; the same for all contenders.
    outcome: object = None


Turn = Callable[[], Sample]


@dataclasses.dataclass
class Comparison:
    """One piece of work, and what each contender was measured at, turn by turn."""

    name: str
    #: ``s`` is less the better; whatever is per second is more the better.
    unit: str
    samples: dict[str, list[float]]
    #: In which curve this is a point, and where.
    curve: str | None = None
    at: int | None = None
    along: str = ''

    def summary(self, contender: str) -> figures.Summary:
        return figures.summary(self.samples[contender])

    def has_ratio(self, other: str) -> bool:
        """Whether ours can be told in multiples of the other, of which a sample may be 0."""
        return OURS in self.samples and other != OURS and all(self.samples[other])

    def ratio(self, other: str, ours: str = OURS) -> figures.Summary:
        return figures.ratio(self.samples[ours], self.samples[other])


@dataclasses.dataclass(frozen=True)
class Aim:
    """A number that was set as an aim, and what it came to."""

    words: str
    value: float
    #: The quartiles of the value.
    low: float
    high: float
    bound: float
    at_most: bool = True
    #: What bounds it, if it is missed and that is known.
    bounded_by: str = ''

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def missed_by(self) -> float:
        """How far it is missed, as a share of the bound; 0 if it is met."""
        return 0.0 if self.met else abs(self.value - self.bound) / self.bound


def aim(words: str, found: figures.Summary, bound: float, *, at_most: bool = True, bounded_by: str = '') -> Aim:
    """An aim for a ratio or another summed-up value."""
    return Aim(words, found.median, found.low, found.high, bound, at_most, bounded_by)


def counted(words: str, value: float, bound: float) -> Aim:
    """An aim for what was counted, which has no spread."""
    return Aim(words, value, value, value, bound)


@dataclasses.dataclass
class Result:
    """What a benchmark found."""

    comparisons: list[Comparison]
    aims: list[Aim]
    notes: list[str] = dataclasses.field(default_factory=list)
    #: Where the time goes on our side.
    profile: str = ''


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a benchmark is to be run.

    :param rounds: how often each contender has its turn.
    :param python: the interpreter of an environment with Nova in it; None to go without Nova.
    :param say: tells whoever watches.
    """

    rounds: int
    python: str | None
    say: Callable[[str], None] = lambda _words: None
    #: Which share of the usual work a turn has; less shows only that it runs.
    share: float = 1.0

    def repeat(self, usual: int) -> int:
        """How often to do something that is done so often as a rule."""
        return max(1, int(usual * self.share))

    def nova(self) -> Nova | None:
        """Nova, started; None to go without."""
        return None if self.python is None else Nova(self.python)


class Benchmark(Protocol):
    """What each module of a benchmark has."""

    TITLE: str

    def run(self, setting: Setting) -> Result:
        """Measure.

        :raises Differs: the contenders did not do the same work.
        """


def take_turns(rounds: int, contenders: Mapping[str, Turn], *, warm_up: bool = True) -> dict[str, list[float]]:
    """Let each contender do its work in turn, so often.

    :param warm_up: whether a first round is thrown away: it pays for what is made once.
    :raises Differs: what came of the work is not the same for all.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1 if warm_up else 0, rounds):
        outcomes: dict[str, object] = {}
        for name, turn in contenders.items():
            sample = turn()
            outcomes[name] = sample.outcome
            if number >= 0:
                samples[name].append(sample.value)
        check_same(outcomes)
    return samples


def check_same(outcomes: Mapping[str, object]) -> None:
    """:raises Differs: they are not all the same."""
    (first, expected), *others = outcomes.items()
    for name, outcome in others:
        if outcome != expected:
            raise Differs(f'{first} came to {expected!r}, {name} to {outcome!r}')


def cpu_seconds(function: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """The CPU seconds of this whole process for one call, as the mean of so many, and what the last one returned.

    Without garbage collection, as in :mod:`timeit`: it would count what lies around, not what is done.
    """
    gc.disable()
    try:
        begin = time.process_time()
        for _ in range(repeat):
            returned = function()
        return (time.process_time() - begin) / repeat, returned
    finally:
        gc.enable()


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep this thread, and the threads and processes that it starts, on one processor: two may differ in speed."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def profiled(function: Callable[[], object], repeat: int) -> str:
    """Where the time of so many calls goes, the dearest functions first."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(repeat):
        function()
    profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats('tottime').print_stats(_PROFILED)
    return text.getvalue().strip()
