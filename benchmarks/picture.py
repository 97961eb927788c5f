# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found, as a picture."""

import math
import pathlib
from typing import Any

import matplotlib as mpl
from matplotlib import figure

from benchmarks import harness
from benchmarks.harness import Comparison
from benchmarks.harness import Result

mpl.use('Agg')

_COLOURS = {harness.OURS: '#1f77b4', 'nova': '#d62728', 'lxml': '#7f7f7f', 'bare': '#7f7f7f'}
_OTHER = '#2ca02c'
#: How many panels are side by side at most.
_COLUMNS = 3


def draw(path: pathlib.Path, title: str, result: Result) -> None:
    """Draw curves where there is something to draw them along, and bars of the rest; the quartiles are the whiskers."""
    curves: dict[str, list[Comparison]] = {}
    bars: dict[str, list[Comparison]] = {}
    for comparison in result.comparisons:
        if comparison.curve is not None:
            curves.setdefault(comparison.curve, []).append(comparison)
        else:
            bars.setdefault(comparison.unit, []).append(comparison)
    panels = len(curves) + len(bars)
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    height = max([3.6, *(1 + 0.5 * len(some) for some in bars.values())])
    drawn = figure.Figure(figsize=(max(6.4, 4.8 * columns), height * rows), layout='constrained')
    drawn.suptitle(title)
    axes = drawn.subplots(rows, columns, squeeze=False).flat
    for name, some in curves.items():
        _curve(next(axes), name, some)
    for unit, some in bars.items():
        _bars(next(axes), unit, some)
    for panel in axes:
        panel.set_visible(False)
    drawn.savefig(path, dpi=110)


def _unit(unit: str) -> str:
    return 'seconds' if unit == 's' else unit


def _curve(axes: object, name: str, comparisons: list[Comparison]) -> None:
    panel: Any = axes  # matplotlib's, which is there only to measure
    contenders = list(dict.fromkeys(name for comparison in comparisons for name in comparison.samples))
    for contender in contenders:
        there = [comparison for comparison in comparisons if contender in comparison.samples]
        found = [comparison.summary(contender) for comparison in there]
        panel.errorbar(
            [comparison.at or 0 for comparison in there],
            [one.median for one in found],
            yerr=[[one.median - one.low for one in found], [one.high - one.median for one in found]],
            label=contender,
            color=_COLOURS.get(contender, _OTHER),
            marker='o',
            capsize=3,
        )
    panel.set_title(name)
    panel.set_xlabel(comparisons[0].along)
    panel.set_ylabel(_unit(comparisons[0].unit))
    panel.set_xscale('log')
    panel.set_yscale('log')
    panel.set_xticks([comparison.at or 0 for comparison in comparisons])
    panel.get_xaxis().set_major_formatter(mpl.ticker.StrMethodFormatter('{x:,g}'))
    low, high = panel.get_ylim()
    panel.get_yaxis().set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5) if high > 10 * low else range(1, 10)))
    panel.get_yaxis().set_major_formatter(mpl.ticker.StrMethodFormatter('{x:,g}'))
    panel.get_yaxis().set_minor_formatter(mpl.ticker.NullFormatter())
    panel.get_xaxis().set_minor_formatter(mpl.ticker.NullFormatter())
    panel.grid(True, which='major', alpha=0.3)
    panel.legend()


def _bars(axes: object, unit: str, comparisons: list[Comparison]) -> None:
    panel: Any = axes  # matplotlib's, which is there only to measure
    contenders = list(dict.fromkeys(name for comparison in comparisons for name in comparison.samples))
    thickness = 0.8 / len(contenders)
    for number, contender in enumerate(contenders):
        there = [(row, one) for row, one in enumerate(comparisons) if contender in one.samples]
        found = [one.summary(contender) for _row, one in there]
        panel.barh(
            [row + (number - (len(contenders) - 1) / 2) * thickness for row, _one in there],
            [one.median for one in found],
            height=thickness,
            xerr=[[one.median - one.low for one in found], [one.high - one.median for one in found]],
            label=contender,
            color=_COLOURS.get(contender, _OTHER),
            capsize=2,
        )
    panel.set_yticks(range(len(comparisons)), [one.name for one in comparisons])
    panel.invert_yaxis()
    panel.set_xlabel(_unit(unit))
    panel.grid(True, axis='x', alpha=0.3)
    panel.legend()
