# SPDX-License-Identifier: Apache-2.0
"""Save and restore, or migrate, while somebody else starts or changes the guest."""

import contextlib
import pathlib
from unittest import mock

import libvirt

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt import migrate


class MovesTest(RigCase):
    def legacy(self) -> str:
        return self.side.new_guest(harness.disk_xml(self.side.new_file(), 'vdb', serial=harness.new_id()))

    def save_and_restore(self, guest: str) -> list[pathlib.Path]:
        """The files that are left."""
        self.wait(self.ask(Action.RECONCILE_LIVE, guest, '', inventory=None))
        return list((self.directory / 'save').glob('*'))

    def written(self, _instance: str, path: str, *_more: object) -> None:
        pathlib.Path(path).write_bytes(b'LibvirtQemudSave')

    def lose(self, guest: str) -> None:
        """Somebody starts the guest anew, and the connection is lost."""
        self.inside(guest).start()
        self.side.fake.drop_connections()
        raise errors.error(libvirt.VIR_ERR_NO_CONNECT, 'connection lost')

    def test_the_memory_of_a_guest_that_was_started_anew_is_kept(self) -> None:
        guest = self.legacy()

        def saved(instance: str, path: str, *_more: object) -> None:
            self.written(instance, path)
            self.side.fake.after.clear()
            self.lose(guest)

        self.side.fake.after['saveFlags'] = saved
        self.assertNotEqual([], self.save_and_restore(guest))

    def test_also_if_that_was_before_it_was_restored(self) -> None:
        guest = self.legacy()
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=None), None)

        def restored(*_arguments: object) -> None:
            self.side.fake.before.clear()
            self.lose(guest)

        self.side.fake.after['saveFlags'] = self.written
        self.side.fake.before['restoreFlags'] = restored
        self.assertNotEqual([], self.save_and_restore(guest))

    def test_a_guest_that_was_started_anew_at_the_destination_has_not_moved(self) -> None:
        other = FakeHypervisor('other')
        self.addCleanup(other.stop)
        guest = self.side.new_guest(state='transient')
        self.inside(guest).power_off()
        other.add_guest(xml=domain_xml('there', guest))
        with mock.patch.object(self.host, 'open_other', lambda _uri: other.open()):
            self.assertRaises(exception.HypervisorError, migrate.follow, self.host, guest, 'qemu+tls://other/system')

    def test_a_guest_that_has_moved_and_is_defined_still_is_not_here(self) -> None:
        guest = self.side.new_guest()
        self.inside(guest).stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
        error = self.assertRaises(
            exception.HypervisorError, migrate.follow, self.host, guest, 'qemu+tls://other/system'
        )
        self.assertNotIn('is still here', str(error))

    def test_a_migration_takes_along_what_the_guest_has_when_it_begins(self) -> None:
        lun = """<disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/disk/by-id/{}'/>
            <target dev='sdb' bus='scsi'/></disk>"""
        guest = self.side.new_guest(lun.format('one'))
        domain = self.side.fake.open().lookupByUUIDString(guest)
        given: dict[str, object] = {}

        def begin() -> None:
            """The journal's disk was full for an hour."""
            domain.detachDeviceFlags(lun.format('one'), 3)
            self.assertTrue(self.side.fake.settle())
            domain.attachDeviceFlags(lun.format('two'), 3)

        self.side.fake.before['migrateToURI3'] = lambda _guest, _uri, parameters, _flags: given.update(parameters)

        def rewrite(*_definitions: object) -> dict[str, str]:
            return {'ua-any': 'for this test'}

        with contextlib.suppress(exception.HypervisorError):
            migrate.migrate(self.host, guest, 'qemu+tls://other/system', rewrite, begin=begin)
        self.assertNotIn('by-id/one', str(given))
