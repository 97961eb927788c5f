# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong, what leaves an endpoint is an error that every client knows by its name."""

import functools
import pathlib
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt
import oslo_messaging
from oslo_messaging import conffixture

from aliasagent import conf
from aliasagent import exception
from aliasagent.compute import schemas
from aliasagent.compute.manager import ComputeManager
from aliasagent.compute.service import ComputeService
from aliasagent.context import RequestContext
from aliasagent.operations.model import MOVES
from aliasagent.requests.actions import Action
from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.unit.compute.test_contract import GOOD
from aliasagent.virt import destination
from aliasagent.virt import jobs
from aliasagent.virt import migrate
from aliasagent.virt import saved_guest
from aliasagent.virt.host import Host

#: What is answered of a guest.
QUERIES = sorted(set(schemas.METHODS) - set(Action) - {'submit', 'get_operation', 'list_operations'})
#: What the agent asks of libvirt.
CALLS = (
    *('lookupByUUIDString', 'listAllDomains', 'state', 'info', 'isActive', 'isPersistent', 'XMLDesc'),
    *('hasManagedSaveImage', 'jobStats', 'abortJob', 'attachDeviceFlags', 'detachDeviceAlias', 'saveFlags'),
    *('saveImageGetXMLDesc', 'restoreFlags', 'updateDeviceFlags', 'defineXML'),
)
FAILURES: dict[str, Callable[[], Exception]] = {
    'not running': errors.not_running,
    'busy': errors.lock_timeout,
    'unsupported': functools.partial(errors.unsupported, 'not this'),
    'guest busy': errors.guest_busy,
    'already': functools.partial(errors.already_unplugging, 'x'),
    'left in QEMU': functools.partial(errors.qemu_refused, 'device_add', "Duplicate device ID 'x'"),
    'gone': functools.partial(errors.no_domain, 'no domain'),
    'broken': functools.partial(errors.internal, 'cannot say'),
}
#: Of the volume that the good messages name.
DISK = (
    "<disk type='file' device='disk'><source file='/disk'/><target dev='sda' bus='scsi'/>"
    f'<serial>{GOOD["detach_volume"]["volume_id"]}</serial></disk>'
)


class KnownErrorsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        for module in (jobs, migrate, destination):
            self.patch(module, '_INTERVAL', 0.001)
        self.patch(jobs, '_RECONNECT', 0.01)
        for module in (migrate, saved_guest):
            self.patch(module, '_TOLD', 0.01)
        self.directory = pathlib.Path(self.make_directory())
        self.fake = FakeHypervisor()
        self.addCleanup(self.fake.stop)
        self.fake.after['saveFlags'] = lambda _uuid, path, *_rest: pathlib.Path(path).write_text('memory')
        self.useFixture(conffixture.ConfFixture(conf.CONF)).transport_url = 'fake:/'
        oslo_messaging.get_notification_transport(conf.CONF)  # registers its options
        conf.CONF([], project='aliasagent', default_config_files=[])
        self.addCleanup(conf.CONF.reset)
        for name, value, group in (
            ('host', 'here', None),
            ('journal', str(self.directory / 'journal'), 'operations'),
            ('save_directory', str(self.directory / 'save'), 'reconcile'),
            ('reconnect_timeout', 0, 'libvirt'),
            ('timeout', 0.1, 'unplug'),
            ('attempts', 1, 'unplug'),
            ('paths', [str(self.directory)], 'allowed'),
            ('bridges', ['br0'], 'allowed'),
            ('migration_hosts', ['b'], 'allowed'),
            ('pci', [GOOD['attach_hostdev']['hostdev']['address']], 'allowed'),
        ):
            conf.CONF.set_override(name, value, group)
            self.addCleanup(conf.CONF.clear_override, name, group)
        self.host = Host(self.fake.URI, reconnect_interval=0.01, settle=0.0, opener=self.fake.open)
        self.service = ComputeService(conf.CONF, host=self.host)
        self.addCleanup(self.service.stop)
        self.host.start()
        self.assertTrue(self.host.wait_connected(base.PATIENCE))
        it = self.service
        self.manager = ComputeManager(it._driver, it._journal, it._intake, it._reconciler, it._mover, it._within)

    def call(self, method: str, **arguments: Any) -> Any:
        return getattr(self.manager, method)(RequestContext(), **arguments)

    def ask(self, method: str, instance: str) -> None:
        """Ask about a guest; an error is one that clients know."""
        arguments = {**GOOD[method], 'instance_uuid': instance} if 'instance_uuid' in GOOD[method] else GOOD[method]
        try:
            self.call(method, **arguments)
        except oslo_messaging.ExpectedException as error:
            self.assert_known(type(error.exc_info[1]).__name__, f'{method}: {error.exc_info[1]}')

    def ask_for(self, *wanted: tuple[Action, str]) -> None:
        """Ask for actions on guests; what the journal says of their ends is what clients know."""
        ids = [str(uuid.uuid4()) for _wanted in wanted]
        for operation_id, (action, instance) in zip(ids, wanted, strict=True):
            arguments = {**GOOD[action], 'instance_uuid': instance}
            self.call('submit', operation={'id': operation_id, 'action': action, 'arguments': arguments})
        self.wait_for(lambda: all(self.service._journal.get(id_).is_finished for id_ in ids), 'the ends')
        for done in map(self.service._journal.get, ids):
            if done.error_class is not None:
                self.assert_known(done.error_class, f'{done.action}: {done.error}')

    def assert_known(self, name: str, words: str) -> None:
        kind = getattr(exception, name, None)
        self.assertTrue(isinstance(kind, type) and issubclass(kind, exception.AliasAgentError), f'{name}: {words}')

    def guests(self) -> Iterator[str]:
        """Guests in every state."""
        yield self.fake.add_guest(DISK).uuid
        yield self.fake.add_guest(DISK, running=False).uuid
        yield self.fake.add_guest(DISK, persistent=False).uuid
        yield str(uuid.uuid4())
        crashed = self.fake.add_guest(DISK)
        crashed.crash(preserve=True)
        yield crashed.uuid
        for job in (libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP):
            busy = self.fake.add_guest(DISK)
            busy.other_job = job
            yield busy.uuid
        saved = self.fake.add_guest(DISK)
        self.fake.open().lookupByUUIDString(saved.uuid).managedSave()
        yield saved.uuid

    def test_every_query_of_every_guest(self) -> None:
        for method in QUERIES:
            for instance in self.guests():
                self.ask(method, instance)

    def test_every_query_as_each_call_fails(self) -> None:
        running, stopped = self.fake.add_guest(DISK), self.fake.add_guest(DISK, running=False)
        running.migrating = True
        for name in CALLS:
            for make in FAILURES.values():

                def fail(*_arguments: object, make: Callable[[], Exception] = make) -> None:
                    raise make()

                self.fake.before[name] = fail
                for method in QUERIES:
                    for guest in (running, stopped):
                        self.ask(method, guest.uuid)
            del self.fake.before[name]

    def test_every_query_while_the_hypervisor_is_away(self) -> None:
        guest = self.fake.add_guest(DISK)
        self.fake.drop_connections(down=True)
        for method in QUERIES:
            self.ask(method, guest.uuid)

    def test_of_a_guest_that_does_not_run(self) -> None:
        guest = self.fake.add_guest(DISK, running=False)
        for method in ('migration_progress', 'abort_migration', 'reconcile_live_estimate'):
            error = self.assertRaises(oslo_messaging.ExpectedException, self.call, method, instance_uuid=guest.uuid)
            self.assertIs(exception.HypervisorError, type(error.exc_info[1]))

    def test_what_is_not_there(self) -> None:
        for method, arguments in (
            ('get_operation', {'operation_id': 'none'}),
            ('submit', {'operation': {'id': 'x', 'action': 'detach', 'arguments': {}}}),
            ('list_operations', {'limit': 0}),
        ):
            error = self.assertRaises(oslo_messaging.ExpectedException, self.call, method, **arguments)
            self.assert_known(type(error.exc_info[1]).__name__, method)

    def test_every_action_on_every_guest(self) -> None:
        for action in Action:
            self.ask_for(*((action, instance) for instance in self.guests()))

    def test_every_action_as_each_call_fails(self) -> None:
        actions = (Action.ATTACH_INTERFACE, Action.DETACH_VOLUME, *MOVES)
        for name in CALLS:
            for make in map(FAILURES.__getitem__, ('not running', 'guest busy', 'already', 'left in QEMU')):

                def fail(*_arguments: object, make: Callable[[], Exception] = make) -> None:
                    raise make()

                guests = [self.fake.add_guest(DISK).uuid for _action in actions]
                self.fake.before[name] = fail
                self.ask_for(*zip(actions, guests, strict=True))
                del self.fake.before[name]
