# SPDX-License-Identifier: Apache-2.0
"""Prints progress for a user: one line per step, with its duration."""

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
    """A step failed; the text has advice for the user."""


def say(text: str = '') -> None:
    """Print a line at once."""
    print(text, flush=True)


@contextlib.contextmanager
def step(what: str, advice: str, logs: pathlib.Path) -> Iterator[Callable[[str], None]]:
    """Print the name of a step, and at its end its duration in seconds. Nothing else may be printed meanwhile.

    Yields a function that adds a remark at the end of the line.

    :param advice: what the user can do if the step fails.
    :param logs: the directory of the logs.
    :raises StepFailed: the step failed.
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
