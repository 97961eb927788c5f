# SPDX-License-Identifier: Apache-2.0
"""From a port to an interface.

The names are Neutron's, flat: ``vif_type`` as in ``binding:vif_type``; ``vlan``, ``macvtap_source``, ``macvtap_mode``,
``vhostuser_socket`` and ``vhostuser_mode`` as in ``binding:vif_details``; ``pci_slot`` as in ``binding:profile``;
``address``, ``devname`` and ``ovs_interfaceid`` as Nova's network model has them.
"""

import re
from collections.abc import Callable
from typing import Any

from aliasagent import exception
from aliasagent.devices import alias
from aliasagent.devices import interface as interfaces
from aliasagent.devices.interface import Interface

Port = dict[str, Any]

#: The VLAN of ports that may not reach anything yet. Neutron's agent drops all that comes from it, and gives the port
#: its own tag once it knows it.
DEAD_VLAN = 4095

_IS_UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.IGNORECASE)
DEFAULT_MODEL = 'virtio'
#: Of these a Linux bridge and one of Open vSwitch are told apart.
_BRIDGED = frozenset({'bridge', 'ovs'})
#: Where a port can carry several VLANs; of a network libvirt decides when it knows what the network is made of.
_TRUNKS = frozenset({'ovs', 'network'})
#: Neutron's agent for macvtap knows no other, and so guests on one host reach each other.
_DEFAULT_MACVTAP_MODE = 'bridge'
#: As in Nova: QEMU makes the socket unless told that somebody else did. A running QEMU then answers nothing else until
#: the switch has connected (QEMU 7.2), so the switch's side has to be there first.
_DEFAULT_VHOSTUSER_MODE = 'server'


def interface_for_port(port: Port, *, dead_vlan: bool = False) -> Interface:
    """The interface of a port, with its alias.

    :param port: valid by :data:`aliasagent.compute.schemas.PORT`.
    :param dead_vlan: whether a port of Open vSwitch that names no VLAN goes into :data:`DEAD_VLAN`. Without a tag it
        would be a trunk of all VLANs of the switch.
    :raises InvalidInput: the parts do not go together.
    """
    interface = Interface.new()
    _SOURCES[port['vif_type']](interface, port)
    interface.mac = port['address'].lower()
    if interface.type != 'hostdev':
        # The function of a host's card is seen by the guest as what it is.
        interface.model = port.get('model', DEFAULT_MODEL)
    interface.mtu = port.get('mtu')
    interface.target_dev = _devname(port)
    _set_vlan(interface, port, dead_vlan=dead_vlan)
    _set_link(interface, port.get('link_state'))
    _set_queues(interface, port.get('queues'))
    _set_bandwidth(interface, port.get('bandwidth') or {})
    interface.alias = alias.make(port['id'])
    return interface


def decided(port: Port) -> dict[str, str]:
    """The interface's properties that a request decides, each with its field."""
    fields = {'virtualport_type': 'vif_type', 'interfaceid': 'ovs_interfaceid'} if port['vif_type'] in _BRIDGED else {}
    fields |= {
        name: field
        for name, field in (
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
        if port.get(field) is not None
    }
    if port.get('bandwidth'):
        for name in ('inbound', 'outbound'):
            fields |= {f'{name}_{rate}': f'bandwidth.{name}.{rate}' for rate in ('average', 'peak', 'burst')}
    return {name: f'port.{field}' for name, field in fields.items()}


def _set_vlan(interface: Interface, port: Port, *, dead_vlan: bool) -> None:
    """Tag a port: with one VLAN, or with all that a trunk carries; 0 stands for none."""
    vlan = port.get('vlan')
    if vlan is None and dead_vlan and port['vif_type'] == 'ovs':
        vlan = DEAD_VLAN
    if isinstance(vlan, list):
        if port['vif_type'] not in _TRUNKS:
            raise exception.InvalidInput(
                field='port.vlan', reason=f'a trunk is for vif_type ovs or network, {port["vif_type"]} has one VLAN'
            )
        interface.vlan_tags = vlan
        interface.vlan_trunk = True
    elif vlan:
        interface.vlan_tags = (vlan,)


def _set_link(interface: Interface, state: str | None) -> None:
    if state is not None and interface.type == 'hostdev':
        raise exception.InvalidInput(
            field='port.link_state', reason="libvirt does not set the link of a host's card, which the guest has itself"
        )
    interface.link_state = state


def _devname(port: Port) -> str | None:
    name: str | None = port.get('devname')
    if name is not None and interfaces.is_generated_name(name):
        raise exception.InvalidInput(
            field='port.devname', reason=f'{name} begins like the names that libvirt makes up, and would not be kept'
        )
    return name


def _set_queues(interface: Interface, queues: int | None) -> None:
    if queues is None:
        return
    if interface.model != 'virtio':
        raise exception.InvalidInput(
            field='port.queues', reason=f'a card of model {interface.model} has one queue, only virtio has several'
        )
    interface.driver_name = 'vhost'
    interface.queues = queues


def _set_bandwidth(interface: Interface, bandwidth: Port) -> None:
    inbound, outbound = bandwidth.get('inbound') or {}, bandwidth.get('outbound') or {}
    interface.inbound_average = inbound.get('average')
    interface.inbound_peak = inbound.get('peak')
    interface.inbound_burst = inbound.get('burst')
    interface.outbound_average = outbound.get('average')
    interface.outbound_peak = outbound.get('peak')
    interface.outbound_burst = outbound.get('burst')


def _bridge(interface: Interface, port: Port) -> None:
    interface.type = 'bridge'
    interface.bridge = port['bridge']


def _ovs(interface: Interface, port: Port) -> None:
    interface.type = 'bridge'
    interface.bridge = port['bridge']
    interface.virtualport_type = 'openvswitch'
    # The port's iface-id in the switch, by which Neutron's agent knows it.
    iface_id = port.get('ovs_interfaceid') or port['id']
    if not _IS_UUID.fullmatch(iface_id):
        raise exception.InvalidInput(
            field='port.ovs_interfaceid', reason=f'is missing: libvirt takes a UUID only, and {iface_id!r} is none'
        )
    interface.interfaceid = iface_id.lower()


def _tap(interface: Interface, _port: Port) -> None:
    interface.type = 'ethernet'


def _macvtap(interface: Interface, port: Port) -> None:
    interface.type = 'direct'
    interface.source_dev = port['macvtap_source']
    interface.source_mode = port.get('macvtap_mode', _DEFAULT_MACVTAP_MODE)
    if port.get('vlan') is not None and interface.source_mode != 'passthrough':
        raise exception.InvalidInput(
            field='port.vlan', reason=f'libvirt tags a macvtap of mode passthrough only, not {interface.source_mode}'
        )


def _hostdev(interface: Interface, port: Port) -> None:
    interface.type = 'hostdev'
    # Managed: libvirt takes it from the host's driver and gives it back.
    interface.managed = port.get('managed', True)
    interface.host_address = port['pci_slot']


def _vhostuser(interface: Interface, port: Port) -> None:
    interface.type = 'vhostuser'
    interface.source_type = 'unix'
    interface.source_path = port['vhostuser_socket']
    interface.source_mode = port.get('vhostuser_mode', _DEFAULT_VHOSTUSER_MODE)


def _network(interface: Interface, port: Port) -> None:
    interface.type = 'network'
    interface.network = port['network']


#: How the source of each ``vif_type`` is written.
_SOURCES: dict[str, Callable[[Interface, Port], None]] = {
    'bridge': _bridge,
    'ovs': _ovs,
    'tap': _tap,
    'macvtap': _macvtap,
    'hw_veb': _hostdev,
    'hostdev': _hostdev,
    'vhostuser': _vhostuser,
    'network': _network,
}
