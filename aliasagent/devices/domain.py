# SPDX-License-Identifier: Apache-2.0
"""A guest's definition and its devices. :mod:`aliasagent.devices.identity` decides which device is meant."""

import collections
import copy
import functools
import re
from collections.abc import Callable
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
from aliasagent.devices import names
from aliasagent.devices import targets
from aliasagent.devices import xml

_CLASSES: dict[str, type[base.Device]] = {
    disk.Disk.tag: disk.Disk,
    interface.Interface.tag: interface.Interface,
    hostdev.Hostdev.tag: hostdev.Hostdev,
}
#: Children of ``<devices>`` that are not devices.
_NO_DEVICES = frozenset({'emulator'})
_NOVA = r'\{http://openstack\.org/xmlns/libvirt/nova/[^}]*\}'
_NOVA_PORT = re.compile(f'{_NOVA}port')
#: The elements that Nova writes directly below ``<metadata>``; a copy below another client's element is not Nova's.
_NOVA_GUEST = re.compile(f'{_NOVA}(?:instance|owner)')


def _parse(text: str | bytes) -> xml.Element:
    root = xml.parse(text)
    if root.tag != 'domain':
        raise exception.InvalidXML(reason=f'its root element is {str(root.tag)[:40]}, not domain')
    return root


def device(element: xml.Element) -> base.Device:
    """Make the view for an element of any kind."""
    return _CLASSES.get(str(element.tag), base.Device)(element)


class Domain:
    """A view of a domain definition; changes are made in place, and all other parts stay unchanged."""

    def __init__(self, root: xml.Element | None, text: str = '') -> None:
        self._root = root
        self._text = text
        # The views of devices, by element: a view that has been read before is faster to read.
        self._views: dict[xml.Element, base.Device] = {}
        self._ports_of_running: Callable[[], frozenset[str]] | None = None

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a definition.

        :raises InvalidXML: the text is not XML that libvirt could have written, or not a domain.
        """
        return cls(_parse(text))

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a definition as libvirt wrote it; :meth:`by_alias` then needs no parse of the whole text.

        A device that is found without a parse is a copy. Use :meth:`parse` to change a definition in place.

        :raises InvalidXML: as :meth:`parse`; a later method raises it if only a parse shows the error.
        """
        return cls(None, text) if dump.is_whole(text) else cls.parse(text)

    @property
    def root(self) -> xml.Element:
        """Return the ``<domain>`` element."""
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
        """Return whether this is the definition of a running guest: only those have a runtime id."""
        return dump.is_live(self._text) if self._root is None else self._root.get('id') is not None

    @property
    def runtime_id(self) -> str | None:
        """Return libvirt's number of this run, unique on the host; None if the guest is not running."""
        found = dump.runtime_id(self._text) if self._root is None else None
        return self.root.get('id') if found is None else found

    def devices(self) -> Iterator[base.Device]:
        """Yield all devices, in the order of the definition."""
        for parent in self.root.iterfind('devices'):
            for element in xml.child_elements(parent):
                if element.tag not in _NO_DEVICES:
                    found = self._views.get(element)
                    if found is None:
                        found = self._views[element] = device(element)
                    yield found

    def unclaimed(self) -> list[base.Device]:
        """Return the devices without user alias, in the order of the definition; copies, as of :meth:`by_alias`."""
        elements = dump.unclaimed(self._text) if self._root is None else None
        devices = self.devices() if elements is None else (device(it) for it in elements if it.tag not in _NO_DEVICES)
        return [found for found in devices if not found.is_claimed]

    def ports(self) -> frozenset[str]:
        """Return the ids of the ports in Nova's metadata, of the running guest as well (:meth:`add_ports`)."""
        metadata = self._metadata()
        if metadata is None:
            return frozenset()
        own = frozenset(
            element.get('uuid', '').lower()
            for element in metadata.iter()
            if isinstance(element.tag, str) and _NOVA_PORT.fullmatch(element.tag)
        )
        return own if self._ports_of_running is None else own | self._ports_of_running()

    def add_ports(self, of_running: Callable[[], frozenset[str]]) -> None:
        """Have :meth:`ports` of a persistent definition return the ports of the running guest as well.

        :param of_running: returns those; called only for a guest with metadata.
        """
        # After Nova has attached a port to a running guest, it lists the port in the metadata of the running guest
        # only, until the next hard reboot.
        self._ports_of_running = functools.cache(of_running)

    @property
    def is_novas(self) -> bool:
        """Return whether Nova made this guest, by the metadata."""
        metadata = self._metadata()
        children = () if metadata is None else xml.child_elements(metadata)
        return any(_NOVA_GUEST.fullmatch(str(element.tag)) for element in children)

    def _metadata(self) -> xml.Element | None:
        if self._root is None:
            if '<metadata' not in self._text:
                return None
            found = dump.metadata(self._text)
            if found is not None:
                return found
        return self.root.find('metadata')

    def disk_targets(self) -> set[str]:
        """Return the target names of the disks."""
        return {target for found in self.devices() if isinstance(found, disk.Disk) and (target := found.target)}

    def taken_targets(self, bus: str) -> set[str]:
        """Return the target names that a new disk on this bus cannot have: of disks and of drive addresses in use."""
        # libvirt places a disk by its name. It refuses the place of another SCSI device, but accepts a second SATA disk
        # in one place, and the guest cannot start any more.
        on_bus = (found for found in self.devices() if found.drive_bus == bus)
        led_to = (targets.leading_to(found.child('address'), bus) for found in on_bus)
        return self.disk_targets() | {name for name in led_to if name is not None}

    def users_of(self, controller: base.Device) -> list[base.Device]:
        """Return the devices on a SCSI controller; none if the device is not a SCSI controller."""
        if controller.kind != 'controller' or controller.element.get('type') != 'scsi':
            return []
        index = controller.element.get('index')
        addresses = ((found, found.child('address')) for found in self.devices() if found.drive_bus == 'scsi')
        return [found for found, address in addresses if address is not None and address.get('controller') == index]

    def by_alias(self, name: str) -> list[base.Device]:
        """Return the devices with this alias: more than one only if libvirt loaded such a definition from disk."""
        device_id = alias.parse(name)
        if self._root is None and device_id is not None and alias.is_valid_id(device_id):
            elements = dump.with_alias(self._text, name)
            if elements is not None:
                return [device(element) for element in elements]
        return [found for found in self.devices() if found.alias == name]

    def may_mention(self, device_id: str) -> bool:
        """Return whether a device may have evidence of an id, other than the alias of exactly this id.

        All evidence but a hint has the first eight digits of a UUID in it. So only a text without them answers no.
        """
        if not names.is_uuid(device_id):
            return False
        text = self._text
        return not text or device_id[:8].lower() in text.lower() or dump.has_references(text)

    def doubled_aliases(self) -> list[str]:
        """Return the user aliases that more than one device has."""
        # The first console is a second view of the first serial port, with the same alias.
        devices = list(self.devices())
        first = next((found for found in devices if found.kind == 'console'), None)
        serial = next((found for found in devices if found.kind == 'serial'), None)
        shared = first if first is not None and serial is not None and first.alias == serial.alias else None
        counted = collections.Counter(found.alias for found in devices if found.is_claimed and found is not shared)
        return sorted(name for name, count in counted.items() if name is not None and count > 1)

    def without_aliases(self) -> str:
        """Return the definition's text without device aliases, for a comparison of everything else."""
        root = copy.deepcopy(self.root)
        for found in Domain(root).devices():
            found.alias = None
        return str(etree.canonicalize(xml.to_text(root), strip_text=True))

    def differs_in_aliases_only(self, other: 'Domain') -> bool:
        """Return whether two definitions are equal except for device aliases and the order of the devices."""
        # libvirt changes the order of the devices with its second write of a definition.
        return self._parts_without_aliases() == other._parts_without_aliases()

    def _parts_without_aliases(self) -> list[str]:
        root = copy.deepcopy(self.root)
        for parent in root.findall('devices'):
            root.remove(parent)
        xml.strip_blanks(root)
        return [*sorted(found.text_without_alias() for found in self.devices()), xml.to_text(root)]

    def to_xml(self) -> str:
        """Return the definition's text."""
        return xml.to_text(self.root)
