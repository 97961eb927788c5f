# SPDX-License-Identifier: Apache-2.0
"""An end for calls that have none of their own."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


class Exceeded(Exception):
    """The function did not return in time. It goes on in a thread that ends with the process."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """Call a function, and give up on it after a while.

    oslo.messaging connects for the answers to a call without any limit, whatever timeout and retries the call was made
    with (18.3.1: ``ConnectionContext`` drops ``retry`` for listening connections). So the limit is put around it.

    :param seconds: how long to wait; at once given up if not positive.
    :raises Exceeded: it did not return in time; else whatever the function raises.
    """
    future: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)

    # not of an executor: those threads are waited for at the end of the process
    threading.Thread(target=work, name='aliasagent-call', daemon=True).start()
    try:
        return future.result(timeout=max(seconds, 0))
    except futures.TimeoutError:
        if future.done():
            return future.result()
        raise Exceeded from None
