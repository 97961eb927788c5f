# SPDX-License-Identifier: Apache-2.0
"""The request to attach a device of the host, with a class for each type of device."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar
from typing import Self

from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import pci
from aliasagent.devices.hostdev import Hostdev
from aliasagent.requests import base
from aliasagent.requests import schema as parts

_TYPE: parts.Schema = {'type': {'type': 'string'}}


class HostDevice(abc.ABC):
    """A device of the host, as a request names it."""

    type: ClassVar[str]
    schema: ClassVar[parts.Schema]
    #: The option ``[allowed]`` for this type, and the field for errors.
    option: ClassVar[str]
    field: ClassVar[str] = 'hostdev'
    #: The device's property that each of these fields decides, if the request has the field.
    deciding: ClassVar[Mapping[str, str]] = {}

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Return the device's name in the form of the option's patterns."""

    @abc.abstractmethod
    def write(self, device: Hostdev) -> None:
        """Set the source of a device."""

    def to_dict(self) -> base.Json:
        """Return the members for a message."""
        return {'type': self.type, **base.members(self)}


@dataclasses.dataclass(frozen=True)
class PciDevice(HostDevice):
    """A PCI function."""

    type: ClassVar = 'pci'
    schema: ClassVar = parts.whole(
        {**_TYPE, 'address': parts.string('pci-address')},
        {'driver': {'enum': ['vfio']}, 'managed': {'type': 'boolean'}},
    )
    option: ClassVar = 'pci'
    field: ClassVar = 'hostdev.address'
    deciding: ClassVar = {'managed': 'managed', 'driver': 'driver_name'}

    address: str
    driver: str | None = None
    managed: bool | None = None

    @property
    def name(self) -> str:
        return pci.normal(self.address)

    def write(self, device: Hostdev) -> None:
        # Managed: libvirt detaches the function from the host's driver, and returns it later.
        device.managed = self.managed is not False
        device.driver_name = self.driver
        device.host_address = self.address


@dataclasses.dataclass(frozen=True)
class MediatedDevice(HostDevice):
    """A mediated device, which the driver of a physical device has made."""

    type: ClassVar = 'mdev'
    schema: ClassVar = parts.whole({**_TYPE, 'uuid': base.UUID}, {'model': {'enum': ['vfio-pci']}})
    option: ClassVar = 'mdevs'
    field: ClassVar = 'hostdev.uuid'
    deciding: ClassVar = {'model': 'model'}

    uuid: str
    model: str | None = None

    @property
    def name(self) -> str:
        return self.uuid.lower()

    def write(self, device: Hostdev) -> None:
        device.model = self.model or 'vfio-pci'
        device.mdev_uuid = self.uuid.lower()


@dataclasses.dataclass(frozen=True)
class UsbDevice(HostDevice):
    """A USB device, by vendor and product, or by bus and device number."""

    type: ClassVar = 'usb'
    schema: ClassVar = {
        'if': {'anyOf': [{'required': ['vendor']}, {'required': ['product']}]},
        'then': parts.whole({**_TYPE, 'vendor': parts.string('usb-id'), 'product': parts.string('usb-id')}),
        'else': parts.whole({**_TYPE, 'bus': parts.integer(1, 255), 'device': parts.integer(1, 127)}),
    }
    option: ClassVar = 'usb'

    vendor: str | None = None
    product: str | None = None
    bus: int | None = None
    device: int | None = None

    @property
    def name(self) -> str:
        if self.vendor is not None and self.product is not None:
            return f'{int(self.vendor, 16):04x}:{int(self.product, 16):04x}'
        return f'{self.bus}.{self.device}'

    def write(self, device: Hostdev) -> None:
        if self.vendor is not None and self.product is not None:
            device.usb_vendor = f'0x{int(self.vendor, 16):04x}'
            device.usb_product = f'0x{int(self.product, 16):04x}'
        else:
            device.source_bus = self.bus
            device.usb_device = self.device


@dataclasses.dataclass(frozen=True)
class ScsiDevice(HostDevice):
    """A SCSI device of a host bus adapter."""

    type: ClassVar = 'scsi'
    schema: ClassVar = parts.whole(
        {
            **_TYPE,
            'adapter': parts.string('scsi-host'),
            'bus': parts.integer(0, 255),
            'target': parts.integer(0, 65535),
            'unit': parts.integer(0, 16383),
        }
    )
    option: ClassVar = 'scsi'

    adapter: str
    bus: int
    target: int
    unit: int

    @property
    def name(self) -> str:
        return f'{self.adapter}:{self.bus}:{self.target}:{self.unit}'

    def write(self, device: Hostdev) -> None:
        device.scsi_adapter = self.adapter
        device.source_bus = self.bus
        device.scsi_target = self.target
        device.scsi_unit = self.unit


#: The class of each ``type``.
TYPES: Mapping[str, type[HostDevice]] = {
    kind.type: kind for kind in (PciDevice, MediatedDevice, UsbDevice, ScsiDevice)
}
#: The schema of a device of the host, by ``type``.
SCHEMAS: dict[str, parts.Schema] = {name: kind.schema for name, kind in TYPES.items()}
HOSTDEV: parts.Schema = {
    'type': 'object',
    'properties': {'type': {'enum': list(SCHEMAS)}},
    'required': ['type'],
    'allOf': parts.by('type', SCHEMAS),
}


def host_device(members: base.Json) -> HostDevice:
    """Read a device of the host that is valid by :data:`HOSTDEV`."""
    return base.of_members(TYPES[members['type']], members)


@dataclasses.dataclass(frozen=True)
class AttachHostdev(base.BuiltAttach):
    """Give a guest a device of the host."""

    action: ClassVar = Action.ATTACH_HOSTDEV
    schema: ClassVar = parts.whole({**base.INSTANCE, 'device_id': base.DEVICE_ID, 'hostdev': HOSTDEV}, base.FORCE)

    id: str
    hostdev: HostDevice
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        device_id, hostdev = base.normal(arguments['device_id']), host_device(arguments['hostdev'])
        return cls(device_id, hostdev, arguments.get('force', False))

    def to_dict(self) -> base.Json:
        return {'device_id': self.id, 'hostdev': self.hostdev.to_dict()} | base.forced(self)

    @property
    def device_id(self) -> str:
        return self.id

    def needs(self) -> list[rules.Need]:
        return [rules.Need(self.hostdev.field, self.hostdev.option, self.hostdev.name)]

    def decided(self) -> dict[str, str]:
        given = base.members(self.hostdev)
        return {name: f'hostdev.{field}' for field, name in self.hostdev.deciding.items() if field in given}

    def device(self, *, dead_vlan: bool = False) -> Hostdev:
        """Build the device, with its alias.

        :raises InvalidInput: the id cannot be part of an alias.
        """
        device = Hostdev.new()
        device.mode = 'subsystem'
        device.type = self.hostdev.type
        self.hostdev.write(device)
        device.alias = alias.make(self.id)
        return device
