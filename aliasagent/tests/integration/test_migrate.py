# SPDX-License-Identifier: Apache-2.0
"""A running guest from before aliases moves between two real hosts, and has aliases where it arrives."""

import contextlib
import functools
import pathlib
import tempfile
from concurrent import futures
from unittest import mock

import libvirt
import testtools

from aliasagent import exception
from aliasagent.allowed.rules import Bounds
from aliasagent.devices.domain import Domain
from aliasagent.devices.interface import Interface
from aliasagent.reconcile import apply
from aliasagent.reconcile import rewrite
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests.guest import LiveMigrate
from aliasagent.requests.inventory import Inventory
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.tests.integration import moving
from aliasagent.virt import destination
from aliasagent.virt import migrate
from aliasagent.virt import save_restore
from sandbox import environment
from sandbox import libvirtd
from sandbox import processes

BRIDGE = 'br-moving'


class MigrateTest(moving.MovingCase, testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
        self.here, self.there = (self._daemon(name) for name in ('here', 'there'))
        self.sides = {daemon.uri: base.RealSide(daemon.uri) for daemon in (self.here, self.there)}
        for side in self.sides.values():
            self.addCleanup(side.connection.close)
        self.stand_at(self.here)

    def _daemon(self, name: str) -> libvirtd.Libvirtd:
        # Each has its own network: a tap of one name is on both hosts while a guest moves.
        daemon = libvirtd.Libvirtd(self.directory / name, hostname=name, own_network=True)
        daemon.start()
        self.addCleanup(daemon.stop, destroy_guests=True)
        processes.run(*daemon.inside('ip', 'link', 'add', BRIDGE, 'type', 'bridge'))
        processes.run(*daemon.inside('ip', 'link', 'set', BRIDGE, 'up'))
        return daemon

    @property
    def hypervisor(self) -> harness.Hypervisor:
        return self.side

    def stand_at(self, daemon: libvirtd.Libvirtd) -> None:
        """Be the agent of this host from now on."""
        self.side = self.sides[daemon.uri]
        self.set_up_driver()

    def old(self, state: str = 'running') -> moving.OldGuest:
        return self.old_guest(self.side, BRIDGE, state=state)

    def arrive(self, old: moving.OldGuest, at: libvirtd.Libvirtd) -> None:
        """Go where the guest has gone."""
        self.assertRaises(exception.InstanceNotFound, self.host.guest, old.uuid)
        self.stand_at(at)
        old.guest.connection = self.side.connection
        self.assertEqual('running', self.host.guest(old.uuid).state())

    def migrate(self, old: moving.OldGuest, to: libvirtd.Libvirtd, **more: object) -> dict[str, str]:
        arguments = {'migrate_uri': f'unix://{self.directory}/migration', 'unsafe': True, **more}
        return migrate.migrate(self.host, old.uuid, to.uri, rewrite.give, **arguments)  # type: ignore[arg-type]

    def migrate_as_an_older_host(self, old: moving.OldGuest, to: libvirtd.Libvirtd) -> None:
        """Move the guest as somebody does who knows nothing of aliases, and takes them out."""
        guest = self.host.guest(old.uuid)

        def plain(text: str | None) -> str:
            definition = Domain.parse(text or '')
            for device in definition.devices():
                device.alias = None
            return definition.to_xml()

        guest.migrate(
            to.uri,
            {
                libvirt.VIR_MIGRATE_PARAM_URI: f'unix://{self.directory}/migration',
                libvirt.VIR_MIGRATE_PARAM_DEST_XML: plain(guest.movable_text()),
                libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: plain(guest.persistent_text()),
            },
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PEER2PEER
            | libvirt.VIR_MIGRATE_UNSAFE
            | libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE,
        )

    def test_its_devices_have_aliases_where_it_arrives(self) -> None:
        old = self.old()
        self.assert_on_both(old.uuid)
        before = old.written()
        seen: list[migrate.Progress] = []
        with futures.ThreadPoolExecutor(1) as pool:
            moved = pool.submit(self.migrate, old, self.there, bandwidth_mib=20)
            while not moved.done():
                with contextlib.suppress(exception.AliasAgentError):  # gone, at the end
                    seen.extend(filter(None, [migrate.progress(self.host, old.uuid)]))
            given = moved.result()
        self.assertEqual({f'ua-{device}' for device in old.ids}, set(given))
        self.assertTrue(seen and 0 < max(it.processed for it in seen) <= max(it.total for it in seen), str(seen))
        self.arrive(old, self.there)
        self.assert_on_both(old.uuid, *old.ids)
        self.assert_went_on(old, before)
        self.assert_detaches_by_id(old)

    def test_a_transient_guest(self) -> None:
        old = self.old('transient')
        before = old.written()
        self.migrate(old, self.there)
        self.arrive(old, self.there)
        self.assertFalse(self.host.guest(old.uuid).is_persistent())
        self.assertEqual(old.ids, self.ids(old.uuid)[0])
        self.assert_went_on(old, before)

    def test_what_the_guest_alone_cannot_tell_is_told_by_an_inventory(self) -> None:
        macs = {harness.new_id(): harness.new_mac() for _number in range(2)}
        nics = ''.join(harness.interface_xml(BRIDGE, mac) for mac in macs.values())
        instance = self.side.new_guest(nics, state='started')
        told = Inventory.of({'ports': [{'id': port, 'address': mac} for port, mac in macs.items()]})
        request = LiveMigrate(self.there.uri, f'unix://{self.directory}/migration', unsafe=True, inventory=told)
        Relocation(self.host, str(self.directory), within=Bounds.everything).migrate(instance, request)
        self.stand_at(self.there)
        self.assert_on_both(instance, *macs)
        live = self.live(instance)
        found = {device.device_id: device.mac for device in live.devices() if isinstance(device, Interface)}
        self.assertEqual(macs, found)

    def test_to_a_host_without_aliases_and_here_again(self) -> None:
        old = self.old()
        before = old.written()
        self.migrate(old, self.there)
        self.arrive(old, self.there)
        self.assert_on_both(old.uuid, *old.ids)

        self.migrate_as_an_older_host(old, self.here)
        self.arrive(old, self.here)
        self.assert_on_both(old.uuid)
        self.assert_went_on(old, before)

        before = old.written()
        self.migrate(old, self.there)
        self.arrive(old, self.there)
        self.assert_on_both(old.uuid, *old.ids)
        self.assert_went_on(old, before)
        # With aliases on both sides there is nothing left to edit.
        self.assertEqual({}, self.migrate(old, self.here))
        self.arrive(old, self.here)
        self.assert_on_both(old.uuid, *old.ids)

        # One that comes from a host without aliases is reconciled where it arrives.
        self.migrate_as_an_older_host(old, self.there)
        self.arrive(old, self.there)
        before = old.written()
        self.assertEqual(3, len(apply.reconcile(self.host.guest(old.uuid)).given))
        self.assertEqual((set(), old.ids), self.ids(old.uuid))
        save_restore.save_and_restore(self.host, old.uuid, self.directory, rewrite.give)
        self.assert_on_both(old.uuid, *old.ids)
        self.assert_went_on(old, before)
        self.assert_detaches_by_id(old)

    def follow(self, old: moving.OldGuest) -> None:
        migrate.follow(self.host, old.uuid, self.there.uri)

    def send(
        self, old: moving.OldGuest, pool: futures.Executor, bandwidth_mib: int
    ) -> 'futures.Future[dict[str, str]]':
        """Have somebody else send the guest, and wait until it is on its way."""
        sent = pool.submit(self.migrate, old, self.there, bandwidth_mib=bandwidth_mib)
        on_its_way = functools.partial(migrate.progress, self.host, old.uuid)
        processes.wait_until(on_its_way, harness.SOON, 'the migration to begin', interval=0.01)
        return sent

    def test_one_that_somebody_else_sends_is_followed(self) -> None:
        for state in ('running', 'transient'):
            old = self.old(state)
            before = old.written()
            with futures.ThreadPoolExecutor(1) as pool:
                sent = self.send(old, pool, 20)
                with mock.patch.object(destination, 'runs', autospec=True, side_effect=KeyError('not to be asked')):
                    self.follow(old)
                sent.result(harness.SOON)
            # Once it is gone only the destination can tell.
            self.follow(old)
            self.arrive(old, self.there)
            self.assert_went_on(old, before)
            old.guest.domain.destroy()
            # It has ended there.
            self.stand_at(self.here)
            error = self.assertRaises(exception.HypervisorError, self.follow, old)
            self.assertIn('and it does not run at the destination either', str(error))
            nowhere = 'qemu+unix:///system?socket=/nowhere/libvirt-sock'
            error = self.assertRaises(exception.HypervisorError, migrate.follow, self.host, old.uuid, nowhere)
            self.assertIn('whether it arrived is not known', str(error))

    def test_one_that_ends_on_its_way_has_not_arrived(self) -> None:
        old = self.old('transient')
        with futures.ThreadPoolExecutor(2) as pool:
            sent = self.send(old, pool, 1)
            followed = pool.submit(self.follow, old)
            self.side.connection.lookupByUUIDString(old.uuid).destroy()
            error = followed.exception(harness.SOON)
            self.assertIsInstance(sent.exception(harness.SOON), exception.AliasAgentError)
        self.assertIsInstance(error, exception.HypervisorError)
        self.assertIn('and it does not run at the destination either: it ended', str(error))

    def test_one_that_is_stopped_on_its_way_stays(self) -> None:
        old = self.old()
        before, untouched = old.written(), self.xml(old.uuid)
        self.assertIsNone(migrate.progress(self.host, old.uuid))
        self.assertRaises(exception.HypervisorError, migrate.abort, self.host, old.uuid)
        with futures.ThreadPoolExecutor(1) as pool:
            moved = pool.submit(self.migrate, old, self.there, bandwidth_mib=1)
            processes.wait_until(
                lambda: (now := migrate.progress(self.host, old.uuid)) is not None and now.processed,
                harness.SOON,
                'the migration to begin',
            )
            self.assertRaises(exception.GuestBusy, self.migrate, old, self.there)
            migrate.abort(self.host, old.uuid)
            error = moved.exception(harness.SOON)
        self.assertIsInstance(error, exception.HypervisorError)
        self.assertIn('canceled', str(error))
        self.assert_untouched(old.uuid, untouched)
        self.assert_went_on(old, before)
        self.assertRaises(exception.InstanceNotFound, self._look_there, old)
        self.assert_detaches_by_id(old)

    def _look_there(self, old: moving.OldGuest) -> None:
        self.stand_at(self.there)
        try:
            self.host.guest(old.uuid)
        finally:
            self.stand_at(self.here)

    def test_a_destination_that_cannot_take_it(self) -> None:
        old = self.old()
        before, untouched = old.written(), self.xml(old.uuid)
        nobody = 'qemu+unix:///system?socket=/nowhere/libvirt-sock'
        error = self.assertRaises(
            exception.HypervisorError, migrate.migrate, self.host, old.uuid, nobody, rewrite.give, unsafe=True
        )
        self.assertFalse(isinstance(error, exception.HypervisorUnavailable))
        self.assertIn('/nowhere/libvirt-sock', str(error))
        error = self.assertRaises(exception.HypervisorError, self.migrate, old, self.there, unsafe=False)
        self.assertIn('unsafe', str(error).lower())
        processes.run(*self.there.inside('ip', 'link', 'delete', BRIDGE))
        error = self.assertRaises(exception.HypervisorError, self.migrate, old, self.there)
        self.assertIn(BRIDGE, str(error))
        self.assert_untouched(old.uuid, untouched)
        self.assert_went_on(old, before)
