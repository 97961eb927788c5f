# SPDX-License-Identifier: Apache-2.0
"""``aliasagent reconcile`` and ``aliasagent xml reconcile``"""

import argparse
import collections
import io
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from aliasagent.shell import base
from aliasagent.shell import errors
from aliasagent.shell import states

#: The column for each outcome (the values of aliasagent.reconcile.plan.Outcome).
_COUNTED = {
    'aliased': 'has an alias',
    'gets': 'gets an alias',
    'refused': 'is refused by libvirt',
    'transient': 'has no persistent config',
    'unidentified': 'cannot be identified',
    'local': 'is a local device of Nova',
    'conflicts': 'conflicts',
}


class Reconcile(base.AgentLister):
    """Write aliases into the persistent config of guests for devices that have none.

    Shows the number of devices of each guest: "aliased" have their alias, "gets" get it now (or would get it, with
    --dry-run), "refused" were refused by libvirt, "transient" have no persistent config (use --live or a migration),
    "unidentified" have no evidence of their id, "local" are devices of Nova that are no volume or port and need none,
    "conflicts" have contradicting evidence. "pending" aliases become live with the guest's next start or migration.
    Ends with 1 if a guest could not be read.
    """

    COLUMNS = ('guest', 'name', *_COUNTED, 'pending', 'error')
    DEVICE_COLUMNS = ('guest', 'name', 'device', 'outcome', 'reason', 'alias')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guests', metavar='GUEST', nargs='*', help=f'{base.GUEST_HELP}; by default all guests')
        parser.add_argument('--dry-run', action='store_true', help='show the result without changing anything')
        parser.add_argument(
            '--live',
            action='store_true',
            help='make the aliases live, too: the agent saves and restores each guest, which is paused meanwhile. With '
            '--dry-run only show for how long. Requires GUEST',
        )
        parser.add_argument('--force', action='store_true', help=f'with --live, {base.FORCE_HELP}')
        parser.add_argument('--devices', action='store_true', help='show one line per device instead of one per guest')
        parser.add_argument(
            '--inventory', metavar='JSON|@FILE', help=f'{base.INVENTORY_HELP}. Requires exactly one GUEST'
        )
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
                raise errors.BadInput('--inventory: requires exactly one GUEST')
        if parsed_args.live and not parsed_args.guests:
            raise errors.BadInput('--live: requires GUEST, because guests are paused meanwhile')
        if parsed_args.force and not parsed_args.live:
            raise errors.BadInput('--force: is for --live only')
        known = {guest['uuid']: guest['name'] for guest in self.agent.guests()}
        chosen = [self.agent.guest_uuid(guest) for guest in parsed_args.guests] or list(known)
        shown = []
        # Imported here, because most commands show no progress.
        import tqdm

        # A progress bar on standard error, only on a terminal; it disappears at the end.
        for instance in tqdm.tqdm(chosen, unit='guest', leave=False, disable=None, file=sys.stderr):
            status = self._status(instance, inventory, parsed_args)
            if status['error']:
                self.failed = True
            shown += _per_device(status) if parsed_args.devices else [_per_guest(status)]
        return shown

    failed = False

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or (errors.OperationFailed.exit_code if self.failed else 0)

    def _status(self, instance: str, inventory: base.Json | None, parsed_args: argparse.Namespace) -> base.Json:
        """Reconcile a guest as the arguments say, and return its status, with the error if there was one."""
        try:
            status = self._reconcile(instance, inventory, dry_run=parsed_args.dry_run)
            if parsed_args.live:
                return self._reconcile_live(instance, inventory, status, parsed_args)
            return status
        except (errors.OperationFailed, errors.NotFound, errors.WaitTimedOut) as error:
            reason = str(error)
        except errors.BadInput as error:
            # Without an inventory the request is ours, so the error is about this guest.
            if inventory is not None:
                raise
            reason = str(error)
        except errors.Silent as error:
            reason = str(error)
            self.agent.guests()  # raises an error, which ends the command, if the agent answers nothing any more
        # The command continues with the other guests.
        return _unread(instance, reason)

    def _reconcile_live(
        self, instance: str, inventory: base.Json | None, status: base.Json, parsed_args: argparse.Namespace
    ) -> base.Json:
        """Make a guest's aliases live unless this is a dry run, and return the guest's status."""
        if status['error']:
            return status
        seconds = self.agent.reconcile_live_estimate(instance)['seconds']
        self.app.stderr.write(f'{instance} is paused for about {seconds:.0f} s\n')
        if parsed_args.dry_run:
            return status
        force = {'force': True} if parsed_args.force else {}
        operation = self._run('reconcile_live', instance, inventory, **force)
        if operation['state'] != states.SUCCEEDED:
            return {**status, 'error': f'{operation["error_class"]}: {operation["error"]}'}
        return self._reconcile(instance, inventory, dry_run=False)

    def _run(self, method: str, instance: str, inventory: base.Json | None, **more: bool) -> base.Json:
        """Send a request, wait until its operation has finished, and return the operation."""
        seconds = base.WAIT_SECONDS
        operation_id = self.agent.submit(method, seconds, instance_uuid=instance, inventory=inventory, **more)
        return self.agent.wait(operation_id, seconds)

    def _reconcile(self, instance: str, inventory: base.Json | None, *, dry_run: bool) -> base.Json:
        """Reconcile a guest unless this is a dry run, and return the guest's status."""
        if dry_run:
            return self.agent.reconcile_plan(instance, inventory)
        operation = self._run('reconcile_instance', instance, inventory)
        if operation['state'] != states.SUCCEEDED:
            return _unread(instance, f'{operation["error_class"]}: {operation["error"]}')
        return self.agent.reconcile_status(instance)


def _unread(instance: str, error: str) -> base.Json:
    """Return the status of a guest that could not be read."""
    return {'instance': instance, 'name': '', 'pending': [], 'devices': [], 'error': error}


def _per_guest(status: base.Json) -> base.Json:
    outcomes = collections.Counter(device['outcome'] for device in status['devices'])
    return {
        'guest': status['instance'],
        'name': status['name'],
        **{column: outcomes[outcome] for column, outcome in _COUNTED.items()},
        'pending': len(status['pending']),
        'error': status['error'] or None,
    }


def _per_device(status: base.Json) -> list[base.Json]:
    devices = status['devices'] + ([{'reason': status['error']}] if status['error'] else [])
    return [{'guest': status['instance'], 'name': status['name'], **device} for device in devices]


class XmlReconcile(base.Command):
    """Write aliases into a domain definition in a file, without an agent.

    Prints the new definition to standard output, and a report with one line per device to standard error. Only aliases
    change. Ends with 1 if several devices have the same alias, which libvirt refuses.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'file', metavar='FILE', help='a definition as "virsh dumpxml --inactive --security-info" prints it'
        )
        parser.add_argument('--inventory', metavar='JSON|@FILE', help=base.INVENTORY_HELP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        # Not before: most commands need no XML and no schemas.
        from aliasagent.shell import definition

        path: str = parsed_args.file
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise errors.BadInput(f'FILE: {path}: {error.strerror}') from error
        rewritten = definition.reconcile(path, content, parsed_args.inventory)
        if isinstance(self.app.stdout, io.TextIOWrapper):
            # The default encoding of XML, whatever the terminal's is.
            self.app.stdout.reconfigure(encoding='utf-8')
        self.app.stdout.write(rewritten.xml + '\n')
        self.app.stderr.write(''.join(f'{line}\n' for line in rewritten.report))
        return errors.OperationFailed.exit_code if rewritten.has_doubles else 0


def _inventory(text: str | None) -> base.Json | None:
    """Parse an inventory, and check it against the contract.

    :raises BadInput: the inventory is not valid.
    """
    if text is None:
        return None
    from aliasagent.shell import definition

    return definition.checked_inventory(text)
