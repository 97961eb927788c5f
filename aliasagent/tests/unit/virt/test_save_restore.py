# SPDX-License-Identifier: Apache-2.0
"""Save and restore, on the fake: above all what is left of a guest when something goes wrong."""

import collections
import contextlib
import shutil
import stat
from unittest import mock

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.unit.virt import reliving
from aliasagent.tests.unit.virt.reliving import DISK
from aliasagent.tests.unit.virt.reliving import NAME
from aliasagent.tests.unit.virt.reliving import NAMED
from aliasagent.tests.unit.virt.reliving import name_the_disk
from aliasagent.virt import save_restore
from aliasagent.virt import saved_guest

_Usage = collections.namedtuple('_Usage', 'total used free')


class ReliveTestCase(reliving.RelivingTestCase):
    def test_the_running_guest_gets_aliases_and_the_persistent_config_does_not(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            done = self.save_and_restore(guest)
            self.assertEqual({NAME: 'told'}, done.given)
            self.assertGreater(done.paused_seconds, 0)
            self.assertEqual(('running', [NAME]), self.now(guest))
            self.assertEqual([], self.fake.guests[guest.uuid].aliases(live=False))
            self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_one_that_is_paused_stays_paused(self) -> None:
        guest = self.guest()
        guest.suspend()
        self.save_and_restore(guest)
        self.assertEqual(('paused', [NAME]), self.now(guest))

    def test_nothing_to_do(self) -> None:
        guest = self.fake.add_guest(NAMED)
        self.assertEqual(save_restore.Restored(0.0, {}), self.save_and_restore(guest))
        self.assertEqual(0, self.fake.count('saveFlags'))

    def test_one_that_does_not_run(self) -> None:
        self.assertIn('shut off', self.fails(self.fake.add_guest(DISK, running=False)))
        self.assertEqual(0, self.fake.count('saveFlags'))

    def test_one_whose_memory_was_left_in_its_file(self) -> None:
        guest = self.fake.add_guest(DISK, running=False)
        self.path(guest).write_text('memory')
        self.assertIn(str(self.path(guest)), self.fails(guest))
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))

    def test_one_that_is_gone_and_whose_memory_was_left_in_its_file(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            self.path(guest).write_text('memory')
            self.fake.forget(guest)
            self.assertIn(str(self.path(guest)), self.fails(guest))

    def test_one_that_is_being_migrated(self) -> None:
        guest = self.guest()
        guest.migrating = True
        self.fails(guest, exception.GuestBusy)
        self.assert_nothing_happened(guest)

    def test_one_that_libvirt_is_at_another_job_with(self) -> None:
        for job in (libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP, libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE):
            guest = self.guest()
            guest.other_job = job
            self.fails(guest, exception.GuestBusy)
            self.assert_nothing_happened(guest)

    def test_it_begins_when_the_guest_was_looked_at(self) -> None:
        guest = self.guest()
        guest.other_job = libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP
        for one in (guest, self.fake.add_guest(DISK, running=False), self.fake.add_guest(NAMED)):
            with contextlib.suppress(exception.HypervisorError):
                save_restore.save_and_restore(self.host, one.uuid, self.directory, name_the_disk, self.fail)
        guest, seen = self.guest(), []
        save_restore.save_and_restore(
            self.host, guest.uuid, self.directory, name_the_disk, lambda: seen.append(self.fake.calls[-1][0])
        )
        self.assertEqual(1, len(seen))
        saved = [name for name, _arguments in self.fake.calls].index('saveFlags')
        self.assertEqual(seen, [self.fake.calls[saved - 1][0]])

    def test_a_directory_that_is_missing_is_made_for_root_alone(self) -> None:
        self.directory /= 'missing'
        self.assertEqual([], saved_guest.leftovers(self.directory))
        guest = self.guest()
        self.save_and_restore(guest)
        self.assertEqual(('running', [NAME]), self.now(guest))
        self.assertEqual(0o700, stat.S_IMODE(self.directory.stat().st_mode))

    def test_one_that_is_there_is_left_as_it_is(self) -> None:
        self.directory.chmod(0o750)
        self.save_and_restore(self.guest())
        self.assertEqual(0o750, stat.S_IMODE(self.directory.stat().st_mode))

    def test_it_is_made_only_when_it_is_needed(self) -> None:
        self.directory /= 'missing'
        self.save_and_restore(self.fake.add_guest(NAMED))
        self.assertFalse(self.directory.exists())

    def test_a_directory_that_cannot_be_made(self) -> None:
        guest = self.guest()
        (self.directory / 'file').touch()
        for name, reason in (
            ('missing/save', 'No such file or directory'),
            ('file', 'File exists'),
            ('file/save', 'Not a directory'),
        ):
            directory = self.directory / name
            error = self.assertRaises(
                exception.InvalidInput, save_restore.save_and_restore, self.host, guest.uuid, directory, name_the_disk
            )
            self.assertIn(f'{directory} is not a directory on this host, and cannot be created: {reason}', str(error))
            self.assert_nothing_happened(guest)

    def test_no_room(self) -> None:
        guest = self.guest()
        with mock.patch.object(shutil, 'disk_usage', autospec=True, return_value=_Usage(10**12, 0, 98304 * 1024)):
            self.assertIn('bytes free', self.fails(guest, exception.InvalidInput))
        self.assert_nothing_happened(guest)

    def test_a_file_that_is_there_is_kept(self) -> None:
        guest = self.guest()
        self.path(guest).write_text('the only copy')
        self.assertIn(str(self.path(guest)), self.fails(guest, exception.InvalidInput))
        self.assertEqual('the only copy', self.path(guest).read_text())
        self.assert_nothing_happened(guest)

    def test_a_save_that_fails(self) -> None:
        guest = self.guest()
        self.fake.fail_next('saveFlags', errors.failed('no space left on device'))
        self.assertIn('no space left', self.fails(guest))
        self.assertEqual(('running', []), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_a_restore_that_fails_is_undone(self) -> None:
        for persistent in (True, False):
            guest = self.guest(persistent=persistent)
            self.fake.fail_next('restoreFlags', errors.failed('not with these aliases'))
            words = self.fails(guest)
            self.assertIn('not with these aliases; the guest was restored as it was, and is running', words)
            self.assertEqual(('running', []), self.now(guest))
            self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_a_definition_that_cannot_be_made_is_undone(self) -> None:
        guest = self.guest()
        calls = []

        def broken(definition: Domain, other: Domain | None) -> dict[str, str]:
            calls.append(1)
            if len(calls) > 1:
                raise KeyError('a defect of ours')
            return name_the_disk(definition, other)

        error = self.assertRaises(
            exception.HypervisorError, save_restore.save_and_restore, self.host, guest.uuid, self.directory, broken
        )
        self.assertIn('a defect of ours', str(error))
        self.assertEqual(('running', []), self.now(guest))

    def test_if_it_cannot_be_undone_the_file_is_kept_and_named(self) -> None:
        guest = self.guest()
        self.fake.fail_next('restoreFlags', errors.failed('no'), times=2)
        self.assertIn(f'its memory is kept in {self.path(guest)}', self.fails(guest))
        self.assertEqual([self.path(guest)], saved_guest.leftovers(self.directory))
        self.host.connection().restore(str(self.path(guest)))
        self.assertEqual(('running', []), self.now(guest))

    def test_a_device_that_came_meanwhile_is_there_afterwards(self) -> None:
        guest = self.guest()
        other = DISK.replace('sda', 'sdb').replace('/disk', '/other', 1)

        def attach(*_arguments: object) -> None:
            del self.fake.before['saveFlags']
            self.fake.open().lookupByUUIDString(guest.uuid).attachDeviceFlags(other, libvirt.VIR_DOMAIN_AFFECT_LIVE)

        self.fake.before['saveFlags'] = attach
        self.save_and_restore(guest)
        live = self.host.guest(guest.uuid).live_definition()
        assert live is not None
        self.assertEqual({'sda', 'sdb'}, live.disk_targets())

    def test_the_hypervisor_goes_away_while_it_restores(self) -> None:
        guest = self.guest()

        def drop(*_arguments: object) -> None:
            del self.fake.before['restoreFlags']
            self.fake.drop_connections()

        self.fake.before['restoreFlags'] = drop
        self.assertIn('was restored as it was', self.fails(guest))
        self.assertEqual(('running', []), self.now(guest))

    def test_the_hypervisor_goes_away_when_it_has_restored(self) -> None:
        guest = self.guest()

        def drop(*_arguments: object) -> None:
            del self.fake.after['restoreFlags']
            self.fake.drop_connections()
            raise errors.cut_off()

        self.fake.after['restoreFlags'] = drop
        self.assertEqual({NAME: 'told'}, self.save_and_restore(guest).given)
        self.assertEqual(('running', [NAME]), self.now(guest))
        self.assertEqual([], saved_guest.leftovers(self.directory))

    def test_how_long_it_will_take(self) -> None:
        guess = save_restore.estimate(self.host, self.guest().uuid, rate=98304 * 1024)
        self.assertEqual(save_restore.OVERHEAD + 2, guess.seconds)
        self.assertGreater(guess.bytes, 98304 * 1024)
