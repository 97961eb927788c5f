# SPDX-License-Identifier: Apache-2.0
"""Read from sysfs which disk a block device is, and from procfs which processes have it open."""

import os
import pathlib
import stat
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator

SYS = pathlib.Path('/sys/class/block')
NVME = pathlib.Path('/sys/class/nvme')
PROC = pathlib.Path('/proc')
#: Where udev names disks after their world wide ids.
BY_ID = pathlib.Path('/dev/disk/by-id')
#: How the names of programs begin that open any block device, and do not keep it from being removed.
_DAEMONS = ('multipath', 'systemd-udevd', '(udev-worker)', 'udevd', 'iscsid')
#: How udev, multipathd and os-brick write the type at the beginning of a SCSI device's WWID.
_TYPES = {'t10.': '1', 'eui.': '2', 'naa.': '3'}
_MULTIPATH = 'mpath-'


def identities(device: str) -> set[str]:
    """Return the world wide ids of the disk behind a device; an empty set if the kernel has none, or no such device.

    A disk may have several: its own, and the id of its multipath map. If two sets of ids have nothing in common, the
    disks are different.
    """
    name = os.path.basename(os.path.realpath(device))
    found = {*_own(name)}
    for kind in ('slaves', 'holders'):
        for other in _names(SYS / name / kind):
            found.update(_own(other))
    return found


def lasting_path(device: str, known: Iterable[str]) -> str | None:
    """Return the name that udev has given a disk after a world wide id; None if it has not, or not yet.

    Other names, such as /dev/sda, may be another disk's after the next start of the host.

    :param known: the ids of the disk
    """
    real = os.path.realpath(device)
    for prefix in ('dm-uuid-mpath-', 'wwn-0x', 'scsi-', 'nvme-'):
        for one in sorted(known):
            # A WWN is written without the type.
            path = BY_ID / (prefix + '_'.join((one[1:] if prefix == 'wwn-0x' else one).split()).replace('/', '_'))
            if path.is_symlink() and os.path.realpath(path) == real:
                return str(path)
    return None


def users(device: str) -> list[str]:
    """Return the processes, as "name (id)", that have a block device or its multipath map open."""
    name = os.path.basename(os.path.realpath(device))
    numbers = {_read(SYS / one / 'dev') for one in (name, *_names(SYS / name / 'holders'))} - {''}
    found = []
    for process in _names(PROC) if numbers else ():
        if process.isdigit() and _has_open(process, numbers):
            name = _read(PROC / process / 'comm')
            if not name.startswith(_DAEMONS):
                found.append(f'{name} ({process})')
    return found


def nvme_controllers(subsystems: Collection[str]) -> list[str]:
    """Return the names of the controllers by which this host is connected to NVMe subsystems."""
    return [name for name in _names(NVME) if _read(NVME / name / 'subsysnqn') in subsystems]


def _own(name: str) -> Iterator[str]:
    wwid = _read(SYS / name / 'device' / 'wwid')
    if wwid:
        yield _TYPES.get(wwid[:4], '8') + wwid[4:].strip()
    wwid = _read(SYS / name / 'wwid')  # of NVMe
    if wwid:
        yield wwid
    mapped = _read(SYS / name / 'dm' / 'uuid')
    if mapped.startswith(_MULTIPATH):
        yield mapped.removeprefix(_MULTIPATH)


def _has_open(process: str, numbers: set[str]) -> bool:
    directory = PROC / process / 'fd'
    return any(_number(directory / name) in numbers for name in _names(directory))


def _number(path: pathlib.Path) -> str:
    """Return the number of a block device as sysfs writes it; an empty text if it is none."""
    try:
        status = os.stat(path)
    except OSError:  # it was closed meanwhile
        return ''
    return f'{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}' if stat.S_ISBLK(status.st_mode) else ''


def _names(directory: pathlib.Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors='replace').strip()
    except OSError:
        return ''
