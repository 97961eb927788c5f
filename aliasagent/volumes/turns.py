# SPDX-License-Identifier: Apache-2.0
"""Calls that may hang, one at a time for each volume or share.

A call that did not return in time continues in the background and keeps its turn: whatever comes next for the same
volume or share waits until it has ended, so that it cannot undo what that did.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent import futures
from typing import Any
from typing import TypeVar

from aliasagent import bounded
from aliasagent import exception
from aliasagent.volumes import redaction

T = TypeVar('T')


class Turn:
    """The right to change one volume or share on this host."""

    def __init__(self, volume: str, step: str, timeout: float) -> None:
        self._volume = volume
        self._step = step
        self._timeout = timeout
        self._hanging: futures.Future[Any] | None = None

    def call(self, function: Callable[[], T], secrets: AbstractSet[str] = frozenset()) -> T:
        """Call a function, and return what it does.

        :param secrets: the passwords that neither the log nor an error may have
        :raises ConnectionFailed: the function failed, or did not return in time.
        :raises AliasAgentError: the function raised it.
        """

        def work() -> T:
            with redaction.hidden(secrets):
                try:
                    return function()
                except exception.AliasAgentError:
                    raise
                except Exception as error:  # noqa: BLE001 - os-brick passes on the errors of many libraries
                    # "from None": the error itself may have a password in its command line.
                    text = redaction.redacted(' '.join(str(error).split()))
                    raise self._failed(f'{type(error).__name__}: {text}') from None

        try:
            future = bounded.start(work)
        except RuntimeError as error:
            raise self._failed(f'no thread could be started: {error}') from error
        done, _not_done = futures.wait([future], self._timeout)
        if not done:
            self._hanging = future
            raise self._failed(
                f'the call did not return within {self._timeout:g} s ([brick] timeout) and still hangs; the next '
                f'operation on the volume waits for it'
            )
        return future.result()

    def end(self, lock: threading.Lock) -> None:
        """Release the lock: now, or once the call that hangs has ended."""
        if self._hanging is None:
            lock.release()
        else:
            self._hanging.add_done_callback(lambda _future: lock.release())

    def _failed(self, reason: str) -> exception.ConnectionFailed:
        return exception.ConnectionFailed(volume=self._volume, step=self._step, reason=reason)


class Turns:
    """The turns of a host.

    :param timeout: seconds to wait for a turn, and for each call
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._guard = threading.Lock()
        self._locks: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()

    @contextlib.contextmanager
    def take(self, key: str, volume: str, step: str) -> Iterator[Turn]:
        """Wait for the turn of a volume or share.

        :param key: identifies the volume or share
        :raises ConnectionFailed: an earlier call still hangs.
        """
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(timeout=self._timeout):
            raise exception.ConnectionFailed(
                volume=volume,
                step=step,
                reason=f'an earlier call for the same volume or share still hangs, after {self._timeout:g} s of '
                f'waiting; check that its storage answers',
            )
        turn = Turn(volume, step, self._timeout)
        try:
            yield turn
        finally:
            turn.end(lock)
