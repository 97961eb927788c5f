# SPDX-License-Identifier: Apache-2.0
"""Attach and detach of a SCSI disk on 1, 4 and 16 guests at once, next to bare threads, one per guest.

The guests run and have no operating system: 16 booted ones would keep this machine's processors busy by themselves, and
a SCSI disk goes without the guest's help. Ours gets all casts at once, for it keeps each guest's in order.
"""

import functools
import time
from concurrent import futures

from aliasagent.tests.stress.bench import Bench
from benchmarks import disks
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'Attach and detach on several guests at once'
_GUESTS = (1, 4, 16)
#: Pairs on each guest in a turn.
_PAIRS = 4
_UNIT = 'pairs/s'
_BOUND = 'the same as end-to-end, on processors that the guests, libvirtd, the broker and the agent share'


def run(setting: Setting) -> Result:
    result = Result([], [])
    with Bench(_GUESTS[-1], options=disks.OPTIONS) as bench, disks.watching(bench) as (watch, bare):
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

        for count in _GUESTS:
            setting.say(f'parallel on {count} ...')
            some = bench.guests[:count]
            samples = harness.take_turns(
                setting.rounds,
                {harness.OURS: functools.partial(ours, some), 'bare': functools.partial(theirs, some)},
            )
            if not all(unchanged(bench.guests)):
                raise harness.Differs('a guest is not as it was')
            comparison = Comparison(f'{count} guests', _UNIT, samples, 'throughput', count, 'guests at once')
            result.comparisons.append(comparison)
            result.aims.append(
                harness.aim(
                    f'{count} guests: at least 0.9 of bare', comparison.ratio('bare'), 0.9, at_most=False,
                    bounded_by=_BOUND,
                )
            )  # fmt: skip
        result.profile = processes.profiled(bench.agent, lambda: [ours(bench.guests) for _ in range(4)])
    return result
