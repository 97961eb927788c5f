# SPDX-License-Identifier: Apache-2.0
"""The errors of the command, each with the exit code by which a script tells it from the others."""

from typing import ClassVar

#: The exit codes as the help shows them.
EXIT_CODES = """\
exit codes:
    0  done; without --wait: sent
    1  the agent refused the request, or the operation failed
    2  wrong usage or bad input; nothing was sent
    3  the agent or the message broker cannot be reached
    4  not finished within the time given to --wait; the operation may still finish
    5  no such guest or operation; nothing was sent
  130  interrupted (Ctrl-C); a request that was sent continues
  141  the reader of the output has ended; a request that was sent continues
"""

#: The exit code when the reader of the output has ended, as of programs that SIGPIPE ends (128 + 13).
BROKEN_PIPE = 141


class ShellError(Exception):
    """An expected error: its text says what happened and, if possible, what to do next."""

    exit_code: ClassVar[int] = 1


class OperationFailed(ShellError):
    """The agent answered that it refused the request, or that the operation failed."""

    exit_code = 1


class BadInput(ShellError):
    """An option or argument is not valid; nothing was sent."""

    exit_code = 2


class NotFound(ShellError):
    """The agent answered that it has no such guest or operation; nothing was sent."""

    exit_code = 5


class Unreachable(ShellError):
    """The broker cannot be reached, no agent listens, or the agent does not answer.

    :param may_have_arrived: whether the agent may have the request anyway.
    """

    exit_code = 3

    def __init__(self, text: str, may_have_arrived: bool = False) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived


class Silent(Unreachable):
    """The agent did not answer this question in time; it may answer others."""


class WaitTimedOut(ShellError):
    """The operation did not finish within the time given to ``--wait``. It continues."""

    exit_code = 4


class Interrupted(ShellError):
    """The user interrupted the command. The operation continues."""

    exit_code = 130
