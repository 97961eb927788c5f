# SPDX-License-Identifier: Apache-2.0
"""A compute host beside the real services of a cloud: its hypervisor, its guests and its agent.

The services run for all tests, as RabbitMQ does; each class of tests has a host of its own, known to Neutron by its own
name, so that classes can run at the same time.
"""

import fcntl
import pathlib
import signal
import tempfile
import uuid
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import testtools

from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.devices.domain import Domain
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from sandbox import agent as agents
from sandbox import clouds as clouds_module
from sandbox import environment
from sandbox import guest as guests
from sandbox import libvirtd
from sandbox import materials
from sandbox import nfs
from sandbox import openvswitch
from sandbox import processes
from sandbox import rest

Json = dict[str, Any]

#: Neutron's name for it.
BRIDGE = 'br-int'
#: The states in which a volume stays when something has failed.
_BROKEN = ('error', 'error_deleting', 'error_extending', 'error_managing')


def services() -> clouds_module.Clouds:
    """The running services.

    :raises PartFailed: they do not run
    """
    directory = environment.read().clouds
    if directory is None:
        raise processes.PartFailed(
            f'{environment.CLOUDS} not set. These tests run beside a real Ceph, Keystone, Cinder and Neutron: run '
            'tools/run-tests cloud, or eval "$(python -m sandbox up --clouds --directory DIR)" first'
        )
    return clouds_module.Clouds(directory)


class CloudTestCase(testtools.TestCase):
    """The services by their REST calls, as the user demo and as the agent's user."""

    clouds: ClassVar[clouds_module.Clouds]
    #: The calls of the owner of volumes and ports, an ordinary user.
    cinder: ClassVar[rest.Client]
    neutron: ClassVar[rest.Client]
    #: The calls of the agent's user, with the roles admin and service.
    cinder_admin: ClassVar[rest.Client]
    neutron_admin: ClassVar[rest.Client]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.clouds = services()
        cls.cinder, cls.cinder_admin = (cls.clouds.cinder.client(user) for user in ('demo', 'aliasagent'))
        cls.neutron, cls.neutron_admin = (cls.clouds.neutron.client(user) for user in ('demo', 'aliasagent'))

    def setUp(self) -> None:
        super().setUp()
        self._lock = (self.clouds.directory / 'tests.lock').open('a')
        self.addCleanup(self._lock.close)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._volumes: list[str] = []
        self.addCleanup(self._delete_volumes)
        self._ports: list[tuple[str, str]] = []
        self.addCleanup(self._delete_ports)

    def alone(self) -> None:
        """Wait for the end of the other tests that use the services, and keep others waiting until the end of this one.

        For tests that kill or stop a service: call it first. After the test all services run again.
        """
        fcntl.flock(self._lock, fcntl.LOCK_UN)  # two that wait for each other would wait for ever
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.addCleanup(self._all_run)

    def _all_run(self) -> None:
        for service in (self.clouds.keystone, self.clouds.cinder, self.clouds.neutron):
            if service.pid is not None:
                service.signal(signal.SIGCONT)
        self.clouds.start()

    # Volumes

    def new_volume(self, backend: str = 'ceph', size: int = 1, **more: Any) -> str:
        """Create a volume of demo, wait until it is available, and return its id; it is deleted after the test.

        :param backend: ``ceph`` or ``nfs``
        :param size: GiB; nothing of it is stored before the guest writes
        """
        new = {'size': size, 'volume_type': backend, **more}
        volume = str(self.cinder('POST', '/volumes', {'volume': new})['volume']['id'])
        self._volumes.append(volume)
        self.wait_volume(volume, 'available')
        return volume

    def volume(self, volume: str) -> Json:
        """What Cinder shows its administrator of a volume."""
        found: Json = self.cinder_admin('GET', f'/volumes/{volume}')['volume']
        return found

    def status(self, volume: str) -> str:
        """A volume's status, such as ``available``, ``reserved``, ``attaching``, ``in-use`` or ``detaching``."""
        return str(self.volume(volume)['status'])

    def wait_volume(self, volume: str, status: str, timeout: float = harness.SOON) -> Json:
        """Wait until a volume has a status; what Cinder then shows of it."""

        def there() -> Json | None:
            found = self.volume(volume)
            if found['status'] in _BROKEN and found['status'] != status:
                raise processes.PartFailed(f'volume {volume} is {found["status"]} instead of {status}')
            return found if found['status'] == status else None

        return processes.wait_until(there, timeout, f'volume {volume} to be {status}')

    def attachments(self, volume: str) -> list[Json]:
        """The attachments of a volume, each with its connector and its connection_info, the oldest first."""
        listed = self.cinder_admin('GET', f'/attachments?all_tenants=1&volume_id={volume}')['attachments']
        whole = [self.attachment(each['id']) for each in listed]
        return sorted(whole, key=lambda each: str(each['attached_at']))

    def attachment(self, attachment: str) -> Json:
        found: Json = self.cinder_admin('GET', f'/attachments/{attachment}')['attachment']
        return found

    def new_attachment(self, volume: str, **more: Any) -> Json:
        """Create an attachment of a volume of this test as the agent's user."""
        new = {'volume_uuid': volume, **more}
        made: Json = self.cinder_admin('POST', '/attachments', {'attachment': new})['attachment']
        return made

    def delete_attachment(self, attachment: str) -> None:
        """Delete an attachment, if it is there, with a service token: otherwise Cinder would ask Nova."""
        token = {'X-Service-Token': self.cinder_admin.headers['X-Auth-Token']}
        self.cinder_admin('DELETE', f'/attachments/{attachment}', expect=(200, 404), headers=token)

    def _delete_volumes(self) -> None:
        while self._volumes:
            self._delete_volume(self._volumes.pop())

    def _delete_volume(self, volume: str) -> None:
        for each in self.attachments(volume):
            self.delete_attachment(each['id'])
        status = self.status(volume)
        if status not in ('available', 'error'):
            self.cinder_admin('POST', f'/volumes/{volume}/action', {'os-reset_status': {'status': 'available'}})
        self.cinder_admin('DELETE', f'/volumes/{volume}', expect=(202, 404))

        def gone() -> bool:
            answer = rest.call('GET', f'{self.cinder_admin.base}/volumes/{volume}', headers=self.cinder_admin.headers)
            return answer.status == 404

        processes.wait_until(gone, harness.SOON, f'volume {volume} to be deleted')

    # Ports

    def new_port(self, **more: Any) -> str:
        """Create a port of demo on a network of its own, and return its id; both are deleted after the test."""
        network = str(self.neutron('POST', '/networks', {'network': {'name': 'private'}})['network']['id'])
        subnet = {'network_id': network, 'ip_version': 4, 'cidr': '10.9.0.0/24', 'enable_dhcp': False}
        self.neutron('POST', '/subnets', {'subnet': subnet})
        port = str(self.neutron('POST', '/ports', {'port': {'network_id': network, **more}})['port']['id'])
        self._ports.append((port, network))
        return port

    def port(self, port: str) -> Json:
        """What Neutron shows its administrator of a port, ``binding:vif_type`` and so on included."""
        found: Json = self.neutron_admin('GET', f'/ports/{port}')['port']
        return found

    def binding(self, port: str) -> tuple[str, str, str]:
        """A port's vif_type, the host that it is bound to, and the guest that has it; the last two may be empty."""
        found = self.port(port)
        return found['binding:vif_type'], found['binding:host_id'], found['device_id']

    def bind(self, port: str, on: str, guest: str) -> Json:
        """Bind a port to a host as the agent's user; the port as Neutron answers it, ``binding_failed`` or not."""
        new = {'binding:host_id': on, 'device_id': guest, 'device_owner': 'compute:nova'}
        bound: Json = self.neutron_admin('PUT', f'/ports/{port}', {'port': new})['port']
        return bound

    def unbind(self, port: str) -> Json:
        new: Json = {'binding:host_id': None, 'device_id': '', 'device_owner': '', 'binding:profile': {}}
        unbound: Json = self.neutron_admin('PUT', f'/ports/{port}', {'port': new})['port']
        return unbound

    def _delete_ports(self) -> None:
        while self._ports:
            port, network = self._ports.pop()
            self.neutron_admin('DELETE', f'/ports/{port}', expect=(204, 404))
            self.neutron_admin('DELETE', f'/networks/{network}')


class HostTestCase(CloudTestCase):
    """A compute host: a libvirtd, guests and an agent.

    libvirtd and the agent are in one mount namespace, in which NFS shares can be mounted and there is no sudo.
    """

    #: Whether guests can be plugged into an Open vSwitch. They are then in a network of their own, without Ceph.
    switched: ClassVar[bool] = False
    #: Options of the agents of the class, by group.
    options: ClassVar[agents.Options] = {}

    #: The host's name, in the agent, in Cinder's connectors and in Neutron.
    host_name: ClassVar[str]
    daemon: ClassVar[libvirtd.Libvirtd]
    side: ClassVar[base.RealSide]
    switch: ClassVar[openvswitch.OpenVSwitch]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.host_name = f'compute-{uuid.uuid4().hex[:8]}'
        directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
        cls.daemon = libvirtd.Libvirtd(
            directory / 'libvirt',
            cls.host_name,
            own_network=cls.switched,
            environment=openvswitch.environment(directory / 'ovs') if cls.switched else {},
            commands=[*nfs.commands(directory), *_without('sudo')],
        )
        cls.addClassCleanup(cls.daemon.stop, destroy_guests=True)
        cls.daemon.start()
        if cls.switched:
            cls.switch = openvswitch.OpenVSwitch(directory / 'ovs', cls.daemon)
            cls.addClassCleanup(cls.switch.stop)
            cls.switch.start()
            cls.switch.make_bridge(BRIDGE)
        cls.side = base.RealSide(cls.daemon.uri)
        cls.addClassCleanup(cls.side.close)
        cls.addClassCleanup(cls.clouds.neutron.remove_agent, cls.host_name)
        cls.clouds.neutron.add_agent(cls.host_name, bridge=BRIDGE)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.side.clear)
        self.parts = environment.read()
        transport = base.open_transport(self, self.parts.rabbit_url)
        self.api = ComputeAPI(transport, self.host_name, timeout=10)
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))

    # The agent

    def start_agent(self, options: agents.Options | None = None) -> agents.Agent:
        """Start an agent with a new journal, and wait until it serves; it is stopped after the test.

        :param options: more options than those of the class, by group
        """
        merged = {group: dict(values) for group, values in self.options.items()}
        for group, values in (options or {}).items():
            merged.setdefault(group, {}).update(values)
        self.agent = agents.Agent(
            self.directory / 'agent',
            host=self.host_name,
            rabbit_url=self.parts.rabbit_url,
            libvirt_uri=self.daemon.uri,
            options=merged,
            inside=self.inside,
        )
        self.addCleanup(self.agent.kill)
        self.agent.start()
        return self.agent

    def restart_agent(self) -> None:
        """Kill the agent (kill -9), and start it again on its journal."""
        self.agent.kill()
        self.agent.start()

    def service_options(self, *groups: str, user: str = 'aliasagent') -> agents.Options:
        """Options by which the agent reaches services, such as ``neutron``, as a user of Keystone."""
        return {group: dict(self.clouds.keystone.options(user)) for group in groups}

    def inside(self, *command: Any) -> list[Any]:
        """The command line that runs a command on this host: with its mounts, and with the network of the services."""
        return self.daemon.inside(*command, network=False)

    # Requests

    def submit(self, action: str, guest: str, **arguments: Any) -> str:
        """Submit a request for a guest, and return the operation's id."""
        ctxt = RequestContext()
        self.api.submit(ctxt, action, instance_uuid=guest, **arguments)
        return str(ctxt.operation_id)

    def operation(self, operation: str) -> Json:
        found: Json = self.api.get_operation(RequestContext(), operation)
        return found

    def wait_operation(self, operation: str, *states: str, timeout: float = harness.SOON) -> Json:
        """Wait until an operation has one of these states, by default until it has ended."""
        wanted: Sequence[str] = states or ('succeeded', 'failed')

        def there() -> Json | None:
            found = self.operation(operation)
            return found if found['state'] in wanted else None

        return processes.wait_until(there, timeout, f'operation {operation} to be {" or ".join(wanted)}', interval=0.2)

    def ended(self, action: str, guest: str, **arguments: Any) -> Json:
        """Submit a request, and wait until its operation has ended, well or not."""
        return self.wait_operation(self.submit(action, guest, **arguments))

    def done(self, action: str, guest: str, **arguments: Any) -> Json:
        """Submit a request, and wait until its operation has succeeded."""
        operation = self.ended(action, guest, **arguments)
        self.assertEqual(('succeeded', None), (operation['state'], operation['error']))
        return operation

    # Guests

    def new_guest(self, *, write: bool = False) -> guests.TestGuest:
        """Boot a guest; it is destroyed after the test.

        :param write: it writes to its first virtio disk as long as it has one, and reads back what it wrote
        """
        guest = guests.TestGuest(self.side.connection, self.side.directory, self.parts.guest_image, write=write)
        self.side.made.append(guest)
        return guest.start().wait_ready(120)

    def booted_guest(self) -> guests.TestGuest:
        """A booted guest without devices, which tests of the class share as long as they leave it so."""
        uuid_of_it = self.side.new_guest()
        return next(made for made in self.side.made if made.uuid == uuid_of_it)

    def live(self, guest: guests.TestGuest) -> Domain:
        """The guest's live definition."""
        return Domain.parse(guest.domain.XMLDesc(0))

    def wait_disk(self, guest: guests.TestGuest, volume: str) -> guests.SeenDisk:
        """Wait until the guest's kernel sees a volume, by its serial."""
        seen = guest.wait_sees(lambda seen: seen.disk(volume), what=f'volume {volume}').disk(volume)
        assert seen is not None
        return seen

    def wait_no_disk(self, guest: guests.TestGuest, volume: str) -> None:
        guest.wait_sees(lambda seen: seen.disk(volume) is None, what=f'volume {volume} no more')

    def wait_written(self, guest: guests.TestGuest, more: int = 2) -> int:
        """Wait until a writing guest has read back so many more records; the number of the last.

        :raises PartFailed: it has not, with the end of its console
        :raises AssertionError: the guest could not write, or read something else
        """
        before = len(guest.events())

        def there() -> int | None:
            events = guest.events()[before:]
            self.assertEqual([], [event for event in events if event['event'] in ('write-failed', 'read-failed')])
            reads = [int(event['seq']) for event in events if event['event'] == 'read']
            return reads[-1] if len(reads) >= more else None

        try:
            return processes.wait_until(there, harness.SOON, f'{guest.name} to write and read')
        except processes.PartFailed as error:
            raise processes.PartFailed(f'{error}; the end of its console:\n{processes.tail(guest.console)}') from error

    def exported(self, volume: str) -> set[int]:
        """The numbers of the records that a volume in Ceph has, by Ceph's own client."""
        file = self.clouds.ceph.export(f'volume-{volume}', self.directory / f'{uuid.uuid4()}.img')
        self.addCleanup(file.unlink)
        return materials.records(file)


def _without(program: str) -> list[str]:
    """Shell commands that make a program fail in a mount namespace.

    The agent must not need sudo, which packages of the services bring to where the tests run.
    """
    return [f'for it in /usr/bin/{program}; do if [ -e $it ]; then mount --bind /bin/false $it; fi; done']
