# SPDX-License-Identifier: Apache-2.0
"""``aliasagent reconcile`` and ``aliasagent xml reconcile``"""

import argparse
import collections
import io
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import tqdm
from cliff import command

from aliasagent import exception
from aliasagent.compute import contract
from aliasagent.devices import domain
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.shell import agent
from aliasagent.shell import base
from aliasagent.shell import errors

#: The column for each outcome.
_COUNTED = {
    'aliased': plan.Outcome.ALIASED,
    'gets': plan.Outcome.GETS_ALIAS,
    'refused': plan.Outcome.REFUSED,
    'transient': plan.Outcome.TRANSIENT,
    'unidentified': plan.Outcome.UNIDENTIFIED,
    'conflicts': plan.Outcome.CONFLICT,
}


class Reconcile(base.AgentLister):
    """Give devices from before aliases theirs, in the guests' persistent config.

    Shows for each guest how many devices have their alias, would get or get it now, are refused by libvirt, have no
    persistent config to write to (those of a transient guest: only --live or a move helps), cannot be identified, or
    conflict with another; and how many the running guest itself does not have yet ("pending"): those come with its next
    start or move. Ends with 1 if a guest could not be looked at.
    """

    COLUMNS = ('guest', 'name', *_COUNTED, 'pending', 'error')
    DEVICE_COLUMNS = ('guest', 'name', 'device', 'outcome', 'reason', 'alias')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guests', metavar='GUEST', nargs='*', help=f'{base.GUEST_HELP}; all of the host by default')
        parser.add_argument('--dry-run', action='store_true', help='show what would be done, and do nothing')
        parser.add_argument(
            '--live',
            action='store_true',
            help='give a running guest its aliases, too: it is saved and restored, and stands still meanwhile; with '
            '--dry-run only say for how long. Name the guests',
        )
        parser.add_argument('--devices', action='store_true', help='show a line per device instead of one per guest')
        parser.add_argument('--inventory', metavar='JSON|@FILE', help=f'{base.INVENTORY_HELP}; for one guest')
        return parser

    def columns_for(self, parsed_args: argparse.Namespace) -> tuple[str, ...]:
        return self.DEVICE_COLUMNS if parsed_args.devices else self.COLUMNS

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Any, Any]:
        names = self.columns_for(parsed_args)
        return names, [tuple(base.Text(thing.get(name)) for name in names) for thing in self.things(parsed_args)]

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        inventory = None
        if parsed_args.inventory is not None:
            inventory = base.json_argument('--inventory', parsed_args.inventory)
            if len(parsed_args.guests) != 1:
                raise errors.BadInput('--inventory: speaks of one guest; name it')
        if parsed_args.live and not parsed_args.guests:
            raise errors.BadInput('--live: makes guests stand still; name them')
        known = {guest['uuid']: guest['name'] for guest in self.agent.guests()}
        chosen = [self.agent.guest_uuid(guest) for guest in parsed_args.guests] or list(known)
        shown = []
        # On a terminal only: it goes to standard error, and away when done.
        for instance in tqdm.tqdm(chosen, unit='guest', leave=False, disable=None, file=sys.stderr):
            look = self._seen(instance, inventory, parsed_args)
            if look['error']:
                self.failed = True
            shown += _per_device(look) if parsed_args.devices else [_per_guest(look)]
        return shown

    failed = False

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or (errors.OperationFailed.exit_code if self.failed else 0)

    def _seen(self, instance: str, inventory: base.Json | None, parsed_args: argparse.Namespace) -> base.Json:
        """What is to be shown of a guest, after what was asked for was done to it."""
        try:
            look = self._look(instance, inventory, dry_run=parsed_args.dry_run)
            return self._relive(instance, inventory, look, dry_run=parsed_args.dry_run) if parsed_args.live else look
        except (errors.OperationFailed, errors.NotFound, errors.WaitTimedOut) as error:
            reason = str(error)
        except errors.BadInput as error:
            # Without an inventory the input is ours, and what is wrong is this guest's.
            if inventory is not None:
                raise
            reason = str(error)
        except errors.Silent as error:
            reason = str(error)
            self.agent.guests()  # ends it all if the agent answers nothing any more
        # The other guests are still read.
        return _not_seen(instance, reason)

    def _relive(self, instance: str, inventory: base.Json | None, look: base.Json, *, dry_run: bool) -> base.Json:
        """What was seen at a guest, after its running part was given its aliases unless that is not wanted."""
        if look['error']:
            return look
        seconds = self.agent.reconcile_live_estimate(instance)['seconds']
        self.app.stderr.write(f'{instance} stands still for about {seconds:.0f} s\n')
        if dry_run:
            return look
        operation = self._done('reconcile_live', instance, inventory)
        if operation['state'] != agent.SUCCEEDED:
            return {**look, 'error': f'{operation["error_class"]}: {operation["error"]}'}
        return self._look(instance, inventory, dry_run=False)

    def _done(self, method: str, instance: str, inventory: base.Json | None) -> base.Json:
        """The operation that a request became, once it has an outcome."""
        seconds = base.WAIT_SECONDS
        operation_id = self.agent.submit(method, seconds, instance_uuid=instance, inventory=inventory)
        return self.agent.wait(operation_id, seconds)

    def _look(self, instance: str, inventory: base.Json | None, *, dry_run: bool) -> base.Json:
        """What was seen at a guest, after it was reconciled unless that is not wanted."""
        if dry_run:
            return self.agent.reconcile_plan(instance, inventory)
        operation = self._done('reconcile_instance', instance, inventory)
        if operation['state'] != agent.SUCCEEDED:
            return _not_seen(instance, f'{operation["error_class"]}: {operation["error"]}')
        return self.agent.reconcile_status(instance)


def _not_seen(instance: str, error: str) -> base.Json:
    """What is shown of a guest that could not be looked at."""
    return {'instance': instance, 'name': '', 'pending': [], 'devices': [], 'error': error}


def _per_guest(look: base.Json) -> base.Json:
    outcomes = collections.Counter(device['outcome'] for device in look['devices'])
    return {
        'guest': look['instance'],
        'name': look['name'],
        **{column: outcomes[outcome] for column, outcome in _COUNTED.items()},
        'pending': len(look['pending']),
        'error': look['error'] or None,
    }


def _per_device(look: base.Json) -> list[base.Json]:
    devices = look['devices'] + ([{'reason': look['error']}] if look['error'] else [])
    return [{'guest': look['instance'], 'name': look['name'], **device} for device in devices]


class XmlReconcile(command.Command):
    """Rewrite a domain definition so that its devices have their aliases, without asking any agent.

    The definition goes to standard output, the report, a line per device, to standard error. Nothing but aliases
    differs. Ends with 1 if several devices have one alias, which libvirt does not take.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE', help='as "virsh dumpxml --inactive --security-info" writes it')
        parser.add_argument('--inventory', metavar='JSON|@FILE', help=base.INVENTORY_HELP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        try:
            definition = domain.Domain.parse(pathlib.Path(parsed_args.file).read_bytes())
        except OSError as error:
            raise errors.BadInput(f'FILE: {parsed_args.file}: {error.strerror}') from error
        except exception.InvalidXML as error:
            raise errors.BadInput(f'FILE: {parsed_args.file}: {error}') from error
        known = records_of(Inventory.of(_inventory(parsed_args.inventory)))
        report = [
            f'{step.device.describe()}: {step.outcome}, {step.reason}' + (f': {step.alias}' if step.alias else '')
            for step in plan.plan(definition, known)
        ]
        rewrite.give(definition, None, known)
        if isinstance(self.app.stdout, io.TextIOWrapper):
            # What XML is unless it says otherwise, whatever else is written here.
            self.app.stdout.reconfigure(encoding='utf-8')
        self.app.stdout.write(definition.to_xml() + '\n')
        self.app.stderr.write(''.join(f'{line}\n' for line in report))
        return errors.OperationFailed.exit_code if definition.doubled_aliases() else 0


def _inventory(text: str | None) -> base.Json | None:
    """An inventory as the contract wants it.

    :raises BadInput: it is none.
    """
    if text is None:
        return None
    inventory = base.json_argument('--inventory', text)
    nobody = '00000000-0000-0000-0000-000000000000'
    try:
        contract.validate('reconcile_plan', {'instance_uuid': nobody, 'inventory': inventory})
    except exception.InvalidInput as error:
        raise errors.BadInput(f'--inventory: {error}') from error
    return inventory
