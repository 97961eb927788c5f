# SPDX-License-Identifier: Apache-2.0
"""Where disks and SCSI host devices sit on their controllers, and what libvirt says of two in one place."""

import itertools

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import errors

#: So many devices libvirt puts on each controller by itself; on a SCSI bus there is room for more.
_UNITS = {'scsi': 7, 'sata': 6, 'ide': 4, 'fdc': 2}
_PARTS = ('controller', 'bus', 'target', 'unit')
_Place = tuple[int, ...]


def bus_of(device: etree._Element) -> str | None:
    """The bus on whose controllers a device sits; None if on none."""
    if device.tag == 'hostdev':
        return 'scsi' if device.get('type') == 'scsi' else None
    target = device.find('target') if device.tag == 'disk' else None
    bus = None if target is None else target.get('bus')
    return bus if bus in _UNITS else None


def assign(definition: etree._Element, device: etree._Element) -> None:
    """A disk goes where its name leads, a host device where there is room."""
    bus = bus_of(device) or ''
    if device.tag == 'hostdev':
        places = (_numbered(bus, number) for number in itertools.count())
        place = next(place for place in places if not _at(definition, bus, place))
    else:
        name = _name(device)
        place = _numbered(bus, aliases.disk_index(name))
        if any(other.tag == 'hostdev' for other in _at(definition, bus, place)):
            raise errors.unsupported_config(
                f"using disk target name '{name}' conflicts with SCSI host device address {_words(place)}"
            )
    parts = {name: str(number) for name, number in zip(_PARTS, place, strict=True)}
    etree.SubElement(device, 'address', {'type': 'drive', **parts})


def check_attached(definition: etree._Element, device: etree._Element) -> None:
    """Whether a device goes where another is. Nobody looks where SATA disks go, and two host devices."""
    place = _place(device)
    there = [] if place is None or bus_of(device) != 'scsi' else _at(definition, 'scsi', place)
    if there and device.tag == 'disk':
        raise errors.invalid_state('Domain already contains a disk with that address', libvirt.VIR_FROM_QEMU)
    if any(other.tag == 'disk' for other in there):
        raise errors.bad_xml(f'SCSI host address {_words(place or ())} in use by a SCSI disk')


def check_defined(definition: etree._Element) -> None:
    """Whether of a whole definition's devices two are in one place."""
    for device in aliases.devices(definition):
        bus, place = bus_of(device), _place(device)
        there = [] if bus is None or place is None else _at(definition, bus, place)
        if len(there) < 2 or place is None:
            continue
        disks = sorted(_name(other) for other in there if other.tag == 'disk')
        if len(disks) > 1:
            raise errors.unsupported_config(
                f"Found duplicate drive address for disk with target name '{disks[0]}' {_words(place)}"
            )
        if disks:
            raise errors.bad_xml(f'SCSI host address {_words(place)} in use by a SCSI disk')
        raise errors.unsupported_config(f'SCSI host address {_words(place)} in use by another SCSI host device')


def _numbered(bus: str, number: int) -> _Place:
    controller, unit = divmod(number, _UNITS[bus])
    return (controller, unit // 2, 0, unit % 2) if bus == 'ide' else (controller, 0, 0, unit)


def _at(definition: etree._Element, bus: str, place: _Place) -> list[etree._Element]:
    """What of a definition is in a place."""
    return [other for other in aliases.devices(definition) if bus_of(other) == bus and _place(other) == place]


def _place(device: etree._Element) -> _Place | None:
    address = device.find('address')
    if address is None or address.get('type') != 'drive':
        return None
    return tuple(int(address.get(part, '0')) for part in _PARTS)


def _name(disk: etree._Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')


def _words(place: _Place) -> str:
    return ' '.join(f"{part}='{number}'" for part, number in zip(_PARTS, place, strict=True))
