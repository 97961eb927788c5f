# SPDX-License-Identifier: Apache-2.0
"""The properties that distinguish devices, and their comparison."""

import dataclasses
import functools

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import pci
from aliasagent.devices.identity._evidence import Evidence

#: The fields of a record that are equal to those of a claim; a source is compared by :func:`is_source`.
_COMPARED = ('mac', 'host_address', 'target', 'serial', 'wwn', 'mdev_uuid', 'usb_address', 'network', 'address')


@dataclasses.dataclass(frozen=True)
class Claim:
    """The properties of a device, in a request, an inventory or a definition, that distinguish it from others."""

    kind: str
    serial: str | None = None
    source: str | None = None
    mac: str | None = None
    host_address: str | None = None
    mdev_uuid: str | None = None
    wwn: str | None = None
    interfaceid: str | None = None
    #: The source of an interface: ``bridge:br0``.
    network: str | None = None
    #: Bus and number of a USB device on the host: ``1.40``.
    usb_address: str | None = None
    #: Where the device is in the guest. Different places distinguish two devices of one run of a guest; equal places
    #: prove nothing, because the next device can have the same place.
    target: str | None = None
    address: str | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """A hint from the journal or from an inventory: the id of a device, and properties that distinguish the device.

    A hint fits a device of its kind that has all properties of the hint. The target and the address in the guest count
    here, because an inventory describes the guest as it is now.
    """

    device_id: str
    kind: str
    #: The hint's origin; a value of :class:`aliasagent.devices.identity.Evidence`.
    told_by: str
    mac: str | None = None
    host_address: str | None = None
    source: str | None = None
    target: str | None = None
    serial: str | None = None
    wwn: str | None = None
    mdev_uuid: str | None = None
    usb_address: str | None = None
    network: str | None = None
    #: The device's PCI address in the guest.
    address: str | None = None

    def fits(self, device: base.Device) -> bool:
        """Return whether the device has all properties of the hint."""
        if device.kind != self.kind:
            return False
        own = claim(device)
        agrees = [getattr(own, name) == want for name in _COMPARED if (want := getattr(self, name)) is not None]
        if self.source is not None:
            agrees.append(is_source(device, self.source))
        return bool(agrees) and all(agrees)


def claim(device: base.Device) -> Claim:
    """Return the properties by which a device is recognised in another definition, and distinguished from others."""
    at_place = functools.partial(Claim, device.kind, target=device.target, address=_address(device))
    match device:
        case disk.Disk():
            wwn = device.child('wwn')
            return at_place(
                serial=device.serial,
                source=device.source,
                wwn=None if wwn is None else (wwn.text or '').strip().lower(),
            )
        case interface.Interface():
            return at_place(
                mac=_lower(device.mac),
                host_address=device.host_address,
                interfaceid=_lower(device.interfaceid),
                network=device.source,
            )
        case hostdev.Hostdev():
            return at_place(
                # A USB or SCSI device is identified by the port or unit that it is plugged into.
                source=device.source if device.type in ('usb', 'scsi') else None,
                host_address=device.host_address,
                mdev_uuid=_lower(device.mdev_uuid),
                usb_address=_usb_address(device),
            )
        case _:
            return at_place()


def is_source(device: base.Device, text: str) -> bool:
    """Return whether a source that a hint names is the source of the device.

    :param text: the source as the agent writes it; or ``pool/image`` of a Ceph image, or ``pool/volume`` of a volume in
        a storage pool.
    """
    # Monitors do not distinguish Ceph images, so a hint may leave them out.
    if device.source is None:
        return False
    if text == device.source or not isinstance(device, disk.Disk):
        return text == device.source
    if device.source_pool is not None:
        return text == f'{device.source_pool}/{device.source_volume}'
    protocol, name = device.source_protocol, device.source_name
    if protocol is None or name is None or device.element.find('source/snapshot') is not None:
        return False
    return text in (name, f'{protocol}:{name}') or (protocol == 'rbd' and is_same_source(text, device.source))


def is_same_source(one: str, other: str) -> bool:
    """Return whether two sources, as the agent writes them, are the same. Monitors of a Ceph image do not count."""
    return one == other or (one.startswith('rbd:') and _without_monitors(one) == _without_monitors(other))


def supports(device: base.Device, wanted: Claim) -> Evidence | None:
    """Return the evidence by which a device matches a claim; None if it does not match.

    A match does not prove which id the device has.
    """
    if device.kind != wanted.kind:
        return None
    if isinstance(device, disk.Disk) and not _has_source(device, wanted.source):
        return None  # disks match by their sources alone, which are read faster than all properties
    own = claim(device)
    if any(_differ(own, wanted, name) for name in ('wwn', 'usb_address')):
        return None
    if _has_source(own, wanted.source):
        return Evidence.SOURCE
    for evidence, have, want in (
        (Evidence.HOST_ADDRESS, own.host_address, wanted.host_address),
        (Evidence.MDEV_UUID, own.mdev_uuid, wanted.mdev_uuid),
        (Evidence.MAC, own.mac, wanted.mac),
    ):
        if have is not None and have == want:
            return evidence
    return None


def _has_source(one: base.Device | Claim, wanted: str | None) -> bool:
    source = one.source
    return source is not None and wanted is not None and is_same_source(source, wanted)


def are_apart(one: Claim, other: Claim) -> bool:
    """Return whether two claims are of different devices, by properties that a plugged-in device keeps."""
    # The source of a disk is not one of them: a snapshot or a block job changes it. Nor is the bridge of an interface.
    if one.kind != other.kind:
        return True
    stable = ('serial', 'mac', 'host_address', 'mdev_uuid', 'wwn', 'usb_address')
    return any(_differ(one, other, name) for name in stable)


def _differ(one: Claim, other: Claim, name: str) -> bool:
    """Return whether both claims have a property, with different values."""
    have, want = getattr(one, name), getattr(other, name)
    return have is not None and want is not None and have != want


def _without_monitors(source: str) -> str:
    image, found, hosts = source.rpartition('@')
    # Without monitors, the part after the last @ can be a snapshot.
    are_hosts = hosts == '' or all(':' in host for host in hosts.split(','))
    return image if found and are_hosts else source


def _address(device: base.Device) -> str | None:
    """Return the device's address in the guest: ``0000:03:00.0``, or another type of address as one text."""
    element = device.child('address')
    if element is None:
        return None
    return pci.read(element) or ' '.join(sorted(f'{name!s}={value!s}' for name, value in element.items()))


def _usb_address(device: hostdev.Hostdev) -> str | None:
    address = device.element.find('source/address')
    if device.type != 'usb' or address is None:
        return None
    bus, number = address.get('bus'), address.get('device')
    return None if bus is None or number is None else f'{bus.lstrip("0") or "0"}.{number.lstrip("0") or "0"}'


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
