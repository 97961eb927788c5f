# SPDX-License-Identifier: Apache-2.0
"""A guest's definition: its devices, and finding one of them.

Two look-ups, in this order and no other: by user alias, then by identity (:mod:`aliasagent.devices.identity`) among the
devices that no user alias claims. A device that carries somebody else's alias is never found as a fallback.
"""

import copy
import dataclasses
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
from aliasagent.devices import identity
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


@dataclasses.dataclass(frozen=True)
class Found:
    """A device, and how we know that it is the one that was looked for."""

    device: base.Device
    evidence: identity.Evidence


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

    def find(self, device_id: str, known: identity.Claim | None = None) -> Found | None:
        """The device of an id: by its alias, else by identity; None if the definition has no such device.

        :param known: what else is known of the device that is looked for.
        :raises AmbiguousDevice: more than one device could be meant.
        """
        named = [Found(found, identity.Evidence.ALIAS) for found in self.by_alias(alias.make(device_id))]
        if named:
            return self._only(device_id, named)
        ports = self.ports()
        identified = [(found, identity.identify(found, ports)) for found in self.devices()]
        own = [
            Found(found, whose.evidence)
            for found, whose in identified
            if whose is not None and whose.device_id == device_id.lower() and not found.is_claimed
        ]
        if own or known is None:
            return self._only(device_id, own)
        fitting = [
            (Found(found, evidence), whose)
            for found, whose in identified
            if (evidence := identity.supports(found, known)) is not None
        ]
        if all(whose is not None or it.device.is_claimed for it, whose in fitting):
            return self._in_spite_of(device_id, fitting)
        # If something fits that is another's, the rest may be, too: a MAC, for one, can be that of two ports.
        return self._only(device_id, [it for it, _whose in fitting])

    def _in_spite_of(self, device_id: str, fitting: list[tuple[Found, identity.Identity | None]]) -> Found | None:
        """Of devices that fit what is known of one, and are said to be another's, that one; None if it is true of all.

        An alias, a serial or a port's id is true. The name of a source may be that of an earlier life: after a volume
        migration the volume keeps its id, and lies in what is called after the other. A mediated device is who it is.

        :raises AmbiguousDevice: it cannot be told.
        """
        unclaimed = [(it, whose.evidence) for it, whose in fitting if whose is not None and not it.device.is_claimed]
        certain = [it for it, _evidence in unclaimed if it.evidence is identity.Evidence.MDEV_UUID]
        if certain:
            return self._only(device_id, certain)
        doubtful = [it for it, evidence in unclaimed if evidence is identity.Evidence.SOURCE_NAME]
        if doubtful:
            raise self._ambiguous(device_id, doubtful)
        return None

    def has_double(self, device: base.Device) -> bool:
        """Whether another device of the definition looks like this one to somebody who does not know their ids."""
        known = identity.claim(device)
        # One of them is the device itself, be it in hand as a copy.
        return sum(identity.supports(found, known) is not None for found in self.devices()) > 1

    def _only(self, device_id: str, candidates: list[Found]) -> Found | None:
        if len(candidates) > 1:
            raise self._ambiguous(device_id, candidates)
        return candidates[0] if candidates else None

    def _ambiguous(self, device_id: str, candidates: list[Found]) -> exception.AmbiguousDevice:
        return exception.AmbiguousDevice(
            instance=self.uuid,
            device=device_id,
            candidates='; '.join(f'{found.device.describe()} (by {found.evidence})' for found in candidates),
        )

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
