# SPDX-License-Identifier: Apache-2.0
"""What all devices of a guest have in common."""

import copy
from typing import ClassVar
from typing import Self

from lxml import etree

from aliasagent.devices import alias
from aliasagent.devices import properties
from aliasagent.devices import xml

#: Kinds that no running guest gives up: libvirt answers code 84, or they have no alias to name them by, or, as with
#: ``filesystem``, the guest never lets go of them. Measured on libvirt 9.0 and 11.3.
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
#: The serial devices that sit on a bus from which something can be unplugged.
_UNPLUGGED_SERIALS = frozenset({'pci-serial', 'usb-serial'})


class Device:
    """A view of one child of a domain's ``<devices>``.

    This class itself serves the kinds that we find, list and detach, but do not build.
    Reading and writing its properties goes through to the XML; what no property names is left as it is.
    """

    #: The element's name in a new device.
    tag: ClassVar[str]

    alias = properties.text('alias/@name')

    def __init__(self, element: xml.Element) -> None:
        self.element = element
        self.written: dict[str, xml.Element] = {}

    @classmethod
    def new(cls) -> Self:
        """An empty device of this kind."""
        return cls(etree.Element(cls.tag))

    @property
    def kind(self) -> str:
        """The name of the element: ``disk``, ``interface``, ``hostdev``, ``rng``, ..."""
        return str(self.element.tag)

    @property
    def device_id(self) -> str | None:
        """The id of the volume, port or other thing behind the device, if a user alias says it."""
        return alias.parse(self.alias)

    @property
    def is_claimed(self) -> bool:
        """Whether a user alias says whose the device is, be it ours or somebody else's."""
        return alias.is_user(self.alias)

    @property
    def can_be_unplugged(self) -> bool:
        """Whether libvirt can take such a device out of a running guest."""
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
        """What the device is called in or towards the guest (``vdb``, ``tap0``); None where nothing is."""
        return None

    @property
    def drive_bus(self) -> str | None:
        """The bus that the device is on, if it can have a place there by a drive's address, which no other then has."""
        return None

    @property
    def source(self) -> str | None:
        """What is behind the device, in one word; None where there is nothing or we do not know the kind."""
        return None

    def describe(self) -> str:
        """A few words for an error or a log line, without secrets."""
        return ' '.join(word for word in (self.kind, self.target, self.alias) if word)

    def text_without_alias(self) -> str:
        """The device's XML but for its alias and for blanks, to see whether anything else differs between two."""
        other = type(self)(copy.deepcopy(self.element))
        other.alias = None
        xml.strip_blanks(other.element)
        return xml.to_text(other.element)

    def to_xml(self) -> str:
        """The device's XML."""
        return xml.to_text(self.element)
