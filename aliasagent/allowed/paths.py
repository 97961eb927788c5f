# SPDX-License-Identifier: Apache-2.0
"""Checks where the paths of a request lead on this host, and whether the host itself uses what is there.

A path is refused if the path, or the target of its links, is not allowed. libvirt gets the path as given anyway: the
path is stored in the guest's persistent definition, and ``/dev/disk/by-id/...`` is the same volume after a restart of
the host, while ``/dev/sdc``, where it leads today, may not be. So libvirt resolves the path again. In between, only
users who may write in an allowed directory can change the target, and they decide what is there anyway.
"""

import dataclasses
import os
import pathlib
import stat
from collections.abc import Iterable

from aliasagent.allowed import addresses
from aliasagent.allowed import images
from aliasagent.allowed import mounts
from aliasagent.allowed import rules
from aliasagent.allowed.mounts import Number


def check(needs: Iterable[rules.Need], within: rules.Bounds, root: pathlib.Path = pathlib.Path('/')) -> None:
    """Refuse what is not allowed by its name, its links' target or its addresses, and what the host itself uses.

    Backing files of an image are checked in the same way, and their backing files in turn.

    :param root: the directory that contains ``/proc`` and ``/sys``.
    :raises InvalidInput: something is refused; the error names its field.
    :raises ServiceBusy: the addresses of a host cannot be looked up at the moment.
    """
    asked = list(needs)
    within.check(asked)
    for need in asked:
        if need.kind == rules.PATHS:
            _check_path(need, within, root)
        elif need.kind in rules.OF_PATHS:
            _check_place(need, within, _resolve(need))
            if need.kind in rules.OF_SOCKETS:
                _check_socket(need)
        elif need.kind in rules.OF_HOSTS:
            addresses.check(need, within)


def _check_place(need: rules.Need, within: rules.Bounds, real: str) -> None:
    """Refuse a path whose links lead to a place that is not allowed."""
    place = dataclasses.replace(need, name=real)
    if not within.allows(place) and not within.led_by(os.path.realpath).allows(place):
        raise need.refused(
            f'{need.name} leads to {real}, which is not among what the option [allowed] {need.kind} lets pass'
        )


def _check_socket(need: rules.Need) -> None:
    """Refuse a path that exists and is no socket."""
    # QEMU may remove what is at the path, to create its own socket there.
    try:
        mode = os.lstat(need.name).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise need.refused(f'{need.name} cannot be looked up: {error.strerror}') from error
    if not stat.S_ISSOCK(mode):
        raise need.refused(f'what is at {need.name} is no socket')


def _check_path(need: rules.Need, within: rules.Bounds, root: pathlib.Path) -> None:
    """Refuse a path, or an image whose backing files may not be opened."""
    seen: set[str] = set()
    one: rules.Need | None = need
    while one is not None:
        within.check([one])
        real = _resolve(one)
        _check_place(one, within, real)
        use = _use_of(one, real, root)
        if use is not None:
            raise need.refused(f'{one.name} is in use by the host itself: {use}')
        if real in seen:
            raise need.refused(f'{one.name} is an image that is based on itself')
        seen.add(real)
        one = _backing(one, real) if one.is_image else None


def _backing(need: rules.Need, real: str) -> rules.Need | None:
    """Return the backing file of an image; None without one. Its named format decides whether it is an image itself."""
    try:
        found = images.backing_file(real)
    except images.Unsafe as error:
        raise need.refused(f'{need.name} is not an image that may be attached: {error}') from error
    except FileNotFoundError:
        return None  # the attach reports a missing file later
    except OSError as error:
        raise need.refused(f'{need.name} cannot be looked up: {error.strerror}') from error
    if found is None:
        return None
    by_name, by_place = (os.path.join(os.path.dirname(path), found.name) for path in (need.name, real))
    if os.path.realpath(by_name) != os.path.realpath(by_place):
        raise need.refused(f'{need.name} is a link to an image that is based on {found.name}, which can be two files')
    return dataclasses.replace(need, name=by_name, is_image=found.format == images.QCOW2)


def _resolve(need: rules.Need) -> str:
    """Return a path with all links resolved. A missing file may appear later, as a vhost-user socket of QEMU does."""
    try:
        return os.path.realpath(need.name, strict=True)
    except FileNotFoundError:
        return os.path.realpath(need.name)
    except OSError as error:
        raise need.refused(f'{need.name} cannot be looked up: {error.strerror}') from error


def _use_of(need: rules.Need, path: str, root: pathlib.Path) -> str | None:
    """Return how the host itself uses a block device; None if it does not."""
    # A use is a mounted file system or swap space, directly or through partitions, LVM, RAID or dm-crypt. The members
    # of a ZFS pool, and all but one device of a btrfs, are not recognized.
    try:
        number = block_device(path)
        return None if number is None else _used(_with_all_on_it(number, root), root)
    except OSError as error:
        raise need.refused(f'{need.name} cannot be looked up: {error.strerror}') from error


def block_device(path: str) -> Number | None:
    """Return the numbers of the block device at a path; None if there is no block device.

    :raises OSError: the path cannot be looked up.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return f'{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}' if stat.S_ISBLK(found.st_mode) else None


def _used(numbers: set[Number], root: pathlib.Path) -> str | None:
    for number, source, where in mounts.mounts(root):
        # A btrfs mount has numbers of its own, and names its device as the source.
        if number in numbers or (source.startswith('/dev/') and block_device(source) in numbers):
            return f'mounted at {where}'
    swaps = root / 'proc/swaps'
    for line in swaps.read_text().splitlines()[1:] if swaps.exists() else ():
        swap = mounts.unescaped(line.split()[0])
        if block_device(swap) in numbers:
            return f'swap space {swap}'
    return None


def _with_all_on_it(number: Number, root: pathlib.Path) -> set[Number]:
    """Return the numbers of a block device, of its partitions, and of the devices that are built on them."""
    found = {number}
    waiting = [number]
    while waiting:
        device = root / 'sys/dev/block' / waiting.pop()
        for path in (*device.glob('*/partition'), *device.glob('holders/*/dev')):
            above = (path.parent / 'dev').read_text().strip()
            if above not in found:
                found.add(above)
                waiting.append(above)
    return found
