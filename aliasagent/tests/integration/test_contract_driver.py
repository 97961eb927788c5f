# SPDX-License-Identifier: Apache-2.0
"""The driver's contract on real libvirt and booted guests."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from typing import ClassVar

import libvirt

from aliasagent.tests.contract import driver_again
from aliasagent.tests.contract import driver_attach
from aliasagent.tests.contract import driver_detach
from aliasagent.tests.contract import driver_kinds
from aliasagent.tests.contract import driver_life
from aliasagent.tests.contract import driver_places
from aliasagent.tests.contract import driver_secrets
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import reconcile
from aliasagent.tests.contract import reconcile_special
from aliasagent.tests.integration import base
from sandbox import libvirtd
from sandbox import processes


class AttachTest(base.OnLibvirt, driver_attach.AttachContract):
    """Attach."""


class AgainTest(base.OnLibvirt, driver_again.AgainContract):
    """Attach of what is there."""


class PlacesTest(base.OnLibvirt, driver_places.PlacesContract):
    """Where devices go."""


class DetachTest(base.OnLibvirt, driver_detach.DetachContract):
    """Detach."""


class KindsTest(base.OnLibvirt, driver_kinds.KindsContract):
    """Every kind."""


class SecretsTest(base.OnLibvirt, driver_secrets.SecretsContract):
    """Secrets of libvirt."""


class ReconcileTest(base.OnLibvirt, reconcile.ReconcileContract):
    """Reconcile."""


class SpecialGuestsTest(base.OnLibvirt, reconcile_special.SpecialGuestsContract):
    """Reconcile, where something is in the way."""

    here: ClassVar[libvirtd.Libvirtd]
    there: ClassVar[libvirtd.Libvirtd]

    @classmethod
    def make_side(cls) -> base.RealSide:
        cls.here, cls.there = (base.own_daemon(cls, name) for name in ('here', 'there'))
        return base.RealSide(cls.here.uri)

    def misname(self, instance: str, alias: str, other: str) -> None:
        self.here.stop()
        name = self.guest_name(instance)
        path = self.here.directory / 'etc' / 'qemu' / f'{name}.xml'
        path.write_text(path.read_text().replace(f"'{alias}'", f"'{other}'"))
        processes.wait_until(lambda: not self.host.is_connected, harness.SOON, 'the connection to be lost')
        self.here.start()
        self.side.reconnect()
        self.assertTrue(self.host.wait_connected(harness.SOON))

    def guest_name(self, instance: str) -> str:
        """The name of a guest, whether the hypervisor runs or not."""
        return next(guest.name for guest in self.side.made if guest.uuid == instance)

    @contextlib.contextmanager
    def migrating(self, instance: str) -> Iterator[None]:
        domain = self.side.connection.lookupByUUIDString(instance)
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_URI: f'unix://{self.side.directory}/{uuid.uuid4().hex[:8]}',
            # So slowly that it does not end by itself.
            libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1,
        }
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE
        with futures.ThreadPoolExecutor(1) as pool:
            migration = pool.submit(domain.migrateToURI3, self.there.uri, parameters, flags)
            try:
                processes.wait_until(lambda: domain.jobStats().get('type'), harness.SOON, 'the migration to begin')
                yield
            finally:
                domain.abortJob()
                self.assertIsInstance(migration.exception(harness.SOON), libvirt.libvirtError)

    def new_qcow2(self) -> str:
        path = self.side.directory / f'{uuid.uuid4()}.qcow2'
        processes.run('qemu-img', 'create', '-q', '-f', 'qcow2', str(path), '1M')
        return str(path)


class LifeTest(base.OnLibvirt, driver_life.LifeContract):
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
