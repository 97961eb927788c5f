# SPDX-License-Identifier: Apache-2.0
"""What the agent leaves to Nova: by the option ``manage``, by whose the guest is, and by the request's ``force``."""

import dataclasses
import itertools
import pathlib
from typing import Any

from aliasagent import conf
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.context import RequestContext
from aliasagent.operations import runner
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import MOVES
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.requests import catalog
from aliasagent.requests.base import Management
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional import test_agent
from aliasagent.tests.functional.rig import RigCase
from aliasagent.virt import jobs
from aliasagent.virt.guest import Side

DEST = 'qemu+tls://there/system'
#: What changes a guest, other than a reconcile of its persistent config.
CHANGES = {
    *('attachDeviceFlags', 'detachDeviceAlias', 'detachDeviceFlags', 'saveFlags', 'restoreFlags', 'migrateToURI3')
}
OTHERS = "<app:instance xmlns:app='urn:app'/>"


class ManageCase(RigCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(jobs, '_INTERVAL', 0.005)
        self.side.fake.destinations.add(DEST)
        self.side.fake.after['saveFlags'] = lambda _uuid, path, *_rest: pathlib.Path(path).write_text('memory')

    def guest(self, metadata: str = harness.NOVA, state: str = 'running') -> str:
        """A guest with a disk from before aliases."""
        disk = harness.disk_xml(self.side.new_file(), 'sdh', serial=harness.new_id())
        return self.side.new_guest(disk, state=state, metadata=metadata)

    def wanted(self, action: Action, guest: str, **more: Any) -> Operation:
        """An operation that no agent has yet."""
        device = harness.new_id()
        mac, hostdev = harness.new_mac(), {'type': 'usb', 'vendor': '1d6b', 'product': '0002'}
        arguments: dict[Action, dict[str, Any]] = {
            Action.ATTACH_VOLUME: {
                'volume_id': device,
                'connection_info': harness.file_connection(self.side.new_file()),
                'disk_bus': 'scsi',
            },
            Action.ATTACH_INTERFACE: {
                'port': {'id': device, 'address': mac, 'vif_type': 'bridge', 'bridge': self.side.bridge()}
            },
            Action.ATTACH_HOSTDEV: {'device_id': device, 'hostdev': hostdev},
            Action.RECONCILE_LIVE: {},
            Action.LIVE_MIGRATE: {'dest_uri': DEST},
        }
        return self.operation(action, guest, device if action in ATTACHES else '', **arguments[action], **more)

    def do(self, action: Action, guest: str, **more: Any) -> Operation:
        operation = self.wanted(action, guest, **more)
        self.runner.accept(operation)
        return self.wait(operation.id)

    def save(self, guest: str) -> pathlib.Path:
        """Save a guest as an agent that was killed has left it."""
        directory = self.directory.resolve() / 'save'
        directory.mkdir(exist_ok=True)
        path = directory / f'{guest}.relive'
        self.side.fake.open().lookupByUUIDString(guest).saveFlags(str(path), None, 0)
        return path

    def changed(self) -> set[str]:
        """Return what was called that changes a guest since the last time."""
        called = {method for method, _arguments in self.side.fake.calls} & CHANGES
        self.side.fake.calls.clear()
        return called

    def assert_refused(self, done: Operation) -> None:
        self.assertEqual((State.FAILED, 'ManagedByNova'), (done.state, done.error_class), str(done.error))
        self.assertEqual(set(), self.changed())

    def assert_done(self, done: Operation) -> None:
        self.assertEqual((State.SUCCEEDED, None), (done.state, done.error))


class LeftToNovaTest(ManageCase):
    def test_each_action_in_each_mode_and_guest(self) -> None:
        for action, manage, metadata, force in itertools.product(
            ATTACHES | MOVES, ('all', 'aliases'), (harness.NOVA, OTHERS, ''), (False, True)
        ):
            self.manage = manage
            guest = self.guest(metadata)
            self.changed()
            done = self.do(action, guest, **({'force': True} if force else {}))
            if manage == 'aliases' and metadata == harness.NOVA and not force:
                self.assert_refused(done)
            else:
                self.assert_done(done)
                self.assertNotEqual(set(), self.changed(), f'{action} {manage} {metadata}')

    def test_the_error_says_what_to_do_and_what_force_costs(self) -> None:
        self.manage = 'aliases'
        for action in ATTACHES | MOVES:
            guest = self.guest()
            error = str(self.do(action, guest).error)
            kind = catalog.TYPES[action]
            assert issubclass(kind, Management)
            self.assertEqual(
                f'instance {guest} is a guest of Nova, and [DEFAULT] manage = aliases leaves {action} to Nova: use '
                f'Nova, or repeat the request with force. With force, {kind.cost}',
                error,
            )

    def test_either_definition_says_so(self) -> None:
        self.manage = 'aliases'
        for action, live in itertools.product(ATTACHES | MOVES, (False, True)):
            guest = self.guest()
            inside = self.inside(guest)
            definition = inside.need_config() if live else inside.need_live()
            found = definition.find('metadata')
            assert found is not None
            definition.remove(found)
            self.assert_refused(self.do(action, guest))

    def test_in_every_state(self) -> None:
        self.manage = 'aliases'
        for action, state in itertools.product(ATTACHES | MOVES, ('shut off', 'paused', 'transient')):
            self.assert_refused(self.do(action, self.guest(state=state)))

    def test_detaches_and_reconciles_are_not_left_to_nova(self) -> None:
        self.manage = 'aliases'
        guest = self.guest()
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, '', inventory=None), None)
        (alias,) = self.inside(guest).aliases(live=False)
        self.assert_outcome(self.detach(guest, alias.removeprefix('ua-')), None)
        self.assertEqual((0, 0), (self.live_count(guest, 'disk'), self.persistent_count(guest, 'disk')))

    def test_a_guest_that_is_not_there(self) -> None:
        self.manage = 'aliases'
        for action in ATTACHES | MOVES:
            self.assertEqual('InstanceNotFound', self.do(action, harness.new_id()).error_class)

    def test_the_file_of_a_guest_that_is_gone_is_named(self) -> None:
        self.manage = 'aliases'
        guest = self.guest(state='transient')
        path = self.save(guest)
        done = self.do(Action.RECONCILE_LIVE, guest)
        self.assertEqual('HypervisorError', done.error_class)
        self.assertIn(str(path), str(done.error))

    def test_a_device_that_the_guest_has_already_is_no_change(self) -> None:
        for action in ATTACHES:
            self.manage = 'all'
            guest = self.guest()
            operation = self.wanted(action, guest)
            self.runner.accept(operation)
            self.assert_done(self.wait(operation.id))
            self.changed()
            self.manage = 'aliases'
            again = self.ask(action, guest, operation.device, **operation.request.to_dict())  # type: ignore[union-attr]
            self.assert_done(self.wait(again))
            self.assertEqual(set(), self.changed())

    def test_half_a_device_is_not_completed(self) -> None:
        """A detach of Nova's that has timed out leaves a device in the running guest only."""
        guest, volume, path = self.guest(), harness.new_id(), self.side.new_file()
        xml = harness.disk_xml(path, 'sda', serial=volume, alias=f'ua-{volume}')
        self.host.guest(guest).attach(xml, Side.LIVE)
        self.manage = 'aliases'
        self.changed()
        arguments = {'volume_id': volume, 'connection_info': harness.file_connection(path), 'disk_bus': 'scsi'}
        self.assert_refused(self.wait(self.ask(Action.ATTACH_VOLUME, guest, volume, **arguments)))


class BegunTest(ManageCase):
    """The option is changed, or the agent ends, while an operation waits or runs."""

    def take_up(self, operation: Operation, *, begun: bool) -> Operation:
        """Have an agent take up what an earlier one accepted, and perhaps began."""
        self.journal.accept(operation)
        if begun:
            self.journal.start(operation.id)
        self.restart_agent()
        return self.wait(operation.id)

    def test_an_attach_that_was_begun_is_completed(self) -> None:
        for action in ATTACHES:
            operation = self.wanted(action, self.guest())
            self.manage = 'aliases'
            done = self.take_up(operation, begun=True)
            self.assert_done(done)
            self.assertEqual(2, done.attempts)
            self.assertIn('attachDeviceFlags', self.changed())

    def test_what_was_not_begun_is_decided_anew(self) -> None:
        for action in ATTACHES | MOVES:
            operation = self.wanted(action, self.guest())
            self.manage = 'aliases'
            self.changed()
            self.assert_refused(self.take_up(operation, begun=False))

    def test_an_attach_whose_start_was_lost_with_the_power_is_found_done(self) -> None:
        for action in ATTACHES:
            self.manage = 'all'
            guest = self.guest()
            operation = self.wanted(action, guest)
            self.runner.accept(operation)
            self.assert_done(self.wait(operation.id))
            self.manage = 'aliases'
            again = self.operation(action, guest, operation.device, **operation.request.to_dict())  # type: ignore[union-attr]
            self.assert_done(self.take_up(again, begun=False))

    def test_a_guest_that_is_saved_is_restored(self) -> None:
        guest = self.guest()
        operation = self.wanted(Action.RECONCILE_LIVE, guest)
        self.save(guest)
        self.assertFalse(self.inside(guest).active)
        self.manage = 'aliases'
        self.assert_done(self.take_up(operation, begun=True))
        self.assertTrue(self.inside(guest).active)
        self.assertEqual(1, len([name for name in self.inside(guest).aliases() if name.startswith('ua-')]))

    def test_a_migration_that_was_begun_is_followed(self) -> None:
        operation = self.wanted(Action.LIVE_MIGRATE, self.guest())
        self.manage = 'aliases'
        done = self.take_up(operation, begun=True)
        self.assertEqual('HypervisorError', done.error_class)
        self.assertIn('it was interrupted, and the guest is still here', str(done.error))

    def test_the_connection_is_lost_in_the_middle_of_an_attach(self) -> None:
        for action in ATTACHES:
            self.manage = 'all'
            guest = self.guest()

            def drop(*_arguments: object) -> None:
                self.side.fake.before.clear()
                self.manage = 'aliases'
                self.side.fake.drop_connections()
                raise errors.cut_off()

            self.side.fake.before['attachDeviceFlags'] = drop
            self.assert_done(self.do(action, guest))
            self.assertEqual('aliases', self.manage)

    def test_the_connection_is_lost_before_it_is_decided(self) -> None:
        self.manage = 'aliases'
        for action in ATTACHES | MOVES:
            guest = self.guest()

            def drop(*_arguments: object) -> None:
                self.side.fake.before.clear()
                self.side.fake.drop_connections()
                raise errors.cut_off()

            self.side.fake.before['XMLDesc'] = drop
            self.assert_refused(self.do(action, guest))

    def test_the_option_is_read_when_the_work_begins(self) -> None:
        for manage, error_class in (('all', None), ('aliases', 'ManagedByNova'), ('all', None)):
            self.manage = manage
            for action in ATTACHES | MOVES:
                self.assertEqual(error_class, self.do(action, self.guest()).error_class)

    def test_a_device_that_nova_detaches_meanwhile_is_not_attached_again(self) -> None:
        """A request for a device that the guest has changes nothing, and so it never begins."""
        self.manage = 'aliases'
        guest = self.guest()
        forced = self.wanted(Action.ATTACH_VOLUME, guest, force=True)
        request = dataclasses.replace(forced.request, force=False)  # type: ignore[type-var]
        again = dataclasses.replace(forced, id=harness.new_id(), request=request)
        self.runner.accept(forced)
        self.assert_done(self.wait(forced.id))
        begun: list[object] = []
        self.patch(self.journal, 'start', lambda *what, **_how: begun.append(what))
        self.runner.accept(again)
        self.assert_done(self.wait(again.id))
        self.assertEqual([], begun)

    def test_a_guest_that_has_changed_while_the_journal_was_written_is_read_again(self) -> None:
        self.patch(runner, '_OLD_SECONDS', -1.0)
        self.manage = 'aliases'
        guest = self.guest('')
        start = self.journal.start

        def slow(*what: Any, **how: Any) -> None:
            start(*what, **how)
            self.host.guest(guest).attach(harness.disk_xml(self.side.new_file(), 'sda'), Side.LIVE | Side.PERSISTENT)

        self.patch(self.journal, 'start', slow)
        operation = self.wanted(Action.ATTACH_VOLUME, guest)
        self.runner.accept(operation)
        self.assert_done(self.wait(operation.id))
        (disk,) = self.host.guest(guest).definitions().sides()[0][1].by_alias(f'ua-{operation.device}')
        self.assertEqual('sdb', disk.target)


class AgentTest(test_agent.FakeAgentCase):
    """From the message to the guest, with the option of the agent's configuration."""

    def set_manage(self, manage: str) -> None:
        conf.CONF.set_override('manage', manage)
        self.addCleanup(conf.CONF.clear_override, 'manage')

    def test_a_message_is_refused_unless_it_says_force(self) -> None:
        guest, other = self.side.new_guest(metadata=harness.NOVA), self.side.new_guest()
        connection = harness.file_connection(self.side.new_file())
        for manage in ('aliases', 'all'):
            self.set_manage(manage)
            refused = manage == 'aliases'
            for instance, force in itertools.product((guest, other), (False, True)):
                volume = harness.new_id()
                done = self.done('attach_volume', instance, volume, connection, disk_bus='scsi', force=force)
                if refused and instance == guest and not force:
                    self.assert_failed(done, 'ManagedByNova', f'instance {guest} is a guest of Nova')
                    continue
                self.assert_succeeded(done)
                self.assert_succeeded(self.done('detach', instance, volume))

    def test_a_move_is_refused_unless_it_says_force(self) -> None:
        guest = self.side.new_guest(metadata=harness.NOVA)
        self.set_manage('aliases')
        self.assert_failed(self.done('reconcile_live', guest), 'ManagedByNova', f'instance {guest} is a guest of Nova')
        self.assert_succeeded(self.done('reconcile_live', guest, force=True))

    def test_an_id_is_of_one_request_forced_or_not(self) -> None:
        self.set_manage('aliases')
        guest, ctxt = self.side.new_guest(metadata=harness.NOVA), RequestContext()
        connection, volume = harness.file_connection(self.side.new_file()), harness.new_id()
        arguments = {'instance_uuid': guest, 'volume_id': volume, 'connection_info': connection}
        api = self.api()
        api.submit(ctxt, 'attach_volume', **arguments)
        self.assert_failed(self.wait(api, ctxt.operation_id), 'ManagedByNova', guest)
        self.assertRaises(exception.OperationConflict, api.submit, ctxt, 'attach_volume', force=True, **arguments)
        self.assertEqual('failed', api.submit(ctxt, 'attach_volume', force=False, **arguments)['state'])
        self.assertEqual((set(), set()), self.ids(guest))
