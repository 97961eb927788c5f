# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks found, as a table for people, and as JSON."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from benchmarks import figures
from benchmarks import harness
from benchmarks.harness import Result

_PACKAGES = ('lxml', 'libvirt-python', 'oslo.messaging', 'kombu')
#: What the real parts are called here, and their Debian packages.
_PARTS = {'libvirt': 'libvirt-daemon', 'QEMU': 'qemu-system-x86', 'RabbitMQ': 'rabbitmq-server'}


def table(title: str, result: Result) -> str:
    """Medians, spread and ratios of a benchmark, and its aims, as text."""
    rows = [['', 'contender', 'median', 'quartiles', 'least - most', 'ours is']]
    for comparison in result.comparisons:
        name = comparison.name
        for contender, samples in comparison.samples.items():
            found = figures.summary(samples)
            rows.append([name, contender, *_summed(found, comparison.unit), _times(comparison, contender)])
            name = ''
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f'{title}', '']
    lines += ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ['', *result.notes] if result.notes else []
    lines += ['', *map(verdict, result.aims)] if result.aims else []
    return '\n'.join(lines)


def _summed(found: figures.Summary, unit: str) -> list[str]:
    return [
        figures.words(found.median, unit),
        f'{figures.words(found.low, unit)} - {figures.words(found.high, unit)}',
        f'{figures.words(found.least, unit)} - {figures.words(found.most, unit)}',
    ]


def _times(comparison: harness.Comparison, contender: str) -> str:
    if not comparison.has_ratio(contender):
        return ''
    found = comparison.ratio(contender)
    return f'{found.median:.3g} of it ({found.low:.3g} - {found.high:.3g})'


def verdict(aim: harness.Aim) -> str:
    """An aim, and what came of it, in a line."""
    relation = 'at most' if aim.at_most else 'at least'
    result = 'met' if aim.met else f'MISSED by {aim.missed_by:.0%}'
    found = f'{aim.value:.3g} ({aim.low:.3g} - {aim.high:.3g})'
    line = f'{result:>15}  {aim.words}: {found}, aim {relation} {aim.bound:.3g}'
    return line if aim.met or not aim.bounded_by else f'{line}\n{"":>17}bounded by: {aim.bounded_by}'


def machine(nova: Mapping[str, str] | None) -> dict[str, Any]:
    """On what it was measured."""
    found: dict[str, Any] = {
        'python': platform.python_version(),
        'kernel': platform.release(),
        'processor': _processor(),
        'cores': os.cpu_count(),
        **{name: metadata.version(name) for name in _PACKAGES},
        **{name: _debian_version(package) for name, package in _PARTS.items()},
        'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    commit = subprocess.run(
        ['git', 'rev-parse', '--short', 'HEAD'], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True
    )
    found['commit'] = commit.stdout.strip()
    if nova is not None:
        found['nova'] = dict(nova)
    return found


def _debian_version(package: str) -> str:
    """The version of a Debian package without Debian's own part; empty if it is not installed from one."""
    asked = ['dpkg-query', '--show', '--showformat', '${source:Upstream-Version}', package]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()


def write(directory: pathlib.Path, name: str, title: str, result: Result, where: Mapping[str, Any]) -> pathlib.Path:
    """Write all that was measured into the directory, as ``NAME.json``, and the profile as ``NAME.profile.txt``."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        'name': name,
        'title': title,
        'machine': dict(where),
        'comparisons': [
            {
                **dataclasses.asdict(comparison),
                'summaries': {
                    contender: dataclasses.asdict(comparison.summary(contender)) for contender in comparison.samples
                },
                'ratios': {
                    contender: dataclasses.asdict(comparison.ratio(contender))
                    for contender in comparison.samples
                    if comparison.has_ratio(contender)
                },
            }
            for comparison in result.comparisons
        ],
        'aims': [{**dataclasses.asdict(aim), 'met': aim.met, 'missed_by': aim.missed_by} for aim in result.aims],
        'notes': result.notes,
    }
    path = directory / f'{name}.json'
    path.write_text(json.dumps(content, indent=1) + '\n')
    if result.profile:
        (directory / f'{name}.profile.txt').write_text(result.profile + '\n')
    return path
