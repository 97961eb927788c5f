# SPDX-License-Identifier: Apache-2.0
"""Call functions that have no timeout of their own, and stop waiting for them after a while.

Neither a connection to libvirt nor one to the message broker can be aborted by its caller: oslo.messaging connects for
the answers to a call without a limit, regardless of the timeout and retries of the call (18.3.1: ``ConnectionContext``
drops ``retry`` for listening connections). So this module limits how long the caller waits.
"""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


class TimedOut(Exception):
    """The function did not return in time. It continues in a thread that ends with the process."""


def start(function: Callable[[], T]) -> 'futures.Future[T]':
    """Call a function in its own daemon thread, and return a future of its result.

    :raises RuntimeError: no thread could be started.
    """
    future: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)

    # Not a thread of an executor: the process would wait for it at its end.
    threading.Thread(target=work, name='bounded-call', daemon=True).start()
    return future


def call(function: Callable[[], T], seconds: float) -> T:
    """Call a function, and return or raise what it does.

    :param seconds: how long to wait; 0 or less for not at all.
    :raises TimedOut: the function did not return in time.
    """
    future = start(function)
    done, _not_done = futures.wait([future], max(seconds, 0))
    if not done:
        raise TimedOut(f'no answer within {seconds:g} s')
    return future.result()
