# SPDX-License-Identifier: Apache-2.0
"""A connection is undone only when the guest certainly does not have the device, here or elsewhere."""

import threading
from collections.abc import Callable
from typing import Any

import fixtures
import libvirt

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.connections import Connection
from aliasagent.operations.connections import Connections
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import rig
from aliasagent.tests.functional.test_connecting import ConnectingCase
from aliasagent.virt.driver import Driver
from aliasagent.virt.jobs import Stopping

Json = dict[str, Any]

AWAY = exception.CloudError(service='cinder', step='attach', reason='away', request='')
LOST = exception.HypervisorUnavailable(reason='killed')
FULL = exception.JournalError(path='journal', reason='database or disk is full')


class ConnectedCase(ConnectingCase, rig.NotLiveYetCase):
    def domain(self, guest: str) -> Any:
        return self.side.open(self.side.uri).lookupByUUIDString(guest)

    def look(self, guest: str) -> None:
        """Look at the connection behind all requests, and wait for the end of that."""
        self.connecting.released(guest, self.volume)
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, ''), None)

    def attached(self) -> str:
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        return guest

    def timed_out(self) -> str:
        guest = self.attached()
        self.inside(guest).unplug.never = True
        self.assert_outcome(self.detach(guest, self.volume), 'DetachTimeout')
        return guest

    def assert_connected(self) -> None:
        self.assertEqual((1, True), (len(self.world.attachments), self.world.connected))
        self.assertEqual(1, len(self.connecting.all()))


class ElsewhereTest(ConnectedCase):
    """Guests that go on with the device where no definition of this host shows it."""

    def move(self, guest: str) -> None:
        """What a migration does that leaves the guest defined here."""
        self.inside(guest).stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)

    def save(self, guest: str) -> str:
        """Save a guest to a file, and restart libvirtd, which then does not know how the guest was stopped."""
        path = str(self.directory / f'{guest}.saved')
        self.domain(guest).save(path)
        self.inside(guest).reason = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
        return path

    def test_after_a_detach_that_timed_out(self) -> None:
        for leave in (self.move, self.save):
            guest = self.timed_out()
            leave(guest)
            self.look(guest)
            self.assert_connected()
            self.connecting.remove(guest, self.volume)

    def test_at_a_detach(self) -> None:
        for leave, words in ((self.move, 'another host'), (self.save, 'saved to a file')):
            guest = self.attached()
            leave(guest)
            self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', words)
            self.assert_connected()
            self.look(guest)
            self.assert_connected()
            # An operator vouches for the guest.
            self.connecting.remove(guest, self.volume)
            self.assertEqual([], self.connecting.all())

    def test_a_guest_that_never_ran_with_it(self) -> None:
        self.new_world()
        guest = self.side.new_guest(state='shut off')
        self.assert_outcome(self.attach(guest), None)
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assertEqual(([], {}), (self.connecting.all(), self.world.attachments))

    def test_a_guest_that_was_started_with_it(self) -> None:
        self.new_world()
        guest = self.side.new_guest(state='shut off')
        self.assert_outcome(self.attach(guest), None)
        self.domain(guest).create()
        self.look(guest)
        self.save(guest)
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'saved to a file')
        self.assert_connected()

    def test_a_guest_with_connections_does_not_migrate(self) -> None:
        guest = self.attached()
        move = self.ask(Action.LIVE_MIGRATE, guest, '', dest_uri='qemu+tls://there/system')
        self.assert_outcome(move, 'GuestBusy', f'volume {self.volume}')
        self.assert_connected()


class QemuTest(ConnectedCase):
    """Attaches during which libvirtd was killed: QEMU may have what no definition has."""

    def lose(self, guest: str) -> None:
        with fixtures.MockPatchObject(Driver, 'attach', side_effect=LOST):
            self.assert_outcome(self.attach(guest), 'HypervisorUnavailable')

    def test_whatever_the_journal_knows_of_an_earlier_release(self) -> None:
        guest = self.timed_out()
        self.unplug_at_last(guest)
        self.wait_nothing_left(guest)
        self.inside(guest).unplug.never = False
        self.lose(guest)
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'switch the guest off')
        self.assert_connected()

    def test_both_are_killed_in_the_attach(self) -> None:
        guest = self.new_world()
        with fixtures.MockPatchObject(Driver, 'attach', side_effect=Stopping()) as patched:
            attach = self.attach(guest)
            self.wait_for(lambda: patched.mock.called, 'the attach has begun')
            self.kill_agent()
        with fixtures.MockPatchObject(self.world, 'prepare', side_effect=AWAY):
            self.start_agent()
            self.assert_outcome(attach, 'CloudError', 'away')
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'the attach did not end')
        self.assert_connected()

    def test_the_disk_is_full_when_the_loss_is_recorded(self) -> None:
        guest = self.new_world()
        with self.refusing(lambda it: it.doubt == 'the hypervisor was lost during the attach'), \
                fixtures.MockPatchObject(Driver, 'attach', side_effect=LOST):  # fmt: skip
            self.assert_outcome(self.attach(guest), 'JournalError')
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'switch the guest off')
        self.assert_connected()

    def test_the_next_attach_succeeds_beside_what_is_left(self) -> None:
        guest = self.new_world()
        self.lose(guest)
        self.assert_outcome(self.attach(guest), None)
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'switch the guest off')
        self.assert_connected()
        self.domain(guest).destroy()
        self.domain(guest).create()
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assert_nothing_left(guest)

    def test_a_repeated_attach_is_lost(self) -> None:
        """The guest was started anew since; it lacks the device only while it runs."""
        guest = self.attached()
        self.domain(guest).destroy()
        self.domain(guest).create()
        for disk in self.inside(guest).need_live().findall('devices/disk'):
            disk.getparent().remove(disk)  # type: ignore[union-attr]
        self.lose(guest)
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'switch the guest off')
        self.assert_connected()

    def test_a_doubt_ends_with_the_run(self) -> None:
        guest = self.new_world()
        self.lose(guest)
        self.domain(guest).destroy()
        self.domain(guest).create()
        self.assert_outcome(self.attach(guest), None)
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assert_nothing_left(guest)

    def refusing(self, refused: Callable[[Connection], bool]) -> Any:
        """A journal that is full for some records of connections."""
        put = Connections.put

        def put_or_fail(its: Connections, connection: Connection) -> Connection:
            if refused(connection):
                raise FULL
            return put(its, connection)

        return fixtures.MockPatchObject(Connections, 'put', put_or_fail)

    def test_what_is_done_is_not_said_to_have_failed(self) -> None:
        guest = self.new_world()
        with self.refusing(lambda it: it.is_complete):
            self.assert_outcome(self.attach(guest), None)
        self.look(guest)
        self.assert_attached(guest)


class PortWorld:
    """A Neutron with one port."""

    def __init__(self, port: Json) -> None:
        self.port = port
        self.bound: str | None = None

    def prepare(self, instance: str, request: Any, _details: Json, save: Callable[[Json], None]) -> Json:
        self.bound = instance
        save({'bound': True})
        arguments: Json = request.with_port(self.port)
        return arguments

    def complete(self, _instance: str, _details: Json) -> None:
        pass

    def check(self, _instance: str, _details: Json) -> None:
        pass

    def undo(self, _instance: str, _details: Json, _save: Callable[[Json], None]) -> None:
        self.bound = None


class WithoutAliasTest(ConnectedCase):
    """Guests that a client has redefined that does not write aliases, and that were started anew."""

    def redefine(self, guest: str, *lost: str) -> None:
        self.domain(guest).destroy()
        for device in self.inside(guest).need_config().iterfind('devices/*'):
            for name in lost:
                for child in device.findall(name):
                    device.remove(child)
        self.domain(guest).create()

    def test_a_disk_is_found_by_its_source(self) -> None:
        guest = self.attached()
        self.redefine(guest, 'alias', 'serial')
        self.assertTrue(self.has_device(guest))
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assert_nothing_left(guest)

    def test_an_interface_that_may_be_the_port(self) -> None:
        for lasting in (False, True):
            port = harness.new_id()
            members: Json = {'id': port, 'address': harness.new_mac(), 'vif_type': 'bridge', 'bridge': 'br-fake'}
            world = PortWorld(members | ({'devname': f'tap{port[:11]}'} if lasting else {}))
            self.backings['port'] = world
            guest = self.side.new_guest()
            self.assert_outcome(self.ask(Action.ATTACH_INTERFACE, guest, port, port_id=port), None)
            self.redefine(guest, 'alias')
            detach = self.detach(guest, port)
            if lasting:
                self.assert_outcome(detach, None)
                self.assertEqual((0, None), (self.live_count(guest, 'interface'), world.bound))
            else:
                self.assert_outcome(detach, 'DetachFailed', 'may be it; its port stays connected')
                self.assertEqual((1, guest), (self.live_count(guest, 'interface'), world.bound))

    def test_two_ports_with_one_mac_address(self) -> None:
        mac, guest = harness.new_mac(), self.side.new_guest()
        ports = [harness.new_id() for _port in range(2)]
        for port in ports:
            self.backings['port'] = PortWorld({'id': port, 'address': mac, 'vif_type': 'bridge', 'bridge': 'br-fake'})
            self.assert_outcome(self.ask(Action.ATTACH_INTERFACE, guest, port, port_id=port), None)
        for left, port in enumerate(ports[::-1]):
            self.assert_outcome(self.detach(guest, port), None)
            self.assertEqual(1 - left, self.live_count(guest, 'interface'))
        self.assertEqual([], self.connecting.all())


class LaterTest(ConnectedCase):
    def test_an_attach_that_is_refused_meanwhile_does_not_keep_the_connection(self) -> None:
        guest = self.timed_out()
        self.assert_outcome(self.attach(guest), 'GuestBusy')
        self.unplug_at_last(guest)
        self.wait_nothing_left(guest)

    def test_a_detach_that_is_refused_changes_nothing(self) -> None:
        guest = self.new_world()
        self.world.trouble = {6: AWAY}
        self.assert_outcome(self.attach(guest), 'CloudError')
        self.domain(guest).managedSave()
        self.assert_outcome(self.detach(guest, self.volume), 'GuestBusy')
        self.domain(guest).create()
        self.assertEqual([False], [it.is_leaving for it in self.connecting.all()])
        self.look(guest)
        self.assert_attached(guest)

    def test_no_thread_can_be_started(self) -> None:
        guest = self.attached()
        start = threading.Thread.start

        def start_or_fail(thread: threading.Thread) -> None:
            if thread.name == 'disconnect':
                raise RuntimeError("can't start new thread")
            start(thread)

        with fixtures.MockPatchObject(threading.Thread, 'start', start_or_fail):
            self.assert_outcome(self.detach(guest, self.volume), 'ConnectionLeft', 'no thread')
        self.look(guest)
        self.wait_nothing_left(guest)

    def test_what_waits_does_not_keep_its_guest_from_working(self) -> None:
        guest = self.attached()
        self.world.away = AWAY
        self.assert_outcome(self.detach(guest, self.volume), 'ConnectionLeft')
        undone = 0

        def undo(*_arguments: object) -> None:
            nonlocal undone
            undone += 1
            raise AWAY

        with fixtures.MockPatchObject(self.world, 'undo', undo):
            self.look(guest)
            for _time in range(20):
                self.wait_for(lambda: guest not in self.queues._waiting, 'the guest is idle')
                self.connecting.tend()
        # One look asked the service, and perhaps the guest's late release: each failure makes the pause longer.
        self.assertIn(undone, (1, 2))
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, ''), None)

    def test_a_connection_that_the_host_has_lost_is_reported(self) -> None:
        logged = self.useFixture(fixtures.FakeLogger())
        guest = self.attached()
        lost = exception.ConnectionFailed(volume=self.volume, step='checking', reason='the device is another disk')
        self.world.lost = lost
        self.look(guest)
        self.assertIn('the device is another disk', logged.output)
        self.assert_connected()

    def test_whether_it_is_in_use_is_unknown_of_a_guest_that_is_not_here(self) -> None:
        guest = self.attached()
        (found,) = self.connecting.all()
        self.assertIs(True, self.connecting.is_in_use(found))
        self.domain(guest).destroy()
        self.domain(guest).undefine()
        self.assertIsNone(self.connecting.is_in_use(found))
