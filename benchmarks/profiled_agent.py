# SPDX-License-Identifier: Apache-2.0
"""The agent under a profiler that sees all its threads, for what is measured from outside.

``python -m benchmarks.profiled_agent`` takes the agent's own arguments. A first SIGUSR1 begins the profile, a second
one writes it to the file that the environment variable ``ALIASAGENT_BENCH_PROFILE`` names. It counts CPU, not waits.
"""

import io
import os
import pathlib
import pstats
import signal
import sys

import yappi

from aliasagent.cmd import compute

PATH = 'ALIASAGENT_BENCH_PROFILE'
_SHOWN = 40


def _on_signal(_signal: int, _frame: object) -> None:
    if yappi.is_running():
        _end()
    else:
        yappi.start(builtins=True)


def _end() -> None:
    yappi.stop()
    text = io.StringIO()
    stats: pstats.Stats = yappi.convert2pstats(yappi.get_func_stats())
    stats.stream = text  # type: ignore[attr-defined]
    stats.strip_dirs().sort_stats('tottime').print_stats(_SHOWN)
    stats.sort_stats('cumtime').print_stats(2 * _SHOWN)
    path = pathlib.Path(os.environ[PATH])
    path.with_suffix('.new').write_text(text.getvalue())
    # Whole, or not there.
    path.with_suffix('.new').rename(path)


def main() -> int:
    yappi.set_clock_type('cpu')
    # NOTE: SIGUSR2 is the agent's own.
    signal.signal(signal.SIGUSR1, _on_signal)
    return compute.main()


if __name__ == '__main__':
    sys.exit(main())
