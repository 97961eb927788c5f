# SPDX-License-Identifier: Apache-2.0
"""Log a problem that lasts once, and its end once."""


class Trouble:
    """A problem that is met again and again while it lasts; it is worth a log line when its reason changes.

    A thread that reports a reason while another one does may have it logged twice.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def is_new(self, reason: object) -> bool:
        """Note that the problem is there; return whether its reason is another one than the last time."""
        before, self._reason = self._reason, str(reason)
        return before != self._reason

    def is_over(self) -> bool:
        """Note that the problem is not there; return whether it was there until now."""
        before, self._reason = self._reason, None
        return before is not None
