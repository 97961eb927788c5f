# SPDX-License-Identifier: Apache-2.0
"""Judges the agent's calls: what each of them meets, and what it changes."""

from typing import Any

import libvirt
from lxml import etree

from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import DETACHES
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history import chronicle
from aliasagent.tests.history.chronicle import CONFIG
from aliasagent.tests.history.chronicle import LIVE
from aliasagent.tests.history.facts import Facts

#: Calls that change nothing.
READS = frozenset(
    {'lookupByUUIDString', 'isActive', 'isPersistent', 'state', 'info', 'jobStats', 'hasManagedSaveImage'}
)


class Calls:
    """Judges calls."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._before: Any = None

    def before_call(self, method: str, arguments: tuple[object, ...]) -> None:
        """See what a call will meet."""
        if method == 'restoreFlags':
            self._judge_restore(str(arguments[0]))
        guest = self._facts.hypervisor.guest_of(method, arguments)
        self._before = None if guest is None else guest.config
        if guest is None:
            return
        if method == 'detachDeviceAlias':
            self._judge_alias(guest, str(arguments[1]), int(str(arguments[2])))
        elif method == 'detachDeviceFlags':
            self._judge_place(guest, str(arguments[1]), int(str(arguments[2])))
        elif method == 'attachDeviceFlags':
            device = chronicle.truth(definition.parse_device(str(arguments[1])))
            if device is None or not self._facts.is_asked(guest.uuid, device, ATTACHES):
                self._facts.lie('wrong device', f'{device} is attached and nothing asks for it')

    def after_call(self, method: str, arguments: tuple[object, ...]) -> None:
        """See what a call has done."""
        guest = self._facts.hypervisor.guest_of(method, arguments)
        if guest is None:
            return
        if method == 'XMLDesc':
            self._read(guest, int(str(arguments[1])) if len(arguments) > 1 else 0)
        elif method not in READS:
            self._facts.chronicle.observe(guest, 'agent')
        if method in ('updateDeviceFlags', 'defineXML', 'defineXMLFlags'):
            self._judge_write(guest, self._before)

    def _read(self, guest: FakeGuest, flags: int) -> None:
        inactive = bool(flags & libvirt.VIR_DOMAIN_XML_INACTIVE) or guest.live is None
        self._facts.read(guest.uuid, CONFIG if inactive else LIVE)
        if inactive and guest.live is None:
            self._facts.read(guest.uuid, LIVE)

    def _judge_restore(self, path: str) -> None:
        uuid, _image = self._facts.hypervisor.saved.get(path, ('', ''))
        guest = self._facts.hypervisor.guests.get(uuid)
        if guest is not None and guest.active:
            return  # libvirt refuses
        if uuid and not self._facts.chronicle.is_saved(uuid):
            self._facts.lie('old memory', f'guest {uuid[:8]} is restored, and has run since it was saved')

    def _judge_alias(self, guest: FakeGuest, alias: str, flags: int) -> None:
        for side, tree, flag in (
            (LIVE, guest.live, libvirt.VIR_DOMAIN_AFFECT_LIVE),
            (CONFIG, guest.config, libvirt.VIR_DOMAIN_AFFECT_CONFIG),
        ):
            if not flags & flag or tree is None:
                continue
            if not alias.startswith('ua-') and self._facts.in_window(guest.uuid, side):
                continue
            for device, element in chronicle.found(tree):
                if aliases.alias_of(element) == alias and not self._facts.is_asked(guest.uuid, device, DETACHES):
                    self._facts.lie('wrong device', f'{device} is taken from the {side} as {alias}, and not asked for')

    def _judge_place(self, guest: FakeGuest, xml: str, flags: int) -> None:
        side, tree = (LIVE, guest.live) if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE else (CONFIG, guest.config)
        if tree is None or self._facts.in_window(guest.uuid, side):
            return
        try:
            element = hotplug._match(tree, definition.parse_device(xml), '{}')
        except libvirt.libvirtError:
            return
        device = chronicle.truth(element)
        if device is None:
            self._facts.lie('wrong device', f'{etree.tostring(element).decode()} is taken out')
        elif not self._facts.is_asked(guest.uuid, device, DETACHES):
            self._facts.lie('wrong device', f'{device} is taken from the {side}, and nothing asks for it')

    def _judge_write(self, guest: FakeGuest, before: Any) -> None:
        """A write to the saved definition changes aliases only, and gives each device its own."""
        old, new = (dict(chronicle.found(tree)) for tree in (before, guest.config))
        if self._facts.in_exchange(guest.uuid, CONFIG):
            return
        if set(old) != set(new):
            self._facts.lie('wrong device', f'{sorted(set(old) ^ set(new))} came or went by reconciling')
        for device in set(old) & set(new):
            was, now = aliases.alias_of(old[device]), aliases.alias_of(new[device])
            if was != now and now != f'ua-{device}':
                self._facts.lie('wrong device', f'{device} had the alias {was} and was given {now}')
            if _but_alias(old[device]) != _but_alias(new[device]):
                self._facts.lie('wrong device', f'{device} was changed by reconciling')


def _but_alias(element: Any) -> list[str]:
    """A device without its alias, whatever the order of what it is made of."""
    parts = sorted(
        etree.tostring(child, method='c14n').decode().strip() for child in element if child.tag != 'alias'
    )
    return [*sorted(f'{name}={value}' for name, value in element.attrib.items()), *parts]
