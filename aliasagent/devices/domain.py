# SPDX-License-Identifier: Apache-2.0
"""A guest's definition and its devices. Which of them is meant is judged by :mod:`aliasagent.devices.identity`."""

import collections
import copy
import re
from collections.abc import Iterator
from typing import Self

from lxml import etree

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import dump
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import targets
from aliasagent.devices import xml

_CLASSES: dict[str, type[base.Device]] = {
    disk.Disk.tag: disk.Disk,
    interface.Interface.tag: interface.Interface,
    hostdev.Hostdev.tag: hostdev.Hostdev,
}
#: Children of ``<devices>`` that are no devices.
_NO_DEVICES = frozenset({'emulator'})
_NOVA_PORT = re.compile(r'\{http://openstack\.org/xmlns/libvirt/nova/[^}]*\}port')


def _parse(text: str | bytes) -> xml.Element:
    root = xml.parse(text)
    if root.tag != 'domain':
        raise exception.InvalidXML(reason=f'its root is not a domain but {str(root.tag)[:40]}')
    return root


def device(element: xml.Element) -> base.Device:
    """The view that fits an element's kind."""
    return _CLASSES.get(str(element.tag), base.Device)(element)


class Domain:
    """A view of a domain definition; changes are made in place and lose nothing."""

    def __init__(self, root: xml.Element | None, text: str = '') -> None:
        self._root = root
        self._text = text

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a definition.

        :raises InvalidXML: it is not XML that libvirt could have written, or not a domain.
        """
        return cls(_parse(text))

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a definition as libvirt wrote it, to look at: a device by its alias is found without a parse of it all.

        What is found so is a copy; to change a definition in place, :meth:`parse` it.

        :raises InvalidXML: as :meth:`parse`; what only a parse shows, as soon as more is asked for.
        """
        return cls(None, text) if dump.is_whole(text) else cls.parse(text)

    @property
    def root(self) -> xml.Element:
        """The ``<domain>``."""
        if self._root is None:
            self._root = _parse(self._text)
        return self._root

    @property
    def uuid(self) -> str:
        return self.root.findtext('uuid', '').strip()

    @property
    def name(self) -> str:
        return self.root.findtext('name', '')

    @property
    def is_live(self) -> bool:
        """Whether this is the definition of a running guest: only those have a runtime id."""
        return dump.is_live(self._text) if self._root is None else self._root.get('id') is not None

    @property
    def runtime_id(self) -> str | None:
        """libvirt's number of this run of the guest, which no other run on the host has; None if it does not run."""
        return self.root.get('id')

    def devices(self) -> Iterator[base.Device]:
        """All devices, in the order of the definition."""
        for parent in self.root.iterfind('devices'):
            for element in xml.child_elements(parent):
                if element.tag not in _NO_DEVICES:
                    yield device(element)

    def ports(self) -> frozenset[str]:
        """The ids of the ports that Nova's metadata lists."""
        metadata = self.root.find('metadata')
        if metadata is None:
            return frozenset()
        return frozenset(
            element.get('uuid', '').lower()
            for element in metadata.iter()
            if isinstance(element.tag, str) and _NOVA_PORT.fullmatch(element.tag)
        )

    def disk_targets(self) -> set[str]:
        """The target names that disks take up."""
        return {target for found in self.devices() if isinstance(found, disk.Disk) and (target := found.target)}

    def taken_targets(self, bus: str) -> set[str]:
        """The target names that a new disk on this bus cannot have, for a disk has them, or a device what they lead to.

        libvirt refuses the place of another SCSI device; of a SATA disk it takes a second one, and the guest does not
        start any more.
        """
        on_bus = (found for found in self.devices() if found.drive_bus == bus)
        led_to = (targets.leading_to(found.element.find('address'), bus) for found in on_bus)
        return self.disk_targets() | {name for name in led_to if name is not None}

    def users_of(self, controller: base.Device) -> list[base.Device]:
        """The devices that are plugged into a SCSI controller; none if the device is something else."""
        if controller.kind != 'controller' or controller.element.get('type') != 'scsi':
            return []
        index = controller.element.get('index')
        addresses = ((found, found.element.find('address')) for found in self.devices() if found.drive_bus == 'scsi')
        return [found for found, address in addresses if address is not None and address.get('controller') == index]

    def by_alias(self, name: str) -> list[base.Device]:
        """The devices with this very alias: more than one only if the definition was loaded from disk like that."""
        device_id = alias.parse(name)
        if self._root is None and device_id is not None and alias.is_valid_id(device_id):
            elements = dump.with_alias(self._text, name)
            if elements is not None:
                return [device(element) for element in elements]
        return [found for found in self.devices() if found.alias == name]

    def doubled_aliases(self) -> list[str]:
        """The user aliases that more than one device has.

        The first console is the first serial port once more, and libvirt lets it have its alias.
        """
        devices = list(self.devices())
        first = next((found for found in devices if found.kind == 'console'), None)
        serial = next((found for found in devices if found.kind == 'serial'), None)
        shared = first if first is not None and serial is not None and first.alias == serial.alias else None
        counted = collections.Counter(found.alias for found in devices if found.is_claimed and found is not shared)
        return sorted(name for name, count in counted.items() if name is not None and count > 1)

    def without_aliases(self) -> str:
        """The definition's text but for device aliases, to see whether anything else differs between two."""
        root = copy.deepcopy(self.root)
        for found in Domain(root).devices():
            found.alias = None
        return str(etree.canonicalize(xml.to_text(root), strip_text=True))

    def differs_in_aliases_only(self, other: 'Domain') -> bool:
        """Whether two definitions are the same but for device aliases.

        Devices may stand in another order: libvirt sorts them anew when it writes a definition for the second time.
        """
        return self._parts_without_aliases() == other._parts_without_aliases()

    def _parts_without_aliases(self) -> list[str]:
        root = copy.deepcopy(self.root)
        for parent in root.findall('devices'):
            root.remove(parent)
        xml.strip_blanks(root)
        return [*sorted(found.text_without_alias() for found in self.devices()), xml.to_text(root)]

    def to_xml(self) -> str:
        """The definition's text."""
        return xml.to_text(self.root)
