# SPDX-License-Identifier: Apache-2.0
"""The target names of disks: the bus and the place of a name, and free names."""

import re
from collections.abc import Container
from itertools import count

from aliasagent import exception
from aliasagent.devices import xml

DEFAULT_BUS = 'virtio'
#: The default bus by type of disk. libvirt passes a LUN through on SCSI only, and has no CD-ROM on virtio.
_DEFAULT_BUSES = {'disk': DEFAULT_BUS, 'lun': 'scsi', 'cdrom': 'scsi'}
#: The prefix of disk names on each bus.
_PREFIXES = {'virtio': 'vd', 'scsi': 'sd', 'sata': 'sd', 'usb': 'sd'}
_NAME = re.compile('[a-z]d([a-z]{1,3})')
#: Number of disks on each controller, which libvirt fills in the order of the names.
_UNITS = {'scsi': 7, 'sata': 6}

#: The buses on which libvirt 9.0 accepts a second disk in one place, and the guest then cannot start any more.
NOT_REFUSED_WHEN_TAKEN = frozenset({'sata'})


def split(device_name: str) -> str:
    """Return the name without ``/dev/``, as libvirt writes it: ``vdb``."""
    return device_name.removeprefix('/dev/')


def default_bus(target: str | None, device_type: str) -> str:
    """Return the default bus of a disk, by its name if it has one, else by its type."""
    if target is None:
        return _DEFAULT_BUSES[device_type]
    return 'scsi' if target.startswith('sd') else DEFAULT_BUS


def check(target: str, bus: str) -> None:
    """Check that a disk on this bus can have this name.

    :raises InvalidInput: libvirt derives no place on this bus from the name.
    """
    prefix = _PREFIXES[bus]
    if not target.startswith(prefix):
        raise exception.InvalidInput(
            field='device_name', reason=f'{target} is not a name of a disk on bus {bus}: such names begin with {prefix}'
        )


def first_free(bus: str, taken: Container[str]) -> str:
    """Return the first free name on this bus."""
    prefix = _PREFIXES[bus]
    return next(name for index in count() if (name := prefix + _letters(index)) not in taken)


def leading_to(address: xml.Element | None, bus: str) -> str | None:
    """Return the name from which libvirt derives a drive's ``<address>`` on this bus; None if there is none."""
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
    """Return the number of a name: ``sda`` is 0, ``sdaa`` is 26; None if it has another form."""
    found = _NAME.fullmatch(target)
    if found is None:
        return None
    counted = 0
    for letter in found[1]:
        counted = counted * 26 + ord(letter) - ord('a') + 1
    return counted - 1


def _letters(index: int) -> str:
    """Return the letters of a number: 0 is a, 25 is z, 26 is aa."""
    letters = ''
    while index >= 0:
        index, letter = divmod(index, 26)
        letters = chr(ord('a') + letter) + letters
        index -= 1
    return letters
