# SPDX-License-Identifier: Apache-2.0
"""What the agent takes: time from start to ready, memory with no guests and with 1,000, CPU while nothing is asked.

The bare service has an oslo.messaging server with the same transport, and a connection to libvirt with its event loop.
Memory is looked at when the process is ready and has settled; with guests, after the first pass over them. Both
processes have the bytecode of all their modules, as a package has that pip installed.
"""

import time
import uuid
from collections.abc import Callable
from typing import Any

from aliasagent.tests.stress import reconcile_scale as scale
from aliasagent.tests.stress.bench import Bench
from benchmarks import disks
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'What the agent takes'
_GUESTS, _DEVICES = 1000, 20
#: Seconds after which a process that has started does nothing more.
_SETTLE = 2.0
#: Seconds in which the CPU of both is counted, together over all turns at least a minute.
_IDLE = 4.0
#: Seconds between two looks at whether a process is ready.
_LOOK = 0.01
_MIB = 1 << 20
#: How many times as much as the bare service the agent may take: idle, and with all guests.
_MOST, _MOST_WITH_GUESTS = 1.2, 1.3
_BOUND = "Python's modules, and what is kept of each guest: what was said of its devices at the last pass"


def run(setting: Setting) -> Result:
    result = Result([], [])
    with Bench(0, options=disks.OPTIONS, started=False) as bench:
        bytecode = processes.bytecode(bench.directory / 'bytecode')
        bench.agent.environment = bytecode
        bench.agent.start()
        bare = processes.Bare(
            bench.directory / 'bare',
            rabbit_url=bench.rabbit_url,
            libvirt_uri=bench.daemon.uri,
            environment=bytecode,
        )
        with bare:
            _started(setting, bench, bare, result, '')
            _idle(setting, bench, bare, result)
            setting.say(f'footprint: defining {_GUESTS} guests ...')
            for _ in range(_GUESTS):
                bench.connection.defineXML(scale.definition(str(uuid.uuid4()), _DEVICES))
            # Their devices get their aliases once, and not in what is measured.
            bench.agent.kill()
            bench.agent.start(600)
            bench.agent.wait_said('Reconciled 1000 guests', 600)
            _started(setting, bench, bare, result, f' with {_GUESTS:,} guests')
    return result


def _started(setting: Setting, bench: Bench, bare: processes.Bare, result: Result, where: str) -> None:
    """Start both in turn, and look at their memory."""
    setting.say(f'footprint: starts{where} ...')
    memory: dict[str, list[float]] = {harness.OURS: [], 'bare': []}

    def turn(name: str, kill: Callable[[], None], start: Callable[[], None], process: Any) -> harness.Turn:
        def started() -> Sample:
            kill()
            begin = time.monotonic()
            start()
            seconds = time.monotonic() - begin
            if where and name == harness.OURS:
                bench.agent.wait_said(f'Reconciled {_GUESTS} guests', 600)
            time.sleep(_SETTLE)
            memory[name].append(processes.resident_bytes(process.pid) / _MIB)
            return Sample(seconds, process.pid is not None)

        return started

    samples = harness.take_turns(
        setting.rounds,
        {
            harness.OURS: turn(
                harness.OURS, bench.agent.kill, lambda: bench.agent.start(interval=_LOOK), bench.agent
            ),
            'bare': turn('bare', bare.kill, lambda: bare.start(_LOOK), bare),
        },
        warm_up=False,
    )
    for name, unit, found in ((f'start{where}', 's', samples), (f'memory{where}', 'MiB', memory)):
        comparison = Comparison(name, unit, found)
        result.comparisons.append(comparison)
        if where and unit == 's':
            # Ours has looked at all guests by then; the bare service has done nothing.
            continue
        most = _MOST_WITH_GUESTS if where else _MOST
        result.aims.append(
            harness.aim(f'{name}: at most {most} times bare', comparison.ratio('bare'), most, bounded_by=_BOUND)
        )


def _idle(setting: Setting, bench: Bench, bare: processes.Bare, result: Result) -> None:
    """Both do nothing, at the same time, and their CPU is counted: in per cent of one processor."""
    setting.say('footprint: doing nothing ...')
    samples: dict[str, list[float]] = {harness.OURS: [], 'bare': []}
    for _ in range(setting.rounds):
        pids = {harness.OURS: bench.agent.pid, 'bare': bare.pid}
        before = {name: processes.cpu_seconds(pid) for name, pid in pids.items() if pid is not None}
        begin = time.monotonic()
        time.sleep(_IDLE)
        seconds = time.monotonic() - begin
        for name, pid in pids.items():
            assert pid is not None
            samples[name].append((processes.cpu_seconds(pid) - before[name]) / seconds * 100)
    comparison = Comparison('CPU while idle', '%', samples)
    result.comparisons.append(comparison)
    result.aims.append(
        harness.aim(
            'idle CPU, in per cent of a processor', comparison.summary(harness.OURS), 0.2,
            bounded_by='the threads of oslo.messaging, which wake up to look; see what the bare service takes',
        )
    )  # fmt: skip
