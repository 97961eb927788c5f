# SPDX-License-Identifier: Apache-2.0
"""The base class of all devices of a guest."""

import copy
from typing import ClassVar
from typing import Self

from lxml import etree

from aliasagent.devices import alias
from aliasagent.devices import properties
from aliasagent.devices import xml

#: Kinds that a running guest never releases: libvirt answers with code 84, or the device has no alias, or the guest
#: ignores the request (``filesystem``). Measured on libvirt 9.0 and 11.3.
NEVER_UNPLUGGED = frozenset(
    {
        'audio',
        'crypto',
        'filesystem',
        'graphics',
        'hub',
        'iommu',
        'lease',
        'memballoon',
        'nvram',
        'panic',
        'parallel',
        'pstore',
        'smartcard',
        'sound',
        'tpm',
        'video',
    }
)
#: The serial devices on a bus that supports unplug.
_UNPLUGGED_SERIALS = frozenset({'pci-serial', 'usb-serial'})


class Device:
    """A view of one child of a domain's ``<devices>``.

    This class serves the kinds that the agent finds, lists and detaches, but does not build. Properties read and write
    the XML; elements without a property stay unchanged.
    """

    #: The element's name in a new device.
    tag: ClassVar[str]

    alias = properties.text('alias/@name')

    def __init__(self, element: xml.Element) -> None:
        self.element = element
        # Children that were found or made, by name: a lookup costs less than a search among all children. Only elements
        # are remembered, never values, and no child that is missing: another view may change the same element.
        self._children: dict[str, xml.Element] = {}

    @classmethod
    def new(cls) -> Self:
        """Make an empty device of this kind."""
        return cls(etree.Element(cls.tag))

    def child(self, name: str) -> xml.Element | None:
        """Return the first child of this name."""
        found = self._children.get(name)
        if found is None or found.getparent() is not self.element:
            found = xml.child(self.element, name)
            if found is not None:
                self._children[name] = found
        return found

    def child_made(self, name: str) -> xml.Element:
        """Return the first child of this name; make the child if there is none."""
        found = self._children.get(name)
        if found is not None and found.getparent() is self.element:
            return found
        # In a new device all children are known, and there is nothing to search.
        is_new = len(self._children) == len(self.element)
        found = etree.SubElement(self.element, name) if is_new else xml.child_made(self.element, name)
        self._children[name] = found
        return found

    def remove(self, element: xml.Element) -> None:
        """Remove an element beneath the device's, and keep the text that follows the element."""
        properties.remove(element)
        self._children.clear()

    @property
    def kind(self) -> str:
        """Return the name of the element: ``disk``, ``interface``, ``hostdev``, ``rng``, ..."""
        return str(self.element.tag)

    @property
    def device_id(self) -> str | None:
        """Return the id of the device's volume, port or host device from its user alias; None without one."""
        return alias.parse(self.alias)

    @property
    def is_claimed(self) -> bool:
        """Return whether the device has a user alias, of this agent or of another client."""
        return alias.is_user(self.alias)

    @property
    def can_be_unplugged(self) -> bool:
        """Return whether libvirt can remove such a device from a running guest."""
        match self.kind:
            case 'controller':
                return self.element.get('type') == 'scsi'
            case 'input':
                return self.element.get('bus') != 'ps2'
            case 'serial':
                target = self.element.find('target')
                return target is not None and target.get('type') in _UNPLUGGED_SERIALS
            case kind:
                return kind not in NEVER_UNPLUGGED

    @property
    def target(self) -> str | None:
        """Return the device's target name (``vdb``, ``tap0``); None without one."""
        return None

    @property
    def drive_bus(self) -> str | None:
        """Return the device's bus, if the device can have a drive address there; else None."""
        return None

    @property
    def source(self) -> str | None:
        """Return the device's source as one text; None without one, or for a kind that the agent does not build."""
        return None

    def describe(self) -> str:
        """Describe the device for an error or a log line, without secrets."""
        return ' '.join(word for word in (self.kind, self.target, self.alias) if word)

    def text_without_alias(self) -> str:
        """Return the device's XML without its alias and without blanks, for a comparison of everything else."""
        other = type(self)(copy.deepcopy(self.element))
        other.alias = None
        xml.strip_blanks(other.element)
        return xml.to_text(other.element)

    def to_xml(self) -> str:
        """Return the device's XML."""
        return xml.to_text(self.element)
