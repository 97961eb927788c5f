# SPDX-License-Identifier: Apache-2.0
"""``aliasagent hostdev ...``"""

import argparse

from aliasagent.shell import base
from aliasagent.shell import errors


class HostdevAttach(base.RequestCommand):
    """Attach a device of the agent's host to a guest, live and persistent.

    The device gets the alias ua-DEVICE_ID. "aliasagent device detach GUEST DEVICE_ID" detaches it.
    """

    can_force = True
    example = 'aliasagent hostdev attach web1 gpu-1 --pci 0000:06:12.5 --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument('device_id', metavar='DEVICE_ID', help='the id for the device: letters, digits, - and _')
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument('--pci', metavar='ADDRESS', help='a PCI device, such as 0000:06:12.5')
        which.add_argument('--mdev', metavar='UUID', help='a mediated device')
        which.add_argument('--usb', metavar='VENDOR:PRODUCT', help='a USB device, such as 1d6b:0002')
        which.add_argument(
            '--hostdev', metavar='JSON|@FILE', help='the whole device as JSON, of any type in the contract'
        )

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        device_id = parsed_args.device_id
        return 'attach_hostdev', device_id, {'device_id': device_id, 'hostdev': _hostdev(parsed_args)}


def _hostdev(parsed_args: argparse.Namespace) -> base.Json:
    """Return the device as the contract describes it.

    :raises BadInput: the arguments are not valid.
    """
    if parsed_args.pci is not None:
        return {'type': 'pci', 'address': parsed_args.pci}
    if parsed_args.mdev is not None:
        return {'type': 'mdev', 'uuid': parsed_args.mdev}
    if parsed_args.usb is not None:
        vendor, colon, product = parsed_args.usb.partition(':')
        if not colon:
            raise errors.BadInput(f'--usb: {parsed_args.usb!r} is not VENDOR:PRODUCT')
        return {'type': 'usb', 'vendor': vendor, 'product': product}
    return base.json_argument('--hostdev', parsed_args.hostdev)
