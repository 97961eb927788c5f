# SPDX-License-Identifier: Apache-2.0
"""Compares paths of this host by the file or block device that they lead to."""

import functools
import os
import stat
from collections.abc import Callable


def lead_to_one(one: str, other: str) -> bool:
    """Return whether two paths lead to the same file or block device, through any links."""
    return _led_to(one) == _led_to(other)


def comparison() -> Callable[[str, str], bool]:
    """Return a :func:`lead_to_one` for many comparisons at one time, which resolves each path once."""
    led_to = functools.cache(_led_to)
    return lambda one, other: led_to(one) == led_to(other)


def _led_to(path: str) -> object:
    """Return what identifies the target of a path; for a missing file, its path with all links resolved."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return ('block', found.st_rdev) if stat.S_ISBLK(found.st_mode) else ('file', found.st_dev, found.st_ino)
