# SPDX-License-Identifier: Apache-2.0
"""From an inventory that the control plane sent to what the plan takes."""

from typing import Any

from aliasagent.devices import targets
from aliasagent.reconcile.plan import Record

_TOLD_BY = 'inventory'


def of_inventory(inventory: dict[str, Any] | None) -> list[Record]:
    """What an inventory says, a record per port and volume.

    :param inventory: valid by :data:`aliasagent.compute.schemas.INVENTORY`.
    """
    if inventory is None:
        return []
    return [record for port in inventory.get('ports', []) for record in _of_port(port)] + [
        Record(
            volume['id'].lower(),
            'disk',
            _TOLD_BY,
            source=volume.get('source'),
            target=None if volume.get('target') is None else targets.split(volume['target']),
        )
        for volume in inventory.get('volumes', [])
    ]


def in_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """A request's arguments with the ``records`` in place of its ``inventory``."""
    others = {name: value for name, value in arguments.items() if name != 'inventory'}
    return {**others, 'records': of_inventory(arguments.get('inventory'))}


def _of_port(port: dict[str, Any]) -> list[Record]:
    """A port is an interface, or a function of an SR-IOV card that is passed through as such."""
    device_id, slot = port['id'].lower(), port.get('pci_slot')
    mac = port.get('address')
    address = None if slot is None else slot.lower()
    found = [
        Record(
            device_id,
            'interface',
            _TOLD_BY,
            mac=None if mac is None else mac.lower(),
            host_address=address,
            target=port.get('devname'),
        )
    ]
    if address is not None:
        found.append(Record(device_id, 'hostdev', _TOLD_BY, host_address=address))
    return found
