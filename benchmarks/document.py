# SPDX-License-Identifier: Apache-2.0
"""Brings what was measured into the documents: the aims, on what, what was noted, where the time goes, and pictures.

python -m benchmarks.document
"""

import json
import pathlib
import shutil
from typing import Any

from benchmarks import __main__ as benchmarks

_PROJECT = pathlib.Path(__file__).parents[1]
#: How many lines of a profile: its head, and some functions.
_SHOWN = 20
_DOCUMENTS = _PROJECT / 'doc' / 'source' / '_static' / 'benchmarks'


def _number(value: float) -> str:
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


def _row(name: str, aim: dict[str, Any]) -> list[str]:
    relation = 'at most' if aim['at_most'] else 'at least'
    found = _number(aim['value'])
    if aim['low'] != aim['high']:
        found += f' ({_number(aim["low"])} to {_number(aim["high"])})'
    outcome = 'met' if aim['met'] else f'missed by {aim["missed_by"]:.0%}'
    return [name, aim['words'], f'{relation} {_number(aim["bound"])}', found, outcome]


def table(results: dict[str, dict[str, Any]]) -> str:
    """The aims and what came of them, as a list-table."""
    rows = [['Benchmark', 'Aim', 'Bound', 'Found (quartiles)', 'Outcome']]
    for name, result in results.items():
        rows += [_row(f'``{name}``', aim) for aim in result['aims']]
    lines = ['.. list-table::', '   :header-rows: 1', '']
    for row in rows:
        lines += [f'   {"* -" if not index else "  -"} {cell}' for index, cell in enumerate(row)]
    return '\n'.join(lines) + '\n'


def machine(results: dict[str, dict[str, Any]]) -> str:
    """When all of it was measured and on what, in a sentence.

    :raises ValueError: not all of it on the same machine and day.
    """
    commits: dict[str, list[str]] = {}
    machines = []
    for name, result in results.items():
        where = dict(result['machine'])
        commits.setdefault(where.pop('commit'), []).append(f'``{name}``')
        machines.append(where)
    if any(other != where for other in machines):
        raise ValueError('the results are not all of one machine and day')
    most = max(commits, key=lambda commit: len(commits[commit]))
    others = ''.join(f', {", ".join(those)} at {commit}' for commit, those in commits.items() if commit != most)
    names = ('libvirt', 'QEMU', 'RabbitMQ', 'lxml', 'oslo.messaging')
    return (
        f'Measured on {where["date"]}, at commit {most}{others}, on {where["cores"]} processors '
        f'({where["processor"]}) and Linux {where["kernel"]}, with Python {where["python"]}, '
        f'{", ".join(f"{name} {where[name]}" for name in names)} and Nova {where["nova"]["nova"]}.\n'
    )


def notes(result: dict[str, Any]) -> str:
    """What was noted beside the comparisons."""
    return ''.join(f'* {line}\n' for line in result['notes'])


def profile(text: str) -> str:
    """The dearest functions of a profile, by what they take themselves."""
    return '\n'.join(text.splitlines()[:_SHOWN]) + '\n'


def main() -> None:
    results = {
        name: json.loads((benchmarks.RESULTS / f'{name}.json').read_text())
        for name in benchmarks.NAMES
        if (benchmarks.RESULTS / f'{name}.json').exists()
    }
    shutil.rmtree(_DOCUMENTS, ignore_errors=True)
    _DOCUMENTS.mkdir(parents=True)
    (_DOCUMENTS / 'table.inc').write_text(table(results))
    (_DOCUMENTS / 'machine.inc').write_text(machine(results))
    for name, result in results.items():
        if result['notes']:
            (_DOCUMENTS / f'{name}.inc').write_text(notes(result))
        if not all(aim['met'] for aim in result['aims']):
            found = (benchmarks.RESULTS / f'{name}.profile.txt').read_text()
            (_DOCUMENTS / f'{name}.profile.txt').write_text(profile(found))
        shutil.copy(benchmarks.RESULTS / f'{name}.png', _DOCUMENTS)


if __name__ == '__main__':
    main()
