# SPDX-License-Identifier: Apache-2.0
"""The inventory: a control plane's ids for the devices of a guest.

An entry means the only device that has all properties of the entry.
"""

import dataclasses
from typing import Self

from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices import targets
from aliasagent.devices.identity import Record
from aliasagent.requests import base
from aliasagent.requests import hostdev as hostdevs
from aliasagent.requests import schema as parts

_TOLD_BY = identity.Evidence.INVENTORY
_PCI_ADDRESS = parts.nullable(parts.string('pci-address'))
_NAME = parts.nullable(parts.string('name'))


def _list(of: parts.Schema) -> parts.Schema:
    return {'type': 'array', 'maxItems': 1000, 'items': of}


SCHEMA: parts.Schema = parts.whole(
    {},
    {
        'ports': _list(
            parts.whole(
                {'id': base.DEVICE_ID},
                {
                    'address': parts.nullable(parts.string('mac-address')),
                    'bridge': parts.nullable(parts.string('interface-name')),
                    'network': _NAME,
                    'pci_slot': _PCI_ADDRESS,
                    'devname': parts.nullable(parts.string('interface-name')),
                    # The address in the guest distinguishes two interfaces with the same MAC address and bridge.
                    'guest_pci_slot': _PCI_ADDRESS,
                },
            )
        ),
        'volumes': _list(
            parts.whole(
                {'id': base.DEVICE_ID},
                {
                    'target': parts.nullable(parts.string('device-name')),
                    # A path, pool/image of Ceph, or pool/volume of a storage pool.
                    'source': _NAME,
                    'serial': _NAME,
                    'wwn': _NAME,
                },
            )
        ),
        # As in attach_hostdev. Name a USB device by bus and device if the guest has another of its vendor and product.
        'hostdevs': _list(
            parts.whole({'id': base.DEVICE_ID, 'hostdev': hostdevs.HOSTDEV}, {'guest_pci_slot': _PCI_ADDRESS})
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class InventoryPort:
    """An inventory's entry for a port."""

    id: str
    address: str | None = None
    bridge: str | None = None
    network: str | None = None
    pci_slot: str | None = None
    devname: str | None = None
    guest_pci_slot: str | None = None

    def records(self) -> list[Record]:
        """Return the hints: for an interface, and for a passed-through function of an SR-IOV card."""
        device_id, address = names.normal(self.id), base.lower(self.pci_slot)
        network = None if self.network is None else f'network:{self.network}'
        found = [
            Record(
                device_id,
                'interface',
                _TOLD_BY,
                mac=base.lower(self.address),
                host_address=address,
                target=self.devname,
                network=network if self.bridge is None else f'bridge:{self.bridge}',
                address=base.lower(self.guest_pci_slot),
            )
        ]
        if address is not None:
            found.append(Record(device_id, 'hostdev', _TOLD_BY, host_address=address))
        return found


@dataclasses.dataclass(frozen=True)
class InventoryVolume:
    """An inventory's entry for a volume."""

    id: str
    target: str | None = None
    source: str | None = None
    serial: str | None = None
    wwn: str | None = None

    def record(self) -> Record:
        return Record(
            names.normal(self.id),
            'disk',
            _TOLD_BY,
            source=self.source,
            target=None if self.target is None else targets.split(self.target),
            serial=self.serial,
            wwn=base.lower(self.wwn),
        )


@dataclasses.dataclass(frozen=True)
class InventoryHostdev:
    """An inventory's entry for a device of the host."""

    id: str
    hostdev: hostdevs.HostDevice
    guest_pci_slot: str | None = None

    def record(self) -> Record:
        claim = identity.claim(hostdevs.AttachHostdev('any', self.hostdev).device())
        return Record(
            names.normal(self.id),
            'hostdev',
            _TOLD_BY,
            host_address=claim.host_address,
            mdev_uuid=claim.mdev_uuid,
            usb_address=claim.usb_address,
            # The definition of a USB device that is named by bus and device may name vendor and product, too.
            source=claim.source if claim.usb_address is None else None,
            address=base.lower(self.guest_pci_slot),
        )


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The entries for the devices of a guest."""

    ports: tuple[InventoryPort, ...] = ()
    volumes: tuple[InventoryVolume, ...] = ()
    hostdevs: tuple[InventoryHostdev, ...] = ()

    @classmethod
    def of(cls, inventory: base.Json | None) -> Self | None:
        """Read an inventory that is valid by :data:`SCHEMA`; None if there is none."""
        if inventory is None:
            return None
        return cls(
            tuple(base.of_members(InventoryPort, entry) for entry in inventory.get('ports') or ()),
            tuple(base.of_members(InventoryVolume, entry) for entry in inventory.get('volumes') or ()),
            tuple(
                base.of_members(InventoryHostdev, {**entry, 'hostdev': hostdevs.host_device(entry['hostdev'])})
                for entry in inventory.get('hostdevs') or ()
            ),
        )

    def to_dict(self) -> base.Json:
        """Return the inventory for a message."""
        found = {
            'ports': [base.members(port) for port in self.ports],
            'volumes': [base.members(volume) for volume in self.volumes],
            'hostdevs': [{**base.members(one), 'hostdev': one.hostdev.to_dict()} for one in self.hostdevs],
        }
        return {name: entries for name, entries in found.items() if entries}

    def records(self) -> list[Record]:
        """Return the hints: one for each volume and host device, one or two for each port."""
        return [
            *(record for port in self.ports for record in port.records()),
            *(volume.record() for volume in self.volumes),
            *(hostdev.record() for hostdev in self.hostdevs),
        ]


def records_of(inventory: Inventory | None) -> list[Record]:
    """Return the hints of an inventory; none without an inventory."""
    return [] if inventory is None else inventory.records()
