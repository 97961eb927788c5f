# SPDX-License-Identifier: Apache-2.0
"""A running guest from before aliases gains them by save and restore, and notices nothing but a pause."""

import functools
import pathlib
import tempfile
from concurrent import futures

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.devices.interface import Interface
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.tests.integration import moving
from aliasagent.virt import save_restore
from aliasagent.virt import saved_guest
from aliasagent.virt.guest import Side
from sandbox import processes


class ReliveTest(base.OnLibvirt, moving.MovingCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.side.directory))

    def is_being_saved(self, old: moving.OldGuest) -> bool:
        """Whether libvirtd has begun to save a guest, and perhaps come to the end."""
        try:
            guest = self.host.guest(old.uuid)
            return guest.is_at_work() or guest.is_saved()
        except exception.InstanceNotFound:
            return True

    def save_and_restore(self, old: moving.OldGuest) -> save_restore.Restored:
        done = save_restore.save_and_restore(self.host, old.uuid, self.directory, rewrite.give)
        self.assertEqual([], saved_guest.leftovers(self.directory))
        return done

    def test_its_devices_get_aliases_and_it_goes_on(self) -> None:
        old = self.old_guest(self.side, self.side.bridge())
        self.assert_on_both(old.uuid)
        _live, persistent = self.xml(old.uuid)
        before = old.written()
        done = self.save_and_restore(old)
        self.assertEqual({f'ua-{device}' for device in old.ids}, set(done.given))
        self.assertEqual((old.ids, set()), self.ids(old.uuid))
        self.assertEqual(persistent, self.xml(old.uuid)[1])
        self.assert_went_on(old, before)
        guessed = save_restore.estimate(self.host, old.uuid)
        self.assertTrue(0 < done.paused_seconds < 10 * guessed.seconds, f'{done.paused_seconds} s, not {guessed}')
        again = self.save_and_restore(old)
        self.assertEqual(save_restore.Restored(0.0, {}), again)
        self.assert_detaches_by_id(old)

    def test_the_persistent_config_comes_first(self) -> None:
        old = self.old_guest(self.side, self.side.bridge())
        plain = harness.disk_xml(self.side.new_file(), 'sdb')
        self.host.guest(old.uuid).attach(plain, Side.LIVE | Side.PERSISTENT)
        # Nothing in the disk says whose it is, but somebody gave it a name in the persistent config.
        self.host.guest(old.uuid).update_persistent(
            plain.replace('</disk>', "<alias name='ua-whose-it-is'/></disk>")
        )
        self.assertEqual(3, len(apply.reconcile(self.host.guest(old.uuid)).given))
        before = old.written()
        self.save_and_restore(old)
        self.assert_on_both(old.uuid, 'whose-it-is', *old.ids)
        self.assert_went_on(old, before)

    def test_a_transient_guest(self) -> None:
        old = self.old_guest(self.side, self.side.bridge(), state='transient')
        before = old.written()
        self.save_and_restore(old)
        self.assertEqual(old.ids, self.ids(old.uuid)[0])
        self.assertFalse(self.host.guest(old.uuid).is_persistent())
        self.assert_went_on(old, before)
        self.assert_detaches_by_id(old)

    def test_a_transient_guest_that_alone_cannot_tell_has_aliases_with_an_inventory(self) -> None:
        macs = {harness.new_id(): harness.new_mac() for _number in range(2)}
        nics = ''.join(harness.interface_xml(self.side.bridge(), mac) for mac in macs.values())
        instance = self.side.new_guest(nics, state='transient')
        relocation = Relocation(self.host, str(self.directory / 'made-when-needed'))
        relocation.save_and_restore(instance)
        self.assertEqual((set(), set()), self.ids(instance))
        inventory = {'ports': [{'id': port, 'address': mac} for port, mac in macs.items()]}
        known = records_of(Inventory.of(inventory))
        report = apply.reconcile(self.host.guest(instance), known)
        self.assertEqual(2, report.count(plan.Outcome.TRANSIENT))
        relocation.save_and_restore(instance, known)
        live = self.live(instance)
        found = {device.device_id: device.mac for device in live.devices() if isinstance(device, Interface)}
        self.assertEqual(macs, found)
        self.assertFalse(self.host.guest(instance).is_persistent())
        report = apply.reconcile(self.host.guest(instance))
        self.assertEqual((2, []), (report.aliased, report.pending))

    def test_a_paused_guest_stays_paused(self) -> None:
        old = self.old_guest(self.side, self.side.bridge())
        old.guest.domain.suspend()
        before = old.written()
        self.save_and_restore(old)
        self.assertEqual('paused', self.host.guest(old.uuid).state())
        self.assertEqual(old.ids, self.ids(old.uuid)[0])
        self.assertEqual(before, old.written())
        self.detach(old.uuid, self.attach(old.uuid))
        old.guest.domain.resume()
        self.assert_went_on(old, before)

    def test_a_restore_that_fails_is_undone(self) -> None:
        for state in ('running', 'transient'):
            old = self.old_guest(self.side, self.side.bridge(), state=state)
            untouched, before = self.ids(old.uuid), old.written()

            def astray(definition: Domain, other: Domain | None) -> dict[str, str]:
                given = rewrite.give(definition, other)
                for source in definition.root.iterfind('devices/disk/source'):
                    source.set('file', '/nowhere/at/all')
                return given

            error = self.assertRaises(
                exception.HypervisorError, save_restore.save_and_restore, self.host, old.uuid, self.directory, astray
            )
            self.assertIn('/nowhere/at/all', str(error))
            self.assertIn('was restored as it was, and is running', str(error))
            self.assertEqual(untouched, self.ids(old.uuid))
            self.assertEqual([], saved_guest.leftovers(self.directory))
            self.assert_went_on(old, before)
            self.save_and_restore(old)
            self.assertEqual(old.ids, self.ids(old.uuid)[0])

    def test_what_somebody_else_has_begun_is_gone_on_with(self) -> None:
        """As if it had been an agent that was killed, while libvirtd still saves or when it has saved."""
        for state, suffix in (('running', '.relive'), ('transient', '.transient.relive')):
            for waits in (False, True):
                old = self.old_guest(self.side, self.side.bridge(), state=state)
                before, path = old.written(), str(self.directory / f'{old.uuid}{suffix}')
                with futures.ThreadPoolExecutor(1) as pool:
                    saved = pool.submit(self.side.connection.lookupByUUIDString(old.uuid).save, path)
                    if waits:
                        saved.result(harness.SOON)
                    else:
                        begun = functools.partial(self.is_being_saved, old)
                        processes.wait_until(begun, harness.SOON, 'the save', interval=0)
                    if waits and state == 'transient':
                        self.assert_not_restored(old, path)
                        continue
                    save_restore.resume(self.host, old.uuid, self.directory, rewrite.give)
                    saved.result(harness.SOON)
                self.assertEqual([], saved_guest.leftovers(self.directory))
                self.assertEqual(old.ids, self.ids(old.uuid)[0])
                self.assert_went_on(old, before)

    def assert_not_restored(self, old: moving.OldGuest, path: str) -> None:
        """A transient guest that was saved while nobody watched may have run since. By hand it can be restored."""
        error = self.assertRaises(
            exception.HypervisorError, save_restore.resume, self.host, old.uuid, self.directory, rewrite.give
        )
        self.assertIn(f'"virsh restore {path}"', str(error))
        self.assertEqual([path], [str(it) for it in saved_guest.leftovers(self.directory)])
        self.assertRaises(exception.InstanceNotFound, self.host.guest, old.uuid)
        self.side.connection.restore(path)
        self.assertEqual('running', self.host.guest(old.uuid).state())
        pathlib.Path(path).unlink()

    def test_one_that_was_restored_by_hand_and_has_run_since_is_not_restored_again(self) -> None:
        for state, suffix in (('running', '.relive'), ('transient', '.transient.relive')):
            old = self.old_guest(self.side, self.side.bridge(), state=state)
            path = self.directory / f'{old.uuid}{suffix}'

            def run(definition: Domain, other: Domain | None, old: moving.OldGuest = old) -> dict[str, str]:
                path = next(iter(saved_guest.leftovers(self.directory)), None)
                if path is not None:  # between save and restore
                    self.side.connection.restore(str(path))
                    self.side.connection.lookupByUUIDString(old.uuid).destroy()
                return rewrite.give(definition, other)

            error = self.assertRaises(
                exception.HypervisorError, save_restore.save_and_restore, self.host, old.uuid, self.directory, run
            )
            self.assertIn(f'"virsh restore {path}"', str(error))
            self.assertEqual([path], saved_guest.leftovers(self.directory))
            # libvirt says of a file that all of the guest is in it.
            self.assertEqual(b'LibvirtQemudSave', path.read_bytes()[:16])
            error = self.assertRaises(
                exception.HypervisorError, save_restore.resume, self.host, old.uuid, self.directory, rewrite.give
            )
            self.assertIn(str(path), str(error))
            self.assertEqual([path], saved_guest.leftovers(self.directory))
            path.unlink()

    def test_what_is_in_the_way_is_left_there(self) -> None:
        old = self.old_guest(self.side, self.side.bridge())
        path = self.directory / f'{old.uuid}.relive'
        path.write_text('the only copy')
        error = self.assertRaises(exception.InvalidInput, self.save_and_restore, old)
        self.assertIn(str(path), str(error))
        self.assertEqual([path], saved_guest.leftovers(self.directory))
        self.assertEqual('the only copy', path.read_text())
        self.assertEqual((set(), set()), self.ids(old.uuid))
