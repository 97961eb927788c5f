# SPDX-License-Identifier: Apache-2.0
"""The fake hypervisor behaves as libvirt does."""

import uuid
from typing import Any

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract import hypervisor_attach
from aliasagent.tests.contract import hypervisor_definition
from aliasagent.tests.contract import hypervisor_detach
from aliasagent.tests.contract import hypervisor_life
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import Unplug


class _OnTheFake(hypervisor.HypervisorContract):
    def setUp(self) -> None:
        super().setUp()
        self.hypervisor = FakeHypervisor()
        self.addCleanup(self.hypervisor.stop)
        self.hypervisor.missing_sources = {hypervisor.MISSING_FILE, '/dev/aliasagent-no-such'}
        self.hypervisor.missing_bridges = {hypervisor.MISSING_BRIDGE}
        self._connection = self.new_connection()

    def connection(self) -> Any:
        return self._connection

    def new_connection(self) -> Any:
        return self.hypervisor.open(self.hypervisor.URI)

    def new_guest(
        self, running: bool = True, devices: str = '', *, root_ports: int = 4, persistent: bool = True
    ) -> Any:
        guest = self.hypervisor.add_guest(devices, running=running, root_ports=root_ports, persistent=persistent)
        guest.unplug = Unplug(never=True)
        return self._connection.lookupByUUIDString(guest.uuid)

    def booted_guest(self) -> Any:
        return self._connection.lookupByUUIDString(self.hypervisor.add_guest(root_ports=8).uuid)

    def disk_file(self, name: str) -> str:
        return f'/disks/{name}.img'

    def save_path(self) -> str:
        return f'/saved/{uuid.uuid4()}'

    def bridge(self) -> str:
        return 'br0'


class TestFakeHypervisor(
    _OnTheFake,
    hypervisor_attach.AttachContract,
    hypervisor_detach.DetachContract,
    hypervisor_definition.DefinitionContract,
    hypervisor_life.LifeContract,
):
    pass


class TestFakeHypervisorLoss(_OnTheFake, hypervisor_life.LossContract):
    def setUp(self) -> None:
        super().setUp()
        self.hypervisor.xml_detach_wait = 5

    def kill_daemon(self) -> None:
        self.hypervisor.drop_connections(down=True)

    def start_daemon(self) -> None:
        self.hypervisor.down = False
