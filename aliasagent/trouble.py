# SPDX-License-Identifier: Apache-2.0
"""Logs a lasting problem once, and its end once."""


class Trouble:
    """A problem that recurs while it lasts, and is logged when its reason changes.

    If two threads note a reason at the same time, it may be logged twice.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def is_new(self, reason: object) -> bool:
        """Note that the problem exists; return whether its reason has changed since the last time."""
        before, self._reason = self._reason, str(reason)
        return before != self._reason

    def is_over(self) -> bool:
        """Note that the problem has ended; return whether it existed until now."""
        before, self._reason = self._reason, None
        return before is not None
