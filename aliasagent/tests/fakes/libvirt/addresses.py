# SPDX-License-Identifier: Apache-2.0
"""Where devices sit: PCI slots, drives and USB ports, and that there is an end to them."""

import secrets

from lxml import etree

from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import drives
from aliasagent.tests.fakes.libvirt import errors

_PCI_CONTROLLERS = frozenset({('scsi', 'virtio-scsi'), ('virtio-serial', None), ('usb', 'qemu-xhci'), ('usb', None)})
#: The SCSI controller that libvirt adds where none says which.
_OWN_MODEL = 'lsilogic'
_PCI_KINDS = frozenset({'interface', 'rng', 'filesystem', 'shmem', 'vsock', 'memballoon', 'watchdog'})


def is_q35(definition: etree._Element) -> bool:
    kind = definition.find('os/type')
    return kind is not None and 'q35' in kind.get('machine', '')


def needs_pci(device: etree._Element) -> bool:
    """Whether a device takes a PCI slot of its own, and with it the guest's help to go."""
    tag = device.tag
    if tag == 'disk':
        target = device.find('target')
        return target is not None and target.get('bus', 'virtio') == 'virtio'
    if tag == 'controller':
        return (device.get('type'), device.get('model')) in _PCI_CONTROLLERS
    if tag == 'hostdev':
        return device.get('type') in ('pci', 'mdev')
    if tag == 'memballoon':
        return device.get('model') != 'none'
    if tag == 'input':
        return device.get('bus') == 'virtio'
    return tag in _PCI_KINDS


def assign_all(definition: etree._Element) -> None:
    """What defining a guest adds: controllers, addresses, MACs, and root ports where there are too few."""
    _add_controllers(definition)
    # A host device goes where the disks are not, wherever it stands.
    for device in sorted(aliases.devices(definition), key=lambda device: device.tag == 'hostdev'):
        assign(definition, device, may_add_ports=True)


def assign(definition: etree._Element, device: etree._Element, may_add_ports: bool) -> None:
    """Give one device its address (and an interface its MAC); a running guest cannot grow root ports."""
    if device.tag == 'interface':
        _set_mac(device)
    if device.find('address') is not None:
        add_scsi_controllers(definition, device, may_add_ports)
        return
    if needs_pci(device):
        _set_pci(device, *_free_pci(definition, may_add_ports))
    elif drives.bus_of(device) is not None:
        drives.assign(definition, device)
        add_scsi_controllers(definition, device, may_add_ports)
    elif device.tag == 'disk':
        _set_usb_port(definition, device)
    elif device.tag == 'memory':
        others = [found for found in definition.iterfind('devices/memory') if found.find('address') is not None]
        etree.SubElement(device, 'address', type='dimm', slot=str(len(others)))


def add_scsi_controllers(definition: etree._Element, device: etree._Element, may_add_ports: bool) -> None:
    """Add the controllers up to the one that a SCSI device is on.

    A running guest gets more of the model that it has. A saved definition gets libvirt's own one for a disk, though it
    has a controller of another model.
    """
    address = device.find('address')
    if drives.bus_of(device) != 'scsi' or address is None or address.get('type') != 'drive':
        return
    there = definition.findall('devices/controller[@type="scsi"]')
    known = {int(controller.get('index', '0')) for controller in there}
    keeps_model = bool(there) and (definition.get('id') is not None or device.tag == 'hostdev')
    model = there[-1].get('model', _OWN_MODEL) if keeps_model else _OWN_MODEL
    for index in range(int(address.get('controller', '0')) + 1):
        if index in known:
            continue
        controller = etree.Element('controller', type='scsi', index=str(index), model=model)
        if model == _OWN_MODEL and is_q35(definition):
            bus, slot = _behind_a_bridge(definition, may_add_ports)
        else:
            bus, slot = _free_pci(definition, may_add_ports)
        _set_pci(controller, bus, slot)
        if definition.get('id') is not None:
            aliases.generate(definition, controller)
        _devices(definition).append(controller)


def _behind_a_bridge(definition: etree._Element, may_add_ports: bool) -> tuple[int, int]:
    """A free slot for a device of conventional PCI, behind a bridge that is made if there is none with room."""
    taken = _taken_pci(definition)
    for controller in definition.iterfind('devices/controller[@model="pcie-to-pci-bridge"]'):
        bridge = int(controller.get('index', '0'))
        for slot in range(1, 32):
            if (bridge, slot) not in taken:
                return bridge, slot
    bus, slot = _free_pci(definition, may_add_ports)
    number = _highest_pci(definition) + 1
    _devices(definition).append(etree.Element('controller', type='pci', index=str(number), model='pcie-root-port'))
    made = etree.Element('controller', type='pci', index=str(number + 1), model='pcie-to-pci-bridge')
    _set_pci(made, bus, slot)
    _devices(definition).append(made)
    return number + 1, 1


def _set_pci(device: etree._Element, bus: int, slot: int) -> None:
    etree.SubElement(
        device, 'address', type='pci', domain='0x0000', bus=f'0x{bus:02x}', slot=f'0x{slot:02x}', function='0x0'
    )


def _devices(definition: etree._Element) -> etree._Element:
    devices = definition.find('devices')
    assert devices is not None
    return devices


def _highest_pci(definition: etree._Element) -> int:
    return max(int(found.get('index', '0')) for found in definition.iterfind('devices/controller[@type="pci"]'))


def _set_mac(interface: etree._Element) -> None:
    if interface.find('mac') is None:
        tail = ':'.join(f'{byte:02x}' for byte in secrets.token_bytes(3))
        interface.insert(0, etree.Element('mac', address=f'52:54:00:{tail}'))


def _set_usb_port(definition: etree._Element, disk: etree._Element) -> None:
    target = disk.find('target')
    if target is not None and target.get('bus') == 'usb':
        used = {found.get('port') for found in definition.iterfind('devices/*/address[@type="usb"]')}
        port = next(number for number in range(1, 1000) if str(number) not in used)
        etree.SubElement(disk, 'address', type='usb', bus='0', port=str(port))


def _root_ports(definition: etree._Element) -> list[etree._Element]:
    return [
        controller
        for controller in definition.iterfind('devices/controller[@type="pci"]')
        if controller.get('model') == 'pcie-root-port'
    ]


def _add_controllers(definition: etree._Element) -> None:
    """A root where none is named, and numbers for the controllers."""
    parent = definition.find('devices')
    if parent is None:
        parent = etree.SubElement(definition, 'devices')
    model = 'pcie-root' if is_q35(definition) else 'pci-root'
    if not any(found.get('model') == model for found in parent.iterfind('controller[@type="pci"]')):
        parent.append(etree.Element('controller', type='pci', index='0', model=model))
    used: dict[str, set[int]] = {}
    for controller in parent.iterfind('controller'):
        if controller.get('index') is not None:
            used.setdefault(controller.get('type', ''), set()).add(int(controller.get('index', '0')))
    for controller in parent.iterfind('controller'):
        if controller.get('index') is None:
            numbers = used.setdefault(controller.get('type', ''), set())
            first_free = next(number for number in range(1000) if number not in numbers)
            controller.set('index', str(first_free))
            numbers.add(first_free)


def _free_pci(definition: etree._Element, may_add_ports: bool) -> tuple[int, int]:
    taken = _taken_pci(definition)
    if not is_q35(definition):
        for slot in range(3, 32):
            if (0, slot) not in taken:
                return 0, slot
        raise errors.no_free_slot()
    ports = sorted(int(port.get('index', '0')) for port in _root_ports(definition))
    for bus in ports:
        if (bus, 0) not in taken:
            return bus, 0
    if not may_add_ports:
        raise errors.no_free_slot()
    number = _highest_pci(definition) + 1
    _devices(definition).append(etree.Element('controller', type='pci', index=str(number), model='pcie-root-port'))
    return number, 0


def _taken_pci(definition: etree._Element) -> set[tuple[int, int]]:
    return {
        (int(found.get('bus', '0'), 16), int(found.get('slot', '0'), 16))
        for found in definition.iterfind('devices/*/address[@type="pci"]')
    }
