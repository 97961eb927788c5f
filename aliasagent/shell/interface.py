# SPDX-License-Identifier: Apache-2.0
"""``aliasagent interface ...``"""

import argparse

from aliasagent.shell import base
from aliasagent.shell import errors

#: The port's member that each option sets.
_MEMBERS = {
    'address': 'mac',
    'bridge': 'bridge',
    'vif_type': 'vif_type',
    'devname': 'devname',
    'mtu': 'mtu',
    'model': 'model',
    'vlan': 'vlan',
}


class InterfaceAttach(base.RequestCommand):
    """Attach a network interface for a port to a guest, live and persistent.

    The interface gets the alias ua-PORT_ID. A detach by this id finds it even if another interface of the guest has the
    same MAC address. Describe the port with --mac and --bridge, and with the options after them if needed; or the whole
    port with --port. With PORT_ID alone, the agent binds the port of this id in Neutron, and unbinds it after the
    detach.
    """

    can_force = True
    example = 'aliasagent interface attach web1 91f04c6a-... --mac 52:54:00:12:34:56 --bridge brq7f0c2d9e-5a --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('port_id', metavar='PORT_ID', help="the port's id, a UUID in most clouds")
        parser.add_argument('--mac', metavar='ADDRESS', help='the MAC address of the interface')
        parser.add_argument('--bridge', metavar='NAME', help="the bridge on the agent's host")
        parser.add_argument(
            '--vif-type',
            choices=('bridge', 'ovs'),
            help='bridge for a Linux bridge (the default), ovs for Open vSwitch; use --port for other types',
        )
        parser.add_argument('--devname', metavar='NAME', help="the name of the tap device; libvirt's choice by default")
        parser.add_argument('--mtu', type=int, metavar='BYTES', help="the MTU; the bridge's by default")
        parser.add_argument(
            '--model',
            choices=('virtio', 'e1000', 'e1000e', 'rtl8139'),
            help='the model of the network card that the guest sees; virtio by default',
        )
        parser.add_argument(
            '--vlan',
            type=int,
            metavar='TAG',
            help='the VLAN tag of an Open vSwitch port, 0 for none. By default 4095, which isolates the port until the '
            "network's agent tags it",
        )
        parser.add_argument(
            '--port',
            metavar='JSON|@FILE',
            help='the whole port as JSON, as Neutron answers it or in the form of the contract, of any type',
        )

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        port = _port(parsed_args)
        which = {'port_id': parsed_args.port_id} if port is None else {'port': port}
        return 'attach_interface', parsed_args.port_id, which


class InterfaceDetach(base.DetachCommand):
    """Detach the interface of a port from a guest."""

    in_nova = 'openstack server remove port {guest} {device}'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('port_id', metavar='PORT_ID', help="the port's id, a UUID in most clouds")

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'detach_interface', parsed_args.port_id, {'port_id': parsed_args.port_id}


def _port(parsed_args: argparse.Namespace) -> base.Json | None:
    """Return the port as the contract describes it; None if the agent must ask Neutron.

    :raises BadInput: the arguments are not valid, or describe the port twice or not completely.
    """
    given = {
        member: getattr(parsed_args, option)
        for member, option in _MEMBERS.items()
        if getattr(parsed_args, option) is not None
    }
    if parsed_args.port is None and not given:
        return None
    if parsed_args.port is None:
        for member in ('address', 'bridge'):
            if member not in given:
                raise errors.BadInput(
                    f'--{_MEMBERS[member]}: is missing; give it, or describe the whole port with --port'
                )
        return {'id': parsed_args.port_id, 'vif_type': 'bridge', **given}
    if given:
        option = _MEMBERS[next(iter(given))].replace('_', '-')
        raise errors.BadInput(f'--{option}: cannot be given together with --port, which describes the whole port')
    port = base.inside(base.json_argument('--port', parsed_args.port), 'port')
    if port.setdefault('id', parsed_args.port_id) != parsed_args.port_id:
        raise errors.BadInput(f'--port: its id {port["id"]!r} is not the PORT_ID {parsed_args.port_id!r}')
    return port
