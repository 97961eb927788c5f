# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on the fake hypervisor."""

import pathlib

import fixtures
import testtools

from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import base


class OnFake(harness.DriverCase, testtools.TestCase):
    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def setUp(self) -> None:
        super().setUp()
        self.side = base.FakeSide(pathlib.Path(self.useFixture(fixtures.TempDir()).path))
        self.addCleanup(self.side.fake.stop)
        self.set_up_driver()


class AttachTest(OnFake, driver_attach.AttachContract):
    """Attach."""


class DetachTest(OnFake, driver_detach.DetachContract):
    """Detach."""
