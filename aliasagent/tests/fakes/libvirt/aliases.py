# SPDX-License-Identifier: Apache-2.0
"""What libvirt does with aliases: keeps ``ua-`` ones in a definition, makes up the others for a running guest."""

import itertools
import re

from lxml import etree

from aliasagent.tests.fakes.libvirt import errors

WITHOUT_ALIAS = frozenset({'emulator', 'graphics', 'audio', 'lease'})
_KEPT = re.compile(r'ua-[A-Za-z0-9_-]*\Z')

# The driver's names for the n-th device of a kind.
_STEMS = {
    'interface': 'net',
    'memory': 'dimm',
    'filesystem': 'fs',
    'redirdev': 'redir',
    'memballoon': 'balloon',
}


def alias_of(device: etree._Element) -> str | None:
    found = device.find('alias')
    return None if found is None else found.get('name')


def set_alias(device: etree._Element, name: str | None) -> None:
    found = device.find('alias')
    if name is None:
        if found is not None:
            device.remove(found)
        return
    if found is None:
        found = etree.Element('alias')
        address = device.find('address')
        if address is not None:
            address.addprevious(found)
        else:
            device.append(found)
    found.set('name', name)


def is_user_alias(name: str | None) -> bool:
    return name is not None and _KEPT.match(name) is not None


def devices(definition: etree._Element) -> list[etree._Element]:
    """The devices of a definition, comments left aside."""
    return [child for child in definition.findall('devices/*') if isinstance(child.tag, str)]


def drop_foreign(definition: etree._Element) -> None:
    """On an inactive parse anything that is not a well-formed user alias is silently dropped."""
    for device in devices(definition):
        drop_foreign_from(device)


def drop_foreign_from(device: etree._Element) -> None:
    if device.tag in WITHOUT_ALIAS or not is_user_alias(alias_of(device)):
        set_alias(device, None)


def check_unique(definition: etree._Element, extra: etree._Element | None = None) -> None:
    """User aliases are unique in a guest, except that the first console may share the first serial port's."""
    seen: set[str] = set()
    first_serial = definition.find('devices/serial')
    first_console = definition.find('devices/console')
    for device in [*devices(definition), *([] if extra is None else [extra])]:
        alias = alias_of(device)
        if alias is None or not is_user_alias(alias):
            continue
        if device is first_console and first_serial is not None and alias_of(first_serial) == alias:
            continue
        if alias in seen:
            raise errors.duplicate_alias(alias)
        seen.add(alias)


def find(definition: etree._Element, alias: str) -> etree._Element:
    """The first device with the alias (libvirt stops at the first, too)."""
    for device in devices(definition):
        if alias_of(device) == alias:
            return device
    raise errors.no_alias(alias)


def generate_all(definition: etree._Element) -> None:
    """Give every device that has no alias the driver's, as at the start of a guest."""
    for device in devices(definition):
        if alias_of(device) is None:
            generate(definition, device)


def generate(definition: etree._Element, device: etree._Element) -> None:
    """The alias that the QEMU driver makes up for a device of a running guest."""
    tag = str(device.tag)
    if tag in WITHOUT_ALIAS or (tag == 'memballoon' and device.get('model') == 'none'):
        return
    if tag == 'disk':
        name = _disk_alias(device)
    elif tag == 'controller':
        name = _controller_alias(device)
    elif tag == 'console' and (serial := definition.find('devices/serial')) is not None:
        name = alias_of(serial) or 'serial0'
    else:
        taken = {alias_of(other) for other in devices(definition)}
        stem = _STEMS.get(tag, tag)
        name = next(f'{stem}{number}' for number in itertools.count() if f'{stem}{number}' not in taken)
    set_alias(device, name)


def disk_index(target: str) -> int:
    """vda is 0, vdz is 25, vdaa is 26."""
    letters = re.sub(r'\A(vd|sd|hd|xvd|fd)', '', target)
    number = 0
    for letter in letters:
        number = number * 26 + (ord(letter) - ord('a') + 1)
    return number - 1


def _disk_alias(disk: etree._Element) -> str:
    target = disk.find('target')
    bus = 'virtio' if target is None else target.get('bus', 'virtio')
    index = disk_index('' if target is None else target.get('dev', ''))
    if bus in ('virtio', 'usb'):
        return f'{bus}-disk{index}'
    address = disk.find('address')
    parts = ['0', '0', '0', str(index)]
    if address is not None and address.get('type') == 'drive':
        parts = [address.get(part, '0') for part in ('controller', 'bus', 'target', 'unit')]
    if bus in ('sata', 'ide', 'fdc'):
        del parts[2]
    return f'{bus}{"-".join(parts)}'


def _controller_alias(controller: etree._Element) -> str:
    kind, index = controller.get('type', ''), controller.get('index', '0')
    if kind == 'pci':
        root = controller.get('model') in ('pci-root', 'pcie-root')
        return f'{controller.get("model", "").removesuffix("-root")}.0' if root else f'pci.{index}'
    if kind in ('usb', 'sata', 'ide') and index == '0':
        return {'sata': 'ide', 'ide': 'ide', 'usb': 'usb'}[kind]
    return f'{kind}{index}'
