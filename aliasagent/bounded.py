# SPDX-License-Identifier: Apache-2.0
"""Call functions that have no timeout of their own, and stop waiting for them after a while.

Neither a connection to libvirt nor one to the message broker can be given up from outside: oslo.messaging connects for
the answers to a call without any limit, whatever timeout and retries the call was made with (18.3.1:
``ConnectionContext`` drops ``retry`` for listening connections). So the limit is put around the call.
"""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


class TimedOut(Exception):
    """The function did not return in time. It continues in a thread that ends with the process."""


def start(function: Callable[[], T]) -> 'futures.Future[T]':
    """Call a function in a thread of its own, which does not keep the process from ending.

    Returns a future that has what the function returns or raises.

    :raises RuntimeError: there is no room for one more thread.
    """
    future: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)

    # Not a thread of an executor: the end of the process would wait for it.
    threading.Thread(target=work, name='bounded-call', daemon=True).start()
    return future


def call(function: Callable[[], T], seconds: float) -> T:
    """Call a function, and return or raise what it does.

    :param seconds: how long to wait; not at all if this is not positive.
    :raises TimedOut: the function did not return in time.
    """
    future = start(function)
    done, _not_done = futures.wait([future], max(seconds, 0))
    if not done:
        raise TimedOut(f'no answer within {seconds:g} s')
    return future.result()
