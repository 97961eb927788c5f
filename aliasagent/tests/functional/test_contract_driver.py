# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on the fake hypervisor."""

import pathlib

import fixtures
import testtools

from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.functional import base


class OnFake(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hypervisor = base.FakeSide(pathlib.Path(self.useFixture(fixtures.TempDir()).path))
        self.addCleanup(self.hypervisor.fake.stop)
        self.set_up_driver()  # type: ignore[attr-defined]


class AttachTest(driver_attach.AttachContract, OnFake):
    """Attach."""


class DetachTest(driver_detach.DetachContract, OnFake):
    """Detach."""
