# SPDX-License-Identifier: Apache-2.0
"""``aliasagent operation ...``"""

import argparse
import datetime
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from cliff import command

from aliasagent.shell import agent
from aliasagent.shell import base
from aliasagent.shell import errors

#: Seconds between two looks of a watch.
_INTERVAL = 0.5
#: How many operations a watch looks back.
_WATCHED = 1000


class OperationList(base.AgentLister):
    """List what was asked of the agent, and what became of it: the newest last."""

    COLUMNS = ('accepted_at', 'action', 'instance', 'device', 'state', 'error', 'id')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--guest', metavar='GUEST', help=f'only of one guest, by {base.GUEST_HELP}')
        parser.add_argument(
            '--state',
            action='append',
            choices=('accepted', 'running', 'succeeded', 'failed'),
            help='only in this state; may be repeated',
        )
        parser.add_argument('--since', type=_time, metavar='TIME', help='only those of this time or later (ISO 8601)')
        parser.add_argument('--until', type=_time, metavar='TIME', help='only those before this time (ISO 8601)')
        parser.add_argument('--limit', type=int, default=100, metavar='N', help='the newest N (100 by default)')
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
    """Show what became of one request."""

    COLUMNS = (
        *('id', 'action', 'instance', 'device', 'state', 'error_class', 'error', 'accepted_at', 'started_at'),
        *('finished_at', 'attempts', 'released_at', 'request_id'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('operation', metavar='ID', help='as "aliasagent operation list" shows it')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        operation = self.agent.operation(parsed_args.operation)
        return self.COLUMNS, tuple(base.Text(operation.get(name)) for name in self.COLUMNS)


class OperationWatch(command.Command):
    """Follow operations: a line for each, each time its state changes.

    With an ID until that one has ended, and as its outcome; else until interrupted.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('operation', nargs='?', metavar='ID', help='as "aliasagent operation list" shows it')
        parser.add_argument('--guest', metavar='GUEST', help=f'only of one guest, by {base.GUEST_HELP}')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        host: agent.Agent = self.app.agent  # type: ignore[attr-defined]
        try:
            for operation in _changes(host, parsed_args):
                self.app.stdout.write(_line(operation))
                self.app.stdout.flush()
                if operation['state'] == agent.FAILED and parsed_args.operation is not None:
                    raise errors.OperationFailed(f'{operation["error_class"]}: {operation["error"]}')
        except KeyboardInterrupt:
            # Without an ID there is no other end; with one, it is not known what becomes of that.
            if parsed_args.operation is not None:
                raise errors.Interrupted('interrupted: the operation goes on') from None


def _changes(host: agent.Agent, parsed_args: argparse.Namespace) -> Iterator[base.Json]:
    """Each operation that is watched, each time it is seen in another state."""
    states: dict[str, str] = {}
    while True:
        if parsed_args.operation is None:
            operations = host.operations(parsed_args.guest, limit=_WATCHED)
        else:
            operations = [host.operation(parsed_args.operation)]
        for operation in operations:
            if states.get(operation['id']) != operation['state']:
                yield operation
        states = {operation['id']: operation['state'] for operation in operations}
        if parsed_args.operation in states and states[parsed_args.operation] in (agent.SUCCEEDED, agent.FAILED):
            return
        time.sleep(_INTERVAL)


def _line(operation: base.Json) -> str:
    at = operation['finished_at'] or operation['started_at'] or operation['accepted_at']
    words = [at, operation['id'], operation['action'], operation['instance'], operation['device'], operation['state']]
    if operation['error']:
        words.append(f'{operation["error_class"]}: {operation["error"]}')
    return ' '.join(filter(None, words)) + '\n'


def _time(text: str) -> str:
    """A time in ISO 8601; without a zone it is meant as here."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no time such as 2026-01-31T12:00') from error
