# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on real libvirt and booted guests."""

from typing import ClassVar

import testtools

from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.integration import base


class OnLibvirt(testtools.TestCase):
    hypervisor: ClassVar[base.RealSide]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.hypervisor = base.RealSide()
        cls.addClassCleanup(cls.hypervisor.close)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.hypervisor.clear)
        self.set_up_driver()  # type: ignore[attr-defined]


class AttachTest(driver_attach.AttachContract, OnLibvirt):
    """Attach."""


class DetachTest(driver_detach.DetachContract, OnLibvirt):
    """Detach."""
