# SPDX-License-Identifier: Apache-2.0
"""Limits how many guests move at the same time. Moves have their own limit because a move can take hours.

Each move runs in its own thread. The others wait for their turn in the order in which they were submitted, and take
neither a thread nor a worker of :mod:`aliasagent.operations.queues` meanwhile. The queue of a guest stays closed until
the guest has moved.
"""

import collections
import dataclasses
import logging
import threading
from collections.abc import Callable
from concurrent import futures

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to start a thread.
_RETRY_SECONDS = 1.0


@dataclasses.dataclass(eq=False)
class _Move:
    work: Callable[[], None]
    #: Whether the agent waits for the end of the move when it stops.
    holds_stop: bool
    #: Whether the move counts towards the limit.
    counts: bool
    done: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)


class Moves:
    """Runs moves.

    :param most: how many moves run at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Move] = collections.deque()
        self._running: set[_Move] = set()
        self._closing = False

    def submit(
        self, work: Callable[[], None], *, holds_stop: bool = False, at_once: bool = False
    ) -> 'futures.Future[None]':
        """Run a move when its turn comes. The future is resolved when the move has ended, successfully or not.

        The future is never resolved for a move that :meth:`close` has kept from starting.

        :param holds_stop: whether :meth:`close` waits for the move.
        :param at_once: do not wait for a turn, because libvirt already moves the guest.
        """
        # If the future were resolved, the queue of the guest would continue with its next operation.
        move = _Move(work, holds_stop, counts=not at_once)
        with self._changed:
            if self._closing:
                LOG.debug('Move not started: the agent stops')
            else:
                if at_once:
                    self._waiting.appendleft(move)
                else:
                    self._waiting.append(move)
                self._begin_waiting()
        return move.done

    def close(self, timeout: float | None = None) -> bool:
        """Start no more moves, and wait for those that were submitted with ``holds_stop``.

        :param timeout: seconds to wait at most; None for no limit.
        :return: whether those have ended.
        """
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not any(move.holds_stop for move in self._running), timeout)

    def _begin_waiting(self) -> None:
        """Start each move whose turn has come. Waits and retries while no thread can be started."""
        while self._has_turn():
            move = self._waiting.popleft()
            try:
                # A daemon thread: a call that libvirt does not answer must not keep the process from ending.
                threading.Thread(target=self._do, args=(move,), name='move', daemon=True).start()
            except (RuntimeError, MemoryError):
                LOG.exception('No thread could be started for a move; the agent retries')
                self._waiting.appendleft(move)
                self._changed.wait(_RETRY_SECONDS)
            else:
                self._running.add(move)

    def _has_turn(self) -> bool:
        """Return whether the first move that waits may start."""
        if not self._waiting:
            return False
        return not self._waiting[0].counts or sum(move.counts for move in self._running) < self._most

    def _do(self, move: _Move) -> None:
        try:
            move.work()
        except Exception:
            # NOTE: moves handle their own errors; this one is a bug, and must not take up a turn forever.
            LOG.exception('A move failed because of an internal error')
        with self._changed:
            self._running.discard(move)
            self._changed.notify_all()
        move.done.set_result(None)
        with self._changed:
            self._begin_waiting()
