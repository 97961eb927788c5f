# SPDX-License-Identifier: Apache-2.0
"""Mounts NFS shares of this host without a kernel that can: a program takes the place of mount.nfs.

It mounts the directory HOST:/DIRECTORY itself, whatever the host is. It is in its place in one mount namespace only.
"""

import os
import pathlib
import shlex
from collections.abc import Iterable

from sandbox import processes

_HELPERS = (pathlib.Path('/sbin/mount.nfs'), pathlib.Path('/usr/sbin/mount.nfs'))
_PROGRAM = """\
#!/bin/sh
# mount.nfs HOST:/DIRECTORY TARGET [-o OPTIONS]
exec mount --bind "${1#*:}" "$2"
"""


def commands(directory: pathlib.Path) -> list[str]:
    """Return the shell commands that put the program in its place, in the mount namespace in which they run.

    :param directory: for the program; must exist
    :raises PartFailed: mount.nfs is not installed
    """
    helper = next((path.resolve() for path in _HELPERS if path.exists()), None)
    if helper is None:
        raise processes.PartFailed('mount.nfs is not installed: install the package nfs-common')
    program = directory / 'mount.nfs'
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    return [shlex.join(['mount', '--bind', str(program), str(helper)])]


def command(words: Iterable[str | os.PathLike[str]], directory: pathlib.Path) -> list[str | os.PathLike[str]]:
    """Return the command line that runs a command with such mounts in a mount namespace of its own."""
    last = f'exec {shlex.join(os.fspath(word) for word in words)}'
    script = '\n'.join(['set -e', *commands(directory), last])
    return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script]
