# SPDX-License-Identifier: Apache-2.0
"""The command ``aliasagent`` as a whole: its global options, its logging and its exit code."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING
from typing import Any
from typing import TextIO

from cliff import app
from cliff import commandmanager

from aliasagent import version
from aliasagent.shell import about
from aliasagent.shell import errors

if TYPE_CHECKING:
    # Loaded when a command talks to an agent, and not before.
    from aliasagent.shell.remote import agent

DESCRIPTION = """\
Attaches volumes, network interfaces and host devices to libvirt guests, and detaches them by their ids. The command
sends requests over the message bus to aliasagent-compute, the agent on the guests' host. "aliasagent help COMMAND"
shows the help of a command.
"""

Connect = Callable[[argparse.Namespace], 'agent.Agent']


def _connect(options: argparse.Namespace) -> 'agent.Agent':
    from aliasagent.shell.remote import connection

    return connection.connect(options)


class Commands(commandmanager.CommandManager):
    """The commands, each of which is loaded when it is used. cliff would load all of them at each start."""

    def load_commands(self, namespace: str) -> None:
        self.group_list.append(namespace)
        self.commands.update((entry.name, entry) for entry in metadata.entry_points(group=namespace))


class AliasAgentApp(app.App):
    """The command line application.

    :param connect: makes a client of the agent from the global options, when a command needs one.
    """

    NAME = 'aliasagent'
    LOG = logging.getLogger(NAME)

    def __init__(self, connect: Connect = _connect, **streams: Any) -> None:
        super().__init__(
            description=DESCRIPTION,
            version=version.version(),
            command_manager=Commands('aliasagent.command'),
            deferred_help=True,
            **streams,
        )
        self.command_manager.add_command('help', about.Help)
        self.command_manager.add_command('complete', about.Complete)
        self._connect = connect
        self._agent: agent.Agent | None = None
        self._exit_code = 0

    @property
    def agent(self) -> 'agent.Agent':
        """The agent that the global options name.

        :raises BadInput: the options or the configuration do not name one.
        """
        if self._agent is None:
            self._agent = self._connect(self.options)
        return self._agent

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> argparse.ArgumentParser:
        parser = super().build_option_parser(
            description,
            version,
            {
                # an option of a command is no abbreviation of a global one
                'allow_abbrev': False,
                'epilog': errors.EXIT_CODES,
                'formatter_class': argparse.RawDescriptionHelpFormatter,
                **(argparse_kwargs or {}),
            },
        )
        parser.add_argument(
            '--host',
            help="the name of the agent, which is its option host; by default this configuration's host, or this "
            "host's name",
        )
        parser.add_argument(
            '--config-file',
            metavar='PATH',
            action='append',
            default=[],
            help="a configuration file, may be repeated; by default the agent's, such as "
            '/etc/aliasagent/aliasagent.conf',
        )
        parser.add_argument(
            '--transport-url',
            metavar='URL',
            help="the message broker, such as rabbit://user:password@host:5672/; the configuration's by default",
        )
        parser.add_argument(
            '--timeout',
            type=_seconds,
            metavar='SECONDS',
            help='how long to wait for an answer; by default rpc_response_timeout of the configuration (60)',
        )
        return parser

    def configure_logging(self) -> None:
        """Show the libraries' log only with ``-v`` (information), or with ``-vv`` or ``--debug`` (everything)."""
        debug = self.options.debug or self.options.verbose_level > 2
        verbose = self.options.verbose_level > self.DEFAULT_VERBOSE_LEVEL
        level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
        root = logging.getLogger()
        root.setLevel(logging.DEBUG if self.options.log_file else level)
        # without any handler, Python would print the libraries' warnings by itself
        root.addHandler(logging.NullHandler())
        if self.options.log_file:
            to_file = self._log_file(self.options.log_file)
            to_file.setFormatter(logging.Formatter(self.LOG_FILE_MESSAGE_FORMAT))
            root.addHandler(to_file)
        to_person = logging.StreamHandler(self.stderr)
        to_person.setFormatter(logging.Formatter('%(message)s'))
        to_person.setLevel(level)
        (root if debug or verbose else self.LOG).addHandler(to_person)

    def _log_file(self, path: str) -> logging.FileHandler:
        try:
            return logging.FileHandler(path)
        except OSError as error:
            # There is no log yet to report the error to.
            self.parser.exit(errors.BadInput.exit_code, f'--log-file: {path}: {error.strerror}\n')

    def run(self, argv: Sequence[str]) -> int:
        """Run a command.

        :returns: the exit code, see :data:`aliasagent.shell.errors.EXIT_CODES`.
        """
        code = super().run(list(argv))
        return self._exit_code or code

    def interact(self) -> None:
        """Report that no command was given; there is no interactive mode."""
        if not self._exit_code:
            self.parser.print_usage(self.stderr)
            self.stderr.write(f'{self.NAME}: no command given, see "{self.NAME} --help"\n')
            self._exit_code = errors.BadInput.exit_code

    def clean_up(self, cmd: Any, result: int, err: BaseException | None) -> None:
        """Close the connection, and remember the exit code."""
        if isinstance(err, errors.ShellError):
            self._exit_code = err.exit_code
        elif isinstance(err, Exception) and not isinstance(err, BrokenPipeError):
            self.LOG.error('internal error: unexpected %s; run again with --debug for a traceback', type(err).__name__)
            self._exit_code = 1
        if self._agent is not None:
            self._agent.close()


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of seconds above 0')
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; those of the process by default.
    :returns: the exit code, see :data:`aliasagent.shell.errors.EXIT_CODES`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Escape characters that the terminal's encoding does not have.
            stream.reconfigure(errors='backslashreplace')
    try:
        code = AliasAgentApp().run(sys.argv[1:] if argv is None else argv)
    except SystemExit as end:  # argparse has no other way to end after --help
        code = int(end.code or 0)
    except BrokenPipeError:
        code = errors.BROKEN_PIPE
    finally:
        is_read = _flush(sys.stdout)
    return code if is_read else code or errors.BROKEN_PIPE


def _flush(stream: TextIO) -> bool:
    """Flush a stream. Returns False if its reader has ended; the stream then writes to nowhere.

    Otherwise Python would flush again at its end, and print an error.
    """
    if stream.closed:  # argparse closes it if the help cannot be written, from Python 3.13 on
        return True
    try:
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True
