# SPDX-License-Identifier: Apache-2.0
"""A port as Neutron's API answers it, read into the members of the agent's own form.

The binding says how the port is plugged: ``binding:vif_type``, ``binding:vif_details``, ``binding:vnic_type`` and
``binding:profile`` (Neutron, neutron_lib.api.definitions.portbindings). The agent's options for the card, such as
``mtu``, may be beside them under their names in the agent's own form. The agent ignores all other members.
"""

from collections.abc import Callable
from typing import Any

from aliasagent import exception
from aliasagent.requests import base
from aliasagent.requests import schema as parts

#: The names by which the agents of a network find a port's interface have this many characters of the port's id.
_ID_CHARACTERS = 11
#: The bridge of ports without ``bridge_name``, as in Nova.
_INTEGRATION_BRIDGE = 'br-int'
#: Neutron's Open vSwitch agent gives each trunk a bridge of its own, and tags nothing there: the guest sends the tags.
_TRUNK_BRIDGES = 'tbr-'

_OBJECT = {'type': ['object', 'null']}
_NAME = parts.nullable(parts.string('interface-name'))
_VIF_TYPE = parts.hinted(
    {'type': 'string', 'format': 'name'},
    'read the port as an administrator, or with the role service; Neutron shows the binding to no other user',
)
_PORT: parts.Schema = {
    'id': base.DEVICE_ID,
    'mac_address': parts.string('mac-address'),
    'binding:vif_type': _VIF_TYPE,
    'binding:vnic_type': parts.nullable(parts.string('name')),
    'binding:vif_details': {
        **_OBJECT,
        'properties': {
            'bridge_name': _NAME,
            'macvtap_source': _NAME,
            'macvtap_mode': {'enum': [None, 'bridge', 'vepa', 'private', 'passthrough']},
            'ovs_hybrid_plug': {'type': ['boolean', 'null']},
            'vhostuser_mode': {'enum': [None, 'client', 'server']},
            'vhostuser_ovs_plug': {'type': ['boolean', 'null']},
            'vhostuser_socket': parts.nullable(parts.string('absolute-path')),
            'vlan': {'type': ['integer', 'string', 'null'], 'minimum': 0, 'maximum': 4094, 'format': 'vlan'},
        },
    },
    'binding:profile': {
        **_OBJECT,
        'properties': {
            'pci_slot': parts.nullable(parts.string('pci-address')),
            'capabilities': {'type': ['array', 'null'], 'items': {'type': 'string'}},
        },
    },
    'network_id': parts.nullable(base.DEVICE_ID),
}

#: The condition that a port has this form.
IS_ANSWERED: parts.Schema = {'anyOf': [{'required': ['mac_address']}, {'required': ['binding:vif_type']}]}


def schema(options: parts.Schema, own: parts.Schema) -> parts.Schema:
    """Return the schema of the form.

    :param options: the agent's options for the card.
    :param own: all members of the agent's own form; those that are neither options nor in both forms may not be given.
    """
    mixed: parts.Schema = {name: {'not': {}} for name in own if name not in options and name not in _PORT}
    return {'properties': {**mixed, **options, **_PORT}, 'required': ['id', 'mac_address', 'binding:vif_type']}


def members(port: base.Json, own: dict[str, parts.Schema], options: parts.Schema) -> base.Json:
    """Return the members of the agent's own form.

    :param port: a port that is valid by :func:`schema`.
    :param own: the schema of the agent's own form, by its ``vif_type``.
    :param options: the agent's options for the card.
    :raises InvalidInput: the port is not bound, or in a way that the agent cannot plug.
    """
    found: base.Json = {'id': port['id'], 'address': port['mac_address'], **_Binding(port).members()}
    vif_type = found['vif_type']
    allowed = own[vif_type]['properties']
    for name in options:
        value = port.get(name)
        if value is None:
            continue
        if name not in allowed:
            raise _refused(name, f'does not apply to vif_type {vif_type}')
        if value not in allowed[name].get('enum', [value]):
            raise _refused(name, f'{value} is not possible for vif_type {vif_type}')
        found[name] = value
    return found


class _Binding:
    """How a port is bound."""

    def __init__(self, port: base.Json) -> None:
        self._id = base.normal(port['id'])
        self._network_id: str | None = port.get('network_id')
        self.vif_type: str = port['binding:vif_type']
        self.vnic_type: str = port.get('binding:vnic_type') or 'normal'
        self.details: base.Json = port.get('binding:vif_details') or {}
        self.profile: base.Json = port.get('binding:profile') or {}

    def members(self) -> base.Json:
        """Return the members that depend on the binding.

        :raises InvalidInput: the agent cannot plug such a port.
        """
        if self.vif_type in _UNPLUGGABLE:
            raise _refused('binding:vif_type', f'is {self.vif_type}: {_UNPLUGGABLE[self.vif_type]}')
        readers = READERS.get(self.vif_type)
        if readers is None:
            raise _refused('binding:vif_type', f'is {self.vif_type}: the agent plugs only {", ".join(READERS)}')
        reader = readers.get(self.vnic_type)
        if reader is None:
            kinds = ' or '.join(readers)
            raise _refused(
                'binding:vnic_type',
                f'is {self.vnic_type}: for vif_type {self.vif_type} the agent plugs only {kinds}',
            )
        if self.details.get('ovs_hybrid_plug'):
            raise _refused('binding:vif_details.ovs_hybrid_plug', _HYBRID.format(bridge=self.named('qbr')))
        return reader(self)

    def named(self, prefix: str) -> str:
        """Return the name of the port's interface or bridge on the host, as the network's agents know it."""
        return f'{prefix}{self._id[:_ID_CHARACTERS]}'

    def bridge(self) -> base.Json:
        """Read a port on a Linux bridge."""
        name = self.details.get('bridge_name')
        if name is None and self._network_id is not None:
            name = f'brq{self._network_id[:_ID_CHARACTERS]}'
        if name is None:
            raise _refused('network_id', 'is missing: it names the bridge of a port without bridge_name')
        return {'vif_type': 'bridge', 'bridge': name, 'devname': self.named('tap')}

    def ovs(self) -> base.Json:
        """Read a port on a bridge of Open vSwitch."""
        name = self.details.get('bridge_name') or _INTEGRATION_BRIDGE
        found = {'vif_type': 'ovs', 'bridge': name, 'devname': self.named('tap')}
        return {**found, 'vlan': 0} if name.startswith(_TRUNK_BRIDGES) else found

    def tap(self) -> base.Json:
        """Read a port that is a tap; the agent uses a tap that exists already."""
        return {'vif_type': 'tap', 'devname': self.named('tap')}

    def macvtap(self) -> base.Json:
        """Read a port of Neutron's macvtap agent. The source is the VLAN's interface, so the macvtap has no tag."""
        source = self._needed('vif_details', 'macvtap_source', 'Neutron answers it with a port of its macvtap agent')
        return {'vif_type': 'macvtap', 'macvtap_source': source, 'macvtap_mode': self.details.get('macvtap_mode')}

    def vhostuser(self) -> base.Json:
        """Read a port on a vhost-user socket; the mode is QEMU's."""
        socket = self._needed('vif_details', 'vhostuser_socket', 'Neutron answers it with a port of a switch with DPDK')
        name = self.named('vhu') if self.details.get('vhostuser_ovs_plug') else None
        mode = self.details.get('vhostuser_mode')
        return {'vif_type': 'vhostuser', 'vhostuser_socket': socket, 'vhostuser_mode': mode, 'devname': name}

    def function(self) -> base.Json:
        """Read a port on a virtual function that the guest gets as it is."""
        return {'vif_type': 'hw_veb', 'pci_slot': self._pci_slot(), 'vlan': self.details.get('vlan')}

    def function_macvtap(self) -> base.Json:
        """Read a port that is a macvtap on the network interface of a virtual function."""
        return {
            'vif_type': 'macvtap',
            'pci_slot': self._pci_slot(),
            'macvtap_mode': 'passthrough',
            'vlan': self.details.get('vlan'),
        }

    def card(self) -> base.Json:
        """Read a port on a whole physical card."""
        return {'vif_type': 'hostdev_physical', 'pci_slot': self._pci_slot()}

    def offloaded(self) -> base.Json:
        """Read a port on a virtual function whose traffic goes through the switch, by the function's representor."""
        # Without switchdev, the function is on the physical network: the port's VLAN and security groups do not apply.
        if 'switchdev' not in (self.profile.get('capabilities') or ()):
            raise _refused(
                'binding:profile.capabilities',
                'has no switchdev: the guest would bypass the switch and its security groups; bind the port to a '
                'function of a card in mode switchdev',
            )
        return {'vif_type': 'hostdev', 'pci_slot': self._pci_slot()}

    def vdpa(self) -> base.Json:
        """Read a port on a vDPA device of a virtual function."""
        return {'vif_type': 'vdpa', 'pci_slot': self._pci_slot()}

    def _pci_slot(self) -> Any:
        return self._needed('profile', 'pci_slot', 'the client that binds the port chooses a PCI function for it')

    def _needed(self, part: str, name: str, hint: str) -> Any:
        value = {'vif_details': self.details, 'profile': self.profile}[part].get(name)
        if value is None:
            raise _refused(f'binding:{part}.{name}', f'is missing: {hint}')
        return value


def _refused(field: str, reason: str) -> exception.InvalidInput:
    return exception.InvalidInput(field=f'port.{field}', reason=reason)


#: Why a port of these types cannot be plugged, and what a client can do.
_UNPLUGGABLE = {
    'unbound': "the port is not bound to a host; set its binding:host_id to this host's name in Neutron, and send "
    'the port as Neutron answers it then',
    'binding_failed': "Neutron could not bind the port to the host; check that Neutron's agent on the host is alive "
    "and serves the port's network, and set binding:host_id again",
}
_HYBRID = (
    'is true: the security groups of the port are on the bridge {bridge}, which os-vif makes, and the port would '
    "bypass them on the integration bridge. Set firewall_driver = openvswitch for Neutron's agent on this host and "
    'bind the port again; or, if the bridge {bridge} exists, attach to it with vif_type bridge'
)
_Readers = dict[str, Callable[[_Binding], base.Json]]
#: What reads a binding, by ``vif_type`` and ``vnic_type``.
READERS: dict[str, _Readers] = {
    'ovs': {'normal': _Binding.ovs, 'direct': _Binding.offloaded, 'vdpa': _Binding.vdpa},
    'bridge': {'normal': _Binding.bridge},
    'tap': {'normal': _Binding.tap},
    'macvtap': {'normal': _Binding.macvtap},
    'vhostuser': {'normal': _Binding.vhostuser},
    'hw_veb': {'direct': _Binding.function, 'macvtap': _Binding.function_macvtap},
    'hostdev_physical': {'direct-physical': _Binding.card},
}
