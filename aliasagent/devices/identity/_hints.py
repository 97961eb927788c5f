# SPDX-License-Identifier: Apache-2.0
"""What is kept of a device, so that it is known later."""

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
    """What an inventory said of a device, so that it is known later; None if nothing tells the device from the next.

    A place in the guest is not kept, nor a name that the kernel gives to the next device.
    """
    look = claim(device)
    match device:
        case disk.Disk():
            source = look.source if look.source is not None and names.is_lasting(look.source) else None
            kept = Record(
                device_id, device.kind, Evidence.EARLIER_INVENTORY, source=source, serial=look.serial, wwn=look.wwn
            )
        case interface.Interface():
            return lasting_port(device, device_id, Evidence.EARLIER_INVENTORY)
        case hostdev.Hostdev():
            kept = Record(device_id, device.kind, Evidence.EARLIER_INVENTORY, mdev_uuid=look.mdev_uuid)
        case _:
            return None
    return kept if lasts(kept) and kept.fits(device) else None


def lasts(record: Record) -> bool:
    """Whether what a record says tells the device from the next one, too.

    A serial that is no UUID does not by itself: whoever attaches a disk may write the same into each.
    """
    match record.kind:
        case disk.Disk.tag:
            has_name = record.source is not None and names.is_lasting(record.source)
            return has_name or record.wwn is not None or names.is_uuid((record.serial or '').strip())
        case interface.Interface.tag:
            return record.mac is not None and (record.host_address is not None or record.target is not None)
        case _:
            return record.mdev_uuid is not None


def lasting_port(device: interface.Interface, device_id: str, told_by: Evidence) -> Record | None:
    """What tells a port's interface from the next one; None if nothing does.

    A MAC address alone does not: a port that is made anew may have it, too. So it counts with the function of the
    network card that the port is on, or with the name that was asked for its tap.
    """
    look = claim(device)
    tap = None if look.target is None or names.is_made_up(look.target) else look.target
    kept = Record(device_id, device.kind, told_by, mac=look.mac, host_address=look.host_address, target=tap)
    return kept if lasts(kept) else None


def settled(device: base.Device, judgement: Judgement, devices: Iterable[base.Device]) -> Record | None:
    """Return what an inventory has settled of a device, as a hint that tells it from all others later, too.

    :param devices: all devices of the definition that the device is in.
    :return: None if no inventory has decided whose it is, or if nothing tells it from all others.
    """
    told = [it.device_id for it in judgement.said if it.evidence is Evidence.INVENTORY]
    agreed = [device_id for device_id in told if device_id in judgement.ids]
    if judgement.whose is None or not agreed:
        return None
    hint = lasting(device, agreed[0])
    return hint if hint is not None and sum(hint.fits(it) for it in devices) == 1 else None
