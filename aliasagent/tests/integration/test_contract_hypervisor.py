# SPDX-License-Identifier: Apache-2.0
"""libvirt behaves as the fake hypervisor does: the same tests on a real libvirtd, QEMU and a booted guest."""

import contextlib
import pathlib
import tempfile
import uuid
from typing import Any
from typing import ClassVar

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract import hypervisor_attach
from aliasagent.tests.contract import hypervisor_definition
from aliasagent.tests.contract import hypervisor_detach
from aliasagent.tests.contract import hypervisor_life
from aliasagent.tests.contract import hypervisor_secrets
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.virt import host
from sandbox import environment
from sandbox import guest
from sandbox import libvirtd
from sandbox import materials


class _OnLibvirt(hypervisor.HypervisorContract):
    """Guests without an operating system are each test's own; one is booted, and shared."""

    uri: ClassVar[str]
    shared_connection: ClassVar[Any]
    booted: ClassVar[guest.TestGuest | None]
    directory: ClassVar[pathlib.Path]
    shared_bridge: ClassVar[str]
    cleanups: ClassVar[contextlib.ExitStack]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.booted = None
        with contextlib.ExitStack() as stack:
            parts = environment.read()
            cls.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parts.directory)))
            cls.uri = parts.libvirt_uri
            cls.shared_bridge = materials.make_bridge()
            stack.callback(materials.remove_bridge, cls.shared_bridge)
            cls.bring_up(stack)
            cls.cleanups = stack.pop_all()

    @classmethod
    def bring_up(cls, stack: contextlib.ExitStack) -> None:
        cls.shared_connection = host.open_libvirt(cls.uri)
        stack.callback(cls.shared_connection.close)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.cleanups.close()
        super().tearDownClass()

    def connection(self) -> Any:
        return self.shared_connection

    def new_connection(self) -> Any:
        return host.open_libvirt(self.uri)

    def new_guest(
        self, running: bool = True, devices: str = '', *, root_ports: int = 4, persistent: bool = True
    ) -> Any:
        instance_uuid = str(uuid.uuid4())
        xml = domain_xml(f'bare-{instance_uuid[:8]}', instance_uuid, devices, root_ports)
        self.addCleanup(self.remove, instance_uuid)
        if not persistent:
            return self.connection().createXML(xml, 0)
        domain = self.connection().defineXML(xml)
        if running:
            domain.create()
        return domain

    def remove(self, instance_uuid: str) -> None:
        try:
            domain = self.connection().lookupByUUIDString(instance_uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return
        persistent = domain.isPersistent()
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            # Said also of a guest that a just started daemon was still finding when this killed it.
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                raise
        if persistent:
            domain.undefine()

    def booted_guest(self) -> Any:
        cls = type(self)
        if cls.booted is None:
            made = guest.TestGuest(cls.shared_connection, cls.directory, environment.read().guest_image)
            cls.cleanups.callback(made.destroy)
            cls.booted = made.define().start().wait_ready()
        return cls.booted.domain

    def disk_file(self, name: str) -> str:
        return str(materials.make_disk(self.directory / f'{uuid.uuid4()}-{name}.img'))

    def save_path(self) -> str:
        return str(self.directory / f'{uuid.uuid4()}.save')

    def tap(self) -> str:
        name = materials.make_tap()
        self.addCleanup(materials.remove_bridge, name)
        return name

    def bridge(self) -> str:
        return self.shared_bridge


class TestLibvirt(
    _OnLibvirt,
    hypervisor_attach.AttachContract,
    hypervisor_detach.DetachContract,
    hypervisor_definition.DefinitionContract,
    hypervisor_life.LifeContract,
    hypervisor_secrets.SecretsContract,
):
    pass


class TestLibvirtLoss(_OnLibvirt, hypervisor_life.LossContract, hypervisor_secrets.SecretsLossContract):
    """On a daemon of its own: the other tests need theirs."""

    daemon: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def bring_up(cls, stack: contextlib.ExitStack) -> None:
        cls.daemon = libvirtd.Libvirtd(cls.directory / 'd', 'aliasagent-loss')
        stack.callback(cls.daemon.stop, destroy_guests=True)
        cls.daemon.start()
        cls.uri = cls.daemon.uri

    def setUp(self) -> None:
        super().setUp()
        self.daemon.start()
        self._connection = self.new_connection()

    def connection(self) -> Any:
        return self._connection

    def remove(self, instance_uuid: str) -> None:
        self.daemon.start()
        self._connection = self.new_connection()
        super().remove(instance_uuid)

    def kill_daemon(self) -> None:
        self.daemon.kill()

    def start_daemon(self) -> None:
        self.daemon.start()
