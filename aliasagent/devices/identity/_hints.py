# SPDX-License-Identifier: Apache-2.0
"""The hints that the journal keeps, to find a device later."""

from collections.abc import Iterable

from aliasagent.devices import base
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import interface
from aliasagent.devices import names
from aliasagent.devices.identity._claims import Record
from aliasagent.devices.identity._claims import claim
from aliasagent.devices.identity._evidence import Evidence
from aliasagent.devices.identity._evidence import Judgement


def lasting(device: base.Device, device_id: str) -> Record | None:
    """Make the hint that finds a device later by an inventory's id; None if nothing distinguishes it from the next one.

    The hint has no place in the guest, and no name that the kernel gives to the next device.
    """
    own = claim(device)
    match device:
        case disk.Disk():
            source = own.source if own.source is not None and names.is_lasting(own.source) else None
            kept = Record(
                device_id, device.kind, Evidence.EARLIER_INVENTORY, source=source, serial=own.serial, wwn=own.wwn
            )
        case interface.Interface():
            return lasting_port(device, device_id, Evidence.EARLIER_INVENTORY)
        case hostdev.Hostdev():
            kept = Record(device_id, device.kind, Evidence.EARLIER_INVENTORY, mdev_uuid=own.mdev_uuid)
        case _:
            return None
    return kept if lasts(kept) and kept.fits(device) else None


def lasts(record: Record) -> bool:
    """Return whether a hint distinguishes its device from the next one, too."""
    # A serial that is not a UUID does not suffice: a client may write the same serial into each disk.
    match record.kind:
        case disk.Disk.tag:
            has_name = record.source is not None and names.is_lasting(record.source)
            return has_name or record.wwn is not None or names.is_uuid((record.serial or '').strip())
        case interface.Interface.tag:
            return record.mac is not None and (record.host_address is not None or record.target is not None)
        case _:
            return record.mdev_uuid is not None


def lasting_port(device: interface.Interface, device_id: str, told_by: Evidence) -> Record | None:
    """Make the hint that distinguishes a port's interface from the next one; None if nothing distinguishes it.

    :param told_by: the origin of the hint.
    """
    # A new port may have the same MAC address. So the MAC counts only with the port's function of the network card, or
    # with a tap name that a client chose.
    own = claim(device)
    tap = None if own.target is None or names.is_made_up(own.target) else own.target
    kept = Record(device_id, device.kind, told_by, mac=own.mac, host_address=own.host_address, target=tap)
    return kept if lasts(kept) else None


def settled(device: base.Device, judgement: Judgement, devices: Iterable[base.Device]) -> Record | None:
    """Make the hint that keeps a decision of an inventory, or of the cloud, about a device.

    :param devices: all devices of the definition that has the device.
    :return: None if neither decided which id the device has, or if no hint distinguishes it from all others.
    """
    named = [it.device_id for it in judgement.candidates if it.evidence in (Evidence.INVENTORY, Evidence.CLOUD)]
    agreed = [device_id for device_id in named if device_id in judgement.ids]
    if judgement.identity is None or not agreed:
        return None
    hint = lasting(device, agreed[0])
    return hint if hint is not None and sum(hint.fits(it) for it in devices) == 1 else None
