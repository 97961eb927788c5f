# SPDX-License-Identifier: Apache-2.0
"""Whether two disks hold the same data, whatever their sources are called on this host."""

import os
import stat

from aliasagent.devices import base
from aliasagent.devices.disk import Disk


def same(one: base.Device, other: base.Device) -> bool:
    """Whether two devices have one source: by its name, or by what the path of a file or block device leads to."""
    if one.source == other.source:
        return True
    if not isinstance(one, Disk) or not isinstance(other, Disk) or one.path is None or other.path is None:
        return False
    return _led_to(one.path) == _led_to(other.path)


def is_written_beneath(device: base.Device, other: base.Device) -> bool:
    """Whether a guest would write with one disk to what another one is based on, or is being copied to."""
    if not isinstance(device, Disk) or not isinstance(other, Disk) or device.path is None or device.readonly:
        return False
    return any(path == device.path or _led_to(path) == _led_to(device.path) for path in other.other_paths)


def _led_to(path: str) -> object:
    """What a path leads to: the same for all links to it. What is not there is known by its path without links."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return ('block', found.st_rdev) if stat.S_ISBLK(found.st_mode) else ('file', found.st_dev, found.st_ino)
