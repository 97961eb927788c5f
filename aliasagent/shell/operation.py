# SPDX-License-Identifier: Apache-2.0
"""``aliasagent operation ...``"""

import argparse
import datetime
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from aliasagent.shell import base
from aliasagent.shell import errors
from aliasagent.shell import states

if TYPE_CHECKING:
    # Loaded when a command talks to an agent, and not before.
    from aliasagent.shell.remote import agent

#: Seconds between two requests of a watch.
_INTERVAL = 0.5
#: Maximum number of operations that a watch follows.
_WATCHED = 1000


class OperationList(base.AgentLister):
    """List the operations that the agent accepted, with their outcomes, newest last."""

    COLUMNS = ('accepted_at', 'action', 'instance', 'device', 'state', 'error', 'id')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--guest', metavar='GUEST', help=f'only operations of one guest: {base.GUEST_HELP}')
        parser.add_argument(
            '--state',
            action='append',
            choices=('accepted', 'running', 'succeeded', 'failed'),
            help='only operations in this state; may be repeated',
        )
        parser.add_argument(
            '--since', type=_time, metavar='TIME', help='only operations accepted at this time or later (ISO 8601)'
        )
        parser.add_argument(
            '--until', type=_time, metavar='TIME', help='only operations accepted before this time (ISO 8601)'
        )
        parser.add_argument('--limit', type=int, default=100, metavar='N', help='only the newest N (100 by default)')
        return parser

    def things(self, parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        return self.agent.operations(
            parsed_args.guest,
            states=parsed_args.state or (),
            since=parsed_args.since,
            until=parsed_args.until,
            limit=parsed_args.limit,
        )


class OperationShow(base.AgentShow):
    """Show one operation, with its outcome."""

    COLUMNS = (
        *('id', 'action', 'instance', 'device', 'state', 'error_class', 'error', 'accepted_at', 'started_at'),
        *('finished_at', 'attempts', 'released_at', 'request_id'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('operation', metavar='ID', help='the id that "aliasagent operation list" shows')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        operation = self.agent.operation(parsed_args.operation)
        return self.COLUMNS, tuple(base.Text(operation.get(name)) for name in self.COLUMNS)


class OperationWatch(base.Command):
    """Follow operations: print a line each time the state of an operation changes.

    With an ID, the command ends when that operation has finished, and fails if the operation failed. Without one, the
    command runs until it is interrupted.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('operation', nargs='?', metavar='ID', help='the id that "aliasagent operation list" shows')
        parser.add_argument('--guest', metavar='GUEST', help=f'only operations of one guest: {base.GUEST_HELP}')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        host: agent.Agent = self.app.agent  # type: ignore[attr-defined]
        try:
            for operation in _changes(host, parsed_args):
                self.app.stdout.write(_line(operation))
                self.app.stdout.flush()
                if operation['state'] == states.FAILED and parsed_args.operation is not None:
                    raise errors.OperationFailed(f'{operation["error_class"]}: {operation["error"]}')
        except KeyboardInterrupt:
            # Without an ID an interrupt is the normal end; with one, the outcome is not known yet.
            if parsed_args.operation is not None:
                raise errors.Interrupted('interrupted: the operation continues') from None


def _changes(host: 'agent.Agent', parsed_args: argparse.Namespace) -> Iterator[base.Json]:
    """Yield each watched operation each time that its state changes."""
    seen: dict[str, str] = {}
    while True:
        if parsed_args.operation is None:
            operations = host.operations(parsed_args.guest, limit=_WATCHED)
        else:
            operations = [host.operation(parsed_args.operation)]
        for operation in operations:
            if seen.get(operation['id']) != operation['state']:
                yield operation
        seen = {operation['id']: operation['state'] for operation in operations}
        if seen.get(parsed_args.operation) in (states.SUCCEEDED, states.FAILED):
            return
        time.sleep(_INTERVAL)


def _line(operation: base.Json) -> str:
    at = operation['finished_at'] or operation['started_at'] or operation['accepted_at']
    words = [at, operation['id'], operation['action'], operation['instance'], operation['device'], operation['state']]
    if operation['error']:
        words.append(f'{operation["error_class"]}: {operation["error"]}')
    return ' '.join(filter(None, words)) + '\n'


def _time(text: str) -> str:
    """Parse a time in ISO 8601; a time without a zone is local."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is not a time in ISO 8601, such as 2026-01-31T12:00') from error
