# SPDX-License-Identifier: Apache-2.0
"""Short calls to the hypervisor over a connection of their own."""

import contextlib
import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

from aliasagent import bounded
from aliasagent import exception
from aliasagent.virt import host

T = TypeVar('T')

#: The password of the user in a URI, ``qemu+ssh://user:password@host/system``.
_PASSWORD = re.compile(r'(//[^/@:\s]*):[^/\s]*@')


def ask(uri: str, question: Callable[[host.Host], T], timeout: float, opener: host.Opener = host.open_libvirt) -> T:
    """Connect to a hypervisor, call a function with the connection, and return its result.

    :param timeout: seconds to wait for the connection, and as many again for the result.
    :raises HypervisorUnavailable: the hypervisor cannot be reached, or does not answer.
    """

    def work() -> T:
        with _connected(uri, timeout, opener) as connected:
            return question(connected)

    try:
        return bounded.call(work, 2 * timeout)
    except bounded.TimedOut as error:
        raise exception.HypervisorUnavailable(reason=error) from error


@contextlib.contextmanager
def _connected(uri: str, timeout: float, opener: host.Opener) -> Iterator[host.Host]:
    reasons: list[str] = []

    def open_noting_why_not(uri: str) -> Any:
        try:
            return opener(uri)
        except Exception as error:
            reasons.append(str(error))
            raise

    connection = host.Host(uri, settle=0.0, opener=open_noting_why_not)
    connection.start()
    if not connection.wait_connected(timeout):
        # Not waited for: the thread that tries to connect may hang, and ends with the process.
        bounded.start(connection.close)
        why = f': {reasons[-1]}' if reasons else ', and no reason was given'
        raise exception.HypervisorUnavailable(
            reason=_without_password(f'no connection to {uri} within {timeout:g} s{why}')
        )
    try:
        yield connection
    finally:
        connection.close()


def _without_password(text: str) -> str:
    """Hide the password in each URI of a text."""
    return _PASSWORD.sub(r'\1:***@', text)
