# SPDX-License-Identifier: Apache-2.0
"""Attach and detach of a SCSI disk on a booted guest: ours from cast to outcome, over RabbitMQ with the journal on.

The bare contender makes the same three libvirt calls in this process, and waits for the event. Ours has ended when the
outcome is in the journal. After each half both definitions are looked at, and must have the device, or not, as after
the bare calls.
"""

import statistics
import time

from aliasagent.tests.parts import environment
from aliasagent.tests.parts import guest as guests
from aliasagent.tests.stress.bench import Bench
from benchmarks import disks
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'Attach and detach of a SCSI disk on a booted guest, cast to outcome'
#: Pairs in a turn, of which the median counts.
_PAIRS = 5
_BOUND = (
    'the way through the broker, three transactions synced to the disk for each half, and the definitions that are '
    'read before each half and after the attach: see the stages'
)


class _Stages:
    """Where the time of ours goes, in seconds."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}

    def add(self, half: str, sent: float, seen: float, times: tuple[float, float, float]) -> None:
        accepted, begun, finished = times
        for name, seconds in (
            ('cast to accepted', accepted - sent),
            ('accepted to begun', begun - accepted),
            ('begun to finished', finished - begun),
            ('finished to seen', seen - finished),
        ):
            self.rows.setdefault(f'{half}: {name}', []).append(seconds)

    def words(self) -> list[str]:
        return [f'{name}: {statistics.median(some) * 1000:.2f} ms' for name, some in self.rows.items()]


def run(setting: Setting) -> Result:
    result = Result([], [])
    stages = _Stages()
    with Bench(0, options=disks.OPTIONS) as bench:
        guest = guests.TestGuest(bench.connection, bench.directory, environment.read().guest_image, spare_ports=2)
        guest.start().wait_ready(180)
        with disks.watching(bench) as (watch, bare):
            volume = disks.Volume(*bench.new_volume())
            domain, xml, alias = bench.domain(guest.uuid), volume.xml, f'ua-{volume.id}'
            empty = disks.texts(bench, guest.uuid)

            def check(outcomes: list[object]) -> None:
                outcomes.append([text.count(f"<alias name='{alias}'/>") for text in disks.texts(bench, guest.uuid)])

            def ours() -> Sample:
                pairs, outcomes = [], list[object]()
                for _ in range(_PAIRS):
                    spent = 0.0
                    for half, cast in (('attach', disks.cast_attach), ('detach', disks.cast_detach)):
                        sent, begin = time.time(), time.monotonic()
                        operation = cast(bench, guest.uuid, volume)
                        watch.wait(operation)
                        spent += time.monotonic() - begin
                        stages.add(half, sent, time.time(), watch.stages(operation))
                        check(outcomes)
                    pairs.append(spent)
                return Sample(statistics.median(pairs), outcomes)

            def theirs() -> Sample:
                pairs, outcomes = [], list[object]()
                for _ in range(_PAIRS):
                    begin = time.monotonic()
                    bare.attach(domain, xml)
                    attached = time.monotonic()
                    check(outcomes)
                    again = time.monotonic()
                    bare.detach(guest.uuid, domain, alias)
                    pairs.append(time.monotonic() - again + attached - begin)
                    check(outcomes)
                return Sample(statistics.median(pairs), outcomes)

            samples = harness.take_turns(setting.rounds, {harness.OURS: ours, 'bare': theirs})
            result.notes += stages.words()
            if disks.texts(bench, guest.uuid) != empty:
                raise harness.Differs('the guest is not as it was')
            result.profile = processes.profiled(bench.agent, lambda: [ours() for _ in range(4)])
        guest.destroy()
    comparison = Comparison('attach and detach', 's', samples)
    result.comparisons.append(comparison)
    result.aims.append(harness.aim('at most 1.10 times bare', comparison.ratio('bare'), 1.10, bounded_by=_BOUND))
    return result
