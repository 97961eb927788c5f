# SPDX-License-Identifier: Apache-2.0
"""Questions that somebody may never answer."""

import queue
import threading
from collections.abc import Callable
from typing import NoReturn
from typing import TypeVar

T = TypeVar('T')


class NoAnswerError(Exception):
    """Nobody answered in time."""


def answer(ask: Callable[[], T], seconds: float) -> T:
    """What a function returns or raises, if it does so in time; else it is left to itself.

    :raises NoAnswerError: it did not.
    """
    outcome: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def work() -> None:
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
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
