# SPDX-License-Identifier: Apache-2.0
"""A whole Nova in one process, as Nova's own functional tests bring it up, but on a real libvirtd.

Runs in an environment with Nova, and never imports the agent; :mod:`sandbox.nova` starts it. API, scheduler, conductor
and compute are Nova's, unmodified, and so are the LibvirtDriver, its volume driver, the tap of a port and the guest.
Nova's fixtures stand in for what is not Nova's: the message broker, Glance, Cinder, Neutron and Keystone.

A request is a line of JSON on standard input, ``[method, arguments]``, for a method of :class:`Requests`. The answer is
a line on standard output: ``["done", value]``, or ``["failed", traceback]``.
"""

import io
import json
import logging
import os
import pathlib
import sys
import time
import traceback
import uuid
from typing import Any

import fixtures
import libvirt

# NOTE: before the rest of Nova: it chooses native threads, as nova-compute does, and registers Nova's objects.
import nova.tests.unit  # noqa: F401
import os_brick
from nova import conf
from nova import context
from nova import objects
from nova.compute import manager as compute_manager
from nova.compute import task_states
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import integrated_helpers
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt.volume import gpfs
from os_brick import privileged as os_brick_privileged

#: What keeps Nova's tests off the host that they run on; here the host is what it is all about.
_KEEPS_OFF = (
    'PoisonFunctions',  # no thread for the events of libvirt
    'GenericPoisonFixture',  # no os.uname, no psutil
    'SysFsPoisonFixture',  # no /sys
    'PrivsepNoHelperFixture',  # no privileged calls; PrivsepFixture makes them in this process, which is root
    'WarningsFixture',  # a deprecation in a library newer than Nova is an error
)
_BOOT_ARGUMENTS = 'console=ttyS0 quiet loglevel=1 panic=1 random.trust_cpu=on mitigations=off'
_MIB = 1024 * 1024


class Cloud(integrated_helpers._IntegratedTestBase):  # type: ignore[misc]
    """The services, until the process ends.

    :param directory: for the guests of Nova, and its log
    :param uri: the libvirtd
    """

    ADMIN_API = True
    CAST_AS_CALL = False  # the API answers before the work is done, as in production
    microversion = '2.88'

    def __init__(self, directory: pathlib.Path, uri: str) -> None:
        super().__init__('runTest')
        self._directory = directory
        self._uri = uri

    def runTest(self) -> None:  # noqa: N802 - unittest's
        """Nothing: only setUp is wanted."""

    def _setup_services(self) -> None:
        # this process is root, and needs no helper for its privileged calls
        self.useFixture(nova_fixtures.PrivsepFixture())
        os_brick_privileged.default.set_client_mode(False)
        os_brick.setup(conf.CONF)
        instances = self._directory / 'instances'
        instances.mkdir()
        self.flags(
            compute_driver='libvirt.LibvirtDriver',
            instances_path=str(instances),
            # what nova-compute does by itself, too: power states, usage, the cache of the ports
            periodic_enable=True,
        )
        # But not its audit of the host, whose interval Nova reads at the import. The audit meets Nova's own work: the
        # guest that a hard reboot has undefined for a moment, and Placement's record of the host if the memory of a
        # virtual machine has changed. Nova then logs a warning or an error, with or without an agent, once in hours.
        tasks = compute_manager.ComputeManager._periodic_tasks
        tasks[:] = [task for task in tasks if task[0] != 'update_available_resource']
        self.flags(
            connection_uri=self._uri,
            virt_type='qemu',
            cpu_mode='none',
            hw_machine_type=['x86_64=q35'],
            num_pcie_ports=16,
            images_type='raw',
            # hosts on one machine have sockets instead of addresses, and no network in common
            live_migration_uri='qemu+unix:///system?socket=%s',
            live_migration_tunnelled=True,
            group='libvirt',
        )
        self.flags(enabled=False, group='vnc')
        # where the wheel puts it; the fixture looks for a source tree
        self.flags(api_paste_config=f'{sys.prefix}/etc/nova/api-paste.ini', group='wsgi')
        super()._setup_services()


class Records(logging.Handler):
    """What Nova logged as a warning or worse, and what the fixture of Cinder was asked for."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.troubles: list[dict[str, str]] = []
        self.cinder: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == 'nova.tests.fixtures.cinder' or record.name == __name__:
            self.cinder.append(record.getMessage())
        elif record.levelno >= logging.WARNING or record.exc_info:
            self.troubles.append(
                {
                    'where': record.name,
                    'level': record.levelname,
                    # the same for each volume and guest
                    'template': str(record.msg)[:200],
                    'text': record.getMessage(),
                    'exception': '' if not record.exc_info else str(record.exc_info[1]),
                }
            )


class Requests:
    """What can be asked of Nova.

    :param kernel: boots the guests, with this initramfs
    """

    def __init__(self, cloud: Cloud, records: Records, directory: pathlib.Path, kernel: str, initramfs: str) -> None:
        self._cloud = cloud
        self._api = cloud.admin_api
        self._records = records
        self._directory = directory
        self._seen: set[str] = set()  # ids of requests whose action is known
        self._kernel = self._new_image('aki', pathlib.Path(kernel).read_bytes())
        self._initramfs = self._new_image('ari', pathlib.Path(initramfs).read_bytes())
        self._flavor = cloud._create_flavor(memory_mb=128, vcpu=1, disk=1, ephemeral=0)

    def _new_image(self, kind: str, data: bytes, **properties: str) -> str:
        container = 'bare' if kind == 'raw' else kind
        image = {'name': kind, 'disk_format': kind, 'container_format': container, 'size': len(data), 'min_ram': 0}
        made = self._cloud.glance.create(None, {**image, 'min_disk': 0, 'properties': properties}, io.BytesIO(data))
        return str(made['id'])

    def boot(self, arguments: str = '') -> dict[str, str]:
        """Boot a guest without network, and return its id and its console's file.

        :param arguments: more arguments for its kernel
        """
        line = f'{_BOOT_ARGUMENTS} {arguments}'.strip()
        image = self._new_image(
            'raw', bytes(_MIB), kernel_id=self._kernel, ramdisk_id=self._initramfs, os_command_line=line
        )
        body = self._cloud._build_server(image_uuid=image, flavor_id=self._flavor, networks='none')
        server = self._api.post_server({'server': body})
        self._cloud._wait_for_server_parameter(server, {'status': 'ACTIVE'}, max_retries=240)
        self._seen.update(action['request_id'] for action in self._actions(server['id']))
        console = self._directory / 'instances' / server['id'] / 'console.log'
        return {'id': server['id'], 'console': str(console)}

    def delete(self, server: str) -> None:
        """Delete a guest."""
        self._api.delete_server(server)
        deadline = time.monotonic() + 120
        while any(found['id'] == server for found in self._api.get_servers()):
            if time.monotonic() > deadline:
                raise TimeoutError(f'{server} is not deleted after 120 s')
            time.sleep(0.2)

    def new_volume(self) -> dict[str, str]:
        """Make a volume, and return its id and its file."""
        volume = str(self._cloud.cinder.fake_vol_create(None, 1, 'data', None)['id'])
        path = self._directory / f'disk-{len(self._cloud.cinder.volumes)}-{volume[:4]}'
        with path.open('wb') as file:
            file.truncate(_MIB)
        # NOTE: of the kinds that Nova has, the one that needs nothing to be connected before QEMU can open it.
        self._cloud.cinder.VOLUME_CONNECTION_INFO[volume] = {
            'driver_volume_type': 'gpfs',
            'data': {'device_path': str(path)},
        }
        return {'id': volume, 'path': str(path)}

    def new_port(self) -> dict[str, str]:
        """Make a port, and return its id and MAC address."""
        neutron = self._cloud.neutron
        port = neutron.create_port({'port': {}})['port']
        mac = 'fa:16:3e:' + ':'.join(uuid.uuid4().hex[at : at + 2] for at in (0, 2, 4))
        # NOTE: the kind whose device Nova makes by itself: a tap, named as those of Open vSwitch.
        neutron._ports[port['id']].update({'binding:vif_type': 'tap', 'binding:vif_details': {}, 'mac_address': mac})
        return {'id': port['id'], 'mac': mac}

    def attach_volume(self, server: str, volume: str) -> dict[str, Any]:
        """Attach a volume, and return how it went, as :meth:`_finish`."""
        return self._finish(
            server,
            'attach_volume',
            lambda: self._api.post_server_volume(server, {'volumeAttachment': {'volumeId': volume}}),
        )

    def detach_volume(self, server: str, volume: str) -> dict[str, Any]:
        """Detach a volume, and return how it went, as :meth:`_finish`."""
        return self._finish(server, 'detach_volume', lambda: self._api.delete_server_volume(server, volume))

    def attach_port(self, server: str, port: str) -> dict[str, Any]:
        """Attach a port, and return how it went, as :meth:`_finish`."""
        body = {'interfaceAttachment': {'port_id': port}}
        return self._finish(server, 'attach_interface', lambda: self._api.attach_interface(server, body))

    def detach_port(self, server: str, port: str) -> dict[str, Any]:
        """Detach a port, and return how it went, as :meth:`_finish`."""
        return self._finish(server, 'detach_interface', lambda: self._api.detach_interface(server, port))

    def hard_reboot(self, server: str) -> dict[str, Any]:
        """Reboot a guest the hard way, and return how it went, as :meth:`_finish`."""
        body = {'reboot': {'type': 'HARD'}}
        return self._finish(server, 'reboot', lambda: self._api.post_server_action(server, body))

    def set_option(self, group: str, name: str, value: Any) -> None:
        """Change an option of nova.conf."""
        conf.CONF.set_override(name, value, group)

    def look(self, server: str) -> dict[str, Any]:
        """Return what Nova, Cinder and Neutron have on record about a guest."""
        found = self._api.get_server(server)
        cell = self._cloud.cell_mappings['cell1']
        with context.target_cell(context.get_admin_context(), cell) as ctxt:
            mappings = self._mappings(ctxt, server)
            instance = objects.Instance.get_by_uuid(ctxt, server, expected_attrs=['info_cache'])
            cached = [vif['id'] for vif in instance.info_cache.network_info]
        cinder = self._cloud.cinder
        attachments = {
            volume: [held['id'] for held in holds.values() if held['instance_uuid'] == server]
            for volume, holds in cinder.volume_to_attachment.items()
        }
        return {
            'status': found['status'],
            'task_state': found['OS-EXT-STS:task_state'],
            'fault': found.get('fault'),
            'mappings': {it.volume_id: it.attachment_id for it in mappings},
            'attachments': {volume: ids for volume, ids in attachments.items() if ids},
            'volumes': {volume: cinder.fake_get(None, volume)['status'] for volume in cinder.volumes},
            'cached_ports': cached,
            'bound_ports': [port for port, it in self._cloud.neutron._ports.items() if it.get('device_id') == server],
        }

    def live_migrate(self, server: str, source: str, socket: str) -> None:
        """Move a guest from one libvirtd to another, as the driver of the nova-compute at the source does it.

        There is one nova-compute only: what another one and the conductor do before and after is left out.

        :param source: the URI of the libvirtd that has the guest
        :param socket: the socket of the other libvirtd
        """
        driver = self._cloud.compute.manager.driver
        # Both are on one machine, and have the same files, which libvirt cannot know.
        driver._live_migration_flags |= libvirt.VIR_MIGRATE_UNSAFE
        guest = libvirt_guest.Guest(libvirt.open(source).lookupByUUIDString(server))
        cell = self._cloud.cell_mappings['cell1']
        with context.target_cell(context.get_admin_context(), cell) as ctxt:
            instance = objects.Instance.get_by_uuid(ctxt, server, expected_attrs=['info_cache', 'flavor', 'resources'])
            # nova-compute looks after a guest that has gone, unless Nova moves it
            instance.task_state = task_states.MIGRATING
            instance.save()
            data = objects.LibvirtLiveMigrateData(
                block_migration=False,
                serial_listen_addr=None,
                serial_listen_ports=[],
                graphics_listen_addr_vnc=None,
                graphics_listen_addr_spice=None,
                supported_perf_events=[],
                dst_wants_file_backed_memory=False,
                target_connect_addr=socket,
                bdms=[_moving(instance, mapping) for mapping in self._mappings(ctxt, server)],
                vifs=objects.VIFMigrateData.create_skeleton_migrate_vifs(instance.get_network_info()),
            )
            for vif in data.vifs:
                # as Neutron binds the port to the other host
                vif.vif_type, vif.vif_details = vif.source_vif['type'], vif.source_vif['details'] or {}
                vif.vnic_type, vif.profile, vif.host = vif.source_vif['vnic_type'], {}, 'there'
            driver._live_migration_operation(ctxt, instance, socket, False, data, guest, [])
            if guest.uuid in driver.list_instance_uuids():
                instance.task_state = None
                instance.save()

    @staticmethod
    def _mappings(ctxt: Any, server: str) -> list[Any]:
        found = objects.BlockDeviceMappingList.get_by_instance_uuid(ctxt, server)
        return [mapping for mapping in found if mapping.is_volume]

    def taken(self) -> dict[str, list[Any]]:
        """Return what was logged since the last time: warnings and worse, and what Cinder was asked for."""
        taken: dict[str, list[Any]] = {'troubles': self._records.troubles, 'cinder': self._records.cinder}
        self._records.troubles, self._records.cinder = [], []
        return taken

    def _actions(self, server: str) -> list[dict[str, Any]]:
        return list(self._api.api_get(f'/servers/{server}/os-instance-actions').body['instanceActions'])

    def _finish(self, server: str, name: str, ask: Any) -> dict[str, Any]:
        """Send a request, wait until Nova has finished the action, and return how that went.

        ``openstack server event show`` tells the same.
        """
        begin = time.monotonic()
        ask()
        while time.monotonic() < begin + 300:
            (newest, *_) = self._actions(server)
            if newest['action'] == name and newest['request_id'] not in self._seen:
                events = self._events(server, newest['request_id'])
                if events and all(event['result'] for event in events):
                    self._seen.add(newest['request_id'])
                    return {
                        'results': {event['event']: event['result'] for event in events},
                        'traceback': '\n'.join(event['traceback'] or '' for event in events).strip(),
                        'seconds': time.monotonic() - begin,
                    }
            time.sleep(0.1)
        raise TimeoutError(f'{name} of {server} is not finished after 300 s')

    def _events(self, server: str, request: str) -> list[dict[str, Any]]:
        path = f'/servers/{server}/os-instance-actions/{request}'
        return list(self._api.api_get(path).body['instanceAction']['events'])


def _moving(instance: Any, mapping: Any) -> Any:
    """Make what nova-compute at the destination says of a volume."""
    place = blockinfo.get_info_from_bdm(instance, conf.CONF.libvirt.virt_type, instance.image_meta, mapping)
    moving = objects.LibvirtLiveMigrateBDMInfo(
        serial=mapping.volume_id,
        bus=place['bus'],
        dev=place['dev'],
        type=place['type'],
        format=place.get('format'),
        boot_index=place.get('boot_index'),
    )
    moving.connection_info = json.loads(mapping.connection_info)
    return moving


def _record_disconnects() -> None:
    """Have Nova's volume driver log when Nova disconnects a volume: this driver has nothing to do then."""
    driver = gpfs.LibvirtGPFSVolumeDriver
    disconnect = driver.disconnect_volume
    log = logging.getLogger(__name__)

    def logged(self: Any, connection_info: dict[str, Any], *more: Any, **options: Any) -> Any:
        log.info('Disconnected volume %s', connection_info['data']['volume_id'])
        return disconnect(self, connection_info, *more, **options)

    driver.disconnect_volume = logged


def main() -> None:
    """Bring Nova up, and answer requests until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    directory, uri, kernel, initramfs = pathlib.Path(sys.argv[1]), *sys.argv[2:]
    for name in _KEEPS_OFF:
        setattr(nova_fixtures, name, fixtures.Fixture)
    # it would keep the libvirt module out
    nova_fixtures.ImportModulePoisonFixture = lambda _names: fixtures.Fixture()
    _record_disconnects()
    cloud = Cloud(directory, uri)
    try:
        cloud.setUp()
    except BaseException:  # noqa: BLE001 - reported, whatever it is
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # threads of the services that have started would keep the process
    records = Records()
    # NOTE: after setUp, whose fixture for logs removes all other handlers.
    file = logging.FileHandler(directory / 'nova.log')
    file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(name)s %(message)s'))
    for handler in (file, records):
        logging.getLogger().addHandler(handler)
    for name in ('oslo_concurrency.lockutils', 'nova.tests.functional.api.client'):
        logging.getLogger(name).setLevel(logging.INFO)  # half of all lines
    requests = Requests(cloud, records, directory, kernel, initramfs)

    def answer(*words: Any) -> None:
        answers.write(json.dumps(words) + '\n')
        answers.flush()

    answer('done', None)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            value = getattr(requests, name)(**arguments)
        except Exception:  # noqa: BLE001 - the answer
            answer('failed', traceback.format_exc())
        else:
            answer('done', value)
    os._exit(0)  # as above; nothing is kept


if __name__ == '__main__':
    main()
