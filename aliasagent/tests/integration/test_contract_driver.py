# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on real libvirt and booted guests."""

from typing import ClassVar

import testtools

from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base


class OnLibvirt(harness.DriverCase, testtools.TestCase):
    side: ClassVar[base.RealSide]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.side = base.RealSide()
        cls.addClassCleanup(cls.side.close)

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.side.clear)
        self.set_up_driver()


class AttachTest(OnLibvirt, driver_attach.AttachContract):
    """Attach."""


class DetachTest(OnLibvirt, driver_detach.DetachContract):
    """Detach."""
