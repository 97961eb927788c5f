# SPDX-License-Identifier: Apache-2.0
"""Attach and detach of a SCSI disk on a booted guest: ours from cast to outcome, over RabbitMQ with the journal on.

The bare contender makes the same three libvirt calls in this process, and waits for the event. A third one makes them
in a bare server behind the same broker: what lies between it and the first is the way of a message, and between it and
ours the journal, the checks and the log. Ours has ended when the outcome is in the journal. After each half both
definitions are looked at, and must have the device, or not, as after the bare calls.
"""

import contextlib
import statistics
import time
from collections.abc import Callable

from aliasagent.tests.stress.bench import Bench
from benchmarks import bare_service
from benchmarks import disks
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from sandbox import environment
from sandbox import guest as guests
from sandbox import processes as parts

TITLE = 'Attach and detach of a SCSI disk on a booted guest, cast to outcome'
#: Pairs in a turn, of which the median counts.
_PAIRS = 5
_SECONDS = 60
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
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(Bench(0, options=disks.OPTIONS))
        server = stack.enter_context(
            processes.Bare(bench.directory / 'bare', rabbit_url=bench.rabbit_url, libvirt_uri=bench.daemon.uri)
        )
        transport = bare_service.transport(server.url)
        stack.callback(transport.cleanup)
        client = bare_service.client(transport, server.host, _SECONDS)
        guest = guests.TestGuest(bench.connection, bench.directory, environment.read().guest_image, spare_ports=2)
        guest.start().wait_ready(180)
        with disks.watching(bench) as (watch, bare):
            volume = disks.Volume(*bench.new_volume())
            domain, xml, alias = bench.domain(guest.uuid), volume.xml, f'ua-{volume.id}'
            empty = disks.texts(bench, guest.uuid)

            def pairs(attach: Callable[[], None], detach: Callable[[], None]) -> Sample:
                spent, outcomes = [], []
                for _ in range(_PAIRS):
                    spent.append(0.0)
                    for half in (attach, detach):
                        begin = time.monotonic()
                        half()
                        spent[-1] += time.monotonic() - begin
                        outcomes.append(
                            [text.count(f"<alias name='{alias}'/>") for text in disks.texts(bench, guest.uuid)]
                        )
                return Sample(statistics.median(spent), outcomes)

            def ours(half: str, cast: Callable[[Bench, str, disks.Volume], str]) -> None:
                sent = time.time()
                operation = cast(bench, guest.uuid, volume)
                watch.wait(operation)
                stages.add(half, sent, time.time(), watch.stages(operation))

            def our_turn() -> Sample:
                return pairs(lambda: ours('attach', disks.cast_attach), lambda: ours('detach', disks.cast_detach))

            def behind_broker(method: str, **arguments: str) -> None:
                before = server.said(bare_service.DONE)
                client.cast({}, method, guest=guest.uuid, **arguments)
                parts.wait_until(lambda: server.said(bare_service.DONE) > before, _SECONDS, 'the server', disks.LOOK)

            contenders: dict[str, harness.Turn] = {
                harness.OURS: our_turn,
                'bare': lambda: pairs(
                    lambda: bare.attach(domain, xml), lambda: bare.detach(guest.uuid, domain, alias)
                ),
                'bare, behind the broker': lambda: pairs(
                    lambda: behind_broker('attach', xml=xml), lambda: behind_broker('detach', alias=alias)
                ),
            }  # fmt: skip
            samples = harness.take_turns(setting.rounds, contenders)
            result.notes += stages.words()
            if disks.texts(bench, guest.uuid) != empty:
                raise harness.Differs('the guest is not as it was')
            result.profile = processes.profiled(bench.agent, lambda: [our_turn() for _ in range(4)])
        guest.destroy()
    comparison = Comparison('attach and detach', 's', samples)
    result.comparisons.append(comparison)
    result.aims += [
        harness.aim(f'at most {bound} times {other}', comparison.ratio(other), bound, bounded_by=_BOUND)
        for other, bound in (('bare, behind the broker', 1.06), ('bare', 1.12))
    ]
    return result
