# SPDX-License-Identifier: Apache-2.0
"""Makes commands that run as an unprivileged user."""

import os
import pathlib
import shlex
import sys
from collections.abc import Iterable

import aliasagent

#: nobody and nogroup, on every Debian.
USER, GROUP = 65534, 65534


def command(words: Iterable[str], scratch: pathlib.Path, *groups: int) -> list[str]:
    """Return the command line that runs a Python command without root and without capabilities.

    :param scratch: an empty directory for mounts
    :param groups: more groups of the user
    """
    # Python and this source may be in the home of root, which the user cannot read. So the command runs in a mount
    # namespace in which empty directories with only Python and the source replace such directories.
    lines = ['set -e']
    for closed, trees in _closed().items():
        held = [(tree, scratch / f'held-{number}') for number, tree in enumerate(trees)]
        for tree, place in held:
            place.mkdir(parents=True)
            lines.append(shlex.join(['mount', '--bind', str(tree), str(place)]))
        lines.append(shlex.join(['mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', str(closed)]))
        for tree, place in held:
            lines.append(shlex.join(['mkdir', '-p', str(tree)]))
            lines.append(shlex.join(['mount', '--move', str(place), str(tree)]))
    identity = [f'--reuid={USER}', f'--regid={GROUP}', f'--groups={",".join(map(str, (GROUP, *groups)))}']
    nothing = ['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs']
    lines.append(f'exec {shlex.join(["setpriv", *identity, *nothing, *words])}')
    return ['unshare', '--mount', 'sh', '-c', '\n'.join(lines)]


def _closed() -> dict[pathlib.Path, list[pathlib.Path]]:
    """Return the outermost directories that other users cannot enter, each with the trees in it that Python needs."""
    found: dict[pathlib.Path, list[pathlib.Path]] = {}
    source = pathlib.Path(aliasagent.__file__).parents[1]
    for tree in sorted({pathlib.Path(sys.base_prefix).resolve(), pathlib.Path(sys.prefix).resolve(), source.resolve()}):
        above = [it for it in reversed(tree.parents) if not os.stat(it).st_mode & 0o001]
        if above:
            found.setdefault(above[0], []).append(tree)
    return found
