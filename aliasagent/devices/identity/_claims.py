# SPDX-License-Identifier: Apache-2.0
"""What tells one device from another, and what that is worth between two of them."""

import dataclasses

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import pci
from aliasagent.devices.identity._evidence import Evidence

#: What a record can say, each in the words of a claim; the source has a form of its own.
_COMPARED = ('mac', 'host_address', 'target', 'serial', 'wwn', 'mdev_uuid', 'usb_address', 'network', 'address')


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a device looks like, in a request, in an inventory or in a definition: all that tells it from others."""

    kind: str
    serial: str | None = None
    source: str | None = None
    mac: str | None = None
    host_address: str | None = None
    mdev_uuid: str | None = None
    wwn: str | None = None
    interfaceid: str | None = None
    #: What an interface is plugged into, as its source has it: ``bridge:br0``.
    network: str | None = None
    #: Bus and number of a USB device on the host: ``1.40``.
    usb_address: str | None = None
    #: Where the device is in the guest. These tell two devices of one run of a guest apart; that they are equal says
    #: nothing, for the next device can have the same.
    target: str | None = None
    address: str | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """What a record or an inventory says of one device: whose it is, and how to tell it from others.

    A record fits a device of its kind that agrees with everything it says. A target and an address in the guest count
    here: an inventory speaks of this guest as it is now.
    """

    device_id: str
    kind: str
    #: Who says so; a value of :class:`aliasagent.devices.identity.Evidence`.
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
    #: The PCI address that the device has in the guest.
    address: str | None = None

    def fits(self, device: base.Device) -> bool:
        """Whether the record speaks of this device."""
        if device.kind != self.kind:
            return False
        known = claim(device)
        said = [getattr(known, name) == want for name in _COMPARED if (want := getattr(self, name)) is not None]
        if self.source is not None:
            said.append(is_source(device, self.source))
        return bool(said) and all(said)


def claim(device: base.Device) -> Claim:
    """What a device looks like, so that it is recognised in another definition, and told from another device."""
    look = Claim(kind=device.kind, target=device.target, address=_address(device))
    match device:
        case disk.Disk():
            wwn = device.element.findtext('wwn')
            return dataclasses.replace(
                look, serial=device.serial, source=device.source, wwn=None if wwn is None else _lower(wwn.strip())
            )
        case interface.Interface():
            return dataclasses.replace(
                look,
                mac=_lower(device.mac),
                host_address=device.host_address,
                interfaceid=_lower(device.interfaceid),
                network=device.source,
            )
        case hostdev.Hostdev():
            return dataclasses.replace(
                look,
                # A USB or SCSI device is what it is plugged into.
                source=device.source if device.type in ('usb', 'scsi') else None,
                host_address=device.host_address,
                mdev_uuid=_lower(device.mdev_uuid),
                usb_address=_usb_address(device),
            )
        case _:
            return look


def is_source(device: base.Device, text: str) -> bool:
    """Whether a source that a record or an inventory names is that of the device.

    As the agent writes it; or ``pool/image`` of a Ceph image or of a volume in a storage pool, without where it can be
    had: the monitors of a Ceph cluster are not what tells one image from another.
    """
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
    """Whether two sources, as the agent writes them, are one: an image of Ceph is the same by whichever monitors."""
    return one == other or (one.startswith('rbd:') and _without_monitors(one) == _without_monitors(other))


def supports(device: base.Device, wanted: Claim) -> Evidence | None:
    """Return the evidence on which a device looks like the one of a claim; None if it does not.

    It says nothing of whose the device is.
    """
    if device.kind != wanted.kind:
        return None
    own = claim(device)
    if any(_differ(own, wanted, name) for name in ('wwn', 'usb_address')):
        return None
    if own.source is not None and wanted.source is not None and is_same_source(own.source, wanted.source):
        return Evidence.SOURCE
    for evidence, have, want in (
        (Evidence.HOST_ADDRESS, own.host_address, wanted.host_address),
        (Evidence.MDEV_UUID, own.mdev_uuid, wanted.mdev_uuid),
        (Evidence.MAC, own.mac, wanted.mac),
    ):
        if have is not None and have == want:
            return evidence
    return None


def are_apart(one: Claim, other: Claim) -> bool:
    """Whether two devices are known to be two, by what does not change as long as a device is in a guest.

    The source does: a snapshot or a block job gives a disk another one. So does the bridge of an interface.
    """
    if one.kind != other.kind:
        return True
    stays = ('serial', 'mac', 'host_address', 'mdev_uuid', 'wwn', 'usb_address')
    return any(_differ(one, other, name) for name in stays)


def _differ(one: Claim, other: Claim, name: str) -> bool:
    """Whether both say something of this, and not the same."""
    have, want = getattr(one, name), getattr(other, name)
    return have is not None and want is not None and have != want


def _without_monitors(source: str) -> str:
    image, found, hosts = source.rpartition('@')
    # What follows the last @ of a bare name can be a snapshot.
    are_hosts = hosts == '' or all(':' in host for host in hosts.split(','))
    return image if found and are_hosts else source


def _address(device: base.Device) -> str | None:
    """Where the device is in the guest: ``0000:03:00.0``, or another address in one word."""
    element = device.element.find('address')
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
