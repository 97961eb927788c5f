# SPDX-License-Identifier: Apache-2.0
"""Devices with a connection: whatever dies or fails on the way, guest, host and cloud agree in the end."""

import itertools
from collections.abc import Callable
from typing import Any

import fixtures

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.operations.connections import Stage
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional import rig
from aliasagent.virt.driver import Driver
from aliasagent.virt.jobs import Stopping

Json = dict[str, Any]


class World:
    """A cloud and a host with one volume, in which the agent can die, or fail, at any point.

    :param has_device: returns whether a guest has the volume.
    """

    def __init__(self, path: str, has_device: Callable[[str], bool]) -> None:
        self.path = path
        self._has_device = has_device
        self.attachments: dict[str, str] = {}
        self.connected = False
        #: The points that were passed, and at which of them what is raised.
        self.points: list[str] = []
        self.trouble: dict[int, Exception] = {}
        self.away: Exception | None = None
        #: What the host says of the connection if it has lost it.
        self.lost: Exception | None = None
        self.asked_too_early = False

    def prepare(self, instance: str, request: Any, details: Json, save: Callable[[Json], None]) -> Json:
        if 'attachment' not in details:
            self.point('before the attachment')
            # Whoever made one for this guest and died before it was recorded finds it.
            found = [name for name in self.attachments if name.startswith(instance)]
            name = found[0] if found else f'{instance}/{len(self.points)}'
            self.attachments[name] = 'attaching'
            self.point('after the attachment')
            details['attachment'] = name
            save(details)
        self.point('before the connection')
        self.connected = True
        self.point('after the connection')
        details['connected'] = True
        save(details)
        self.point('prepared')
        arguments: Json = request.with_connection(harness.file_connection(self.path))
        return arguments

    def complete(self, instance: str, details: Json) -> None:
        self.point('before the end')
        self.asked_too_early |= not self._has_device(instance)
        self.attachments[details['attachment']] = 'in-use'
        self.point('after the end')

    def check(self, _instance: str, _details: Json) -> None:
        if self.lost is not None:
            raise self.lost

    def undo(self, instance: str, details: Json, _save: Callable[[Json], None]) -> None:
        self.asked_too_early |= self._has_device(instance)
        self.point('before the disconnect')
        self.connected = False
        self.point('after the disconnect')
        found = [details['attachment']] if 'attachment' in details else list(self.attachments)
        for name in found:
            self.attachments.pop(name, None)
        self.point('after the deletion')

    def point(self, name: str) -> None:
        if self.away is not None:
            raise self.away
        self.points.append(name)
        error = self.trouble.pop(len(self.points), None)
        if error is not None:
            raise error


class ConnectingCase(rig.RigCase):
    def setUp(self) -> None:
        super().setUp()
        self.volume = harness.new_id()
        self.new_world()

    def new_world(self) -> str:
        """A guest, and a world in which it can have a volume."""
        self.world = World(self.side.new_file(), self.has_device)
        self.backings['volume'] = self.world
        guest: str = self.side.new_guest()
        return guest

    def has_device(self, guest: str) -> bool:
        live = self.inside(guest).active and self.live_count(guest, 'disk')
        return bool(self.persistent_count(guest, 'disk') or live)

    def attach(self, guest: str) -> str:
        return self.ask(Action.ATTACH_VOLUME, guest, self.volume, volume_id=self.volume, disk_bus='virtio')

    def assert_attached(self, guest: str) -> None:
        self.assertEqual((1, 1), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))
        self.assertEqual((['in-use'], True), (list(self.world.attachments.values()), self.world.connected))
        self.assertFalse(self.world.asked_too_early)
        (found,) = self.connecting.all()
        self.assertEqual((Stage.GIVEN, True), (found.stage, found.is_complete))

    def assert_nothing_left(self, guest: str) -> None:
        self.assertEqual((0, 0), (self.persistent_count(guest, 'disk'), self.live_count(guest, 'disk')))
        self.assertEqual(({}, False), (self.world.attachments, self.world.connected))
        self.assertFalse(self.world.asked_too_early)
        self.assertEqual([], self.connecting.all())

    def wait_nothing_left(self, guest: str) -> None:
        self.wait_for(lambda: not self.connecting.all(), 'the connection is undone')
        self.assert_nothing_left(guest)

    def begin_dying(self, point: int) -> None:
        """Have the agent die at a point from now on, as if by a kill: it records nothing after it."""
        self.world.trouble = {len(self.world.points) + point: Stopping()}

    def die(self) -> None:
        """Wait until the agent has died, and start the next one."""
        self.wait_for(lambda: not self.world.trouble, 'the agent dies')
        self.restart_agent()


class DeathTest(ConnectingCase):
    def test_without_trouble(self) -> None:
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        self.assert_attached(guest)
        self.assert_outcome(self.attach(guest), None)
        self.assert_attached(guest)
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assert_nothing_left(guest)

    def test_the_agent_dies_at_any_point_of_an_attach_and_of_a_detach(self) -> None:
        steps = {'attach': 7, 'detach': 3}
        for action, count in steps.items():
            for point in range(1, count + 1):
                guest = self.new_world()
                if action == 'attach':
                    self.begin_dying(point)
                operation = self.attach(guest)
                if action == 'attach':
                    self.die()
                self.assert_outcome(operation, None)
                self.assert_attached(guest)
                if action == 'detach':
                    self.begin_dying(point)
                operation = self.detach(guest, self.volume)
                if action == 'detach':
                    self.die()
                self.assert_outcome(operation, None)
                self.assert_nothing_left(guest)
        # There is no point that was not tried.
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        self.assertEqual(steps['attach'], len(self.world.points))
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assertEqual(sum(steps.values()), len(self.world.points))

    def test_the_agent_dies_at_any_point_of_the_way_back(self) -> None:
        for point in range(1, 4):
            guest = self.new_world()
            self.side.fake.fail_next('attachDeviceFlags', errors.qemu_refused('device_add', 'no such thing'))
            self.begin_dying(5 + point)
            operation = self.attach(guest)
            self.die()
            self.assert_outcome(operation, 'AttachFailed', 'no such thing')
            self.assert_nothing_left(guest)


class FailureTest(ConnectingCase):
    REFUSED = exception.CloudRefused(service='cinder', step='attach', reason='no', request='')
    AWAY = exception.CloudError(service='cinder', step='attach', reason='away', request='')

    def test_a_step_that_fails_leaves_nothing(self) -> None:
        for point, error in itertools.product(range(1, 6), (self.REFUSED, self.AWAY, ValueError('a bug'))):
            guest = self.new_world()
            self.world.trouble = {point: error}
            wanted = type(error).__name__ if isinstance(error, exception.AliasAgentError) else 'InternalError'
            self.assert_outcome(self.attach(guest), wanted)
            self.assert_nothing_left(guest)

    def test_a_guest_that_cannot_have_it_is_asked_first(self) -> None:
        guest = self.new_world()
        self.assert_outcome(self.attach_disk(guest, self.volume, self.side.new_file()), None)
        self.assert_outcome(self.attach(guest), 'DeviceConflict', 'has not made')
        self.assert_outcome(self.attach(harness.new_id()), 'InstanceNotFound')
        self.assertEqual([], self.world.points)

    def test_what_cannot_be_told_is_told_later(self) -> None:
        guest = self.new_world()
        self.world.trouble = {6: self.AWAY}
        self.assert_outcome(self.attach(guest), 'CloudError', 'away')
        self.assertEqual(['attaching'], list(self.world.attachments.values()))
        self.connecting.released(guest, self.volume)
        self.wait_for(lambda: all(it.is_complete for it in self.connecting.all()), 'the service is told')
        self.assert_attached(guest)

    def test_what_cannot_be_undone_is_undone_later(self) -> None:
        for restart in (False, True):
            guest = self.new_world()
            self.assert_outcome(self.attach(guest), None)
            self.world.away = self.AWAY
            self.assert_outcome(self.detach(guest, self.volume), 'ConnectionLeft', 'away; the agent repeats')
            self.assertEqual(0, self.live_count(guest, 'disk'))
            # Until then no other connection can be made, which would be undone with the first.
            path = self.side.new_file()
            self.assert_outcome(self.attach_disk(guest, self.volume, path), 'DeviceConflict', 'about to undo')
            self.assert_outcome(self.attach(guest), 'ConnectionLeft', 'away')
            self.world.away = None
            if restart:
                self.restart_agent()
            else:
                self.connecting.released(guest, self.volume)  # as the next look, but without a pause
            self.wait_nothing_left(guest)
            self.assert_outcome(self.attach(guest), None)
            self.assert_attached(guest)
            self.assert_outcome(self.detach(guest, self.volume), None)

    def test_a_detach_again_undoes_what_is_left(self) -> None:
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        self.world.away = self.AWAY
        self.assert_outcome(self.detach(guest, self.volume), 'ConnectionLeft')
        self.world.away = None
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.assert_nothing_left(guest)


class LateTest(ConnectingCase, rig.NotLiveYetCase):
    def test_a_guest_keeps_its_connection_until_it_releases_the_device(self) -> None:
        for restart in (False, True):
            guest = self.new_world()
            self.assert_outcome(self.attach(guest), None)
            self.inside(guest).unplug.never = True
            detach = self.detach(guest, self.volume)
            self.assert_outcome(detach, 'DetachTimeout')
            if restart:
                self.restart_agent()
            self.connecting.tend()
            self.assert_outcome(self.detach(guest, self.volume), 'DetachTimeout')
            self.assertEqual((1, True), (len(self.world.attachments), self.world.connected))
            self.unplug_at_last(guest)
            self.wait_nothing_left(guest)
            self.assertIsNotNone(self.journal.get(detach).released_at)

    def test_a_device_that_another_client_removed(self) -> None:
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        for definition in (self.inside(guest).need_config(), self.inside(guest).need_live()):
            for disk in definition.findall('devices/disk'):
                disk.getparent().remove(disk)  # type: ignore[union-attr]
        (found,) = self.connecting.all()
        self.assertIs(False, self.connecting.is_in_use(found))
        self.connecting.tend()
        self.assert_outcome(self.ask(Action.RECONCILE_INSTANCE, guest, ''), None)  # after the check, in one queue
        self.assertTrue(self.world.connected)
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.wait_nothing_left(guest)

    def test_a_guest_that_has_left_the_host(self) -> None:
        guest = self.new_world()
        self.assert_outcome(self.attach(guest), None)
        self.assertRaises(exception.DeviceConflict, self.connecting.remove, guest, self.volume)
        self.assertRaises(exception.DeviceNotFound, self.connecting.remove, guest, harness.new_id())
        self.assertTrue(self.world.connected)
        domain = self.side.open(self.side.uri).lookupByUUIDString(guest)
        domain.destroy()
        domain.undefine()
        self.world = self.world_without(guest)
        self.assert_outcome(self.detach(guest, self.volume), 'InstanceNotFound')
        self.connecting.remove(guest, self.volume)
        self.assertEqual(({}, False), (self.world.attachments, self.world.connected))
        self.assertEqual([], self.connecting.all())

    def world_without(self, guest: str) -> World:
        """The same world, in which a guest is gone."""
        self.world._has_device = lambda _guest: False
        self.assertNotIn(guest, self.side.fake.guests)
        return self.world

    def test_what_the_hypervisor_may_have_kept_stays_connected(self) -> None:
        """Of an attach during which libvirtd was killed, QEMU can have the disk while no definition has it."""
        guest = self.new_world()
        lost = exception.HypervisorUnavailable(reason='killed')
        with fixtures.MockPatchObject(Driver, 'attach', side_effect=lost):
            self.assert_outcome(self.attach(guest), 'HypervisorUnavailable')
        self.assertEqual(0, self.live_count(guest, 'disk'))
        self.connecting.tend()
        self.assert_outcome(self.detach(guest, self.volume), 'DetachFailed', 'switch the guest off')
        self.assertRaises(exception.DeviceConflict, self.connecting.remove, guest, self.volume)
        self.assertTrue(self.world.connected)
        self.side.open(self.side.uri).lookupByUUIDString(guest).destroy()
        self.assert_outcome(self.detach(guest, self.volume), None)
        self.wait_nothing_left_shut_off(guest)

    def wait_nothing_left_shut_off(self, guest: str) -> None:
        self.assertEqual(0, self.persistent_count(guest, 'disk'))
        self.assertEqual(({}, False, []), (self.world.attachments, self.world.connected, self.connecting.all()))
