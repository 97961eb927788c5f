# SPDX-License-Identifier: Apache-2.0
"""From an inventory that the control plane sent to what the plan takes."""

from typing import Any

from aliasagent.devices import claims
from aliasagent.devices import host_device
from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices import targets
from aliasagent.reconcile.plan import Record

_TOLD_BY = identity.Evidence.INVENTORY
Json = dict[str, Any]


def of_inventory(inventory: Json | None) -> list[Record]:
    """Read an inventory: a record per volume and host device, and one or two per port.

    :param inventory: valid by :data:`aliasagent.compute.schemas.INVENTORY`.
    """
    if inventory is None:
        return []
    return [
        *(record for port in inventory.get('ports') or [] for record in _of_port(port)),
        *(_of_volume(volume) for volume in inventory.get('volumes') or []),
        *(_of_hostdev(hostdev) for hostdev in inventory.get('hostdevs') or []),
    ]


def in_arguments(arguments: Json) -> Json:
    """A request's arguments with the ``records`` in place of its ``inventory``."""
    others = {name: value for name, value in arguments.items() if name != 'inventory'}
    return {**others, 'records': of_inventory(arguments.get('inventory'))}


def _of_port(port: Json) -> list[Record]:
    """A port is an interface, or a function of an SR-IOV card that is passed through as such."""
    device_id, address = names.normal(port['id']), _lower(port.get('pci_slot'))
    bridge, network = port.get('bridge'), port.get('network')
    found = [
        Record(
            device_id,
            'interface',
            _TOLD_BY,
            mac=_lower(port.get('address')),
            host_address=address,
            target=port.get('devname'),
            network=f'bridge:{bridge}' if bridge is not None else f'network:{network}' if network is not None else None,
            address=_lower(port.get('guest_pci_slot')),
        )
    ]
    if address is not None:
        found.append(Record(device_id, 'hostdev', _TOLD_BY, host_address=address))
    return found


def _of_volume(volume: Json) -> Record:
    return Record(
        names.normal(volume['id']),
        'disk',
        _TOLD_BY,
        source=volume.get('source'),
        target=None if volume.get('target') is None else targets.split(volume['target']),
        serial=volume.get('serial'),
        wwn=_lower(volume.get('wwn')),
    )


def _of_hostdev(entry: Json) -> Record:
    look = claims.claim(host_device.host_device(entry['id'], entry['hostdev']))
    return Record(
        names.normal(entry['id']),
        'hostdev',
        _TOLD_BY,
        host_address=look.host_address,
        mdev_uuid=look.mdev_uuid,
        usb_address=look.usb_address,
        # A USB device that is named by its place on the host may be in the definition by vendor and product, too.
        source=look.source if look.usb_address is None else None,
        address=_lower(entry.get('guest_pci_slot')),
    )


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
