# SPDX-License-Identifier: Apache-2.0
"""Attach and detach of a SCSI disk on 1, 4 and 16 guests at once, next to bare threads, one per guest.

The guests run and have no operating system: 16 booted ones would keep this machine's processors busy by themselves, and
a SCSI disk goes without the guest's help. Ours gets all casts at once, for it keeps each guest's in order.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures

from aliasagent.tests.stress.bench import Bench
from benchmarks import disks
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from sandbox.agent import Agent

TITLE = 'Attach and detach on several guests at once'
#: How many guests at once, and how much of bare is the aim.
_GUESTS = {1: 0.95, 4: 0.9, 16: 0.8}
_MOST = max(_GUESTS)
#: Pairs on each guest in a turn.
_PAIRS = 4
_UNIT = 'pairs/s'
#: Of how many programs the CPU is told.
_PROGRAMS = 6
_AGENT, _BARE = 'agent', 'bare'
_BOUND = 'the same as end-to-end, on processors that the guests, libvirtd, the broker and the agent share'


class _Spent:
    """Whose CPU a pair costs: it is what the contenders run out of."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._pairs: dict[str, int] = {}
        self._seconds: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def over(self, contender: str, pairs: int) -> Iterator[None]:
        assert self._agent.pid is not None
        own = {self._agent.pid: _AGENT, os.getpid(): 'the one who asks'}
        before = processes.cpu_of_programs(own)
        yield
        used = self._seconds.setdefault(contender, {})
        for (name, pid), seconds in processes.cpu_of_programs(own).items():
            # A process that has ended meanwhile takes its CPU with it.
            used[name] = used.get(name, 0.0) + seconds - before.get((name, pid), 0.0)
        self._pairs[contender] = self._pairs.get(contender, 0) + pairs

    def words(self) -> list[str]:
        lines = []
        for contender, seconds in self._seconds.items():
            most = sorted(seconds.items(), key=lambda item: -item[1])[:_PROGRAMS]
            shares = (f'{name} {used / self._pairs[contender] * 1000:.1f} ms' for name, used in most)
            lines.append(f'{contender}, CPU of a pair: {", ".join(shares)}')
        return [*lines, f'an agent that takes no CPU at all would have {self._bound():.2f} of bare on busy processors']

    def _bound(self) -> float:
        """Bare's CPU of a pair, by ours without the agent's."""
        bare, ours = (
            sum(used for name, used in self._seconds[contender].items() if name != _AGENT) / self._pairs[contender]
            for contender in (_BARE, harness.OURS)
        )
        return bare / ours


def run(setting: Setting) -> Result:
    result = Result([], [])
    with Bench(_MOST, options=disks.OPTIONS) as bench, disks.watching(bench) as (watch, bare):
        volumes = {guest: disks.Volume(*bench.new_volume()) for guest in bench.guests}
        empty = {guest: disks.texts(bench, guest) for guest in bench.guests}
        xmls = {guest: volume.xml for guest, volume in volumes.items()}
        domains = {guest: bench.domain(guest) for guest in bench.guests}

        def unchanged(guests: list[str]) -> list[bool]:
            return [disks.texts(bench, guest) == empty[guest] for guest in guests]

        def ours(guests: list[str]) -> Sample:
            begin = time.monotonic()
            operations = [
                cast(bench, guest, volumes[guest])
                for _ in range(_PAIRS)
                for guest in guests
                for cast in (disks.cast_attach, disks.cast_detach)
            ]
            watch.wait(*operations)
            spent = time.monotonic() - begin
            return Sample(_PAIRS * len(guests) / spent, unchanged(guests))

        def bare_pairs(guest: str) -> None:
            for _ in range(_PAIRS):
                bare.attach(domains[guest], xmls[guest])
                bare.detach(guest, domains[guest], f'ua-{volumes[guest].id}')

        def theirs(guests: list[str]) -> Sample:
            with futures.ThreadPoolExecutor(len(guests)) as pool:
                begin = time.monotonic()
                list(pool.map(bare_pairs, guests))
                spent = time.monotonic() - begin
            return Sample(_PAIRS * len(guests) / spent, unchanged(guests))

        for count, bound in _GUESTS.items():
            setting.say(f'parallel on {count} ...')
            some = bench.guests[:count]
            spent = _Spent(bench.agent)

            def turn(name: str, pairs: Callable[[list[str]], Sample], some: list[str], spent: _Spent) -> Sample:
                with spent.over(name, _PAIRS * len(some)):
                    return pairs(some)

            samples = harness.take_turns(
                setting.rounds,
                {
                    name: functools.partial(turn, name, pairs, some, spent)
                    for name, pairs in ((harness.OURS, ours), (_BARE, theirs))
                },
            )
            result.notes += [f'{count} guests, {words}' for words in spent.words()]
            if not all(unchanged(bench.guests)):
                raise harness.Differs('a guest is not as it was')
            comparison = Comparison(f'{count} guests', _UNIT, samples, 'throughput', count, 'guests at once')
            result.comparisons.append(comparison)
            result.aims.append(
                harness.aim(
                    f'{count} guests: at least {bound} of bare', comparison.ratio(_BARE), bound, at_most=False,
                    bounded_by=_BOUND,
                )
            )  # fmt: skip
        result.profile = processes.profiled(bench.agent, lambda: [ours(bench.guests) for _ in range(4)])
    return result
