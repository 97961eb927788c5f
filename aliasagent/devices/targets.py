# SPDX-License-Identifier: Apache-2.0
"""The names of disks inside a guest: which bus a name belongs to, where it leads, and which one is free."""

import re
from collections.abc import Container
from itertools import count

from aliasagent import exception
from aliasagent.devices import xml

DEFAULT_BUS = 'virtio'
#: Where a disk goes of which nobody says the bus. A LUN is passed through on SCSI only; no CD-ROM is on virtio.
_DEFAULT_BUSES = {'disk': DEFAULT_BUS, 'lun': 'scsi', 'cdrom': 'scsi'}
#: The letters that a bus's disk names begin with.
_PREFIXES = {'virtio': 'vd', 'scsi': 'sd', 'sata': 'sd', 'usb': 'sd'}
_NAME = re.compile('[a-z]d([a-z]{1,3})')
#: Where libvirt places a disk by its name: so many to a controller, in the order of the names.
_UNITS = {'scsi': 7, 'sata': 6}

#: The buses on which libvirt 9.0 takes a second disk in one place, and such a guest does not start any more.
NOT_REFUSED_WHEN_TAKEN = frozenset({'sata'})


def split(device_name: str) -> str:
    """``/dev/vdb`` or ``vdb`` as libvirt has it: ``vdb``."""
    return device_name.removeprefix('/dev/')


def default_bus(target: str | None, device_type: str) -> str:
    """The bus of a disk when nobody says otherwise: by its name if it has one, else by its type."""
    if target is None:
        return _DEFAULT_BUSES[device_type]
    return 'scsi' if target.startswith('sd') else DEFAULT_BUS


def check(target: str, bus: str) -> None:
    """Whether a disk of this bus can have this name.

    :raises InvalidInput: libvirt would not know where to put it.
    """
    prefix = _PREFIXES[bus]
    if not target.startswith(prefix):
        raise exception.InvalidInput(
            field='device_name', reason=f'{target} is no name for a disk on bus {bus}, which begins with {prefix}'
        )


def first_free(bus: str, taken: Container[str]) -> str:
    """The first name of this bus that nobody has."""
    prefix = _PREFIXES[bus]
    return next(name for index in count() if (name := prefix + _letters(index)) not in taken)


def leading_to(address: xml.Element | None, bus: str) -> str | None:
    """The name by which libvirt would place a disk of this bus at a drive's ``<address>``; None if none leads there."""
    if address is None or address.get('type') != 'drive' or bus not in _UNITS:
        return None
    try:
        controller, *middle, unit = (int(address.get(name, '0')) for name in ('controller', 'bus', 'target', 'unit'))
    except ValueError:
        return None
    if controller < 0 or any(middle) or unit not in range(_UNITS[bus]):
        return None
    return _PREFIXES[bus] + _letters(controller * _UNITS[bus] + unit)


def number(target: str) -> int | None:
    """The number that a name counts as: ``sda`` is 0, ``sdaa`` is 26; None if it is no such name."""
    found = _NAME.fullmatch(target)
    if found is None:
        return None
    counted = 0
    for letter in found[1]:
        counted = counted * 26 + ord(letter) - ord('a') + 1
    return counted - 1


def _letters(index: int) -> str:
    """0 is a, 25 is z, 26 is aa."""
    letters = ''
    while index >= 0:
        index, letter = divmod(index, 26)
        letters = chr(ord('a') + letter) + letters
        index -= 1
    return letters
