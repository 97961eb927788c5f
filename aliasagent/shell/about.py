# SPDX-License-Identifier: Apache-2.0
"""``aliasagent help`` and ``aliasagent complete``: cliff's own, extended."""

import argparse
import functools
from typing import Any

from cliff import complete
from cliff import help as cliff_help

from aliasagent.shell import errors


class Help(cliff_help.HelpCommand):
    """Show the help of a command."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().take_action(parsed_args)
        except ValueError as error:
            name = ' '.join(parsed_args.cmd)
            raise errors.BadInput(f'there is no command {name!r}; "aliasagent help" lists all commands') from error


class Complete(complete.CompleteCommand):
    """Print a script that lets bash complete commands and options."""

    def __init__(self, app: Any, app_args: Any, cmd_name: str | None = None) -> None:
        super().__init__(app, app_args, cmd_name)
        bash: Any = self._formatters['bash']
        bash.plugin = functools.partial(_Bash, app.parser)


class _Bash(complete.CompleteBash):
    """cliff's script, which ignores options before the command, extended to complete these, too.

    :param parser: the parser of the global options.
    """

    def __init__(self, parser: argparse.ArgumentParser, name: str, output: Any) -> None:
        super().__init__(name, output)
        self._options = parser._get_optional_actions()

    def get_trailer(self) -> str:
        options = ' '.join(name for option in self._options for name in option.option_strings)
        valued = ' '.join(name for option in self._options if option.nargs != 0 for name in option.option_strings)
        return _GLOBAL_OPTIONS % (options, valued) + str(super().get_trailer())


#: Completes the global options, and drops them before cliff's script completes the rest. bash splits "--host=h" into
#: three words.
_GLOBAL_OPTIONS = """
  local options='%s'
  local valued=' %s '
  local taken
  while [[ ${words[1]} == -* ]] ; do
    taken=1
    if [[ ${words[2]} == '=' ]] ; then
      taken=3
    elif [[ ${valued} == *" ${words[1]} "* ]] ; then
      taken=2
    fi
    if [ ${#words[@]} -eq 2 ] ; then
      COMPREPLY=( $(compgen -W "${options}" -- "${cur}") )
      return 0
    elif [ ${#words[@]} -le $((taken + 1)) ] ; then
      COMPREPLY=( $(compgen -f -- "${cur#=}") )
      return 0
    fi
    words=("${words[0]}" "${words[@]:taken + 1}")
  done
"""
