# SPDX-License-Identifier: Apache-2.0
"""A profile of all threads of this process. It counts CPU, not waits."""

import io
import pstats
from collections.abc import Callable

import yappi

_SHOWN = 40


def is_running() -> bool:
    """Whether a profile has begun and not ended."""
    return bool(yappi.is_running())


def begin() -> None:
    """Begin a profile."""
    yappi.set_clock_type('cpu')
    yappi.start(builtins=True)


def end() -> str:
    """End the profile: the dearest functions by themselves, and with what they call."""
    yappi.stop()
    text = io.StringIO()
    stats: pstats.Stats = yappi.convert2pstats(yappi.get_func_stats())
    stats.stream = text  # type: ignore[attr-defined]
    stats.strip_dirs().sort_stats('tottime').print_stats(_SHOWN)
    stats.sort_stats('cumtime').print_stats(2 * _SHOWN)
    return text.getvalue().strip()


def profiled(function: Callable[[], object]) -> str:
    """Where the CPU goes while a function works, in whichever thread."""
    begin()
    try:
        function()
    finally:
        found = end()
    return found
