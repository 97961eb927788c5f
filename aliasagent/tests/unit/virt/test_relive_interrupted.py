# SPDX-License-Identifier: Apache-2.0
"""Save and restore, on the fake, when the connection or the agent goes away in the middle of it."""

import functools
import pathlib
import threading

import libvirt

from aliasagent import exception
from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.unit.virt import reliving
from aliasagent.tests.unit.virt.reliving import DISK
from aliasagent.tests.unit.virt.reliving import NAME
from aliasagent.tests.unit.virt.reliving import NAMED
from aliasagent.tests.unit.virt.reliving import name_the_disk
from aliasagent.virt import jobs
from aliasagent.virt import save_restore
from aliasagent.virt import saved_guest

_ALIAS = f"<alias name='{NAME}'/>"


def nothing(_path: str) -> None:
    """What libvirtd does with a call that did not reach it."""


class ConnectionLostTestCase(reliving.InterruptedTestCase):
    """libvirtd lives on, or is there again soon."""

    def test_as_the_save_ends(self) -> None:
        guest = self.guest()
        self.lose_at('saveFlags', functools.partial(self.save, guest))
        self.assert_done(guest, self.save_and_restore(guest))

    def test_as_the_save_ends_of_a_transient_guest(self) -> None:
        """Of what happened to it until the connection was there again nothing can be known."""
        guest = self.guest(persistent=False)
        path = self.path(guest)
        self.lose_at('saveFlags', functools.partial(self.save, guest))
        self.assertIn(f'"virsh restore {path}" brings it back', self.fails(guest))
        self.assertEqual([path], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('restoreFlags'))

    def test_libvirtd_goes_on_with_the_save(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            self.lose_at('saveFlags', functools.partial(self.save_goes_on, guest))
            self.assert_done(guest, self.save_and_restore(guest))

    def test_odd_answers_do_not_end_the_wait(self) -> None:
        guest = self.guest()

        def save(path: str) -> None:
            self.save_goes_on(guest, path)
            self.fake.fail_next('state', errors.lock_timeout())
            self.fake.fail_next('state', errors.internal('cannot say'))
            self.fake.fail_next('lookupByUUIDString', errors.failed('cannot say'))

        self.lose_at('saveFlags', save)
        self.assert_done(guest, self.save_and_restore(guest))

    def test_the_save_comes_to_nothing(self) -> None:
        guest = self.guest()

        def save(path: str) -> None:
            self.save_goes_on(guest, path)
            self.after_looks(guest.cancel_save)

        self.lose_at('saveFlags', save)
        self.fails(guest, exception.HypervisorUnavailable)
        self.assertEqual(('running', []), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_the_save_never_began(self) -> None:
        guest = self.guest()
        self.lose_at('saveFlags', nothing)
        self.fails(guest, exception.HypervisorUnavailable)
        self.assertEqual(('running', []), self.now(guest))

    def test_somebody_ends_the_guest_meanwhile(self) -> None:
        guest = self.guest()

        def save(path: str) -> None:
            self.save_goes_on(guest, path)
            self.after_looks(guest.destroy)

        self.lose_at('saveFlags', save)
        self.assertIn(f'an earlier save is in {self.path(guest)}', self.fails(guest))
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('restoreFlags'))

    def test_libvirtd_stays_away(self) -> None:
        self.patch(jobs, '_RECONNECT', 0.01)
        for method in ('saveFlags', 'restoreFlags'):
            guest = self.guest()
            save = functools.partial(self.save, guest)
            self.lose_at(method, save if method == 'saveFlags' else nothing, down=True)
            self.assertIn(str(self.path(guest)), self.fails(guest, exception.HypervisorUnavailable))
            self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))
            self.fake.down = False
            self.assertTrue(self.host.wait_connected(base.PATIENCE))
            save_restore.resume(self.host, guest.uuid, self.directory, name_the_disk)
            self.assertEqual(('running', [NAME]), self.now(guest))

    def test_the_save_takes_too_long(self) -> None:
        self.patch(jobs, '_LONGEST', -1.0)
        guest = self.guest()
        self.lose_at('saveFlags', functools.partial(self.save_goes_on, guest))
        self.assertIn(str(self.path(guest)), self.fails(guest, exception.GuestBusy))
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))

    def test_libvirtd_goes_on_with_the_restore(self) -> None:
        guest = self.guest()

        def go_on() -> None:
            self.assertTrue(self.path(guest).exists(), 'the file that is being read was removed')
            guest.resume()
            guest.reason = libvirt.VIR_DOMAIN_RUNNING_RESTORED  # so libvirt calls it: no operator has resumed it
            guest.other_job = None

        def restore(path: str) -> None:
            self.fake.open().restoreFlags(path, self.fake.saved[path][1].replace('</disk>', f'{_ALIAS}</disk>'), 0)
            guest.suspend()
            guest.other_job = libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE
            self.after_looks(go_on)

        self.lose_at('restoreFlags', restore)
        self.assert_done(guest, self.save_and_restore(guest))

    def test_the_agent_stops_meanwhile(self) -> None:
        guest = self.guest()
        closing = threading.Thread(target=self.host.close)

        def save(path: str) -> None:
            guest.begin_save(path)
            pathlib.Path(path).write_text('half of it')
            self.after_looks(closing.start)

        self.lose_at('saveFlags', save)
        self.assertRaises(jobs.Stopping, self.save_and_restore, guest)
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))
        closing.join(base.PATIENCE)


class ResumeTestCase(reliving.InterruptedTestCase):
    """The agent was killed, wherever that was, and the next one takes it up."""

    def resume(self, guest: FakeGuest) -> save_restore.Restored:
        return save_restore.resume(self.host, guest.uuid, self.directory, name_the_disk)

    def refuses(self, guest: FakeGuest, kind: type[Exception] = exception.HypervisorError) -> None:
        """Nothing is done, and the file is named and kept."""
        path = self.path(guest) if guest.uuid in self.fake.guests else saved_guest.leftovers(self.directory)[0]
        self.assertIn(str(path), str(self.assertRaises(kind, self.resume, guest)))
        self.assertEqual([path], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('restoreFlags'))
        path.unlink()

    def saved(self, *, persistent: bool = True) -> FakeGuest:
        """One that was saved, and not restored."""
        guest = self.guest(persistent=persistent)
        self.host.guest(guest.uuid).save(str(self.path(guest)))
        self.wait_events()
        return guest

    def being_saved(self, *, persistent: bool = True) -> FakeGuest:
        """One that libvirtd still saves."""
        guest = self.guest(persistent=persistent)
        self.wait_events()
        self.save_goes_on(guest, str(self.path(guest)))
        return guest

    def restored(self, *, named: bool) -> FakeGuest:
        """One whose file was not removed yet."""
        guest = self.saved()
        path = str(self.path(guest))
        xml = self.fake.saved[path][1]
        self.host.connection().restoreFlags(path, xml.replace('</disk>', f'{_ALIAS}</disk>') if named else None, 0)
        self.wait_events()
        self.fake.calls.clear()
        return guest

    def test_before_the_save(self) -> None:
        guest = self.guest()
        self.assert_done(guest, self.resume(guest))

    def test_between_save_and_restore(self) -> None:
        guest = self.saved()
        self.assert_done(guest, self.resume(guest))

    def test_a_transient_one_that_was_saved_while_nobody_watched_may_have_run_since(self) -> None:
        guest = self.saved(persistent=False)
        self.refuses(guest)

    def test_a_transient_one_that_is_saved_elsewhere_just_now(self) -> None:
        """Its own file was complete before that."""
        guest = self.saved(persistent=False)
        path = self.path(guest)
        path.write_bytes(b'LibvirtQemudSave and so on')
        self.host.connection().restoreFlags(str(path), None, 0)
        self.wait_events()
        self.fake.calls.clear()
        again = self.fake.guests[guest.uuid]
        again.begin_save('elsewhere')
        self.after_looks(again.end_save)
        self.refuses(guest)

    def test_a_transient_one_that_was_restored_by_hand_and_has_run_since(self) -> None:
        guest = self.saved(persistent=False)
        self.host.connection().restoreFlags(str(self.path(guest)), None, 0)
        self.fake.guests[guest.uuid].power_off()
        self.fake.calls.clear()
        self.refuses(guest)

    def test_a_paused_one_between_save_and_restore(self) -> None:
        guest = self.guest()
        guest.suspend()
        self.host.guest(guest.uuid).save(str(self.path(guest)))
        self.wait_events()
        self.resume(guest)
        self.assertEqual(('paused', [NAME]), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_while_libvirtd_still_saves(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            self.save_goes_on(guest, str(self.path(guest)))
            self.assert_done(guest, self.resume(guest))

    def test_before_libvirtd_has_made_the_file(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            path = self.path(guest)
            guest.begin_save(str(path))

            def end(guest: FakeGuest = guest, path: pathlib.Path = path) -> None:
                path.write_text('all of it')
                guest.end_save()

            self.after_looks(end)
            self.assert_done(guest, self.resume(guest))

    def test_a_save_that_came_to_nothing_is_done_again(self) -> None:
        guest = self.guest()
        self.save_goes_on(guest, str(self.path(guest)))
        self.after_looks(guest.cancel_save)
        self.assert_done(guest, self.resume(guest))

    def test_after_the_restore(self) -> None:
        guest = self.restored(named=True)
        self.assertEqual(save_restore.Restored(0.0, {}), self.resume(guest))
        self.assertEqual(('running', [NAME]), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))
        self.assertEqual(0, self.fake.count('saveFlags'))

    def test_after_a_restore_as_it_was_it_is_done_again(self) -> None:
        guest = self.restored(named=False)
        self.assert_done(guest, self.resume(guest))
        self.assertEqual(1, self.fake.count('saveFlags'))

    def test_after_all_of_it(self) -> None:
        guest = self.restored(named=True)
        self.path(guest).unlink()
        self.assertEqual(save_restore.Restored(0.0, {}), self.resume(guest))
        self.assertEqual(0, self.fake.count('saveFlags'))

    def test_one_that_was_started_anew_and_has_its_aliases(self) -> None:
        guest = self.fake.add_guest(NAMED)
        self.path(guest).write_text('memory')
        self.assertEqual(save_restore.Restored(0.0, {}), self.resume(guest))
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))
        self.assertIn(f'is kept in {self.path(guest)}', self.log.output)

    def test_one_that_was_started_anew_and_has_no_aliases(self) -> None:
        guest = self.saved()
        guest.start()
        self.refuses(guest, exception.InvalidInput)

    def test_one_that_has_run_since(self) -> None:
        guest = self.saved()
        guest.start()
        guest.destroy()
        self.refuses(guest)

    def test_one_of_which_libvirtd_has_forgotten_why_it_is_off(self) -> None:
        guest = self.saved()
        guest.reason = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
        self.refuses(guest)

    def test_one_that_has_run_since_and_was_saved_by_libvirt(self) -> None:
        guest = self.saved()
        guest.start()
        self.fake.open().lookupByUUIDString(guest.uuid).managedSave()
        self.refuses(guest)

    def test_a_persistent_one_that_is_gone_may_run_elsewhere(self) -> None:
        guest = self.saved()
        self.fake.open().lookupByUUIDString(guest.uuid).undefine()
        self.refuses(guest)

    def test_one_that_is_gone_without_a_file(self) -> None:
        guest = self.guest()
        self.fake.forget(guest)
        self.assertRaises(exception.InstanceNotFound, self.resume, guest)

    def test_a_restore_that_fails_is_undone(self) -> None:
        for persistent in (True, False):
            guest = self.being_saved(persistent=persistent)
            self.fake.fail_next('restoreFlags', errors.failed('not with these aliases'))
            error = self.assertRaises(exception.HypervisorError, self.resume, guest)
            self.assertIn('was restored as it was, and is running', str(error))
            self.assertEqual(('running', []), self.now(guest))
            self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_one_that_crashes_at_once(self) -> None:
        for persistent in (True, False):
            guest = self.being_saved(persistent=persistent)

            def crash(*_arguments: object, guest: FakeGuest = guest) -> None:
                self.fake.guests[guest.uuid].crash()

            self.fake.after['restoreFlags'] = crash
            error = self.assertRaises(exception.HypervisorError, self.resume, guest)
            self.assertIn(str(self.path(guest)), str(error))
            self.path(guest).unlink()

    def test_a_device_without_alias_that_nobody_knows(self) -> None:
        guest = self.fake.add_guest(DISK)
        self.host.guest(guest.uuid).save(str(self.path(guest)))
        self.wait_events()
        done = save_restore.resume(self.host, guest.uuid, self.directory, lambda _definition, _other: {})
        self.assertEqual({}, done.given)
        self.assertEqual(('running', []), self.now(guest))
