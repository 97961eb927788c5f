# SPDX-License-Identifier: Apache-2.0
"""From a port, with Neutron's and os-vif's names, to an interface."""

from collections.abc import Callable
from typing import Any

from aliasagent.devices import alias
from aliasagent.devices.interface import Interface

Port = dict[str, Any]


def interface_for_port(port: Port) -> Interface:
    """The interface of a port, with its alias.

    :param port: valid by :data:`aliasagent.compute.contract.PORT`.
    """
    interface = Interface.new()
    _SOURCES[port['vif_type']](interface, port)
    interface.mac = port['address'].lower()
    interface.model = port.get('model', 'virtio')
    interface.mtu = port.get('mtu')
    interface.target_dev = port.get('devname')
    interface.alias = alias.make(port['id'])
    return interface


def _bridge(interface: Interface, port: Port) -> None:
    interface.type = 'bridge'
    interface.bridge = port['bridge']


#: How the source of each ``vif_type`` is written.
_SOURCES: dict[str, Callable[[Interface, Port], None]] = {
    'bridge': _bridge,
}
