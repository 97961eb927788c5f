# SPDX-License-Identifier: Apache-2.0
"""Every property that a device class declares is read from a definition as found on hosts, and written."""

from collections.abc import Iterator
from typing import Any

from aliasagent.devices import disk
from aliasagent.devices import domain
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import properties
from aliasagent.devices import xml
from aliasagent.devices.base import Device
from aliasagent.tests import base
from aliasagent.tests.unit.devices import definitions
from aliasagent.tests.unit.devices import golden

CLASSES: tuple[type[Device], ...] = (disk.Disk, interface.Interface, hostdev.Hostdev)


def declared(device_class: type[Device]) -> Iterator[str]:
    for name in dir(device_class):
        if isinstance(getattr(device_class, name), properties.Property | properties.Presence):
            yield name


def examples(device_class: type[Device]) -> list[Device]:
    found = [device for name in definitions.NAMES for device in domain.Domain.parse(definitions.text(name)).devices()]
    found += [domain.device(xml.parse(golden.text(name, 'in'))) for name in golden.NAMES]
    return [device for device in found if type(device) is device_class]


class DeclaredPropertiesTestCase(base.TestCase):
    """A property that no definition has is one that nobody has seen work: put it into ``definitions`` or ``golden``."""

    def test_all_classes_are_looked_at(self) -> None:
        self.assertEqual(set(CLASSES), set(domain._CLASSES.values()))

    def test_every_property_is_read(self) -> None:
        for device_class in CLASSES:
            devices = examples(device_class)
            never = [
                f'{device_class.__name__}.{name}'
                for name in declared(device_class)
                if not any(getattr(device, name) not in (None, False) or _is_no(device, name) for device in devices)
            ]
            self.assertEqual([], never)

    def test_every_property_is_written_where_it_is_read(self) -> None:
        for device_class in CLASSES:
            for device in examples(device_class):
                values = {name: getattr(device, name) for name in declared(device_class)}
                copy: Any = device_class.new()
                for name in values:
                    # A new device may begin with something.
                    setattr(copy, name, False if values[name] is False and _is_presence(device_class, name) else None)
                for name, value in values.items():
                    setattr(copy, name, value)
                for name, value in values.items():
                    self.assertEqual(value, getattr(copy, name), f'{device_class.__name__}.{name}')
                for name in values:
                    setattr(copy, name, False if _is_presence(device_class, name) else None)
                self.assertEqual(f'<{device_class.tag}/>', copy.to_xml())

    def test_no_two_properties_have_one_place(self) -> None:
        for device_class in CLASSES:
            paths = [getattr(device_class, name).path for name in declared(device_class)]
            self.assertEqual(sorted(set(paths)), sorted(paths))


def _is_presence(device_class: type[Device], name: str) -> bool:
    return isinstance(getattr(device_class, name), properties.Presence)


def _is_no(device: Device, name: str) -> bool:
    """Whether a switch is there and says no."""
    return getattr(device, name) is False and not _is_presence(type(device), name)
