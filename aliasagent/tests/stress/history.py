# SPDX-License-Identifier: Apache-2.0
"""Runs many drawn histories of the whole agent on the fake hypervisor, and judges every word of the agent.

    tools/stress history -- --histories 100000
    python -m aliasagent.tests.stress.history --replay SEED

It needs no libvirt and no RabbitMQ. A seed always gives the same history; --replay shows one step by step, makes it
shorter as long as it fails in the same way, and shows that.
"""

import argparse
import collections
import sys
import time
from concurrent import futures

from aliasagent.tests.history import draw
from aliasagent.tests.history import run
from aliasagent.tests.history import shrink
from aliasagent.tests.history.facts import Lie
from aliasagent.tests.history.plan import History

#: How many histories a process does before it says what it has found.
_BATCH = 100


def main() -> int:
    options = _options()
    if options.replay is not None:
        return replay(options.replay, options.log, shorten=not options.whole)
    begin = time.monotonic()
    found: dict[int, list[Lie]] = {}
    seeds = range(options.seed, options.seed + options.histories)
    batches = [seeds[start : start + _BATCH] for start in range(0, len(seeds), _BATCH)]
    with futures.ProcessPoolExecutor(options.jobs) as pool:
        for number, lies in enumerate(pool.map(of_seeds, batches)):
            for seed, words in lies.items():
                found[seed] = words
                if len(found) <= options.shown:
                    print(f'seed {seed}: {words[0].rule}: {words[0].words}', flush=True)
            done = min(len(seeds), (number + 1) * _BATCH)
            if done % 5000 == 0:
                print(f'{done} histories, {len(found)} of them untrue', flush=True)
    seconds = time.monotonic() - begin
    rate = len(seeds) / seconds
    print(f'{len(seeds)} histories in {seconds:.0f} s ({rate:.0f}/s): {len(found)} of them untrue')
    rules = collections.Counter(lie.rule for lies in found.values() for lie in lies[:1])
    for rule, count in rules.most_common():
        examples = [str(seed) for seed, lies in found.items() if lies[0].rule == rule][:6]
        print(f'  {count:6d}  {rule}: seeds {", ".join(examples)}')
    return 1 if found else 0


def of_seeds(seeds: range) -> dict[int, list[Lie]]:
    """Run the histories of some seeds; what was untrue, by seed."""
    found = {}
    with run.machine(), run.without_garbage_collection() as collect:
        for seed in seeds:
            lies = run.of_seed(seed)
            collect()
            if lies:
                found[seed] = lies
    return found


def replay(seed: int, log: bool, *, shorten: bool) -> int:
    """Show the history of a seed, and the shortest one that fails in the same way."""
    history = draw.history(seed)
    with run.machine():
        lies = _show(f'seed {seed}', history, log)
        if not lies or not shorten:
            return 1 if lies else 0
        wanted = lies[0].kind

        def is_same(shorter: History) -> bool:
            return any(lie.kind == wanted for lie in run.run(shorter))

        shortest = shrink.shrink(history, is_same)
        print()
        _show(f'seed {seed}, made shorter', shortest, log)
    return 1


def _show(title: str, history: History, log: bool) -> list[Lie]:
    print(f'--- {title}')
    lies = run.shown(history, print, log)
    for lie in lies:
        print(f'at {lie.at:.3f} s: {lie.rule}: {lie.words}')
    if not lies:
        print('all of it is true')
    return lies


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='tools/stress history --', description=__doc__.splitlines()[0])
    parser.add_argument('--histories', type=int, default=20_000, help='how many (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=1, help='the first seed (default: %(default)s)')
    parser.add_argument('--jobs', type=int, default=2, help='how many processes (default: %(default)s)')
    parser.add_argument('--shown', type=int, default=20, help='how many failures to show (default: %(default)s)')
    parser.add_argument('--replay', type=int, metavar='SEED', help='show the history of this seed')
    parser.add_argument('--whole', action='store_true', help='with --replay: do not make it shorter')
    parser.add_argument('--log', action='store_true', help="with --replay: show the agent's log, too")
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())
