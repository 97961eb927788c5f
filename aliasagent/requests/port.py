# SPDX-License-Identifier: Apache-2.0
"""The request to attach a network interface for a port.

A port has the agent's own form, or the form in which Neutron's API answers it (:mod:`aliasagent.requests.neutron`).
The agent reads both into the same type, and writes its own form.

The names of its own form are Neutron's, without nesting: ``vif_type`` as in ``binding:vif_type``; ``vlan``,
``macvtap_source``, ``macvtap_mode``, ``vhostuser_socket`` and ``vhostuser_mode`` as in ``binding:vif_details``;
``pci_slot`` as in ``binding:profile``; ``address``, ``devname`` and ``ovs_interfaceid`` as in Nova's network model.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar
from typing import Self

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.devices import alias
from aliasagent.devices import base as devices
from aliasagent.devices import hostdev as hostdevs
from aliasagent.devices import interface as interfaces
from aliasagent.devices import names
from aliasagent.devices import pci
from aliasagent.devices.interface import Interface
from aliasagent.requests import base
from aliasagent.requests import neutron
from aliasagent.requests import schema as parts

#: The VLAN of new ports, in which they reach nothing. Neutron's agent drops all its traffic, and later gives the port
#: its own tag.
DEAD_VLAN = 4095

DEFAULT_MODEL = 'virtio'
#: The types of which an attach must distinguish a Linux bridge from a bridge of Open vSwitch.
_BRIDGED = frozenset({'bridge', 'ovs'})
#: The types that can be trunks. For a network, libvirt decides by the network's own type.
_TRUNKS = frozenset({'ovs', 'network'})
#: The only mode of Neutron's macvtap agent. With it, guests on one host reach each other.
_DEFAULT_MACVTAP_MODE = 'bridge'
#: As in Nova: QEMU makes the socket. A running QEMU then does not respond until the switch has connected (QEMU 7.2), so
#: the switch must be ready first.
_DEFAULT_VHOSTUSER_MODE = 'server'

_PORT: parts.Schema = {
    'id': base.DEVICE_ID,
    'address': parts.string('mac-address'),
    'vif_type': {'type': 'string'},
}
_LINK_STATE = {'link_state': {'enum': [None, 'up', 'down']}}


def _vlan(maximum: int, form: str) -> parts.Schema:
    """Return the schema of one VLAN, which Neutron sends as a text, or of a list of the VLANs of a trunk."""
    one: parts.Schema = {'minimum': 0, 'maximum': maximum, 'format': form}
    trunk: parts.Schema = {'items': parts.integer(1, 4094), 'minItems': 1, 'maxItems': 4094, 'uniqueItems': True}
    return {'vlan': {'type': ['integer', 'string', 'array', 'null'], **one, **trunk}}


_NAME = parts.string('interface-name')
#: As in Neutron, 0 is no VLAN.
_VLAN = _vlan(4094, 'vlan')
_MTU = {'mtu': parts.nullable(parts.integer(68, 65535))}
_DEVNAME = {'devname': parts.nullable(_NAME)}
_MODEL = {'model': {'enum': ['virtio', 'e1000', 'e1000e', 'rtl8139']}}
_QUEUES = {'queues': parts.nullable(parts.integer(1, 256))}
#: In KiB/s; a burst in KiB. libvirt has 32 bits for each.
_RATE = parts.integer(1, 2**32 - 1)
_LIMITS = parts.nullable(parts.whole({'average': _RATE}, {'peak': _RATE, 'burst': _RATE}))
_BANDWIDTH = {'bandwidth': parts.nullable(parts.whole({}, {'inbound': _LIMITS, 'outbound': _LIMITS}))}
_CARD = {**_MODEL, **_QUEUES, **_BANDWIDTH, **_LINK_STATE}
_TAP = {**_DEVNAME, **_MTU, **_CARD}
_PCI_SLOT = {'pci_slot': parts.string('pci-address')}
_MANAGED = {'managed': {'type': 'boolean'}}
_SRIOV = parts.whole({**_PORT, **_PCI_SLOT}, {**_VLAN, **_LINK_STATE, **_MANAGED})
_VIRTIO = {'model': {'enum': ['virtio']}}
#: The agent's options for the card, which Neutron does not know.
_OPTIONS = {**_TAP, **_MANAGED}

#: The schema of a port, by ``vif_type``.
VIF_TYPES: dict[str, parts.Schema] = {
    'bridge': parts.whole({**_PORT, 'bridge': _NAME}, _TAP),
    'ovs': parts.whole(
        {**_PORT, 'bridge': _NAME},
        # As in Neutron, 4095 is the VLAN of ports that must reach nothing.
        {**_TAP, **_vlan(DEAD_VLAN, 'ovs-vlan'), 'ovs_interfaceid': parts.nullable(base.UUID)},
    ),
    'tap': parts.whole({**_PORT, 'devname': _NAME}, {**_MTU, **_CARD}),
    'macvtap': parts.whole(
        {**_PORT, 'macvtap_source': _NAME},
        {'macvtap_mode': {'enum': ['bridge', 'vepa', 'private', 'passthrough']}, **_DEVNAME, **_CARD, **_VLAN},
    ),
    'hw_veb': _SRIOV,
    'hostdev': _SRIOV,
    'hostdev_physical': parts.whole({**_PORT, **_PCI_SLOT}, _MANAGED),
    'vhostuser': parts.whole(
        {**_PORT, 'vhostuser_socket': parts.string('absolute-path')},
        {
            'vhostuser_mode': {'enum': ['client', 'server']},
            **_DEVNAME,
            **_MTU,
            **_VIRTIO,
            **_QUEUES,
            **_LINK_STATE,
        },
    ),
    'vdpa': parts.whole(
        {**_PORT, 'vdpa_device': parts.string('absolute-path')}, {**_MTU, **_VIRTIO, **_QUEUES, **_LINK_STATE}
    ),
    'network': parts.whole({**_PORT, 'network': parts.string('name')}, {**_TAP, **_VLAN}),
}

_OWN: parts.Schema = {
    'properties': {'vif_type': {'enum': list(VIF_TYPES)}},
    'required': list(_PORT),
    'allOf': parts.by('vif_type', VIF_TYPES),
}
_MEMBERS = {name: schema for its in VIF_TYPES.values() for name, schema in its['properties'].items()}
PORT: parts.Schema = {
    'type': 'object',
    'if': neutron.IS_ANSWERED,
    'then': neutron.schema(_OPTIONS, _MEMBERS),
    'else': _OWN,
}


@dataclasses.dataclass(frozen=True)
class Rates:
    """The limits of one direction, in KiB/s; ``burst`` in KiB."""

    average: int | None = None
    peak: int | None = None
    burst: int | None = None


@dataclasses.dataclass(frozen=True)
class Bandwidth:
    """The limits of both directions from the guest's view; a direction without limits has no values."""

    inbound: Rates = Rates()
    outbound: Rates = Rates()

    @classmethod
    def of(cls, members: base.Json | None) -> Self | None:
        """Read a port's ``bandwidth``; None if it is empty."""
        if not members:
            return None
        return cls(*(base.of_members(Rates, members.get(name) or {}) for name in ('inbound', 'outbound')))

    def to_dict(self) -> base.Json:
        """Return both directions, with None for a direction without limits."""
        return {name: base.members(getattr(self, name)) or None for name in ('inbound', 'outbound')}


@dataclasses.dataclass(frozen=True)
class Port:
    """A port, with the members of its ``vif_type``."""

    id: str
    address: str
    vif_type: str
    bridge: str | None = None
    network: str | None = None
    macvtap_source: str | None = None
    macvtap_mode: str | None = None
    vhostuser_socket: str | None = None
    vhostuser_mode: str | None = None
    vdpa_device: str | None = None
    pci_slot: str | None = None
    managed: bool | None = None
    ovs_interfaceid: str | None = None
    devname: str | None = None
    mtu: int | None = None
    model: str | None = None
    queues: int | None = None
    #: One VLAN, or the VLANs of a trunk; 0 means no VLAN.
    vlan: int | tuple[int, ...] | None = None
    link_state: str | None = None
    bandwidth: Bandwidth | None = None

    @classmethod
    def from_dict(cls, members: base.Json) -> Self:
        """Read a port that is valid by :data:`PORT`, in either form.

        :raises InvalidInput: the port is as Neutron answers it, and the agent cannot plug it.
        """
        if 'mac_address' in members:
            members = neutron.members(members, VIF_TYPES, _OPTIONS)
        return base.of_members(
            cls,
            {
                **members,
                'id': base.normal(members['id']),
                'vlan': _vlans(members),
                'bandwidth': Bandwidth.of(members.get('bandwidth')),
            },
        )

    def to_dict(self) -> base.Json:
        """Return the members for a message."""
        found = base.members(self)
        if isinstance(self.vlan, tuple):
            found['vlan'] = list(self.vlan)
        if self.bandwidth is not None:
            found['bandwidth'] = self.bandwidth.to_dict()
        return found


def _vlans(members: base.Json) -> int | tuple[int, ...] | None:
    """Return the VLANs of a port; 0 only for Open vSwitch, where it is not the same as none."""
    vlan = members.get('vlan')
    if isinstance(vlan, list):
        return tuple(vlan)
    tag = None if vlan is None else int(vlan)
    return None if tag == 0 and members['vif_type'] != 'ovs' else tag


#: The option ``[allowed]`` for each field of a port that names a device, network or socket of the host.
_NAMED = {
    'bridge': 'bridges',
    'network': 'networks',
    'macvtap_source': 'interfaces',
    'devname': 'taps',
    'vhostuser_socket': rules.SOCKETS,
    'vdpa_device': rules.PATHS,
    'pci_slot': 'pci',
}
#: The interface's property that each of these fields decides, if the port has the field.
_DECIDED = (
    ('target_dev', 'devname'),
    ('mtu', 'mtu'),
    ('model', 'model'),
    ('queues', 'queues'),
    ('vlan_tags', 'vlan'),
    ('link_state', 'link_state'),
    ('managed', 'managed'),
    ('source_mode', 'macvtap_mode'),
    ('source_mode', 'vhostuser_mode'),
)


@dataclasses.dataclass(frozen=True)
class _OfFunction:
    """What a port needs of its PCI function: the port's field, how the agent finds it, and words for errors."""

    field: str
    by: str
    what: str
    hint: str


_FOUND = {
    'macvtap': _OfFunction(
        'macvtap_source',
        'interface_of',
        'network interface',
        "a macvtap needs the function at the host's own network driver, not at vfio-pci",
    ),
    'vdpa': _OfFunction(
        'vdpa_device', 'vdpa_of', 'vhost-vdpa device', 'create one with "vdpa dev add", and load vhost_vdpa'
    ),
}


@dataclasses.dataclass(frozen=True)
class AttachInterface(base.BuiltAttach):
    """Plug a network interface for a port into a guest."""

    action: ClassVar = Action.ATTACH_INTERFACE
    schema: ClassVar = parts.whole(
        base.INSTANCE, {'port': PORT, 'port_id': base.DEVICE_ID, **base.FORCE}
    )

    port: Port
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        """Read a request from arguments that are valid by its schema.

        :raises InvalidInput: the agent cannot plug the port, or ``port_id`` is of another port.
        """
        port, port_id = Port.from_dict(arguments['port']), arguments.get('port_id')
        if port_id is not None and base.normal(port_id) != port.id:
            raise exception.InvalidInput(field='port_id', reason=f'is {port_id}, and the port is {port.id}')
        return cls(port, arguments.get('force', False))

    def to_dict(self) -> base.Json:
        return {'port': self.port.to_dict()} | base.forced(self)

    @property
    def device_id(self) -> str:
        return self.port.id

    def needs(self) -> list[rules.Need]:
        named = {name: value for name in _NAMED if (value := getattr(self.port, name)) is not None}
        if 'pci_slot' in named:
            named['pci_slot'] = pci.normal(named['pci_slot'])
        return [rules.Need(f'port.{name}', _NAMED[name], value) for name, value in named.items()]

    def completed(self, defaults: base.Defaults) -> Self:
        """Name what the host has of the PCI function of a macvtap or vDPA port."""
        slot, found = self.port.pci_slot, _FOUND.get(self.port.vif_type)
        if slot is None or found is None:
            return self
        name = getattr(defaults, found.by)(pci.normal(slot))
        if name is None:
            raise exception.InvalidInput(
                field='port.binding:profile.pci_slot', reason=f'{slot} has no {found.what} on this host: {found.hint}'
            )
        members = {found.field: name, 'pci_slot': None}
        return dataclasses.replace(self, port=dataclasses.replace(self.port, **members))

    def decided(self) -> dict[str, str]:
        port = self.port
        is_bridged = port.vif_type in _BRIDGED
        fields = {'virtualport_type': 'vif_type', 'interfaceid': 'ovs_interfaceid'} if is_bridged else {}
        fields |= {name: field for name, field in _DECIDED if getattr(port, field) is not None}
        if port.bandwidth is not None:
            for name in ('inbound', 'outbound'):
                fields |= {f'{name}_{rate}': f'bandwidth.{name}.{rate}' for rate in ('average', 'peak', 'burst')}
        return {name: f'port.{field}' for name, field in fields.items()}

    def device(self, *, dead_vlan: bool = False) -> devices.Device:
        """Build the port's interface, or the host device that is a whole physical card, with its alias.

        :param dead_vlan: whether an Open vSwitch port without VLAN gets :data:`DEAD_VLAN`. Without a tag, the port
            would be a trunk of all VLANs of the switch.
        :raises InvalidInput: parts of the request contradict each other.
        """
        port = self.port
        if port.vif_type == 'hostdev_physical':
            return _card(port)
        interface = Interface.new()
        _SOURCES[port.vif_type](interface, port)
        interface.mac = port.address.lower()
        if interface.type != 'hostdev':
            # A passed-through card has no emulated model.
            interface.model = port.model or DEFAULT_MODEL
        interface.mtu = port.mtu
        interface.target_dev = _devname(port)
        _set_vlan(interface, port, dead_vlan=dead_vlan)
        _set_link(interface, port.link_state)
        _set_queues(interface, port.queues)
        _set_bandwidth(interface, port.bandwidth or Bandwidth())
        interface.alias = alias.make(port.id)
        return interface


@dataclasses.dataclass(frozen=True)
class AttachNeutronPort(base.AttachById):
    """Plug an interface into a guest for a port that the agent binds in Neutron.

    This is the request to attach an interface without ``port``, since version 1.5 of the contract.
    """

    action: ClassVar = Action.ATTACH_INTERFACE
    schema: ClassVar = AttachInterface.schema
    connects: ClassVar = 'port'

    port_id: str
    force: bool = False

    @classmethod
    def from_dict(cls, arguments: base.Json) -> Self:
        """Read a request from arguments that are valid by its schema.

        :raises InvalidInput: the request names no port.
        """
        port_id = arguments.get('port_id')
        if port_id is None:
            raise exception.InvalidInput(field='port', reason='is missing: give the port, or the port_id of Neutron')
        return cls(base.normal(port_id), arguments.get('force', False))

    def to_dict(self) -> base.Json:
        return base.members(self)

    @property
    def device_id(self) -> str:
        return self.port_id

    def completed(self, defaults: base.Defaults) -> Self:
        if defaults.without_neutron is not None:
            raise exception.InvalidInput(field='port', reason=f'is missing, and {defaults.without_neutron}')
        return self

    def with_port(self, port: base.Json) -> base.Json:
        """Return the arguments of the request to attach an interface for this port."""
        return base.forced(self) | {'port': port}


def _card(port: Port) -> hostdevs.Hostdev:
    """Build a whole physical card: libvirt has no interface for it, as the card keeps its own MAC address and VLANs."""
    assert port.pci_slot is not None
    card = hostdevs.Hostdev.new()
    card.mode = 'subsystem'
    card.type = 'pci'
    card.managed = port.managed is not False
    card.host_address = port.pci_slot
    card.alias = alias.make(port.id)
    return card


def _set_vlan(interface: Interface, port: Port, *, dead_vlan: bool) -> None:
    """Set one VLAN, or the VLANs of a trunk; 0 means no VLAN."""
    vlan = port.vlan
    if vlan is None and dead_vlan and port.vif_type == 'ovs':
        vlan = DEAD_VLAN
    if isinstance(vlan, tuple):
        if port.vif_type not in _TRUNKS:
            raise exception.InvalidInput(
                field='port.vlan', reason=f'only vif_type ovs and network can be a trunk, {port.vif_type} has one VLAN'
            )
        interface.vlan_tags = vlan
        interface.vlan_trunk = True
    elif vlan:
        interface.vlan_tags = (vlan,)


def _set_link(interface: Interface, state: str | None) -> None:
    if state is not None and interface.type == 'hostdev':
        raise exception.InvalidInput(
            field='port.link_state', reason='libvirt cannot set the link state of a passed-through card'
        )
    interface.link_state = state


def _devname(port: Port) -> str | None:
    if port.devname is not None and interfaces.is_generated_name(port.devname):
        raise exception.InvalidInput(
            field='port.devname',
            reason=f'{port.devname} begins like the names that libvirt generates, and libvirt would not keep it',
        )
    return port.devname


def _set_queues(interface: Interface, queues: int | None) -> None:
    if queues is None:
        return
    if interface.model != 'virtio':
        raise exception.InvalidInput(
            field='port.queues', reason=f'a card of model {interface.model} has one queue, only virtio has several'
        )
    interface.driver_name = 'vhost'
    interface.queues = queues


def _set_bandwidth(interface: Interface, bandwidth: Bandwidth) -> None:
    interface.inbound_average = bandwidth.inbound.average
    interface.inbound_peak = bandwidth.inbound.peak
    interface.inbound_burst = bandwidth.inbound.burst
    interface.outbound_average = bandwidth.outbound.average
    interface.outbound_peak = bandwidth.outbound.peak
    interface.outbound_burst = bandwidth.outbound.burst


def _bridge(interface: Interface, port: Port) -> None:
    interface.type = 'bridge'
    interface.bridge = port.bridge


def _ovs(interface: Interface, port: Port) -> None:
    interface.type = 'bridge'
    interface.bridge = port.bridge
    interface.virtualport_type = 'openvswitch'
    # Neutron's agent finds the port in the switch by this iface-id.
    iface_id = port.ovs_interfaceid or port.id
    if not names.is_uuid(iface_id):
        raise exception.InvalidInput(
            field='port.ovs_interfaceid', reason=f'is missing: libvirt accepts only a UUID, not {iface_id!r}'
        )
    interface.interfaceid = iface_id.lower()


def _tap(interface: Interface, _port: Port) -> None:
    interface.type = 'ethernet'


def _macvtap(interface: Interface, port: Port) -> None:
    interface.type = 'direct'
    interface.source_dev = port.macvtap_source
    interface.source_mode = port.macvtap_mode or _DEFAULT_MACVTAP_MODE
    if port.vlan is not None and interface.source_mode != 'passthrough':
        raise exception.InvalidInput(
            field='port.vlan', reason=f'a macvtap has a VLAN only in mode passthrough, not {interface.source_mode}'
        )


def _hostdev(interface: Interface, port: Port) -> None:
    interface.type = 'hostdev'
    # Managed: libvirt detaches the function from the host's driver, and returns it later.
    interface.managed = port.managed is not False
    assert port.pci_slot is not None
    interface.host_address = port.pci_slot


def _vhostuser(interface: Interface, port: Port) -> None:
    interface.type = 'vhostuser'
    interface.source_type = 'unix'
    interface.source_path = port.vhostuser_socket
    interface.source_mode = port.vhostuser_mode or _DEFAULT_VHOSTUSER_MODE


def _vdpa(interface: Interface, port: Port) -> None:
    interface.type = 'vdpa'
    interface.source_dev = port.vdpa_device


def _network(interface: Interface, port: Port) -> None:
    interface.type = 'network'
    interface.network = port.network


#: The function that sets the source of each ``vif_type``.
_SOURCES: dict[str, Callable[[Interface, Port], None]] = {
    'bridge': _bridge,
    'ovs': _ovs,
    'tap': _tap,
    'macvtap': _macvtap,
    'hw_veb': _hostdev,
    'hostdev': _hostdev,
    'vhostuser': _vhostuser,
    'vdpa': _vdpa,
    'network': _network,
}
