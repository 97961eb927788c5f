# SPDX-License-Identifier: Apache-2.0
"""What all tests stand on."""

import logging
import os
import tempfile
import threading
from collections.abc import Callable

import fixtures
import hypothesis
from oslotest import base

#: How long a test waits for what happens in another thread. Nothing is asserted on how fast it comes.
PATIENCE = 20.0

hypothesis.settings.register_profile(
    'default', deadline=None, max_examples=40, derandomize=True, database=None, print_blob=False
)
# Many more and ever new examples, to search for bugs by hand: HYPOTHESIS_PROFILE=search.
hypothesis.settings.register_profile('search', deadline=None, max_examples=2000, database=None)
hypothesis.settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'default'))


class TestCase(base.BaseTestCase):
    """A test that ends, come what may."""

    DEFAULT_TIMEOUT = 120

    def setUp(self) -> None:
        super().setUp()
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
