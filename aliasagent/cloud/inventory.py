# SPDX-License-Identifier: Apache-2.0
"""Make an inventory of what Nova and Neutron say of a server, without I/O."""

import collections
import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator

from aliasagent.cloud.ports import Port
from aliasagent.cloud.servers import VolumeAttachment
from aliasagent.devices import identity
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import InventoryPort
from aliasagent.requests.inventory import InventoryVolume

#: The prefixes of Nova's names for a port's device on the host; 11 characters of the port's id follow.
_PREFIXES = ('tap', 'vhu', 'nic')


def make(attachments: Iterable[VolumeAttachment], ports: Iterable[Port]) -> Inventory:
    """Return the inventory of a server."""
    found = tuple(ports)
    macs = collections.Counter(it.mac_address.lower() for it in found)
    return Inventory(
        ports=tuple(entry for it in found for entry in _entries(it, is_alone=macs[it.mac_address.lower()] == 1)),
        volumes=tuple(InventoryVolume(it.volume_id, target=it.device) for it in attachments),
    )


def _entries(port: Port, *, is_alone: bool) -> Iterator[InventoryPort]:
    """Yield the entries of a port.

    :param is_alone: whether no other port of the server has the MAC address. Else the name on the host must decide.
    """
    if is_alone or port.pci_slot is not None:
        yield InventoryPort(port.id, address=port.mac_address, pci_slot=port.pci_slot)
        return
    for prefix in _PREFIXES:
        yield InventoryPort(port.id, address=port.mac_address, devname=f'{prefix}{port.id[:11]}')


def records(inventory: Inventory) -> frozenset[identity.Record]:
    """Return the hints of an inventory that was made here; they rank below those of an operator's."""
    return frozenset(dataclasses.replace(it, told_by=identity.Evidence.CLOUD) for it in inventory.records())
