# SPDX-License-Identifier: Apache-2.0
"""Reads the host's mounts, as far as this process can see them.

In a container, ``/proc/self/mountinfo`` has the container's mounts. The host's mounts are in the table of the host's
first process, which a container can read if it runs in the host's pid namespace.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator
from collections.abc import Mapping

#: A device's numbers, ``8:1``.
Number = str

#: The number that Linux gives to the host's own pid namespace (PROC_PID_INIT_INO in linux/proc_ns.h).
_HOST_PIDS = 'pid:[4026531836]'
#: Files that container engines create in a container: Docker, Podman.
_MARKS = ('.dockerenv', 'run/.containerenv')
#: Variables that container engines and Kubernetes set in a container's environment.
_VARIABLES = ('container', 'KUBERNETES_SERVICE_HOST')

_ESCAPED = re.compile(r'\\([0-7]{3})')


def mounts(root: pathlib.Path) -> Iterator[tuple[Number, str, str]]:
    """Yield the device's numbers, the source and the mount point of each mount (Linux, proc_pid_mountinfo(5)).

    :param root: the directory that contains ``/proc``.
    :raises OSError: this process's own table cannot be read.
    """
    tables = {(root / 'proc/self/mountinfo').read_text()}
    # The first process may be hidden: a systemd service with ProtectProc=invisible cannot read its table, but has its
    # own copy of the host's mounts, which systemd keeps up to date. doubt() reports where that is not so.
    with contextlib.suppress(OSError):
        tables.add((root / 'proc/1/mountinfo').read_text())
    for line in (line for table in tables for line in table.splitlines()):
        before, _, after = line.partition(' - ')
        words = before.split(' ')
        yield words[2], unescaped(after.split(' ')[1]), unescaped(words[4])


def doubt(root: pathlib.Path = pathlib.Path('/'), environment: Mapping[str, str] = os.environ) -> str | None:
    """Return why the mounts may not be the host's, and what the operator can do; None if they are the host's.

    :param root: the directory that contains ``/proc`` and the files of container engines.
    """
    try:
        pids = os.readlink(root / 'proc/self/ns/pid')
    except OSError as error:
        pids = str(error)
    if pids != _HOST_PIDS:
        reason = f"the agent does not run in the host's pid namespace ({pids})"
    elif _is_container(root, environment) and not os.access(root / 'proc/1/mountinfo', os.R_OK):
        reason = '/proc/1/mountinfo cannot be read in this container'
    else:
        return None
    return (
        f'{reason}, so block devices that the host has mounted are not recognized and may be attached to guests; run '
        "the container in the host's pid namespace (docker run --pid=host, or hostPID: true in Kubernetes) and do not "
        'hide process 1 from it, or keep the devices of the host out of [allowed] paths'
    )


def _is_container(root: pathlib.Path, environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in _VARIABLES) or any((root / mark).exists() for mark in _MARKS)


def unescaped(text: str) -> str:
    """Decode a path of one of the kernel's tables, which write blanks as octal numbers."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
