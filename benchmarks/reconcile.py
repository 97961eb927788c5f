# SPDX-License-Identifier: Apache-2.0
"""Give the devices of many guests their aliases, and look at the guests again, next to the bare calls and parses.

The guests and the bare loops are those of :mod:`aliasagent.tests.stress.reconcile_scale`. In each turn the guests are
new, so that each first pass is one.
"""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from aliasagent.operations.lanes import Lanes
from aliasagent.reconcile import passes
from aliasagent.tests.parts import environment
from aliasagent.tests.stress import reconcile_scale as scale
from aliasagent.virt import host
from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result
from benchmarks.harness import Sample
from benchmarks.harness import Setting

TITLE = 'Aliases for the guests of a whole host'
SIZES = (100, 300, 1000)
_DEVICES = 20
_LANES = 16
_FIRST, _IDLE = 'first pass', 'idle pass'
_BOUND = 'the calls that change a device each, which libvirt takes one by one for a guest: see the profile'


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
        with _guests(connection, SIZES[0]) as instances:
            result.profile = harness.profiled(lambda: _ours(real, instances), 1)
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
            first = scale.timed(
                lambda: scale.each(connection, instances, lambda domain: scale.bare(domain, _DEVICES))
            )
            idle['bare'].append(scale.timed(lambda: scale.each(connection, instances, scale.bare_idle)))
            return Sample(first, _aliases(connection, instances))

    first = harness.take_turns(setting.rounds, {harness.OURS: ours, 'bare': theirs}, warm_up=False)
    along = f'guests with {_DEVICES} devices'
    comparisons = [
        Comparison(f'{size} guests, {name}', 's', samples, name, size, along)
        for name, samples in ((_FIRST, first), (_IDLE, idle))
    ]
    result.comparisons += comparisons
    share = Comparison('', 's', {'idle': idle[harness.OURS], 'first': first[harness.OURS]}).ratio('first', 'idle')
    result.aims += [
        harness.aim(
            f'{size} guests, {comparison.name.partition(", ")[2]}: at most 1.3 times bare', comparison.ratio('bare'),
            1.3, bounded_by=_BOUND,
        )
        for comparison in comparisons
    ]  # fmt: skip
    result.aims.append(harness.aim(f'{size} guests: an idle pass is at most 2 % of the first', share, 0.02))


def _ours(real: host.Host, instances: list[str]) -> tuple[float, float]:
    """The seconds of a first pass and of one in which there is nothing to do."""
    lanes = Lanes(_LANES)
    try:
        only: Any = scale.Only(real, instances)
        reconciler = passes.Reconciler(only, lanes.submit, lanes.submit_if_idle)
        return scale.timed(reconciler.run), scale.timed(reconciler.run)
    finally:
        lanes.close()


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
def _guests(connection: Any, size: int) -> Iterator[list[str]]:
    """New guests, shut off, none of whose devices has an alias."""
    instances = [str(uuid.uuid4()) for _ in range(size)]
    made = []
    try:
        for instance in instances:
            made.append(connection.defineXML(scale.definition(instance, _DEVICES)))
        yield instances
    finally:
        for domain in made:
            domain.undefine()
