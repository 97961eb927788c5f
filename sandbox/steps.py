# SPDX-License-Identifier: Apache-2.0
"""Progress for a person who watches: one line per step, with the time it took."""

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator

import libvirt

from sandbox import processes

WIDTH = 68


class StepFailed(Exception):
    """A step did not work; the text says what to do."""


def say(text: str = '') -> None:
    """Tell whoever watches."""
    print(text, flush=True)


@contextlib.contextmanager
def step(what: str, advice: str, logs: pathlib.Path) -> Iterator[Callable[[str], None]]:
    """One step: its name before, its time (seconds) after. Nothing else may be said while it lasts.

    What it yields takes a remark for the end of the line.

    :param advice: what to do if it fails.
    :param logs: where more can be read then.
    :raises StepFailed: it failed.
    """
    remarks: list[str] = []
    print(f'{what} '.ljust(WIDTH, '.'), end=' ', flush=True)
    begin = time.monotonic()
    try:
        yield remarks.append
    except (processes.PartFailed, StepFailed, libvirt.libvirtError, OSError, subprocess.SubprocessError) as error:
        say(f'FAILED after {time.monotonic() - begin:.1f} s')
        raise StepFailed(f'{what}: {error}\nWhat to do: {advice}.\nLogs are under {logs}.') from error
    except BaseException:
        say('not finished')
        raise
    say(f'{time.monotonic() - begin:5.1f} s' + ''.join(f'  ({remark})' for remark in remarks))
