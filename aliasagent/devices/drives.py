# SPDX-License-Identifier: Apache-2.0
"""Choose places for devices on a guest's SCSI controllers.

libvirt places a disk by its name, seven to a controller, and adds a controller for the eighth: virtio-scsi to the
running guest, but its own default, ``lsilogic`` behind a bridge, to the persistent config. So the agent gives each SCSI
device a place on a controller that the guest has.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Set

from aliasagent.devices import base
from aliasagent.devices import targets
from aliasagent.devices import xml
from aliasagent.devices.domain import Domain

BUS = 'scsi'
#: Some drivers of guests do not find more units on a virtio-scsi controller.
_VIRTIO_UNITS = 256
#: libvirt's own limit for any other controller.
_OTHER_UNITS = 7


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """A place on the first bus of a controller, at its first target."""

    controller: int
    unit: int

    def __str__(self) -> str:
        return f'unit {self.unit} of SCSI controller {self.controller}'


def place_of(device: base.Device) -> Place | None:
    """Return the place of a SCSI device; None for other devices, and for other buses and targets of a controller."""
    address = device.child('address')
    if device.drive_bus != BUS or address is None or address.get('type') != 'drive':
        return None
    controller, bus, target, unit = (_integer(address, name) for name in ('controller', 'bus', 'target', 'unit'))
    return Place(controller, unit) if not bus and not target else None


def put(device: base.Device, place: Place) -> None:
    """Give a device its place."""
    address = device.child_made('address')
    for name, value in (
        ('type', 'drive'), ('controller', place.controller), ('bus', 0), ('target', 0), ('unit', place.unit)
    ):  # fmt: skip
        address.set(name, str(value))


def free_place(domains: Sequence[Domain], target: str | None, avoid: Set[Place] = frozenset()) -> Place | None:
    """Find a place that is free in each of a guest's definitions, on a controller that all definitions have.

    A disk gets the place that libvirt derives from its name, if that is free; else preferably a place that libvirt
    derives from no name.

    :param target: the disk's name; None for a device without a name.
    :param avoid: more places that are not free.
    :returns: None if there is no such place.
    """
    taken = avoid | {place for domain in domains for found in domain.devices() if (place := place_of(found))}
    room = _room(domains)
    led_to = _led_to(target)
    if led_to is not None and led_to.unit < room.get(led_to.controller, 0) and led_to not in taken:
        return led_to
    return next((place for place in _places(room, by_name=target is not None) if place not in taken), None)


def has_place(domains: Iterable[Domain], place: Place) -> bool:
    """Return whether this place exists and is free in each of the definitions."""
    return all(
        place.unit < _controllers(domain).get(place.controller, 0)
        and all(place_of(found) != place for found in domain.devices())
        for domain in domains
    )


def _places(room: dict[int, int], *, by_name: bool) -> Iterator[Place]:
    for led_to in (False, True) if by_name else (True, False):
        for controller, units in sorted(room.items()):
            begin, end = (0, min(units, _OTHER_UNITS)) if led_to else (_OTHER_UNITS, units)
            yield from (Place(controller, unit) for unit in range(begin, end))


def _room(domains: Sequence[Domain]) -> dict[int, int]:
    """Return the number of units of each controller that all definitions have, by index."""
    controllers = [_controllers(domain) for domain in domains]
    common = set.intersection(*map(set, controllers)) if controllers else set()
    return {index: min(each[index] for each in controllers) for index in common}


def _controllers(domain: Domain) -> dict[int, int]:
    return {
        _integer(found.element, 'index'): _VIRTIO_UNITS if 'virtio' in found.element.get('model', '') else _OTHER_UNITS
        for found in domain.devices()
        if found.kind == 'controller' and found.element.get('type') == BUS
    }


def _led_to(target: str | None) -> Place | None:
    number = None if target is None else targets.number(target)
    return None if number is None else Place(*divmod(number, _OTHER_UNITS))


def _integer(element: xml.Element, name: str) -> int:
    text = element.get(name, '0')
    return int(text) if text.isdecimal() else -1
