# SPDX-License-Identifier: Apache-2.0
"""What a migration asks of libvirt, and what it makes of the answer."""

from collections.abc import Callable
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.unit.virt.reliving import DISK
from aliasagent.tests.unit.virt.reliving import NAME
from aliasagent.tests.unit.virt.reliving import name_the_disk
from aliasagent.tests.unit.virt.unplugging import raising
from aliasagent.virt import migrate
from aliasagent.virt.guest import Rewrite

DEST = 'qemu+tls://there.example.org/system'
LIVE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
PERSIST = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE


def nothing(_definition: Domain, _other: Domain | None) -> dict[str, str]:
    return {}


class MigrateTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake.destinations.add(DEST)

    def guest(self, *, running: bool = True, persistent: bool = True) -> FakeGuest:
        return self.fake.add_guest(DISK, running=running, persistent=persistent)

    def moving(self) -> FakeGuest:
        guest = self.guest()
        guest.migrating = True
        return guest

    def migrate(self, guest: FakeGuest, rewrite: Rewrite = name_the_disk, **more: Any) -> dict[str, str]:
        return migrate.migrate(self.host, guest.uuid, DEST, rewrite, **more)

    def fails(self, guest: FakeGuest, kind: type[Exception] = exception.HypervisorError) -> str:
        return str(self.assertRaises(kind, self.migrate, guest))

    def asked(self) -> tuple[Any, dict[str, str], Any]:
        """What libvirt was asked for: the destination, the parameters, and the flags."""
        ((_guest, uri, parameters, flags),) = [
            arguments for method, arguments in self.fake.calls if method == 'migrateToURI3'
        ]
        assert isinstance(parameters, dict)
        return uri, parameters, flags

    def test_both_definitions_carry_aliases(self) -> None:
        guest = self.guest()
        self.assertEqual({NAME: 'told'}, self.migrate(guest))
        uri, parameters, flags = self.asked()
        self.assertEqual((DEST, LIVE | PERSIST), (uri, flags))
        self.assertEqual({libvirt.VIR_MIGRATE_PARAM_DEST_XML, libvirt.VIR_MIGRATE_PARAM_PERSIST_XML}, set(parameters))
        for xml in parameters.values():
            self.assertIn(f'<alias name="{NAME}"/>', xml)
        secure = libvirt.VIR_DOMAIN_XML_SECURE
        reads = [arguments[1] for method, arguments in self.fake.calls if method == 'XMLDesc']
        self.assertEqual([libvirt.VIR_DOMAIN_XML_MIGRATABLE | secure, libvirt.VIR_DOMAIN_XML_INACTIVE | secure], reads)

    def test_a_transient_guest_leaves_no_config(self) -> None:
        self.migrate(self.guest(persistent=False))
        _uri, parameters, flags = self.asked()
        self.assertEqual(({libvirt.VIR_MIGRATE_PARAM_DEST_XML}, LIVE), (set(parameters), flags))

    def test_one_that_lacks_nothing_moves_without_edits(self) -> None:
        self.assertEqual({}, self.migrate(self.guest(), nothing))
        self.assertEqual((DEST, {}, LIVE | PERSIST), self.asked())

    def test_options(self) -> None:
        self.migrate(self.guest(), nothing, migrate_uri='tcp://10.0.0.2', bandwidth_mib=7, unsafe=True)
        expected = {libvirt.VIR_MIGRATE_PARAM_URI: 'tcp://10.0.0.2', libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 7}
        self.assertEqual((DEST, expected, LIVE | PERSIST | libvirt.VIR_MIGRATE_UNSAFE), self.asked())

    def test_one_that_does_not_run(self) -> None:
        self.assertIn('does not run', self.fails(self.guest(running=False)))

    def test_one_that_moves_already(self) -> None:
        self.fails(self.moving(), exception.GuestBusy)
        self.assertEqual(0, self.fake.count('migrateToURI3'))

    def test_a_destination_that_cannot_be_reached_is_not_this_host(self) -> None:
        unreachable = errors.error(libvirt.VIR_ERR_NO_CONNECT, 'unable to connect to X')

        def lose(*_arguments: object) -> None:
            self.fake.drop_connections(down=True)
            raise unreachable

        for before, kind in (
            (raising(unreachable), exception.HypervisorError),
            (lose, exception.HypervisorUnavailable),
        ):
            guest = self.guest()
            self.fake.before['migrateToURI3'] = before
            error = self.assertRaises(exception.HypervisorError, self.migrate, guest)
            self.assertEqual(kind, type(error))
            self.assertIn('unable to connect to X', str(error))

    def test_libvirts_words_reach_the_caller(self) -> None:
        words = 'operation aborted: migration out job: canceled by client'
        self.fake.fail_next('migrateToURI3', errors.error(libvirt.VIR_ERR_OPERATION_ABORTED, words))
        self.assertIn(words, self.fails(self.guest()))

    def test_it_begins_with_a_guest_that_can_move_and_reads_it_then(self) -> None:
        for guest in (self.guest(running=False), self.moving()):
            self.assertRaises(exception.HypervisorError, self.migrate, guest, begin=self.fail)
        guest, begun = self.guest(), list[int]()
        self.fake.calls.clear()
        self.migrate(guest, begin=lambda: begun.append(len(self.fake.calls)))
        methods = [method for method, _arguments in self.fake.calls]
        before, after = methods[: begun[0]], methods[begun[0] :]
        self.assertNotIn('XMLDesc', before)
        self.assertEqual('migrateToURI3', after[-1])

    def test_abort(self) -> None:
        guest = self.moving()
        migrate.abort(self.host, guest.uuid)
        self.assertFalse(guest.migrating)

    def test_another_job_is_not_aborted(self) -> None:
        for job in (None, libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP):
            guest = self.guest()
            guest.other_job = job
            self.assertIsNone(migrate.progress(self.host, guest.uuid))
            self.assertRaises(exception.HypervisorError, migrate.abort, self.host, guest.uuid)
            self.assertEqual(job, guest.other_job)
        self.assertEqual(0, self.fake.count('abortJob'))

    def test_of_a_guest_that_does_not_run(self) -> None:
        """What its callers get is an error that they know."""
        for do in (migrate.progress, migrate.abort):
            call: Callable[..., object] = do
            stopped = self.guest(running=False).uuid
            error = self.assertRaises(exception.HypervisorError, call, self.host, stopped)
            self.assertIs(exception.HypervisorError, type(error))
