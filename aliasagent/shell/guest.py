# SPDX-License-Identifier: Apache-2.0
"""``aliasagent guest ...``"""

import argparse
import logging
from collections.abc import Iterable

from aliasagent.shell import base
from aliasagent.shell import errors

LOG = logging.getLogger(__name__)

MIB = 1024 * 1024


class GuestList(base.AgentLister):
    """List the guests of a host.

    "persistent" is True if the guest has a saved definition, with which it starts the next time.
    """

    COLUMNS = ('uuid', 'name', 'state', 'persistent')

    def things(self, _parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        return self.agent.guests()


class GuestMigrate(base.RequestCommand):
    """Migrate a running guest to another host.

    On the destination, the guest's devices have the aliases that they lack here. Both hosts must have the guest's
    disks. The agent's option [allowed] migration_hosts limits the destinations.
    """

    can_force = True
    example = 'aliasagent guest migrate web1 qemu+tls://compute-2/system --wait'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            'dest_uri',
            metavar='DEST_URI',
            help="the destination's libvirt URI, as the agent's host reaches it: qemu+TRANSPORT://HOST/system",
        )
        parser.add_argument(
            '--migrate-uri',
            metavar='URI',
            help="where the guest's memory is sent, such as tcp://HOST; libvirt's choice by default",
        )
        parser.add_argument('--bandwidth', type=int, metavar='MIB', help='maximum bandwidth in MiB per second')
        parser.add_argument(
            '--unsafe', action='store_true', help="migrate even if libvirt considers it unsafe for the guest's disks"
        )
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
            # The migration may have ended this very moment: the operation has its outcome.
            LOG.debug('no progress of instance %s: %s', instance_uuid, error)
            progress = None
        if progress is None:
            return state
        return f'{state}, {progress["processed"] / MIB:.0f} of {progress["total"] / MIB:.0f} MiB sent'


class GuestMigrationShow(base.AgentLister):
    """Show the progress of a guest's migration; nothing if the guest is not being migrated."""

    COLUMNS = ('total', 'processed', 'remaining', 'elapsed')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=base.GUEST_HELP)
        return parser

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        progress = self.agent.migration_progress(parsed_args.guest)
        return [] if progress is None else [progress]


class GuestMigrationAbort(base.Command):
    """Abort the migration of a guest; it stays on this host."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=base.GUEST_HELP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.app.agent.abort_migration(parsed_args.guest)  # type: ignore[attr-defined]
