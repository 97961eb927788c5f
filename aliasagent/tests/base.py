# SPDX-License-Identifier: Apache-2.0
"""What all tests stand on."""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from unittest import mock

import fixtures
import hypothesis
from oslotest import base

#: How long a test waits for what happens in another thread. Nothing is asserted on how fast it comes.
PATIENCE = 20.0


@contextlib.contextmanager
def no_thread_once() -> Iterator[None]:
    """The next thread cannot be started: the host has no room for one more."""
    start, failed = threading.Thread.start, list[threading.Thread]()

    def fail_once(thread: threading.Thread) -> None:
        if not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch('threading.Thread.start', fail_once):
        yield


hypothesis.settings.register_profile(
    'default', deadline=None, max_examples=40, derandomize=True, database=None, print_blob=False
)
# Many more and ever new examples, to search for bugs by hand: HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile('search', deadline=None, max_examples=2000, database=None)
hypothesis.settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'default'))


#: The agent's threads that a test may leave: they wait for what hangs, or are the process's own.
_LEFT_ALONE = ('bounded-call', 'libvirt-events', 'reconcile-write')
#: The names of all others, or how they begin.
_OURS = (
    *('start', 'drain', 'first-reconcile', 'reload', 'deadlines', 'host-events', 'host-connection', 'late-writer'),
    *('reports', 'notifications', 'unplug', 'operation', 'migration-', 'cloud-'),
)


class NoThreadsLeft(fixtures.Fixture):
    """Fails a test that leaves a thread behind: it would go on in the next test, and write into its log and errors."""

    def _setUp(self) -> None:  # noqa: N802 - it is what fixtures calls
        self._before = set(threading.enumerate())
        self.addCleanup(self._check)

    def _check(self) -> None:
        end = time.monotonic() + PATIENCE
        for thread in set(threading.enumerate()) - self._before:
            if self._has_to_end(thread):
                thread.join(max(0.0, end - time.monotonic()))
                assert not thread.is_alive(), f'the test left a thread behind: {thread.name}'

    @staticmethod
    def _has_to_end(thread: threading.Thread) -> bool:
        if thread.name.startswith(_LEFT_ALONE):
            return False
        return not thread.daemon or thread.name.startswith(_OURS)


class TestCase(base.BaseTestCase):
    """A test that ends, come what may."""

    DEFAULT_TIMEOUT = 120

    def setUp(self) -> None:
        super().setUp()
        # First, so that it looks when all else was cleaned up.
        self.useFixture(NoThreadsLeft())
        #: What was logged; shown if the test fails.
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))

    def make_directory(self) -> str:
        """A directory of this test's own."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return directory.name

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        pause = threading.Event()
        for _round in range(int(PATIENCE / 0.005)):
            if condition():
                return
            pause.wait(0.005)
        self.fail(f'Never seen: {what}')
