# SPDX-License-Identifier: Apache-2.0
"""Whether two paths of this host lead to one file or block device."""

import os
import stat


def lead_to_one(one: str, other: str) -> bool:
    """Whether two paths lead to the same, by whichever links."""
    return _led_to(one) == _led_to(other)


def _led_to(path: str) -> object:
    """What a path leads to: the same for all links to it. What is not there is known by its path without links."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return ('block', found.st_rdev) if stat.S_ISBLK(found.st_mode) else ('file', found.st_dev, found.st_ino)
