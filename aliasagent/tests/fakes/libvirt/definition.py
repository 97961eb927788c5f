# SPDX-License-Identifier: Apache-2.0
"""A domain definition as libvirt reads and writes it."""

import copy

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import addresses
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import drives
from aliasagent.tests.fakes.libvirt import errors

# Kinds that the QEMU driver neither plugs nor unplugs, live or in the config.
FIXED_KINDS = frozenset(
    {'graphics', 'hub', 'smartcard', 'memballoon', 'nvram', 'panic', 'iommu', 'tpm', 'video', 'audio', 'crypto'}
)
KINDS = FIXED_KINDS | {
    'channel',
    'console',
    'controller',
    'disk',
    'filesystem',
    'hostdev',
    'input',
    'interface',
    'lease',
    'memory',
    'parallel',
    'redirdev',
    'rng',
    'serial',
    'shmem',
    'sound',
    'vsock',
    'watchdog',
}


def parse(text: str, what: str) -> etree._Element:
    """Read XML from a client; entities stay unresolved."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    try:
        return etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise errors.broken_xml(what, str(error)) from error


def parse_domain(text: str) -> etree._Element:
    """An inactive parse of a whole definition: what defineXML makes of it."""
    definition = parse(text, 'domain_definition')
    if definition.tag != 'domain':
        raise errors.bad_xml(f'unexpected root element <{definition.tag}>, expecting <domain>')
    for comment in list(definition.iter(etree.Comment)):
        parent = comment.getparent()
        if parent is not None and next(comment.iterancestors('metadata'), None) is None:
            parent.remove(comment)
    for device in aliases.devices(definition):
        check_device(device)
    aliases.drop_foreign(definition)
    aliases.check_unique(definition)
    _check_targets(definition)
    for interface in definition.iterfind('devices/interface'):
        forget_tap(interface)
    addresses.assign_all(definition)
    drives.check_defined(definition)
    return definition


def parse_device(text: str) -> etree._Element:
    """An inactive parse of one device: what attachDeviceFlags makes of it."""
    device = parse(text, 'device_definition')
    if device.tag not in KINDS:
        raise errors.unsupported_config(f"unknown device type '{device.tag}'")
    check_device(device)
    aliases.drop_foreign_from(device)
    if device.tag == 'interface':
        forget_tap(device)
    return device


def check_device(device: etree._Element) -> None:
    """What libvirt refuses of a device by itself."""
    if device.tag == 'disk':
        target = device.find('target')
        if target is None or not target.get('dev'):
            raise errors.error(20, f'missing target information for device {source_of(device)}')
        if device.get('device') == 'lun' and device.find('serial') is not None:
            raise errors.unsupported_config(
                "scsi-block 'lun' devices do not support the serial property", libvirt.VIR_FROM_QEMU
            )
    elif device.tag == 'interface':
        mac = device.find('mac')
        if mac is not None:
            _check_mac(mac.get('address', ''))


def _check_mac(address: str) -> None:
    parts = address.split(':')
    try:
        good = len(parts) == 6 and all(0 <= int(part, 16) <= 255 for part in parts)
    except ValueError:
        good = False
    if not good:
        raise errors.bad_xml(f"unable to parse mac address '{address}'")


def forget_tap(interface: etree._Element) -> None:
    """A tap name that libvirt made up is not part of a definition."""
    target = interface.find('target')
    if target is not None and target.get('dev', '').startswith('vnet'):
        interface.remove(target)


def target_of(disk: etree._Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')


def source_of(device: etree._Element) -> str:
    """Path or name of a disk's source; empty for none."""
    source = device.find('source')
    if source is None:
        return ''
    return source.get('file') or source.get('dev') or source.get('name') or source.get('dir') or ''


def mac_of(interface: etree._Element) -> str:
    mac = interface.find('mac')
    return '' if mac is None else mac.get('address', '').lower()


def disk_at(definition: etree._Element, target: str) -> etree._Element | None:
    for disk in definition.iterfind('devices/disk'):
        if target_of(disk) == target:
            return disk
    return None


def _check_targets(definition: etree._Element) -> None:
    seen: dict[str, etree._Element] = {}
    for disk in definition.iterfind('devices/disk'):
        check_target_free(seen.get(target_of(disk)), disk)
        seen[target_of(disk)] = disk


def check_target_free(other: etree._Element | None, disk: etree._Element) -> None:
    if other is not None:
        raise errors.bad_xml(
            f"target '{target_of(disk)}' duplicated for disk sources '{source_of(other)}' and '{source_of(disk)}'"
        )


def find_interface(definition: etree._Element, wanted: etree._Element) -> etree._Element:
    """As virDomainNetFindIdx does: by MAC, by PCI address where it is given, by alias where both have one."""
    mac, alias = mac_of(wanted), aliases.alias_of(wanted)
    address = wanted.find('address')
    found = [
        interface
        for interface in definition.iterfind('devices/interface')
        if (not mac or mac_of(interface) == mac)
        and (alias is None or aliases.alias_of(interface) in (None, alias))
        and (address is None or _same_address(interface.find('address'), address))
    ]
    if not found:
        raise errors.missing_device(
            f"no device found at address '(<null>)' matching MAC address '{mac}' and alias '{alias or '(<null>)'}'",
            libvirt.VIR_FROM_DOMAIN,
        )
    if len(found) > 1:
        raise errors.failed(f'multiple devices matching MAC address {mac} found')
    return found[0]


def _same_address(one: etree._Element | None, other: etree._Element) -> bool:
    return one is not None and all(
        int(one.get(part, '0'), 16) == int(other.get(part, '0'), 16) for part in ('domain', 'bus', 'slot', 'function')
    )


def insert(definition: etree._Element, device: etree._Element) -> None:
    """Devices of a kind stand together."""
    same = definition.findall(f'devices/{device.tag}')
    if same:
        same[-1].addnext(device)
        return
    parent = definition.find('devices')
    assert parent is not None
    parent.append(device)


def dump(definition: etree._Element, inactive: bool, secure: bool) -> str:
    """XMLDesc. Passwords only if ``secure``; ``inactive`` leaves out what only a running guest has."""
    out = copy.deepcopy(definition)
    if inactive:
        strip_live(out)
    if not secure:
        for graphics in out.iterfind('devices/graphics'):
            graphics.attrib.pop('passwd', '')
    etree.indent(out, '  ')
    return etree.tostring(out, encoding='unicode') + '\n'


def strip_live(definition: etree._Element) -> None:
    definition.attrib.pop('id', '')
    aliases.drop_foreign(definition)
    for interface in definition.iterfind('devices/interface'):
        forget_tap(interface)
    for disk in definition.iterfind('devices/disk'):
        source = disk.find('source')
        if source is not None:
            source.attrib.pop('index', '')
        backing = disk.find('backingStore')
        if backing is not None and len(backing) == 0:
            disk.remove(backing)
