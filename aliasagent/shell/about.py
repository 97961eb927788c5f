# SPDX-License-Identifier: Apache-2.0
"""``aliasagent help``: cliff's own, with what it lacks."""

import argparse

from cliff import help as cliff_help

from aliasagent.shell import errors


class Help(cliff_help.HelpCommand):
    """Tell all about a command."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().take_action(parsed_args)
        except ValueError as error:
            name = ' '.join(parsed_args.cmd)
            raise errors.BadInput(f'there is no command {name!r}; "aliasagent help" shows those that are') from error
