# SPDX-License-Identifier: Apache-2.0
"""``aliasagent device ...``"""

import argparse
from collections.abc import Iterable

from aliasagent.shell import base


class DeviceList(base.AgentLister):
    """List the devices of a guest.

    "id" is the id of the volume, port or host device, "alias" the device's name in libvirt, and "target" its name on
    the host side (vdb of a disk, the tap of an interface). "live" is True if the running guest has the device now,
    "persistent" if the guest will have it after its next start.
    """

    COLUMNS = ('id', 'kind', 'alias', 'target', 'live', 'persistent')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=base.GUEST_HELP)
        parser.add_argument(
            '--kind',
            action='append',
            metavar='KIND',
            help='only devices of this kind, such as disk or interface; may be repeated',
        )
        return parser

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        devices = self.agent.devices(parsed_args.guest)
        return [device for device in devices if parsed_args.kind is None or device['kind'] in parsed_args.kind]


class DeviceDetach(base.DetachCommand):
    """Detach a device of any kind from a guest, by its id."""

    in_nova = 'openstack server remove volume (or port) {guest} {device}'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('device', metavar='DEVICE_ID', help='the id that "aliasagent device list" shows')

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        return 'detach', parsed_args.device, {'device_id': parsed_args.device}
