# SPDX-License-Identifier: Apache-2.0
"""A time limit for calls that have none."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


class Exceeded(Exception):
    """The function did not return in time. It continues in a thread that ends with the process."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """Call a function with a time limit.

    oslo.messaging connects for the answers to a call without any limit, whatever timeout and retries the call was made
    with (18.3.1: ``ConnectionContext`` drops ``retry`` for listening connections). So the limit is put around it.

    :param seconds: how long to wait; not at all if not positive.
    :raises Exceeded: the function did not return in time. Its own errors are raised as they are.
    """
    future: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)

    # No executor: the process would wait for its threads at the end.
    threading.Thread(target=work, name='aliasagent-call', daemon=True).start()
    try:
        return future.result(timeout=max(seconds, 0))
    except futures.TimeoutError:
        if future.done():
            return future.result()
        raise Exceeded from None
