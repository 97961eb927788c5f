# SPDX-License-Identifier: Apache-2.0
"""The hypervisor, for a question or two."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import TypeVar

from aliasagent import exception
from aliasagent.status import bounded
from aliasagent.virt import host

T = TypeVar('T')


def ask(uri: str, question: Callable[[host.Host], T], timeout: float, opener: host.Opener = host.open_libvirt) -> T:
    """Put a question to a hypervisor over a connection of its own.

    :param timeout: seconds until the connection stands, and as many for the answer.
    :raises HypervisorUnavailable: it cannot be reached, or does not answer.
    """

    def work() -> T:
        with _connected(uri, timeout, opener) as connected:
            return question(connected)

    try:
        return bounded.answer(work, 2 * timeout)
    except bounded.NoAnswerError as error:
        raise exception.HypervisorUnavailable(reason=error) from error


@contextlib.contextmanager
def _connected(uri: str, timeout: float, opener: host.Opener) -> Iterator[host.Host]:
    connection = host.Host(uri, settle=0.0, opener=opener)
    connection.start()
    if not connection.wait_connected(timeout):
        # Not closed: the thread that tries to open may hang, and ends with the process.
        raise exception.HypervisorUnavailable(reason=f'no connection to {uri} within {timeout:g} s')
    try:
        yield connection
    finally:
        connection.close()
