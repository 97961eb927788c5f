# SPDX-License-Identifier: Apache-2.0
"""Stops asking services that fail, for a while."""

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)

#: Failures in a row after which the services are not asked for a while.
_FAILURES = 3
#: Seconds of the first pause; each further failure doubles it.
_PAUSE = 60.0
_LONGEST_PAUSE = 900.0


class Circuit:
    """Counts failures in a row, and says how long to wait before the next question."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0

    def wait(self) -> float:
        """Return the seconds until the services may be asked again; 0 if they may be asked now."""
        with self._lock:
            return max(0.0, self._closed_until - self._clock())

    def failed(self, reason: object) -> None:
        """Note that a question failed."""
        with self._lock:
            self._failures += 1
            over = self._failures - _FAILURES
            if over < 0:
                return
            pause = min(_PAUSE * 2.0 ** min(over, 10), _LONGEST_PAUSE)
            self._closed_until = self._clock() + pause
        if over == 0:
            LOG.warning(
                'Nova and Neutron are not asked about guests for %.0f s, because %d questions in a row failed: %s',
                pause,
                _FAILURES,
                reason,
            )

    def worked(self) -> None:
        """Note that a question was answered."""
        with self._lock:
            was_closed = self._failures >= _FAILURES
            self._failures = 0
            self._closed_until = 0.0
        if was_closed:
            LOG.info('Nova and Neutron answer again')
