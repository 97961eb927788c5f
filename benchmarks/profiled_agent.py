# SPDX-License-Identifier: Apache-2.0
"""The agent under a profiler that sees all its threads, for what is measured from outside.

``python -m benchmarks.profiled_agent`` takes the agent's own arguments. A first SIGUSR1 begins the profile, a second
one writes it to the file that the environment variable ``ALIASAGENT_BENCH_PROFILE`` names.
"""

import os
import pathlib
import signal
import sys

from aliasagent.cmd import compute
from benchmarks import all_threads

PATH = 'ALIASAGENT_BENCH_PROFILE'


def _on_signal(_signal: int, _frame: object) -> None:
    if not all_threads.is_running():
        all_threads.begin()
        return
    path = pathlib.Path(os.environ[PATH])
    path.with_suffix('.new').write_text(all_threads.end())
    # Whole, or not there.
    path.with_suffix('.new').rename(path)


def main() -> int:
    # NOTE: SIGUSR2 is the agent's own.
    signal.signal(signal.SIGUSR1, _on_signal)
    return compute.main()


if __name__ == '__main__':
    sys.exit(main())
