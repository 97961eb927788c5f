# SPDX-License-Identifier: Apache-2.0
"""A guest on its way between two real hosts is left alone, with an error that says to come again."""

import pathlib
import tempfile
from concurrent import futures
from typing import Any

import libvirt
import testtools

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt.guest import Guest
from sandbox import environment
from sandbox import libvirtd
from sandbox import processes


class MigratingTest(harness.DriverCase, testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
        self.here, self.there = (self._daemon(name) for name in ('here', 'there'))
        self.side = base.RealSide(self.here.uri)
        self.addCleanup(self.side.close)
        self.set_up_driver()

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def _daemon(self, name: str) -> libvirtd.Libvirtd:
        daemon = libvirtd.Libvirtd(self.directory / name, hostname=name)
        daemon.start()
        self.addCleanup(daemon.stop, destroy_guests=True)
        return daemon

    def _migrate(self, domain: Any) -> None:
        """So slowly that it does not end by itself."""
        domain.migrateToURI3(
            self.there.uri,
            {
                libvirt.VIR_MIGRATE_PARAM_URI: f'unix://{self.directory}/migration',
                libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1,
            },
            libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE,
        )

    def test_it_is_refused_and_possible_again_afterwards(self) -> None:
        guest = self.side.new_guest(state='started')
        volume = self.attach(guest)
        before = self.xml(guest)
        domain = self.side.connection.lookupByUUIDString(guest)
        destination = libvirt.open(self.there.uri)
        self.addCleanup(destination.close)
        with futures.ThreadPoolExecutor(1) as pool:
            migration = pool.submit(self._migrate, domain)
            processes.wait_until(lambda: domain.jobStats().get('type'), harness.SOON, 'the migration to begin')
            try:
                for change in (self.attach, self.attach_port, lambda guest: self.detach(guest, volume)):
                    error = self.assertRaises(exception.GuestBusy, change, guest)
                    self.assertTrue(error.retryable)
                self.assert_untouched(guest, before)
                there = harness.SOON, 'the guest to arrive'
                processes.wait_until(lambda: guest in [it.UUIDString() for it in destination.listAllDomains()], *there)
                arriving = Guest(destination.lookupByUUIDString(guest), lambda: True)
                self.assertRaises(exception.GuestBusy, arriving.refuse_if_migrating)
                self.assertTrue(arriving.is_at_work())
            finally:
                domain.abortJob()  # or the pool would wait for ever
            self.assertIsInstance(migration.exception(harness.SOON), libvirt.libvirtError)
        self.detach(guest, volume)
        self.assert_on_both(guest)
