# SPDX-License-Identifier: Apache-2.0
"""Operations accepted per second, by cast and by ``submit``, next to a bare server whose method does nothing.

Ours are accepted when the journal has them; the bare server's when its method was called, and lost with it. So that
only the acceptance is measured, ours are for a guest that has not let go of an earlier request's device: they wait.
"""

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable
from concurrent import futures
from typing import Any

from aliasagent.context import RequestContext
from aliasagent.tests.stress.bench import Bench
from benchmarks import bare_service
from benchmarks import harness
from benchmarks import processes
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from benchmarks.processes import Bare
from sandbox import processes as parts

TITLE = 'Operations accepted per second'
_OPERATIONS = 400
_SENDERS = 4
_SECONDS = 60
_UNIT = 'operations/s'


def run(setting: Setting) -> Result:
    result = Result([], [])
    options: dict[str, dict[str, object]] = {
        'DEFAULT': {'debug': False},
        'unplug': {'timeout': 100_000},
        'operations': {'max_waiting': 1_000_000},
    }
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(Bench(1, options=options))
        (guest,) = bench.guests
        _make_wait(bench, guest)
        journal = stack.enter_context(
            contextlib.closing(sqlite3.connect(f'file:{bench.journal}?mode=ro', uri=True, check_same_thread=False))
        )
        bare = stack.enter_context(Bare(bench.directory / 'bare', rabbit_url=bench.rabbit_url))
        transport = bare_service.transport(bare.url)
        stack.callback(transport.cleanup)
        theirs = bare_service.client(transport, bare.host, _SECONDS)
        api = bench.api(_SECONDS)
        pool = stack.enter_context(futures.ThreadPoolExecutor(_SENDERS))

        def accepted() -> int:
            # Nothing is forgotten here, and to count them would take longer with each round.
            (last,) = journal.execute('SELECT max(sequence) FROM operations').fetchone()
            return int(last)

        def our_cast() -> None:
            api.detach_volume(RequestContext(), guest, str(uuid.uuid4()))

        def our_submit() -> None:
            api.submit(RequestContext(), 'detach_volume', instance_uuid=guest, volume_id=str(uuid.uuid4()))

        def their_cast() -> None:
            theirs.cast(
                RequestContext().to_dict(), 'detach_volume', instance_uuid=guest, volume_id=str(uuid.uuid4())
            )

        def their_submit() -> None:
            arguments = {'instance_uuid': guest, 'volume_id': str(uuid.uuid4())}
            operation = {'id': str(uuid.uuid4()), 'action': 'detach_volume', 'arguments': arguments}
            theirs.call(RequestContext().to_dict(), 'submit', operation=operation)

        def counted() -> int:
            return int(theirs.call({}, 'count'))

        ways: dict[str, tuple[Callable[[], None], Callable[[], None], float]] = {
            'cast': (our_cast, their_cast, 0.95), 'submit': (our_submit, their_submit, 0.9)
        }  # fmt: skip
        for way, (ours, bares, bound) in ways.items():
            setting.say(f'intake by {way} ...')
            samples = harness.take_turns(
                setting.rounds,
                {harness.OURS: _turn(pool, ours, accepted), 'bare': _turn(pool, bares, counted)},
            )
            comparison = Comparison(way, _UNIT, samples)
            result.comparisons.append(comparison)
            result.aims.append(
                harness.aim(
                    f'by {way}, at least {bound} of bare',
                    comparison.ratio('bare'),
                    bound,
                    at_most=False,
                    bounded_by=_BOUND,
                )
            )
        cast, submit = (_turn(pool, ours, accepted) for ours, _bares, _bound in ways.values())
        result.profile = processes.profiled(bench.agent, lambda: (cast(), submit()))
    return result


_BOUND = (
    'the check of the contract, the transaction that is synced to the disk, the line in the log and the longer answer, '
    'for which the threads of the one process, and all processes, take turns on the processors'
)


def _make_wait(bench: Bench, guest: str) -> None:
    """Have a guest not let go of a virtio disk: it has no operating system to do so."""
    volume, connection = bench.new_volume()
    context = RequestContext()
    bench.api().attach_volume(context, guest, volume, connection, disk_bus='virtio')
    state = bench.wait_state(context.operation_id, 'succeeded', 'failed')
    if state['state'] == 'failed':
        raise parts.PartFailed(f'the disk that shall stay was not attached: {state["error"]}')
    context = RequestContext()
    bench.api().detach_volume(context, guest, volume)
    bench.wait_state(context.operation_id, 'running')


def _turn(pool: futures.ThreadPoolExecutor, send: Callable[[], Any], accepted: Callable[[], int]) -> harness.Turn:
    """Send so many, from some threads, and wait until all are accepted; the outcome is how many were."""

    def turn() -> Sample:
        before = accepted()
        begin = time.monotonic()
        sent = [pool.submit(send) for _ in range(_OPERATIONS)]
        for future in sent:
            future.result(_SECONDS)
        while (now := accepted()) < before + _OPERATIONS:
            if time.monotonic() > begin + _SECONDS:
                break
            time.sleep(0.002)
        return Sample(_OPERATIONS / (time.monotonic() - begin), now - before)

    return turn
