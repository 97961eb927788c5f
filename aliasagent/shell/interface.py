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
    """Plug a network interface for a port into a guest, live and for its next starts.

    The interface gets the alias ua-PORT_ID, and can be taken out again by this id, even if another one of the guest has
    the same MAC address. The port is described by --mac and --bridge and, if wanted, the options after them, or as a
    whole by --port.
    """

    example = 'aliasagent interface attach web1 91f04c6a-... --mac 52:54:00:12:34:56 --bridge br0 --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('port_id', metavar='PORT_ID', help="the port's id, a UUID in most clouds")
        parser.add_argument('--mac', metavar='ADDRESS', help='the MAC address that the guest sees')
        parser.add_argument('--bridge', metavar='NAME', help="the bridge on the agent's host that it is plugged into")
        parser.add_argument(
            '--vif-type',
            choices=('bridge', 'ovs'),
            help='whether it is a Linux bridge (by default) or one of Open vSwitch; for all other types use --port',
        )
        parser.add_argument('--devname', metavar='NAME', help="the name of the tap device; libvirt's choice by default")
        parser.add_argument('--mtu', type=int, metavar='BYTES', help="the bridge's by default")
        parser.add_argument(
            '--model', choices=('virtio', 'e1000', 'e1000e', 'rtl8139'), help='what the guest sees; virtio by default'
        )
        parser.add_argument(
            '--vlan',
            type=int,
            metavar='TAG',
            help='the VLAN of a port of Open vSwitch, 0 for none; by default 4095, in which it reaches nothing until '
            'it is tagged',
        )
        parser.add_argument(
            '--port', metavar='JSON|@FILE', help='the whole port, of any vif_type that the contract knows'
        )

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'attach_interface', parsed_args.port_id, {'port': _port(parsed_args)}


class InterfaceDetach(base.RequestCommand):
    """Take the interface of a port out of a guest."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('port_id', metavar='PORT_ID', help="the port's id, a UUID in most clouds")

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'detach_interface', parsed_args.port_id, {'port_id': parsed_args.port_id}


def _port(parsed_args: argparse.Namespace) -> base.Json:
    """The port as the contract describes it.

    :raises BadInput: it cannot be read, or is described twice or not enough.
    """
    given = {
        member: getattr(parsed_args, option)
        for member, option in _MEMBERS.items()
        if getattr(parsed_args, option) is not None
    }
    if parsed_args.port is None:
        for member in ('address', 'bridge'):
            if member not in given:
                raise errors.BadInput(f'--{_MEMBERS[member]}: is missing; or describe the whole port with --port')
        return {'id': parsed_args.port_id, 'vif_type': 'bridge', **given}
    if given:
        option = _MEMBERS[next(iter(given))].replace('_', '-')
        raise errors.BadInput(f'--{option}: cannot be given together with --port, which is the whole port')
    port = base.json_argument('--port', parsed_args.port)
    if port.setdefault('id', parsed_args.port_id) != parsed_args.port_id:
        raise errors.BadInput(f'--port: its id {port["id"]!r} is not the PORT_ID {parsed_args.port_id!r}')
    return port
