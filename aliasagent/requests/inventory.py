# SPDX-License-Identifier: Apache-2.0
"""An inventory: what a control plane sends of a guest's devices, for what the guest alone cannot tell.

An entry means the one device that agrees with everything that it says.
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
                    # Where the guest has it: what tells two interfaces of one MAC address on one bridge apart.
                    'guest_pci_slot': _PCI_ADDRESS,
                },
            )
        ),
        'volumes': _list(
            parts.whole(
                {'id': base.DEVICE_ID},
                {
                    'target': parts.nullable(parts.string('device-name')),
                    # A path; pool/image of Ceph; pool/volume of a storage pool.
                    'source': _NAME,
                    'serial': _NAME,
                    'wwn': _NAME,
                },
            )
        ),
        # As attach_hostdev takes it. A USB device is named by bus and device where another one is of its kind.
        'hostdevs': _list(
            parts.whole({'id': base.DEVICE_ID, 'hostdev': hostdevs.HOSTDEV}, {'guest_pci_slot': _PCI_ADDRESS})
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class InventoryPort:
    """What is said of a port."""

    id: str
    address: str | None = None
    bridge: str | None = None
    network: str | None = None
    pci_slot: str | None = None
    devname: str | None = None
    guest_pci_slot: str | None = None

    def records(self) -> list[Record]:
        """A port is an interface, or a function of an SR-IOV card that is passed through as such."""
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
    """What is said of a volume."""

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
    """What is said of a device of the host."""

    id: str
    hostdev: hostdevs.HostDevice
    guest_pci_slot: str | None = None

    def record(self) -> Record:
        look = identity.claim(hostdevs.AttachHostdev('any', self.hostdev).device())
        return Record(
            names.normal(self.id),
            'hostdev',
            _TOLD_BY,
            host_address=look.host_address,
            mdev_uuid=look.mdev_uuid,
            usb_address=look.usb_address,
            # A USB device that is named by its place on the host may be in the definition by vendor and product, too.
            source=look.source if look.usb_address is None else None,
            address=base.lower(self.guest_pci_slot),
        )


@dataclasses.dataclass(frozen=True)
class Inventory:
    """All that is said of a guest's devices."""

    ports: tuple[InventoryPort, ...] = ()
    volumes: tuple[InventoryVolume, ...] = ()
    hostdevs: tuple[InventoryHostdev, ...] = ()

    @classmethod
    def of(cls, inventory: base.Json | None) -> Self | None:
        """Read an inventory that is valid by :data:`SCHEMA`; None if there is none."""
        if inventory is None:
            return None
        return cls(
            tuple(base.known(InventoryPort, entry) for entry in inventory.get('ports') or ()),
            tuple(base.known(InventoryVolume, entry) for entry in inventory.get('volumes') or ()),
            tuple(
                base.known(InventoryHostdev, {**entry, 'hostdev': hostdevs.host_device(entry['hostdev'])})
                for entry in inventory.get('hostdevs') or ()
            ),
        )

    def to_dict(self) -> base.Json:
        """Return it as it is sent."""
        found = {
            'ports': [base.members(port) for port in self.ports],
            'volumes': [base.members(volume) for volume in self.volumes],
            'hostdevs': [{**base.members(one), 'hostdev': one.hostdev.to_dict()} for one in self.hostdevs],
        }
        return {name: entries for name, entries in found.items() if entries}

    def records(self) -> list[Record]:
        """Return what it says: a record per volume and host device, and one or two per port."""
        return [
            *(record for port in self.ports for record in port.records()),
            *(volume.record() for volume in self.volumes),
            *(hostdev.record() for hostdev in self.hostdevs),
        ]


def records_of(inventory: Inventory | None) -> list[Record]:
    """Return what an inventory says; nothing if there is none."""
    return [] if inventory is None else inventory.records()
