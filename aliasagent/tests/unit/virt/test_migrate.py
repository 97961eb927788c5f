# SPDX-License-Identifier: Apache-2.0
"""What a migration asks of libvirt, and what it makes of the answer."""

from collections.abc import Callable
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.virt.test_errors import libvirt_error
from aliasagent.tests.unit.virt.test_guest import StubDomain
from aliasagent.virt import migrate
from aliasagent.virt.guest import Guest

DEST = 'qemu+tls://there.example.org/system'
XML = '<domain><devices><disk/></devices></domain>'
OUT = {'type': 2, 'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}
IDLE = {'type': libvirt.VIR_DOMAIN_JOB_NONE}
GONE = libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
STOPPED = libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID)
LIVE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
PERSIST = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE


def name_the_disk(definition: Domain, _other: Domain | None) -> dict[str, str]:
    for device in definition.devices():
        device.alias = 'ua-disk'
    return {'ua-disk': 'told'}


def nothing(_definition: Domain, _other: Domain | None) -> dict[str, str]:
    return {}


class StubHost:
    def __init__(self, alive: bool = True, **answers: Any) -> None:
        self.alive = alive
        self.domain = StubDomain(
            **{
                'isActive': 1,
                'isPersistent': 1,
                'state': [1, 1],
                'jobStats': IDLE,
                'XMLDesc': XML,
                'migrateToURI3': 0,
                'abortJob': 0,
                **answers,
            }
        )

    def guest(self, _instance: str) -> Guest:
        return Guest(self.domain, lambda: self.alive)

    def asked(self) -> tuple[str, dict[str, Any], int]:
        ((_name, *arguments),) = [call for call in self.domain.calls if call[0] == 'migrateToURI3']
        uri, parameters, flags = arguments
        return uri, parameters, flags


class MigrateTestCase(base.TestCase):
    def migrate(self, host: StubHost, rewrite: Any = name_the_disk, **more: Any) -> dict[str, str]:
        return migrate.migrate(host, 'guest', DEST, rewrite, **more)  # type: ignore[arg-type]

    def fails(self, host: StubHost, kind: type[Exception] = exception.HypervisorError) -> str:
        return str(self.assertRaises(kind, self.migrate, host))

    def test_both_definitions_carry_aliases(self) -> None:
        host = StubHost()
        self.assertEqual({'ua-disk': 'told'}, self.migrate(host))
        uri, parameters, flags = host.asked()
        self.assertEqual((DEST, LIVE | PERSIST), (uri, flags))
        self.assertEqual({libvirt.VIR_MIGRATE_PARAM_DEST_XML, libvirt.VIR_MIGRATE_PARAM_PERSIST_XML}, set(parameters))
        for xml in parameters.values():
            self.assertIn('<alias name="ua-disk"/>', xml)
        secure = libvirt.VIR_DOMAIN_XML_SECURE
        reads = [flags for name, *arguments in host.domain.calls if name == 'XMLDesc' for flags in arguments]
        self.assertEqual([libvirt.VIR_DOMAIN_XML_MIGRATABLE | secure, libvirt.VIR_DOMAIN_XML_INACTIVE | secure], reads)

    def test_a_transient_guest_leaves_no_config(self) -> None:
        host = StubHost(isPersistent=0)
        self.migrate(host)
        _uri, parameters, flags = host.asked()
        self.assertEqual(({libvirt.VIR_MIGRATE_PARAM_DEST_XML}, LIVE), (set(parameters), flags))

    def test_one_that_lacks_nothing_moves_without_edits(self) -> None:
        host = StubHost()
        self.assertEqual({}, self.migrate(host, nothing))
        self.assertEqual((DEST, {}, LIVE | PERSIST), host.asked())

    def test_options(self) -> None:
        host = StubHost()
        self.migrate(host, nothing, migrate_uri='tcp://10.0.0.2', bandwidth_mib=7, unsafe=True)
        expected = {libvirt.VIR_MIGRATE_PARAM_URI: 'tcp://10.0.0.2', libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 7}
        self.assertEqual((DEST, expected, LIVE | PERSIST | libvirt.VIR_MIGRATE_UNSAFE), host.asked())

    def test_one_that_does_not_run(self) -> None:
        self.assertIn('does not run', self.fails(StubHost(isActive=0)))

    def test_one_that_moves_already(self) -> None:
        host = StubHost(jobStats=OUT)
        self.fails(host, exception.GuestBusy)
        self.assertNotIn('migrateToURI3', [call[0] for call in host.domain.calls])

    def test_a_destination_that_cannot_be_reached_is_not_this_host(self) -> None:
        for alive, kind in ((True, exception.HypervisorError), (False, exception.HypervisorUnavailable)):
            host = StubHost(alive, migrateToURI3=libvirt_error(libvirt.VIR_ERR_NO_CONNECT, 'unable to connect to X'))
            error = self.assertRaises(exception.HypervisorError, self.migrate, host)
            self.assertEqual(kind, type(error))
            self.assertIn('unable to connect to X', str(error))

    def test_libvirts_words_reach_the_caller(self) -> None:
        words = 'operation aborted: migration out job: canceled by client'
        host = StubHost(migrateToURI3=libvirt_error(libvirt.VIR_ERR_OPERATION_ABORTED, words))
        self.assertIn(words, self.fails(host))

    def test_it_begins_with_a_guest_that_can_move_and_reads_it_then(self) -> None:
        for host in (StubHost(isActive=0), StubHost(jobStats=OUT)):
            self.assertRaises(exception.HypervisorError, self.migrate, host, begin=self.fail)
        host, begun = StubHost(), []
        self.migrate(host, begin=lambda: begun.append(len(host.domain.calls)))
        before, after = ([name for name, *_more in calls] for calls in (
            host.domain.calls[: begun[0]], host.domain.calls[begun[0] :]
        ))  # fmt: skip
        self.assertNotIn('XMLDesc', before)
        self.assertEqual('migrateToURI3', after[-1])

    def test_abort(self) -> None:
        host = StubHost(jobStats=OUT)
        migrate.abort(host, 'guest')  # type: ignore[arg-type]
        self.assertIn(('abortJob',), host.domain.calls)

    def test_another_job_is_not_aborted(self) -> None:
        for job in (IDLE, {'type': 2, 'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP}):
            host = StubHost(jobStats=job)
            self.assertIsNone(migrate.progress(host, 'guest'))  # type: ignore[arg-type]
            abort: Callable[..., None] = migrate.abort
            self.assertRaises(exception.HypervisorError, abort, host, 'guest')
            self.assertNotIn(('abortJob',), host.domain.calls)

    def test_of_a_guest_that_does_not_run(self) -> None:
        """What its callers get is an error that they know."""
        for do in (migrate.progress, migrate.abort):
            call: Callable[..., object] = do
            error = self.assertRaises(exception.HypervisorError, call, StubHost(jobStats=STOPPED), 'guest')
            self.assertIs(exception.HypervisorError, type(error))
