# SPDX-License-Identifier: Apache-2.0
"""What the command can end with: one error, and one exit code, for each thing that a script may want to tell apart."""

from typing import ClassVar

#: The exit codes in words, as the help shows them.
EXIT_CODES = """\
exit codes:
    0  done; without --wait: sent
    1  the agent refused it, or the operation failed
    2  wrong usage or bad input; nothing was sent
    3  the agent or the message broker cannot be reached
    4  not finished within the time given to --wait; it may still finish
    5  there is no such guest or operation; nothing was sent
  130  interrupted (Ctrl-C); what was sent goes on
  141  the output cannot be written: its reader has ended; what was sent goes on
"""

#: The exit code when the reader of the output has ended, as of programs that SIGPIPE ends (128 + 13).
BROKEN_PIPE = 141


class ShellError(Exception):
    """An expected end: its text says what happened and, where there is something, what to do next."""

    exit_code: ClassVar[int] = 1


class OperationFailed(ShellError):
    """The agent answered, and the answer is that it could not be done."""

    exit_code = 1


class BadInput(ShellError):
    """An option or argument does not hold what it must; nothing was sent."""

    exit_code = 2


class NotFound(ShellError):
    """The agent answered that it has no guest or operation of this name; nothing was sent."""

    exit_code = 5


class Unreachable(ShellError):
    """Nobody answers: no broker, no agent that listens, or one that is silent."""

    exit_code = 3


class Silent(Unreachable):
    """The agent did not answer in time; it may answer another question."""


class WaitTimedOut(ShellError):
    """The time given to ``--wait`` is over. The operation goes on."""

    exit_code = 4


class Interrupted(ShellError):
    """Whoever waited wants to wait no longer. The operation goes on."""

    exit_code = 130
