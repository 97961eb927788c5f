# SPDX-License-Identifier: Apache-2.0
"""Volumes of a real Cinder in booted guests by their ids alone, whatever dies or is away meanwhile."""

import itertools
from collections.abc import Iterable

from aliasagent.context import RequestContext
from aliasagent.tests import documents
from aliasagent.tests.cloud import base
from aliasagent.tests.contract import harness
from aliasagent.tests.stress.agents import dying_agent
from sandbox import agent as agents
from sandbox import guest as guests
from sandbox import materials
from sandbox import processes
from sandbox import tour

#: Its commands are run by the tests.
PAGE = documents.SOURCE / 'admin' / 'by-id.rst'


class VolumeCase(base.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clouds.ceph.define_secret(self.side.connection)
        self.mounts = self.directory / 'mounts'

    def with_cinder(self) -> agents.Options:
        """The options of an agent that asks Cinder, and connects this host by os-brick."""
        brick: dict[str, object] = {
            'nfs_mount_point_base': str(self.mounts),
            'lock_path': str(self.directory / 'locks'),
            'my_ip': '127.0.0.1',
        }
        return self.service_options('cinder') | {'brick': brick}

    def assert_attached(self, guest: guests.TestGuest, volume: str) -> None:
        """Guest, host and Cinder say that the guest has the volume."""
        found = self.volume(volume)
        (attachment,) = found['attachments']
        self.assertEqual(('in-use', self.host_name), (found['status'], attachment['host_name']))
        self.assertEqual(1, len(self.live(guest).by_alias(f'ua-{volume}')))
        (connection,) = self.api.list_connections(RequestContext(), guest.uuid)
        self.assertEqual(
            (volume, 'given', True, True),
            tuple(connection[name] for name in ('device', 'stage', 'complete', 'in_use')),
        )

    def assert_nothing_left(self, guest: guests.TestGuest, volume: str) -> None:
        """Guest, host and Cinder say that no guest has the volume."""
        self.assertEqual(('available', []), (self.status(volume), self.attachments(volume)))
        self.assertEqual([], self.live(guest).by_alias(f'ua-{volume}'))
        self.assertEqual([], self.api.list_connections(RequestContext(), guest.uuid))


def run_page(test: base.HostTestCase, noun: str, names: dict[str, str]) -> list[str]:
    """Run the commands of the page about a noun, such as ``volume``; return their outputs."""
    blocks = documents.blocks(PAGE.read_text(), 'console', 'by-id')
    (block,) = (it for it in blocks if f'aliasagent {noun} attach ' in it)
    command = tour.CommandLine(test.agent.config)
    found = []
    for line in block.splitlines():
        prompt, program, *words = line.split()
        test.assertEqual(('#', 'aliasagent'), (prompt, program))
        found.append(command.run(*(names.get(word, word) for word in words)))
    return found


class VolumesTest(VolumeCase):
    def test_the_commands_of_the_page(self) -> None:
        volume = self.new_volume('ceph')
        self.start_agent(self.with_cinder())
        guest = self.booted_guest()
        attach, listed, detach = run_page(self, 'volume', {'GUEST': guest.uuid, 'VOLUME_ID': volume})
        self.assertIn('succeeded', attach)
        self.assertRegex(listed, rf'{volume} *\| *given *\| *True')
        self.assertIn('succeeded', detach)
        self.assert_nothing_left(guest, volume)

    def test_a_volume_in_ceph(self) -> None:
        volume = self.new_volume('ceph')
        self.start_agent(self.with_cinder())
        guest = self.new_guest(write=True)
        self.done('attach_volume', guest.uuid, volume_id=volume)
        self.assertEqual(1 << 30, self.wait_disk(guest, volume).bytes)
        self.assert_attached(guest, volume)
        last = self.wait_written(guest)
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.wait_no_disk(guest, volume)
        self.assert_nothing_left(guest, volume)
        self.assertEqual([], self.clouds.ceph.watchers(f'volume-{volume}'))
        self.assertLessEqual(set(range(1, last + 1)), self.exported(volume))

    def test_a_volume_on_a_share(self) -> None:
        volume = self.new_volume('nfs')
        self.start_agent(self.with_cinder())
        self.assertEqual(self.host_name, self.api.get_volume_connector(RequestContext())['host'])
        guest = self.new_guest(write=True)
        self.done('attach_volume', guest.uuid, volume_id=volume)
        self.wait_disk(guest, volume)
        self.assert_attached(guest, volume)
        self.assertIn(str(self.mounts), processes.run(*self.inside('cat', '/proc/mounts')))
        last = self.wait_written(guest)
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.wait_no_disk(guest, volume)
        self.assert_nothing_left(guest, volume)
        self.assertNotIn(str(self.mounts), processes.run(*self.inside('cat', '/proc/mounts')))
        written = materials.records(self.clouds.cinder.export / f'volume-{volume}')
        self.assertLessEqual(set(range(1, last + 1)), written)

    def test_a_volume_that_cinder_does_not_give(self) -> None:
        taken, missing = self.new_volume('ceph'), harness.new_id()
        attachment = self.new_attachment(taken, connector={'host': 'elsewhere', 'ip': '192.0.2.1'})
        self.start_agent(self.with_cinder())
        guest = self.booted_guest()
        for volume, words in ((taken, 'current status is attaching'), (missing, 'no such volume')):
            operation = self.ended('attach_volume', guest.uuid, volume_id=volume)
            self.assertEqual('CloudRefused', operation['error_class'], operation['error'])
            self.assertIn(words, operation['error'])
        self.assertEqual([attachment['id']], [it['id'] for it in self.attachments(taken)])
        self.assertEqual([], self.api.list_connections(RequestContext()))

    def test_a_guest_that_cannot_have_it(self) -> None:
        volume = self.new_volume('ceph')
        self.start_agent(self.with_cinder() | {'allowed': {'storage_hosts': '192.0.2.9'}})
        guest = self.booted_guest()
        operation = self.ended('attach_volume', guest.uuid, volume_id=volume)
        self.assertEqual('InvalidInput', operation['error_class'], operation['error'])
        self.assertIn('connection_info.data.hosts.0', operation['error'])
        self.assert_nothing_left(guest, volume)

    def test_a_cinder_that_is_away(self) -> None:
        self.alone()
        volume = self.new_volume('ceph')
        self.start_agent(self.with_cinder())
        guest = self.booted_guest()
        self.done('attach_volume', guest.uuid, volume_id=volume)
        self.clouds.cinder.kill()
        self.addCleanup(self.clouds.cinder.start)
        operation = self.ended('detach_volume', guest.uuid, volume_id=volume)
        self.assertEqual('ConnectionLeft', operation['error_class'], operation['error'])
        self.assertEqual([], self.live(guest).by_alias(f'ua-{volume}'))
        (left,) = self.api.list_connections(RequestContext(), guest.uuid)
        self.assertEqual(('undoing', False), (left['stage'], left['in_use']))
        self.clouds.cinder.start()
        self.assertEqual('in-use', self.status(volume))
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.assert_nothing_left(guest, volume)


_CONNECTIONS = 'aliasagent.operations.connections:Connections'
_CINDER = 'aliasagent.volumes.cinder:Cinder'
_CONNECTOR = 'aliasagent.volumes.connector:BrickConnector'
#: The calls of an attach and of a detach before and after which the agent dies: the place, and which call of it.
ATTACH = (
    *((f'{_CONNECTIONS}.put', call) for call in range(1, 8)),
    (f'{_CINDER}.volume', 1),
    (f'{_CINDER}.create_attachment', 1),
    (f'{_CONNECTOR}.connect', 1),
    ('aliasagent.virt.attach:Attacher.attach', 1),
    ('aliasagent.virt.guest:Guest.attach', 1),
    (f'{_CINDER}.complete', 1),
    ('aliasagent.operations.journal:Journal.finish', 1),
)
DETACH = (
    *((f'{_CONNECTIONS}.put', call) for call in (1, 2)),
    ('aliasagent.virt.guest:Guest.detach', 1),
    ('aliasagent.virt.guest:Guest.detach', 2),
    ('aliasagent.volumes.backing:CinderBacking.undo', 1),
    (f'{_CINDER}.delete', 1),
    (f'{_CONNECTIONS}.delete', 1),
    ('aliasagent.operations.journal:Journal.finish', 1),
)


class DyingCase(VolumeCase):
    def die_everywhere(self, action: str, places: Iterable[tuple[str, int]]) -> None:
        """Have the agent killed (kill -9) before and after each call, and look at guest, host and Cinder each time."""
        volume = self.new_volume('ceph')
        deaths = [
            dying_agent.Death(place, moment, call, str(self.directory / f'{number}-{moment}'))
            for number, (place, call) in enumerate(places)
            for moment in (dying_agent.BEFORE, dying_agent.AFTER)
        ]
        self.start_agent(self.with_cinder())
        guest = self.booted_guest()
        self.agent.stop()
        self.start_dying(deaths[0])
        for death, following in itertools.zip_longest(deaths, deaths[1:]):
            if action == 'detach_volume':
                self.done('attach_volume', guest.uuid, volume_id=volume)
            death.arm()
            # A cast: the agent may die before it could answer a call.
            ctxt = RequestContext()
            getattr(self.api, action)(ctxt, guest.uuid, volume)
            operation = str(ctxt.operation_id)
            self.agent.wait_end(harness.SOON)
            self.assertTrue(death.came_true(), str(death))
            # The next agent dies at the next place, once that is armed.
            self.start_dying(following)
            found = self.wait_operation(operation, timeout=120)
            self.assertEqual(('succeeded', None), (found['state'], found['error']), str(death))
            if action == 'attach_volume':
                self.assert_attached(guest, volume)
                self.done('detach_volume', guest.uuid, volume_id=volume)
            self.assert_nothing_left(guest, volume)

    def start_dying(self, death: dying_agent.Death | None) -> None:
        self.agent.module = dying_agent.__name__
        self.agent.environment = {} if death is None else death.environment()
        self.agent.start()


class DyingAttachTest(DyingCase):
    def test_at_each_step(self) -> None:
        self.die_everywhere('attach_volume', ATTACH)


class DyingDetachTest(DyingCase):
    def test_at_each_step(self) -> None:
        self.die_everywhere('detach_volume', DETACH)


class PortTest(base.HostTestCase):
    switched = True

    def assert_nothing_left(self, port: str) -> None:
        self.assertEqual(('unbound', '', ''), self.binding(port))
        self.assertEqual([], self.switch.ports(base.BRIDGE))
        self.assertEqual([], self.api.list_connections(RequestContext()))

    def test_a_port(self) -> None:
        port = self.new_port()
        self.start_agent(self.service_options('neutron'))
        guest = self.booted_guest()
        mac = self.port(port)['mac_address']
        self.done('attach_interface', guest.uuid, port_id=port)
        guest.wait_sees(lambda seen: seen.nics_with(mac), what='the port')
        self.assertEqual(('ovs', self.host_name, guest.uuid), self.binding(port))
        (plugged,) = self.switch.ports(base.BRIDGE)
        self.assertEqual((port, mac, None), (plugged.iface_id, plugged.mac, plugged.error))
        self.restart_agent()
        self.done('detach_interface', guest.uuid, port_id=port)
        guest.wait_sees(lambda seen: not seen.nics, what='no port')
        self.assert_nothing_left(port)

    def test_the_commands_of_the_page(self) -> None:
        port = self.new_port()
        self.start_agent(self.service_options('neutron'))
        guest = self.booted_guest()
        attach, listed, detach = run_page(self, 'interface', {'GUEST': guest.uuid, 'PORT_ID': port})
        self.assertIn('succeeded', attach)
        self.assertRegex(listed, rf'{port} *\| *given')
        self.assertIn('succeeded', detach)
        self.assert_nothing_left(port)

    def test_a_port_that_neutron_cannot_bind(self) -> None:
        port = self.new_port()
        options = self.service_options('neutron')
        options['neutron']['host'] = 'nowhere'
        self.start_agent(options)
        operation = self.ended('attach_interface', self.booted_guest().uuid, port_id=port)
        self.assertEqual('CloudRefused', operation['error_class'], operation['error'])
        self.assertIn('openstack network agent list', operation['error'])
        self.assert_nothing_left(port)
