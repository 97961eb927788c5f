# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong, what leaves an endpoint is an error that every client knows by its name."""

import contextlib
import functools
import inspect
import pathlib
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import libvirt
import oslo_messaging
import testtools
from oslo_messaging import conffixture

from aliasagent import conf
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.compute import schemas
from aliasagent.compute.manager import ComputeManager
from aliasagent.compute.service import ComputeService
from aliasagent.context import RequestContext
from aliasagent.messaging import rpc_server
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import Operation
from aliasagent.tests import base
from aliasagent.tests.fakes.libvirt import FakeHypervisor
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.unit.compute.test_contract import GOOD
from aliasagent.tests.unit.test_exception import sent
from aliasagent.virt import destination
from aliasagent.virt import jobs
from aliasagent.virt import migrate
from aliasagent.virt import saved_guest
from aliasagent.virt.host import Host

#: The methods of the endpoint, found by looking, so that a new one is not forgotten: it needs a message in GOOD.
METHODS = sorted(name for name, it in inspect.getmembers(ComputeManager) if getattr(it, 'exposed', False))
#: Those that are answered.
CALLS_OF_CLIENTS = sorted(set(METHODS) - set(Action))
#: What is answered of a guest.
QUERIES = sorted(set(CALLS_OF_CLIENTS) - {'submit', 'get_operation', 'list_operations'})
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
    'no code': functools.partial(libvirt.libvirtError, 'no code'),
    'unexpected': functools.partial(RuntimeError, 'its own words'),
}
#: Of the volume that the good messages name.
DISK = (
    "<disk type='file' device='disk'><source file='/disk'/><target dev='sda' bus='scsi'/>"
    f'<serial>{GOOD["detach_volume"]["volume_id"]}</serial></disk>'
)


class Broken:
    """A part of the agent that does nothing as it should."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError('its own words')

    def __call__(self) -> Any:
        raise RuntimeError('its own words')


class KnownErrorsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        for module in (jobs, migrate, destination):
            self.patch(module, '_INTERVAL', 0.001)
        self.patch(jobs, '_RECONNECT', 0.01)
        for module in (migrate, saved_guest):
            self.patch(module, '_EVENT_WAIT', 0.01)
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
        self.manager = ComputeManager(
            it._driver,
            it._journal,
            it._intake,
            it._reconciler,
            it._relocation,
            it._connecting,
            it._connector.properties,
            it._within,
        )

    def call(self, method: str, **arguments: Any) -> Any:
        return getattr(self.manager, method)(RequestContext(), **arguments)

    def error_of(self, method: str, **arguments: Any) -> exception.AliasAgentError | None:
        """The error that a caller gets, which is one that clients know; None if there is none."""
        try:
            self.call(method, **arguments)
        except oslo_messaging.ExpectedException as error:
            raised = error.exc_info[1]
            self.assertIs(exception, inspect.getmodule(type(raised)), f'{method}: {raised!r}')
            assert isinstance(raised, exception.AliasAgentError)
            return raised
        return None

    def ask(self, method: str, instance: str, *, unexpected: bool = False) -> None:
        """Ask about a guest; an error is one that clients know, and of the agent itself only if that is broken."""
        arguments = {**GOOD[method], 'instance_uuid': instance} if 'instance_uuid' in GOOD[method] else GOOD[method]
        error = self.error_of(method, **arguments)
        if not unexpected:
            self.assertNotIsInstance(error, exception.InternalError, method)

    def ask_for(self, *wanted: tuple[Action, str], unexpected: bool = False) -> None:
        """Ask for actions on guests; what the journal says of their ends is what clients know."""
        ids = [str(uuid.uuid4()) for _wanted in wanted]
        for operation_id, (action, instance) in zip(ids, wanted, strict=True):
            getattr(self.manager, action)(
                RequestContext(operation_id=operation_id), **{**GOOD[action], 'instance_uuid': instance}
            )
        for done in self.ends(ids):
            if done.error_class is not None:
                kind = getattr(exception, done.error_class, None)
                words = f'{done.action}: {done.error_class}: {done.error}'
                self.assertTrue(isinstance(kind, type) and issubclass(kind, exception.AliasAgentError), words)
                if not unexpected:
                    self.assertIsNot(exception.InternalError, kind, words)

    def ends(self, ids: list[str]) -> list[Operation]:
        """What the journal has of operations when they have ended."""
        self.wait_for(lambda: all(self.service._journal.get(id_).is_finished for id_ in ids), 'the ends')
        return [self.service._journal.get(id_) for id_ in ids]

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

    @contextlib.contextmanager
    def failing(self, name: str, make: Callable[[], Exception]) -> Iterator[None]:
        """Have a call of libvirt's fail."""

        def fail(*_arguments: object) -> None:
            raise make()

        self.fake.before[name] = fail
        yield
        del self.fake.before[name]

    def test_all_methods_are_walked(self) -> None:
        self.assertEqual(set(schemas.METHODS), set(METHODS))
        self.assertEqual(set(METHODS), set(Action) | set(QUERIES) | {'submit', 'get_operation', 'list_operations'})

    def test_every_query_of_every_guest(self) -> None:
        for method in QUERIES:
            for instance in self.guests():
                self.ask(method, instance)

    def test_every_query_as_each_call_fails(self) -> None:
        running, stopped = self.fake.add_guest(DISK), self.fake.add_guest(DISK, running=False)
        running.migrating = True
        for call in CALLS:
            for name, make in FAILURES.items():
                with self.failing(call, make):
                    for method in QUERIES:
                        for guest in (running, stopped):
                            self.ask(method, guest.uuid, unexpected=name == 'unexpected')

    def test_every_method_while_the_hypervisor_is_away(self) -> None:
        guest = self.fake.add_guest(DISK)
        self.fake.drop_connections(down=True)
        for method in QUERIES:
            self.ask(method, guest.uuid)
        self.ask_for(*((action, guest.uuid) for action in Action))

    def test_every_query_when_what_it_asks_is_broken(self) -> None:
        for part in vars(self.manager):
            self.patch(self.manager, part, Broken())
        operation = {'id': 'x', 'action': 'detach', 'arguments': GOOD['detach']}
        for method in CALLS_OF_CLIENTS:
            before = self.log.output.count('RuntimeError: its own words')
            error = self.error_of(method, **({'operation': operation} if method == 'submit' else GOOD[method]))
            self.assertIs(exception.InternalError, type(error), method)
            assert error is not None
            self.assertIn('RuntimeError', str(error))
            # With the traceback that oslo.messaging sends along.
            self.assertNotIn('its own words', str(sent(error)))
            self.assertEqual(before + 1, self.log.output.count('RuntimeError: its own words'), method)
            self.assertIn(f'Not answered because of an internal error: {method}\nTraceback', self.log.output)

    def test_every_action_when_its_check_is_broken(self) -> None:
        self.patch(self.manager, '_within', Broken())
        for action in Action:
            ctxt = RequestContext()
            getattr(self.manager, action)(ctxt, **GOOD[action])
            (done,) = self.ends([ctxt.operation_id])
            self.assertEqual(('failed', 'InternalError', action), (done.state, done.error_class, done.action))
            self.assertEqual((GOOD[action]['instance_uuid'], None), (done.instance, done.request))
            words = f'Not accepted because of an internal error: {action}, operation {done.id}\nTraceback'
            self.assertEqual(1, self.log.output.count(words))
        self.assertNotIn('its own words', str(done.error))

    def test_a_cast_that_the_journal_cannot_take_stays_with_the_broker(self) -> None:
        self.service._intake.close()
        self.service._journal.close()
        for part in (self.manager._within, Broken()):
            self.patch(self.manager, '_within', part)
            with testtools.ExpectedException(rpc_server.NotAccepted):
                self.call(Action.DETACH, **GOOD['detach'])

    def test_of_a_guest_that_does_not_run(self) -> None:
        guest = self.fake.add_guest(DISK, running=False)
        for method in ('migration_progress', 'abort_migration', 'reconcile_live_estimate'):
            error = self.error_of(method, instance_uuid=guest.uuid)
            self.assertIs(exception.HypervisorError, type(error))

    def test_what_is_not_there(self) -> None:
        for method, arguments, kind in (
            ('get_operation', {'operation_id': 'none'}, exception.OperationNotFound),
            ('submit', {'operation': {'id': 'x', 'action': 'detach', 'arguments': {}}}, exception.InvalidInput),
            ('list_operations', {'limit': 0}, exception.InvalidInput),
        ):
            self.assertIs(kind, type(self.error_of(method, **arguments)))

    def test_every_action_on_every_guest(self) -> None:
        for action in Action:
            self.ask_for(*((action, instance) for instance in self.guests()))

    def test_every_action_as_each_call_fails(self) -> None:
        actions = (Action.ATTACH_INTERFACE, Action.DETACH_VOLUME, *MOVES)
        for call in CALLS:
            for name in ('not running', 'guest busy', 'already', 'left in QEMU', 'no code', 'unexpected'):
                guests = [self.fake.add_guest(DISK).uuid for _action in actions]
                with self.failing(call, FAILURES[name]):
                    self.ask_for(*zip(actions, guests, strict=True), unexpected=name == 'unexpected')
