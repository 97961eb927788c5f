# SPDX-License-Identifier: Apache-2.0
"""``aliasagent guest ...``"""

import argparse
import logging
from collections.abc import Iterable

from cliff import command

from aliasagent.shell import base
from aliasagent.shell import errors

LOG = logging.getLogger(__name__)

MIB = 1024 * 1024


class GuestList(base.AgentLister):
    """List the guests of a host.

    "persistent" tells whether the guest has a saved definition, which it will start with the next time.
    """

    COLUMNS = ('uuid', 'name', 'state', 'persistent')

    def things(self, _parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        return self.agent.guests()


class GuestMigrate(base.RequestCommand):
    """Send a running guest to another host.

    Its devices have the aliases there that they lack here. Both hosts must have its disks. The agent's option [allowed]
    migration_hosts bounds where a guest may be sent.
    """

    example = 'aliasagent guest migrate web1 qemu+tls://compute-2/system --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'dest_uri',
            metavar='DEST_URI',
            help="the other host's libvirt URI, as seen from the agent's: qemu+TRANSPORT://HOST/system",
        )
        parser.add_argument(
            '--migrate-uri', metavar='URI', help="where the memory goes, tcp://HOST; libvirt's choice by default"
        )
        parser.add_argument('--bandwidth', type=int, metavar='MIB', help='MiB per second at most')
        parser.add_argument('--unsafe', action='store_true', help='even if libvirt fears for its disks')
        parser.add_argument('--inventory', metavar='JSON|@FILE', help=base.INVENTORY_HELP)

    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, base.Json]:
        inventory = parsed_args.inventory
        arguments = {
            'dest_uri': parsed_args.dest_uri,
            'migrate_uri': parsed_args.migrate_uri,
            'bandwidth_mib': parsed_args.bandwidth,
            'unsafe': parsed_args.unsafe,
            'inventory': None if inventory is None else base.json_argument('--inventory', inventory),
        }
        return 'live_migrate', '', arguments

    def describe(self, instance_uuid: str, state: str) -> str:
        try:
            progress = self.agent.migration_progress(instance_uuid)
        except errors.ShellError as error:
            # It may have gone this very moment: the operation will tell.
            LOG.debug('no progress of instance %s: %s', instance_uuid, error)
            progress = None
        if progress is None:
            return state
        return f'{state}, {progress["processed"] / MIB:.0f} of {progress["total"] / MIB:.0f} MiB are there'


class GuestMigrationShow(base.AgentLister):
    """Show how far a guest is on its way to another host; nothing if it is on none."""

    COLUMNS = ('total', 'processed', 'remaining', 'elapsed')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=base.GUEST_HELP)
        return parser

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        progress = self.agent.migration_progress(parsed_args.guest)
        return [] if progress is None else [progress]


class GuestMigrationAbort(command.Command):
    """Have a guest that is on its way to another host stay where it is."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=base.GUEST_HELP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.app.agent.abort_migration(parsed_args.guest)  # type: ignore[attr-defined]
