# SPDX-License-Identifier: Apache-2.0
"""The base classes of the commands: lists, single objects, and requests that a command sends and may wait for."""

import abc
import argparse
import json
import logging
import pathlib
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar

from cliff import columns
from cliff import command
from cliff import display
from cliff import lister
from cliff import show

from aliasagent.shell import errors
from aliasagent.shell import states

if TYPE_CHECKING:
    # Loaded when a command talks to an agent, and not before.
    from aliasagent.shell.remote import agent

LOG = logging.getLogger(__name__)

Json = dict[str, Any]

#: Seconds of a ``--wait`` without a number: more than the agent waits for a guest to release a device, 8 times 20 s.
WAIT_SECONDS = 300.0

#: How deep a JSON argument may be nested; the contract has at most ten levels.
_DEEPEST = 100

GUEST_HELP = "the guest's UUID or its libvirt name"
INVENTORY_HELP = (
    'the ids of devices that the agent cannot identify, as JSON: '
    '{"ports": [{"id", "address"|"bridge"|"network"|"pci_slot"|"devname"|"guest_pci_slot"}], '
    '"volumes": [{"id", "target"|"source"|"serial"|"wwn"}], "hostdevs": [{"id", "hostdev"}]}'
)
FORCE_HELP = (
    "do it in a guest of Nova, too, where the agent's option manage is aliases. Nova will not know of it: see "
    '"Beside nova-compute" in the documents for what that costs'
)


class Text(columns.FormattableColumn[Any]):
    """A value that may be missing: ``-`` in a table, null in JSON."""

    def human_readable(self) -> str:
        return '-' if self._value is None else str(self._value)


class Command(command.Command):
    """A command of this project."""

    def get_epilog(self) -> str:
        """Return no text. cliff would name the command's package if it is another one, and read the metadata of all."""
        return ''


class AgentCommand(Command, display.DisplayCommandBase[Any]):
    """A command that talks to the agent and has fixed columns."""

    COLUMNS: ClassVar[tuple[str, ...]]

    @property
    def agent(self) -> 'agent.Agent':
        """The agent that the global options name; the first use connects to it."""
        found: agent.Agent = self.app.agent  # type: ignore[attr-defined]
        return found

    def run(self, parsed_args: argparse.Namespace) -> int:
        # cliff checks the columns only after the command has done its work.
        columns = {_normalized(name) for name in self.columns_for(parsed_args)}
        unknown = [name for name in parsed_args.columns if _normalized(name) not in columns]
        if unknown:
            raise errors.BadInput(
                f'--column: there is no column {unknown[0]!r}, only {", ".join(self.columns_for(parsed_args))}'
            )
        return super().run(parsed_args)

    def columns_for(self, _parsed_args: argparse.Namespace) -> tuple[str, ...]:
        """Return the columns that the command shows."""
        return self.COLUMNS


def _normalized(column: str) -> str:
    """Return a column's name in the form that cliff compares."""
    return column.lower().strip().replace(' ', '_')


class AgentLister(AgentCommand, lister.Lister):
    """A table with one line per object."""

    @property
    def formatter_namespace(self) -> str:
        return 'aliasagent.formatter.list'

    @abc.abstractmethod
    def things(self, parsed_args: argparse.Namespace) -> Iterable[Json]:
        """Return the objects to list, each with a member for each column."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        rows = [tuple(Text(thing.get(name)) for name in self.COLUMNS) for thing in self.things(parsed_args)]
        return self.COLUMNS, rows


class AgentShow(AgentCommand, show.ShowOne):
    """One object, in any of the output formats."""

    @property
    def formatter_namespace(self) -> str:
        return 'aliasagent.formatter.show'


class RequestCommand(AgentShow):
    """A command that sends a request, and with ``--wait`` waits for the outcome."""

    COLUMNS = ('operation_id', 'guest', 'device', 'state')
    #: The members of a finished operation that the command shows.
    OUTCOME: ClassVar[tuple[str, ...]] = ('error_class', 'error', 'accepted_at', 'finished_at')
    OUTCOME_COLUMNS: ClassVar[tuple[str, ...]] = (*COLUMNS, *OUTCOME)

    #: Whether the command has ``--force``, because the agent may leave the request to Nova.
    can_force: ClassVar[bool] = False

    #: An example of the command line, for the help.
    example: ClassVar[str] = ''

    _failure: errors.ShellError | None = None

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('guest', metavar='GUEST', help=GUEST_HELP)
        self.add_arguments(parser)
        if self.can_force:
            parser.add_argument('--force', action='store_true', help=FORCE_HELP)
        parser.add_argument(
            '--wait',
            nargs='?',
            type=_seconds,
            const=WAIT_SECONDS,
            metavar='SECONDS',
            help='wait until the operation has succeeded or failed, for at most this many seconds '
            f'({WAIT_SECONDS:g} by default). Without --wait the command only sends the request. '
            'Write it last, or as --wait=SECONDS',
        )
        return parser

    def get_epilog(self) -> str:
        return f'Example: {self.example}' if self.example else super().get_epilog()

    def succeeded(self, instance_uuid: str, device: str) -> None:
        """Tell the user what else is to be done after the operation has succeeded."""

    @abc.abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments after GUEST."""

    @abc.abstractmethod
    def request(self, parsed_args: argparse.Namespace) -> tuple[str, str, Json]:
        """Return the cast's name, the device's id, and the cast's arguments without the guest.

        :raises BadInput: the arguments are not valid.
        """

    def columns_for(self, parsed_args: argparse.Namespace) -> tuple[str, ...]:
        return self.COLUMNS if parsed_args.wait is None else self.OUTCOME_COLUMNS

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        method, device, arguments = self.request(parsed_args)
        if self.can_force and parsed_args.force:
            arguments['force'] = True
        instance_uuid = self.agent.guest_uuid(parsed_args.guest)
        if parsed_args.wait is None:
            operation_id = self.agent.send(method, instance_uuid=instance_uuid, **arguments)
        else:
            operation_id = self.agent.submit(method, parsed_args.wait, instance_uuid=instance_uuid, **arguments)
        shown: Json = {'operation_id': operation_id, 'guest': instance_uuid, 'device': device, 'state': 'sent'}
        if parsed_args.wait is not None:
            operation = self._wait(operation_id, instance_uuid, parsed_args.wait)
            shown |= {name: operation[name] for name in ('state', *self.OUTCOME)}
            if operation['state'] == states.SUCCEEDED:
                self.succeeded(instance_uuid, device)
            else:
                self._failure = errors.OperationFailed(f'{operation["error_class"]}: {operation["error"]}')
        names = self.columns_for(parsed_args)
        return names, tuple(Text(shown[name]) for name in names)

    def _wait(self, operation_id: str, instance_uuid: str, seconds: float) -> Json:
        """Wait for an operation, show its progress on a terminal, and return the operation."""
        # Imported here, because most commands show no progress.
        import tqdm

        # The progress goes to standard error, only on a terminal, and disappears at the end.
        with tqdm.tqdm(
            total=0, bar_format='{desc}: {elapsed}', leave=False, disable=None, file=sys.stderr, desc='sent'
        ) as line:

            def on_look(state: str) -> None:
                if not line.disable:
                    line.set_description_str(self.describe(instance_uuid, state))

            return self.agent.wait(operation_id, seconds, on_look)

    def describe(self, _instance_uuid: str, state: str) -> str:
        """Describe the progress of an operation in a few words.

        :param state: the operation's state.
        """
        return state

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Show the outcome, then fail if the operation failed."""
        try:
            code = super().run(parsed_args)
        except BrokenPipeError:
            # The failure counts more than the table that the reader did not read.
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure
        return code


class DetachCommand(RequestCommand):
    """A command that detaches a device."""

    #: How the same is asked of Nova.
    in_nova: ClassVar[str]

    def succeeded(self, instance_uuid: str, device: str) -> None:
        try:
            is_novas = self.agent.reconcile_status(instance_uuid).get('nova', False)
        except errors.ShellError as error:
            # The device is detached all the same.
            LOG.warning('cannot tell whether the guest is one of Nova: %s', error)
            return
        if is_novas:
            repeat = self.in_nova.format(guest=instance_uuid, device=device)
            self.app.stderr.write(
                f'The guest is one of Nova. If Nova still lists the device, repeat the detach there: {repeat}\n'
            )


def json_argument(option: str, text: str) -> Json:
    """Parse a JSON object, given as text or, with a leading ``@``, as the name of a file.

    :param option: the option's name, for the error.
    :raises BadInput: the file cannot be read, or the text is not a JSON object.
    """
    source = option
    if text.startswith('@'):
        path = pathlib.Path(text[1:])
        source = f'{option}: {path}'
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else 'is not text'
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


def inside(value: Json, *names: str) -> Json:
    """Return the object of these names in an answer of an API, or the value itself if it is no such answer."""
    for name in names:
        inner = value.get(name)
        value = inner if isinstance(inner, dict) else value
    return value


def _too_deep(source: str) -> errors.BadInput:
    return errors.BadInput(f'{source}: is nested more than {_DEEPEST} levels deep')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a number of seconds; write --wait last, or as --wait=SECONDS'
        )
    return seconds
