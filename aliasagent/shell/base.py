# SPDX-License-Identifier: Apache-2.0
"""What the commands have in common: a table of things, or a request that is sent and perhaps waited for."""

import abc
import argparse
import json
import pathlib
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import tqdm
from cliff import columns
from cliff import display
from cliff import lister
from cliff import show

from aliasagent.shell import agent
from aliasagent.shell import errors

Json = dict[str, Any]

#: Seconds of a ``--wait`` without a number: more than the agent's own patience with a guest, 8 times 20 s.
WAIT_SECONDS = 300.0

#: How deep a JSON argument may be nested; nothing that the contract has is deeper than ten levels.
_DEEPEST = 100

GUEST_HELP = "the guest's UUID or its libvirt name"
INVENTORY_HELP = (
    'whose devices are whose, for what the guest alone cannot tell: '
    '{"ports": [{"id", "address"|"bridge"|"network"|"pci_slot"|"devname"|"guest_pci_slot"}], '
    '"volumes": [{"id", "target"|"source"|"serial"|"wwn"}], "hostdevs": [{"id", "hostdev"}]}'
)


class Text(columns.FormattableColumn[Any]):
    """A value that may be missing: ``-`` for a person, null for a program."""

    def human_readable(self) -> str:
        return '-' if self._value is None else str(self._value)


class AgentCommand(display.DisplayCommandBase[Any]):
    """A command that asks the agent, and has columns that are known before."""

    COLUMNS: ClassVar[tuple[str, ...]]

    @property
    def agent(self) -> agent.Agent:
        """The agent that the global options name; connected to when it is asked for the first time."""
        found: agent.Agent = self.app.agent  # type: ignore[attr-defined]
        return found

    def run(self, parsed_args: argparse.Namespace) -> int:
        # cliff looks at them when everything is done already
        known = {_normalized(name) for name in self.columns_for(parsed_args)}
        unknown = [name for name in parsed_args.columns if _normalized(name) not in known]
        if unknown:
            raise errors.BadInput(
                f'--column: there is no column {unknown[0]!r}, only {", ".join(self.columns_for(parsed_args))}'
            )
        return super().run(parsed_args)

    def columns_for(self, _parsed_args: argparse.Namespace) -> tuple[str, ...]:
        """The columns that will be shown."""
        return self.COLUMNS


def _normalized(column: str) -> str:
    """Write a column's name as cliff compares it."""
    return column.lower().strip().replace(' ', '_')


class AgentLister(AgentCommand, lister.Lister):
    """A table with one line per thing."""

    @property
    def formatter_namespace(self) -> str:
        return 'aliasagent.formatter.list'

    @abc.abstractmethod
    def things(self, parsed_args: argparse.Namespace) -> Iterable[Json]:
        """What to list, each with a member for each column."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        rows = [tuple(Text(thing.get(name)) for name in self.COLUMNS) for thing in self.things(parsed_args)]
        return self.COLUMNS, rows


class AgentShow(AgentCommand, show.ShowOne):
    """One thing, in any of the formats in which a table comes."""

    @property
    def formatter_namespace(self) -> str:
        return 'aliasagent.formatter.show'


class RequestCommand(AgentShow):
    """A request: sent, and with ``--wait`` waited for until it has an outcome."""

    COLUMNS = ('operation_id', 'guest', 'device', 'state')
    #: What an operation tells with an outcome of its own.
    OUTCOME: ClassVar[tuple[str, ...]] = ('error_class', 'error', 'accepted_at', 'finished_at')
    OUTCOME_COLUMNS: ClassVar[tuple[str, ...]] = (*COLUMNS, *OUTCOME)

    #: A command line to learn from.
    example: ClassVar[str] = ''

    _failure: errors.ShellError | None = None

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=GUEST_HELP)
        self.add_arguments(parser)
        parser.add_argument(
            '--wait',
            nargs='?',
            type=_seconds,
            const=WAIT_SECONDS,
            metavar='SECONDS',
            help='return when it is really done, or has failed, or after this many seconds '
            f'({WAIT_SECONDS:g} if no number is given); without it the request is only sent. '
            'Write it last, or as --wait=SECONDS',
        )
        return parser

    def get_epilog(self) -> str:
        return f'Example: {self.example}' if self.example else super().get_epilog()

    @abc.abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments after GUEST."""

    @abc.abstractmethod
    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, Json]:
        """The cast's name, the id of the device it is about, and its arguments apart from the guest's.

        :raises BadInput: the arguments do not make one.
        """

    def columns_for(self, parsed_args: argparse.Namespace) -> tuple[str, ...]:
        return self.COLUMNS if parsed_args.wait is None else self.OUTCOME_COLUMNS

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        method, device, arguments = self.request(parsed_args)
        instance_uuid = self.agent.guest_uuid(parsed_args.guest)
        if parsed_args.wait is None:
            operation_id = self.agent.send(method, instance_uuid=instance_uuid, **arguments)
        else:
            operation_id = self.agent.submit(method, parsed_args.wait, instance_uuid=instance_uuid, **arguments)
        shown: Json = {'operation_id': operation_id, 'guest': instance_uuid, 'device': device, 'state': 'sent'}
        if parsed_args.wait is not None:
            operation = self._wait(operation_id, instance_uuid, parsed_args.wait)
            shown |= {name: operation[name] for name in ('state', *self.OUTCOME)}
            if operation['state'] != agent.SUCCEEDED:
                self._failure = errors.OperationFailed(f'{operation["error_class"]}: {operation["error"]}')
        names = self.columns_for(parsed_args)
        return names, tuple(Text(shown[name]) for name in names)

    def _wait(self, operation_id: str, instance_uuid: str, seconds: float) -> Json:
        """Wait for an operation, and tell somebody who sits at a terminal how far it is; the operation is returned."""
        # It goes to standard error, away when done, and is not there at all if that is no terminal.
        with tqdm.tqdm(
            total=0, bar_format='{desc}: {elapsed}', leave=False, disable=None, file=sys.stderr, desc='sent'
        ) as line:

            def on_look(state: str) -> None:
                if not line.disable:
                    line.set_description_str(self.describe(instance_uuid, state))

            return self.agent.wait(operation_id, seconds, on_look)

    def describe(self, _instance_uuid: str, state: str) -> str:
        """How far an operation is, in a few words.

        :param state: its state.
        """
        return state

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Show the outcome first, then fail if it is a failure."""
        try:
            code = super().run(parsed_args)
        except BrokenPipeError:
            # The failure counts more than the table that is not read.
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure
        return code


def json_argument(option: str, text: str) -> Json:
    """A JSON object that is given as such or, with ``@`` before it, as the name of a file.

    :param option: the option's name, for the error.
    :raises BadInput: the file cannot be read, or there is no JSON object.
    """
    source = option
    if text.startswith('@'):
        path = pathlib.Path(text[1:])
        source = f'{option}: {path}'
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else 'is no text'
            raise errors.BadInput(f'{source}: {reason}') from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise errors.BadInput(f'{source}: is not JSON: {error}') from error
    except RecursionError as error:
        raise _too_deep(source) from error
    if not isinstance(value, dict):
        raise errors.BadInput(f'{source}: is not a JSON object')
    level: list[Any] = [value]
    for _depth in range(_DEEPEST):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
    if level:
        raise _too_deep(source)
    return value


def _too_deep(source: str) -> errors.BadInput:
    return errors.BadInput(f'{source}: is nested more than {_DEEPEST} levels deep')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f'{text!r} is no number of seconds; write --wait last, or as --wait=SECONDS')
    return seconds
