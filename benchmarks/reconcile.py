# SPDX-License-Identifier: Apache-2.0
"""Give the devices of many guests their aliases, and look at the guests again, next to the bare calls and parses.

The guests and the bare loops are those of :mod:`aliasagent.tests.stress.reconcile_scale`; the guests are shut off. In
each turn the guests are new, so that each first pass is one. On a larger host a first pass takes minutes: there each
turn takes some more of those of its guests that have no aliases yet, a thousand of them, and the rest have theirs.
"""

import contextlib
import itertools
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from aliasagent.operations.queues import GuestQueues
from aliasagent.reconcile import passes
from aliasagent.tests.stress import reconcile_scale as scale
from aliasagent.virt import host
from benchmarks import all_threads
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting
from sandbox import environment

TITLE = 'Aliases for the guests of a whole host'
SIZES = (100, 300)
LARGER = (1000, 5000)
#: How many guests of a larger host have a first pass, in all turns together.
_NEW = 1000
#: At how many guests of a larger host the outcome of an idle pass is looked at; at all of them after the last.
_LOOKED_AT = 100
_DEVICES = 20
_LANES = 16
_FIRST, _IDLE = 'first pass', 'idle pass'
#: Seconds until libvirt has told of all that a first pass did: an idle pass is one on a host on which nothing happens.
_SETTLE = 1.0
_BOUNDS = {
    _FIRST: 'the calls that change a device each, which libvirt takes one by one for a guest: see the profile',
    _IDLE: "the way of each read through its guest's queue, so that no read meets an operation",
}


def run(setting: Setting) -> Result:
    result = Result([], [])
    parts = environment.read()
    connection = host.open_libvirt(parts.libvirt_uri)
    real = host.Host(parts.libvirt_uri)
    real.start()
    assert real.wait_connected(30)
    try:
        for size in SIZES:
            setting.say(f'reconcile of {size} guests ...')
            _size(setting, connection, real, size, result)
        for size in LARGER:
            setting.say(f'reconcile of {size} guests ...')
            _larger(setting, connection, real, size, result)
        with _guests(connection, SIZES[0]) as instances:
            result.profile = all_threads.profiled(lambda: _ours(real, instances))
    finally:
        real.close()
        connection.close()
    return result


def _size(setting: Setting, connection: Any, real: host.Host, size: int, result: Result) -> None:
    idle: dict[str, list[float]] = {harness.OURS: [], 'bare': []}

    def ours() -> Sample:
        with _guests(connection, size) as instances:
            first, again = _ours(real, instances)
            idle[harness.OURS].append(again)
            return Sample(first, _aliases(connection, instances))

    def theirs() -> Sample:
        with _guests(connection, size) as instances:
            first = _bare(connection, instances)
            time.sleep(_SETTLE)
            idle['bare'].append(_bare_idle(connection, instances))
            return Sample(first, _aliases(connection, instances))

    first = harness.take_turns(setting.rounds, {harness.OURS: ours, 'bare': theirs}, warm_up=False)
    _report(result, size, first, idle)


def _larger(setting: Setting, connection: Any, real: host.Host, size: int, result: Result) -> None:
    some = _NEW // (2 * setting.rounds)
    with _guests(connection, size, new=2 * setting.rounds * some) as instances:
        waiting = iter(instances)

        def ours() -> Sample:
            mine = list(itertools.islice(waiting, some))
            seconds, _again = _ours(real, mine)
            return Sample(seconds / some * size, _aliases(connection, mine))

        def theirs() -> Sample:
            mine = list(itertools.islice(waiting, some))
            return Sample(_bare(connection, mine) / some * size, _aliases(connection, mine))

        first = harness.take_turns(setting.rounds, {harness.OURS: ours, 'bare': theirs}, warm_up=False)
        with _reconciler(real, instances) as reconciler:
            reconciler.run()  # it has seen none of them yet

            def idle_turn(idle_pass: Callable[[], object]) -> Sample:
                return Sample(scale.timed(idle_pass), _aliases(connection, instances[:_LOOKED_AT]))

            idle = harness.take_turns(
                setting.rounds,
                {
                    harness.OURS: lambda: idle_turn(reconciler.run),
                    'bare': lambda: idle_turn(lambda: scale.bare_idle(connection, instances)),
                },
            )
        _aliases(connection, instances)
    result.notes.append(f'{size} guests, first pass: measured in turns of {some} guests each, told for all')
    _report(result, size, first, idle)


def _report(result: Result, size: int, first: dict[str, list[float]], idle: dict[str, list[float]]) -> None:
    along = f'guests with {_DEVICES} devices'
    comparisons = [
        Comparison(f'{size} guests, {name}', 's', samples, name, size, along)
        for name, samples in ((_FIRST, first), (_IDLE, idle))
    ]
    result.comparisons += comparisons
    share = Comparison('', 's', {'idle': idle[harness.OURS], 'first': first[harness.OURS]}).ratio('first', 'idle')
    result.aims += [
        harness.aim(
            f'{comparison.name}: at most 1.3 times bare', comparison.ratio('bare'), 1.3, bounded_by=_BOUNDS[name],
        )
        for name, comparison in zip((_FIRST, _IDLE), comparisons, strict=True)
    ]  # fmt: skip
    result.aims.append(
        harness.aim(
            f'{size} guests: an idle pass is at most 1 % of the first', share, 0.01,
            bounded_by='the calls that read each definition, as the bare idle pass shows',
        )
    )  # fmt: skip


@contextlib.contextmanager
def _reconciler(real: host.Host, instances: list[str]) -> Iterator[passes.Reconciler]:
    """The agent's own, for these guests."""
    queues = GuestQueues(_LANES)
    try:
        only: Any = scale.Only(real, instances)
        yield passes.Reconciler(only, queues.submit, queues.submit_if_idle)
    finally:
        queues.close()


def _ours(real: host.Host, instances: list[str]) -> tuple[float, float]:
    """The seconds of a first pass and of one in which there is nothing to do."""
    with _reconciler(real, instances) as reconciler:
        first = scale.timed(reconciler.run)
        time.sleep(_SETTLE)
        return first, scale.timed(reconciler.run)


def _bare(connection: Any, instances: list[str]) -> float:
    return scale.timed(lambda: scale.each(connection, instances, lambda domain: scale.bare(domain, _DEVICES)))


def _bare_idle(connection: Any, instances: list[str]) -> float:
    return scale.timed(lambda: scale.bare_idle(connection, instances))


def _aliases(connection: Any, instances: list[str]) -> dict[int, int]:
    """How many guests have how many devices with an alias."""
    found: dict[int, int] = {}
    for instance in instances:
        count = connection.lookupByUUIDString(instance).XMLDesc(scale.INACTIVE).count("<alias name='ua-")
        found[count] = found.get(count, 0) + 1
    if set(found) != {_DEVICES}:
        raise harness.Differs(f'not all devices have their alias: {found}')
    return found


@contextlib.contextmanager
def _guests(connection: Any, size: int, new: int | None = None) -> Iterator[list[str]]:
    """New guests, shut off, none of whose devices has an alias.

    :param new: of how many that is true, the first ones; of all if None.
    """
    instances = [str(uuid.uuid4()) for _ in range(size)]
    made = []
    try:
        for number, instance in enumerate(instances):
            aliased = new is not None and number >= new
            made.append(connection.defineXML(scale.definition(instance, _DEVICES, aliased=aliased)))
        yield instances
    finally:
        for domain in made:
            domain.undefine()
