# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on real libvirt and booted guests."""

import time
from typing import ClassVar

import testtools

from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.contract import driver_kinds
from aliasagent.tests.contract import driver_life
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import reconcile
from aliasagent.tests.integration import base
from aliasagent.tests.parts import libvirtd


class OnLibvirt(harness.DriverCase, testtools.TestCase):
    side: ClassVar[base.RealSide]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.side = cls.make_side()
        cls.addClassCleanup(cls.side.close)

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    @classmethod
    def make_side(cls) -> base.RealSide:
        """The hypervisor that the tests of this class share."""
        return base.RealSide()

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.side.clear)
        self.set_up_driver()


class AttachTest(OnLibvirt, driver_attach.AttachContract):
    """Attach."""


class DetachTest(OnLibvirt, driver_detach.DetachContract):
    """Detach."""


class KindsTest(OnLibvirt, driver_kinds.KindsContract):
    """Every kind."""


class ReconcileTest(OnLibvirt, reconcile.ReconcileContract):
    """Reconcile."""


class LifeTest(OnLibvirt, driver_life.LifeContract):
    """The guest or the hypervisor goes."""

    daemon: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def make_side(cls) -> base.RealSide:
        cls.daemon = base.own_daemon(cls)
        return base.RealSide(cls.daemon.uri)

    def kill_daemon(self) -> None:
        self.daemon.kill()

    def start_daemon(self) -> None:
        self.daemon.start()
        time.sleep(self.side.settle)  # the tests themselves must not crash it, either
        self.side.reconnect()

    def reset(self, guest: str) -> None:
        self.side.reset(guest)

    def destroy(self, guest: str) -> None:
        self.side.destroy(guest)

    def crash(self, guest: str) -> None:
        self.side.crash(guest)
