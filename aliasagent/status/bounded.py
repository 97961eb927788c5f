# SPDX-License-Identifier: Apache-2.0
"""A time limit for calls that may hang."""

import queue
import threading
from collections.abc import Callable
from typing import NoReturn
from typing import TypeVar

T = TypeVar('T')


class NoAnswerError(Exception):
    """The call did not return in time."""


def answer(ask: Callable[[], T], seconds: float) -> T:
    """Call a function with a time limit, and return its result. A call that hangs continues in its own thread.

    :raises NoAnswerError: the function did not return in time. Its own errors are raised as they are.
    """
    outcome: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def work() -> None:
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            failed = error
            outcome.put(lambda: _raise(failed))
        else:
            outcome.put(lambda: found)

    # A daemon: a libvirtd that hangs must not keep the process.
    threading.Thread(target=work, name='ask', daemon=True).start()
    try:
        tell = outcome.get(timeout=seconds)
    except queue.Empty:
        raise NoAnswerError(f'no answer within {seconds:g} s') from None
    return tell()


def _raise(error: BaseException) -> NoReturn:
    raise error
