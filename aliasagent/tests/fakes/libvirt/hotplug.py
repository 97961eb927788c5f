# SPDX-License-Identifier: Apache-2.0
"""Attach, detach and update as libvirt's QEMU driver does them: config first, then live, and both or neither."""

import copy

import libvirt
from lxml import etree

from aliasagent.tests.fakes.libvirt import addresses
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import drives
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
_XML_UPDATABLE = frozenset({'disk', 'interface', 'graphics', 'memory'})
_ONLY_CONFIG = frozenset({'sound'})
_REMOVABLE_CONTROLLERS = frozenset({'scsi'})


def sides(guest: FakeGuest, flags: int) -> tuple[bool, bool]:
    """Which definitions the flags mean; none of them means the running one if there is one."""
    live, config = bool(flags & LIVE), bool(flags & CONFIG)
    if not live and not config:
        live, config = guest.active, not guest.active
    if live:
        guest.need_live()
    if config:
        guest.need_config()
    if guest.migrating:
        raise errors.lock_timeout()
    return live, config


def attach(guest: FakeGuest, xml: str, flags: int) -> None:
    live, config = sides(guest, flags)
    saved = None
    if config:
        saved = copy.deepcopy(guest.need_config())
        _attach_config(saved, definition.parse_device(xml))
    if live:
        _attach_live(guest, definition.parse_device(xml))
    if saved is not None:
        guest.config = saved


def _attach_config(config: etree._Element, device: etree._Element) -> None:
    kind = str(device.tag)
    aliases.check_unique(config, device)
    if kind in definition.FIXED_KINDS:
        raise errors.unsupported(f"persistent attach of device '{kind}' is not supported")
    if kind == 'disk' and definition.disk_at(config, definition.target_of(device)) is not None:
        raise errors.invalid_state(f'target {definition.target_of(device)} already exists', libvirt.VIR_FROM_QEMU)
    if kind == 'hostdev' and _same_hostdev(config, device) is not None:
        raise errors.invalid_state('device is already in the domain configuration', libvirt.VIR_FROM_QEMU)
    addresses.assign(config, device, may_add_ports=True)
    drives.check_attached(config, device)
    definition.insert(config, device)


def _attach_live(guest: FakeGuest, device: etree._Element) -> None:
    live, kind, hypervisor = guest.need_live(), str(device.tag), guest.hypervisor
    aliases.check_unique(live, device)
    if kind in definition.FIXED_KINDS or kind in _ONLY_CONFIG:
        raise errors.unsupported(f"live attach of device '{kind}' is not supported")
    if kind == 'disk':
        definition.check_target_free(definition.disk_at(live, definition.target_of(device)), device)
        hypervisor.check_source(device)
        target = device.find('target')
        if target is not None and target.get('bus') in ('sata', 'ide'):
            raise errors.qemu_refused('device_add', f"Bus 'ide.{len(live)}' does not support hotplugging")
        hypervisor.open_disk(device)
    if kind == 'hostdev':
        if not hypervisor.passthrough:
            raise errors.unsupported_config(
                "host doesn't support passthrough of host PCI devices", libvirt.VIR_FROM_QEMU
            )
        if _same_hostdev(live, device) is not None:
            raise errors.invalid_state('device is in use by this domain', libvirt.VIR_FROM_QEMU)
    addresses.assign(live, device, may_add_ports=False)
    drives.check_attached(live, device)
    if kind == 'interface':
        hypervisor.plug_tap(device)
    if aliases.alias_of(device) is None:
        aliases.generate(live, device)
    definition.insert(live, device)
    hypervisor.emit(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, guest, aliases.alias_of(device) or '')


def detach_alias(guest: FakeGuest, alias: str, flags: int) -> None:
    """virDomainDetachDeviceAlias: returns before a live device is gone."""
    live, config = sides(guest, flags)
    saved = None
    if config:
        saved = copy.deepcopy(guest.need_config())
        _detach_config(aliases.find(saved, alias))
    if live:
        _detach_live(guest, aliases.find(guest.need_live(), alias))
    if saved is not None:
        guest.config = saved


def detach_xml(guest: FakeGuest, xml: str, flags: int) -> str | None:
    """virDomainDetachDeviceFlags. Returns the alias of the live device, for which libvirt waits some seconds."""
    live, config = sides(guest, flags)
    wanted = definition.parse_device(xml)
    saved, waited_for = None, None
    if config:
        saved = copy.deepcopy(guest.need_config())
        _detach_config(_match(saved, wanted, 'no target device {}'))
    if live:
        device = _match(guest.need_live(), wanted, 'disk {} not found')
        waited_for = aliases.alias_of(device)
        _detach_live(guest, device)
    if saved is not None:
        guest.config = saved
    return waited_for


def _match(where: etree._Element, wanted: etree._Element, no_disk: str) -> etree._Element:
    """A disk by its target alone, an interface by MAC, a controller by its index; the rest by alias or kind."""
    if wanted.tag == 'disk':
        target = definition.target_of(wanted)
        disk = definition.disk_at(where, target)
        if disk is None:
            raise errors.missing_device(no_disk.format(target))
        return disk
    if wanted.tag == 'interface':
        return definition.find_interface(where, wanted)
    if wanted.tag == 'hostdev':
        hostdev = _same_hostdev(where, wanted)
        if hostdev is None:
            raise errors.missing_device('host device not found')
        return hostdev
    alias = aliases.alias_of(wanted)
    for device in where.iterfind(f'devices/{wanted.tag}'):
        if wanted.tag == 'controller' and any(device.get(name) != wanted.get(name) for name in ('type', 'index')):
            continue
        if alias is None or aliases.alias_of(device) == alias:
            return device
    raise errors.missing_device('matching device not found')


def _detach_config(device: etree._Element) -> None:
    if device.tag in definition.FIXED_KINDS:
        raise errors.unsupported(f"persistent detach of device '{device.tag}' is not supported")
    parent = device.getparent()
    assert parent is not None
    parent.remove(device)


def _detach_live(guest: FakeGuest, device: etree._Element) -> None:
    kind = str(device.tag)
    if kind in definition.FIXED_KINDS or kind in _ONLY_CONFIG:
        raise errors.unsupported(f"live detach of device '{kind}' is not supported")
    if kind == 'controller':
        _check_controller(guest, device)
    if kind == 'input' and device.get('bus') == 'ps2':
        raise errors.unsupported("input device on bus 'ps2' cannot be detached")
    target = device.find('target')
    if kind == 'disk' and target is not None and target.get('bus') in ('sata', 'ide', 'fdc'):
        raise errors.unsupported('This type of disk cannot be hot unplugged')
    guest.request_unplug(device)


def _check_controller(guest: FakeGuest, controller: etree._Element) -> None:
    kind, index = controller.get('type'), controller.get('index')
    if kind not in _REMOVABLE_CONTROLLERS:
        raise errors.unsupported(f"'{kind}' controller cannot be hot unplugged.")
    for disk in guest.need_live().iterfind('devices/disk'):
        address, target = disk.find('address'), disk.find('target')
        if address is None or target is None:
            continue
        if target.get('bus') == kind and address.get('controller') == index:
            raise errors.failed('device cannot be detached: device is busy', libvirt.VIR_FROM_QEMU)


def _same_hostdev(where: etree._Element, wanted: etree._Element) -> etree._Element | None:
    for hostdev in where.iterfind('devices/hostdev'):
        if hostdev.get('type') == wanted.get('type') and _hostdev_key(hostdev) == _hostdev_key(wanted):
            return hostdev
    return None


def _hostdev_key(hostdev: etree._Element) -> list[tuple[str, str]]:
    """What names the host's device: an address, a UUID, vendor and product."""
    source = hostdev.find('source')
    if source is None:
        return []
    key = []
    for element in source.iter('address', 'vendor', 'product', 'adapter'):
        for name, value in sorted(element.attrib.items()):
            key.append((str(name), str(int(value, 0)) if name != 'uuid' and _is_number(value) else str(value)))
    return key


def _is_number(value: str | bytes) -> bool:
    try:
        int(value, 0)
    except ValueError:
        return False
    return True


def update(guest: FakeGuest, xml: str, flags: int) -> None:
    live, config = sides(guest, flags)
    saved = None
    if config:
        saved = copy.deepcopy(guest.need_config())
        _update_config(saved, definition.parse_device(xml))
    if live:
        _update_live(guest.need_live(), definition.parse_device(xml))
    if saved is not None:
        guest.config = saved


def _update_config(config: etree._Element, device: etree._Element) -> None:
    """Replaces a disk or an interface, keeping its address.

    Nobody checks whether the new alias is another device's. An interface's alias is part of the match: it can be added
    or left out, but not changed into another.
    """
    kind = str(device.tag)
    if kind not in _XML_UPDATABLE:
        raise errors.unsupported(f"persistent update of device '{kind}' is not supported")
    if kind == 'disk':
        old = definition.disk_at(config, definition.target_of(device))
        if old is None:
            raise errors.bad_argument(f"target {definition.target_of(device)} doesn't exist.")
    elif kind == 'interface':
        old = definition.find_interface(config, device)
    else:
        old = config.find(f'devices/{kind}')
        if old is None:
            raise errors.missing_device('matching device not found')
    address = old.find('address')
    if device.find('address') is None and address is not None:
        device.append(copy.deepcopy(address))
    parent = old.getparent()
    assert parent is not None
    parent.replace(old, device)


def _update_live(live: etree._Element, device: etree._Element) -> None:
    kind = str(device.tag)
    if kind not in _XML_UPDATABLE:
        raise errors.unsupported_config(f"live update of device '{kind}' is not supported", libvirt.VIR_FROM_QEMU)
    if kind == 'disk':
        old = definition.disk_at(live, definition.target_of(device))
        if old is None:
            raise errors.internal(f"disk '{definition.target_of(device)}' not found", libvirt.VIR_FROM_QEMU)
        alias = aliases.alias_of(device)
        if alias is not None and alias != aliases.alias_of(old):
            raise errors.forbidden('changing device alias is not allowed')
    elif kind == 'interface':
        definition.find_interface(live, device)
