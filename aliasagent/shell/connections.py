# SPDX-License-Identifier: Apache-2.0
"""``aliasagent volume connection ...`` and ``aliasagent interface connection ...``"""

import argparse
from collections.abc import Iterable
from typing import ClassVar

from aliasagent.shell import base


class _List(base.AgentLister):
    COLUMNS = ('instance', 'device', 'stage', 'complete', 'in_use', 'problem', 'changed_at')
    #: What is connected.
    kind: ClassVar[str]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--guest', metavar='GUEST', help=f'only those of one guest: {base.GUEST_HELP}')
        return parser

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        return [it for it in self.agent.connections(parsed_args.guest) if it['kind'] == self.kind]


class VolumeConnectionList(_List):
    """List the volumes for which the agent made an attachment in Cinder.

    "stage" is preparing before the guest gets the volume, given while the guest has it or may have it, and undoing
    after that. "complete" is True once Cinder knows that the guest has the volume. "in_use" is False if neither
    definition of the guest has it, and empty if that is unknown, such as for a guest that is not on this host.
    """

    kind = 'volume'


class InterfaceConnectionList(_List):
    """List the ports that the agent has bound in Neutron, with the same columns as "volume connection list"."""

    kind = 'port'


class _Remove(base.Command):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=f'{base.GUEST_HELP}; the UUID if it has left the host')
        parser.add_argument('device', metavar='ID', help='the id of the volume or port')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.app.agent.remove_connection(parsed_args.guest, parsed_args.device)  # type: ignore[attr-defined]


class VolumeConnectionRemove(_Remove):
    """Delete the attachment of a volume that its guest does not have, and disconnect the host.

    This is for a guest that has left the host, which "aliasagent volume detach" does not find. Make sure that the guest
    does not run on another host with the volume: Cinder would report the volume as available.
    """


class InterfaceConnectionRemove(_Remove):
    """Unbind a port that its guest does not have, as "volume connection remove" does for a volume."""
