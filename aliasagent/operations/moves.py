# SPDX-License-Identifier: Apache-2.0
"""Moves of guests have a bound of their own: they take hours, and nothing else waits for one.

So many move at the same time, each in a thread. The others wait for their turn in the order they came, and take neither
a thread nor a worker of :mod:`aliasagent.operations.queues` meanwhile. The queue of each stays closed until it has
moved.
"""

import collections
import dataclasses
import logging
import threading
from collections.abc import Callable
from concurrent import futures

LOG = logging.getLogger(__name__)

#: Seconds after which it is tried again to start a thread.
_RETRY_SECONDS = 1.0


@dataclasses.dataclass(eq=False)
class _Move:
    work: Callable[[], None]
    #: Whether the end is waited for when the agent stops.
    holds_stop: bool
    #: Whether it is one of those that the bound is for.
    counts: bool
    done: 'futures.Future[None]' = dataclasses.field(default_factory=futures.Future)


class Moves:
    """Does moves, so many at the same time.

    :param most: how many.
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
        """Do a move when its turn comes. The future is resolved when it was done, whatever became of it.

        It is never resolved for a move that does not begin any more: its guest's queue must not go on to what is next.

        :param holds_stop: whether :meth:`close` waits for it.
        :param at_once: do not wait for a turn: libvirt is at it already.
        """
        move = _Move(work, holds_stop, counts=not at_once)
        with self._changed:
            if self._closing:
                LOG.debug('Not begun any more')
            else:
                if at_once:
                    self._waiting.appendleft(move)
                else:
                    self._waiting.append(move)
                self._begin_waiting()
        return move.done

    def close(self, timeout: float | None = None) -> bool:
        """Begin no more moves, and wait for those that are not to be left to libvirt.

        :param timeout: seconds to wait at most; None for as long as it takes.
        :return: whether these have ended.
        """
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not any(move.holds_stop for move in self._running), timeout)

    def _begin_waiting(self) -> None:
        """Begin each move whose turn has come. While no thread can be started for one, that is waited for."""
        while self._has_turn():
            move = self._waiting.popleft()
            try:
                # A daemon: a call that libvirt does not answer must not keep the process from ending.
                threading.Thread(target=self._do, args=(move,), name='move', daemon=True).start()
            except (RuntimeError, MemoryError):
                LOG.exception('No thread could be started for a move, which waits for one')
                self._waiting.appendleft(move)
                self._changed.wait(_RETRY_SECONDS)
            else:
                self._running.add(move)

    def _has_turn(self) -> bool:
        """Whether the first one that waits may begin."""
        if not self._waiting:
            return False
        return not self._waiting[0].counts or sum(move.counts for move in self._running) < self._most

    def _do(self, move: _Move) -> None:
        try:
            move.work()
        except Exception:
            # NOTE: moves account for their own errors; this one is a bug, and must not cost a turn for good.
            LOG.exception('A move failed')
        with self._changed:
            self._running.discard(move)
            self._changed.notify_all()
        move.done.set_result(None)
        with self._changed:
            self._begin_waiting()
