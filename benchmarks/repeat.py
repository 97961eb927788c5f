# SPDX-License-Identifier: Apache-2.0
"""Compares the ratios of two runs: what depends on the machine's mood tells nothing of the code.

python -m benchmarks.repeat FIRST SECOND [--within 0.15]

FIRST and SECOND are directories of results (``python -m benchmarks --results``). The exit code is 0 if both have the
same benchmarks, and each ratio of the second is as near to that of the first as wanted.
"""

import argparse
import json
import pathlib
import sys


def ratios(directory: pathlib.Path) -> dict[str, float]:
    """All ratios of a run, by benchmark, comparison and contender.

    :raises ValueError: there are none.
    """
    found = {
        f'{result["name"]}: {comparison["name"]}, of {contender}': float(ratio['median'])
        for path in sorted(directory.glob('*.json'))
        for result in [json.loads(path.read_text())]
        for comparison in result['comparisons']
        for contender, ratio in comparison['ratios'].items()
    }
    if not found:
        raise ValueError(f'{directory} holds no results')
    return found


def difference(first: float, second: float) -> float:
    """By how much two ratios differ, as a share of the smaller one."""
    return max(first, second) / min(first, second) - 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.repeat', description=__doc__)
    parser.add_argument('first', type=pathlib.Path)
    parser.add_argument('second', type=pathlib.Path)
    parser.add_argument('--within', type=float, default=0.15, help='how far they may be apart, as a share')
    chosen = parser.parse_args(arguments)
    first, second = ratios(chosen.first), ratios(chosen.second)
    for name in sorted(first.keys() ^ second.keys()):
        print(f'{name}: in one of the two only')
    apart = 0
    for name in (name for name in first if name in second):
        by = difference(first[name], second[name])
        apart += by > chosen.within
        print(f'{first[name]:8.3g} {second[name]:8.3g} {by:6.1%}  {"" if by <= chosen.within else "APART: "}{name}')
    print(f'{len(first.keys() & second.keys())} ratios, {apart} of them more than {chosen.within:.0%} apart')
    return 0 if not apart and first.keys() == second.keys() else 1


if __name__ == '__main__':
    sys.exit(main())
