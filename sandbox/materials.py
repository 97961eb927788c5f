# SPDX-License-Identifier: Apache-2.0
"""Makes disk files, bridges and taps for guests, and reads the records that a guest wrote to its disk."""

import hashlib
import pathlib
import uuid

from sandbox import processes

SECTOR = 512
RECORDS = 2048  # a writing guest uses the first sectors of its disk in turn


def make_disk(path: pathlib.Path, size: int = 1024 * 1024) -> pathlib.Path:
    """Make a raw disk file.

    :param size: bytes, a multiple of 512
    :raises ValueError: the size is not a multiple of 512
    """
    if size % SECTOR:
        raise ValueError(f'the size of a disk, {size} bytes, is not a multiple of {SECTOR}')
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as disk:
        disk.truncate(size)
    return path.resolve()


def make_bridge() -> str:
    """Make a Linux bridge that is up, and return its unique name.

    :raises PartFailed: the bridge could not be made
    """
    name = f'aat{uuid.uuid4().hex[:10]}'
    processes.run('ip', 'link', 'add', name, 'type', 'bridge')
    processes.run('ip', 'link', 'set', name, 'up')
    return name


def remove_bridge(name: str) -> None:
    """Remove a bridge; do nothing if it does not exist.

    :raises PartFailed: the bridge could not be removed
    """
    if pathlib.Path('/sys/class/net', name).exists():
        processes.run('ip', 'link', 'delete', name)


def make_tap() -> str:
    """Make a tap as a control plane would, and return its unique name.

    :raises PartFailed: the tap could not be made
    """
    name = f'tap{uuid.uuid4().hex[:10]}'
    processes.run('ip', 'tuntap', 'add', 'dev', name, 'mode', 'tap')
    return name


def records(disk: pathlib.Path) -> set[int]:
    """Return the numbers of the complete records that a writing guest has on its disk.

    :raises PartFailed: a record's checksum is wrong
    """
    found = set()
    with disk.open('rb') as source:
        for sector in range(RECORDS):
            text = source.read(SECTOR).rstrip(b'\0').decode(errors='replace')
            if not text:
                continue
            number, _, checksum = text.rstrip('\n').partition(' ')
            good = number.isdecimal() and int(number) % RECORDS == sector
            if not good or hashlib.md5(number.encode(), usedforsecurity=False).hexdigest() != checksum:
                raise processes.PartFailed(f'{disk}: sector {sector} has no complete record: {text!r}')
            found.add(int(number))
    return found


def last_record(disk: pathlib.Path) -> int:
    """Return the number of the newest record that a writing guest has on its disk, 0 if there is none.

    :raises PartFailed: a checksum is wrong, or one of the records before it is missing
    """
    found = records(disk)
    newest = max(found, default=0)
    missing = set(range(max(1, newest - RECORDS + 1), newest + 1)) - found
    if missing:
        raise processes.PartFailed(f'{disk}: the newest record is {newest}, but {sorted(missing)[:10]} are missing')
    return newest
