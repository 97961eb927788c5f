# SPDX-License-Identifier: Apache-2.0
"""Runs benchmarks, prints what they found, and writes it as JSON, profile and picture.

python -m benchmarks [NAME...] [--rounds 15] [--nova PYTHON | --without-nova]

Those with real parts run on what the environment names (``python -m sandbox up``). The exit code is 0 if
all have run and the contenders did the same work; an aim that is missed is told, and does not change it.
"""

import argparse
import importlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping

from oslo_service import backend

# NOTE: before anything imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)

from benchmarks import harness  # noqa: E402
from benchmarks import report  # noqa: E402

#: All benchmarks, in the order in which they are run.
NAMES = (
    'lookup', 'build', 'detach-cpu', 'command', 'intake', 'end-to-end', 'parallel', 'reconcile', 'scale-up', 'footprint'
)  # fmt: skip
LEAST_ROUNDS = 15
RESULTS = pathlib.Path(__file__).parent / 'results'


def load(name: str) -> harness.Benchmark:
    """The benchmark of this name."""
    module: harness.Benchmark = importlib.import_module(f'benchmarks.{name.replace("-", "_")}')
    return module


def say(words: str) -> None:
    """Tell whoever watches; standard output is for what was found."""
    print(f'bench: {words}', file=sys.stderr, flush=True)


def nova_versions(setting: harness.Setting) -> Mapping[str, str] | None:
    """What Nova runs on.

    :raises Differs: not on the same Python and lxml as we, so that the two cannot be compared.
    """
    nova = setting.nova()
    if nova is None:
        return None
    with nova:
        theirs: dict[str, str] = nova.ask('versions')
    ours = report.machine(None)
    for name in ('python', 'lxml', 'libvirt-python'):
        if theirs[name] != ours[name]:
            raise harness.Differs(f'{name} is {ours[name]} here, and {theirs[name]} where Nova is')
    return theirs


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'{", ".join(NAMES)}; all by default')
    parser.add_argument('--rounds', type=int, default=LEAST_ROUNDS, help='how often each contender has its turn')
    parser.add_argument('--share', type=float, default=1.0, help='of the usual work of a turn, where there are many')
    parser.add_argument('--nova', default=os.environ.get('ALIASAGENT_BENCH_NOVA'), metavar='PYTHON',
                        help='the interpreter of an environment with Nova in it')  # fmt: skip
    parser.add_argument('--without-nova', action='store_true', help='leave Nova out, and the aims that name it')
    parser.add_argument('--without-pictures', action='store_true', help='draw nothing; matplotlib is not needed then')
    parser.add_argument('--results', type=pathlib.Path, default=RESULTS, help='where to write')
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f'there is no {", ".join(unknown)}: {", ".join(NAMES)}')
    if chosen.rounds < 2:
        parser.error('two rounds are the least of which anything can be said')
    if chosen.nova is None and not chosen.without_nova:
        parser.error('give --nova PYTHON or --without-nova')
    setting = harness.Setting(chosen.rounds, None if chosen.without_nova else chosen.nova, say, chosen.share)
    if chosen.rounds < LEAST_ROUNDS or chosen.share < 1:
        say('so little work only shows that it runs: the numbers say nothing')
    aims: list[tuple[str, harness.Aim]] = []
    try:
        where = report.machine(nova_versions(setting))
        for name in chosen.names or NAMES:
            result = _run(name, setting, chosen.results, where, pictures=not chosen.without_pictures)
            aims += [(name, aim) for aim in result.aims]
    except harness.Differs as error:
        print(f'the contenders differ: {error}', file=sys.stderr)
        return 1
    print('Aims\n')
    for name, aim in aims:
        print(f'{name:<11}{report.verdict(aim)}')
        if not aim.met:
            print(f'{"":>17}shown by: {chosen.results / name}.profile.txt')
    return 0


def _run(
    name: str, setting: harness.Setting, results: pathlib.Path, where: Mapping[str, object], *, pictures: bool
) -> harness.Result:
    say(f'{name}, {setting.rounds} rounds ...')
    begin = time.monotonic()
    module = load(name)
    result = module.run(setting)
    path = report.write(results, name, module.TITLE, result, where)
    if pictures:
        # NOTE: matplotlib is for those who run benchmarks, not for those who only test them.
        from benchmarks import picture

        picture.draw(path.with_suffix('.png'), module.TITLE, result)
    print(report.table(f'{name}: {module.TITLE}', result), end='\n\n', flush=True)
    say(f'{name} took {time.monotonic() - begin:.0f} s; more is in {path}')
    return result


if __name__ == '__main__':
    sys.exit(main())
