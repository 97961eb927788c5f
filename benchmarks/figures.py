# SPDX-License-Identifier: Apache-2.0
"""The statistics of the benchmarks: medians, quartiles, and ratios of what was measured in turn."""

import dataclasses
import statistics
from collections.abc import Sequence

_UNITS = ((1.0, 's'), (1e-3, 'ms'), (1e-6, 'µs'), (1e-9, 'ns'))


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a row of samples comes to."""

    median: float
    #: The quartiles: half of the samples lie between them.
    low: float
    high: float
    least: float
    most: float

    @property
    def spread(self) -> float:
        """The distance between the quartiles, as a share of the median; 0 for a median of 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def summary(samples: Sequence[float]) -> Summary:
    """Sum samples up.

    :raises ValueError: there are none.
    """
    if not samples:
        raise ValueError('there are no samples')
    if len(samples) == 1:
        (only,) = samples
        return Summary(only, only, only, only, only)
    low, median, high = statistics.quantiles(samples, n=4, method='inclusive')
    return Summary(median, low, high, min(samples), max(samples))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """Our samples as multiples of the others, each divided by the one that was taken next to it.

    So what slows the whole machine down for a while counts for both.

    :raises ValueError: they are not as many, or one of the others is 0.
    """
    if len(ours) != len(theirs):
        raise ValueError(f'{len(ours)} samples cannot be compared with {len(theirs)}')
    if not all(theirs):
        raise ValueError('nothing can be said next to a sample of 0')
    return summary([mine / other for mine, other in zip(ours, theirs, strict=True)])


def words(value: float, unit: str) -> str:
    """A value in three digits; seconds in a unit that fits."""
    if unit != 's':
        return f'{value:.3g} {unit}' if abs(value) < 1000 else f'{value:,.0f} {unit}'
    if value == 0:
        return '0 s'
    size, name = next(((size, name) for size, name in _UNITS if abs(value) >= size), _UNITS[-1])
    return f'{value / size:.3g} {name}' if abs(value) / size < 999.5 else f'{value / size:,.0f} {name}'
