# SPDX-License-Identifier: Apache-2.0
"""Accepts the operations that several threads bring at the same time with one write."""

import collections
import dataclasses
import threading
from collections.abc import Callable
from collections.abc import Sequence

from aliasagent.operations.model import Accepted
from aliasagent.operations.model import Operation

#: How many operations one write takes at most, so that no thread waits for many others.
_MOST = 64


@dataclasses.dataclass(eq=False)
class _Brought:
    """An operation that a thread has brought, and its answer. The thread that writes sets the answer."""

    operation: Operation
    answer: Accepted | Exception | None = None


class Gathering:
    """Collects the operations of several threads while a write is under way; the next write takes all of them.

    :param accept_together: accepts operations, all of them or none, and returns the answer to each.
    """

    def __init__(self, accept_together: Callable[[Sequence[Operation]], Sequence[Accepted]]) -> None:
        self._together = accept_together
        self._waiting: collections.deque[_Brought] = collections.deque()
        self._writing = threading.Lock()

    def accept(self, operation: Operation) -> Accepted:
        """Accept an operation, alone or with those of other threads. Returns and raises what it would alone."""
        brought = _Brought(operation)
        self._waiting.append(brought)
        with self._writing:
            # Otherwise the thread that held the lock before has taken this operation along.
            while brought.answer is None:
                self._write([self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))])
        if isinstance(brought.answer, Exception):
            raise brought.answer
        return brought.answer

    def _write(self, some: list[_Brought]) -> None:
        try:
            answers = self._together([brought.operation for brought in some])
        except Exception as error:  # noqa: BLE001 - raised in the thread that has brought the operation
            if len(some) == 1:
                some[0].answer = error
                return
            # The error may concern only one of them.
            for brought in some:
                self._write([brought])
        else:
            for brought, answer in zip(some, answers, strict=True):
                brought.answer = answer
