# SPDX-License-Identifier: Apache-2.0
"""The contract of the whole agent: from a message to a guest's devices, and what becomes of a bad message."""

import time
from typing import Any

import oslo_messaging

from aliasagent import exception
from aliasagent.client import ComputeAPI
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.virt.guest import Side


class AgentCase(harness.DriverCase):
    """An agent that is reached over a transport. The driver of this process only looks."""

    transport: Any
    host_name: str

    def start_agent(self, host: str) -> None:
        """Start one more agent, under this name."""
        raise NotImplementedError

    def api(self, host: str | None = None) -> ComputeAPI:
        return ComputeAPI(self.transport, host or self.host_name, timeout=10)

    def done(self, method: str, *args: Any, host: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Cast by a client's method, and wait for the outcome."""
        ctxt, api = RequestContext(), self.api(host)
        getattr(api, method)(ctxt, *args, **kwargs)
        return self.wait(api, ctxt.operation_id)

    def wait(self, api: ComputeAPI, operation_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + harness.SOON
        while time.monotonic() < deadline:
            try:
                operation = api.get_operation(RequestContext(), operation_id)
            except exception.OperationNotFound:
                operation = {'state': 'not accepted'}
            if operation['state'] in ('succeeded', 'failed'):
                return operation
            time.sleep(0.02)
        raise AssertionError(f'operation {operation_id} did not end: {operation}')

    def raw_cast(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Cast what our client would not, and wait for the outcome."""
        ctxt = RequestContext()
        rpc.client(self.transport, '1.0').prepare(server=self.host_name).cast(ctxt, method, **arguments)
        return self.wait(self.api(), ctxt.operation_id)

    def assert_succeeded(self, operation: dict[str, Any]) -> None:
        self.assertEqual(('succeeded', None), (operation['state'], operation['error']))

    def assert_failed(self, operation: dict[str, Any], error_class: str, words: str) -> None:
        self.assertEqual(('failed', error_class), (operation['state'], operation['error_class']))
        self.assertIn(words, operation['error'])


class AgentContract(AgentCase):
    def test_the_main_job(self) -> None:
        guest = self.hypervisor.new_guest()
        mac = harness.new_mac()
        virtio, scsi = harness.new_id(), harness.new_id()
        ports = [self.port(mac), self.port(mac)]
        for volume, bus in ((virtio, 'virtio'), (scsi, 'scsi')):
            connection = harness.file_connection(self.hypervisor.new_file())
            self.assert_succeeded(self.done('attach_volume', guest, volume, connection, disk_bus=bus))
        for port in ports:
            self.assert_succeeded(self.done('attach_interface', guest, port))
        first, second = (port['id'] for port in ports)
        self.assert_on_both(guest, virtio, scsi, first, second)
        shown = [device for device in self.api().list_devices(RequestContext(), guest) if device['id'] is not None]
        self.assertEqual({virtio, scsi, first, second}, {device['id'] for device in shown})
        for device in shown:
            self.assertEqual({'id', 'kind', 'alias', 'target', 'live', 'persistent'}, set(device))
            self.assertEqual(f'ua-{device["id"]}', device['alias'])
            self.assertEqual((True, True), (device['live'], device['persistent']))
        self.assert_succeeded(self.done('detach_volume', guest, virtio))
        self.assert_succeeded(self.done('detach_interface', guest, second))
        self.assert_on_both(guest, scsi, first)
        self.assert_succeeded(self.done('detach', guest, first))
        self.assert_succeeded(self.done('detach', guest, scsi))
        self.assert_on_both(guest)

    def test_the_guests_are_listed(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        shown = {instance['uuid']: instance for instance in self.api().list_instances(RequestContext())}
        self.assertEqual(('shut off', True), (shown[guest]['state'], shown[guest]['persistent']))

    def test_an_id_in_capitals_is_the_same_volume(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        connection = harness.file_connection(self.hypervisor.new_file())
        self.assert_succeeded(self.done('attach_volume', guest.upper(), volume.upper(), connection, disk_bus='scsi'))
        self.assert_on_both(guest, volume)
        self.assert_succeeded(self.done('detach_volume', guest, volume))

    def test_ids_that_are_no_uuids_come_and_go_by_their_own_verbs(self) -> None:
        guest, port = self.hypervisor.new_guest(), {**self.port(), 'id': 'nic_0'}
        connection = harness.file_connection(self.hypervisor.new_file())
        self.assert_succeeded(self.done('attach_volume', guest, 'rootdisk', connection, disk_bus='scsi'))
        self.assert_succeeded(self.done('attach_interface', guest, port))
        self.assert_on_both(guest, 'rootdisk', 'nic_0')
        self.assert_succeeded(self.done('detach_volume', guest, 'rootdisk'))
        self.assert_succeeded(self.done('detach_interface', guest, 'nic_0'))
        self.assert_on_both(guest)

    def test_a_request_that_is_delivered_again_is_done_and_another_one_is_not(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        connection = harness.file_connection(self.hypervisor.new_file(), access_mode='ro')
        for _ in range(2):
            self.assert_succeeded(self.done('attach_volume', guest, volume, connection, disk_bus='scsi'))
            before = self.xml(guest)
        other = {**connection, 'data': {**connection['data'], 'access_mode': 'rw'}}
        operation = self.done('attach_volume', guest, volume, other, disk_bus='scsi')
        self.assert_failed(operation, 'DeviceConflict', 'access_mode ro, the request asks for rw')
        self.assert_untouched(guest, before)

    def test_bad_input_names_the_field_and_changes_nothing(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        volume, file = harness.new_id(), harness.file_connection(self.hypervisor.new_file())
        good = {'instance_uuid': guest, 'volume_id': volume, 'connection_info': file, 'disk_bus': 'scsi'}
        port = self.port()
        no_mac = {name: value for name, value in port.items() if name != 'address'}
        before = self.xml(guest)
        for method, arguments, field in (
            ('attach_volume', {**good, 'instance_uuid': 'guest-1'}, 'instance_uuid'),
            ('attach_volume', {**good, 'instance_uuid': f'{guest}\n'}, 'instance_uuid'),
            ('attach_volume', {**good, 'volume_id': 'not an id'}, 'volume_id'),
            ('attach_volume', {**good, 'volume_id': None}, 'volume_id'),
            ('attach_volume', {**good, 'volume_id': 7}, 'volume_id'),
            ('attach_volume', {'instance_uuid': guest, 'volume_id': volume}, 'connection_info'),
            ('attach_volume', {**good, 'connection_info': {'data': {}}}, 'connection_info.driver_volume_type'),
            ('attach_volume', {**good, 'connection_info': {'driver_volume_type': 'floppy', 'data': {}}},
             'connection_info.data.device_path'),
            ('attach_volume', {**good, 'connection_info': {**file, 'data': {}}}, 'connection_info.data.device_path'),
            ('attach_volume', {**good, 'connection_info': harness.file_connection('relative.img')},
             'connection_info.data.device_path'),
            ('attach_volume', {**good, 'connection_info': harness.file_connection('/a/../b.img')},
             'connection_info.data.device_path'),
            ('attach_volume', {**good, 'connection_info': harness.file_connection('/no/such/file.img')},
             'connection_info.data.device_path'),
            ('attach_volume', {**good, 'disk_bus': 'ide'}, 'disk_bus'),
            ('attach_volume', {**good, 'device_type': 'tape'}, 'device_type'),
            ('attach_volume', {**good, 'device_name': '/dev/../vdb'}, 'device_name'),
            ('attach_volume', {**good, 'surprise': 1}, 'surprise'),
            ('attach_interface', {'instance_uuid': guest, 'port': no_mac}, 'port.address'),
            ('attach_interface', {'instance_uuid': guest, 'port': {**port, 'address': '52:54:00'}}, 'port.address'),
            ('attach_interface', {'instance_uuid': guest, 'port': {**port, 'address': 'ff:ff:ff:ff:ff:ff'}},
             'port.address'),
            ('attach_interface', {'instance_uuid': guest, 'port': {**port, 'vif_type': 'carrier'}}, 'port.vif_type'),
            ('attach_interface', {'instance_uuid': guest, 'port': 'eth0'}, 'port'),
            ('detach', {'instance_uuid': guest, 'device_id': '../../etc'}, 'device_id'),
            ('detach', {'instance_uuid': guest, 'device_id': 'a"><b'}, 'device_id'),
            ('detach', {'instance_uuid': guest, 'device_id': 'x' * 1_000_000}, 'device_id'),
            ('detach', {'instance_uuid': guest, 'device_id': 'None'}, 'device_id'),
            ('detach_volume', {'instance_uuid': guest}, 'volume_id'),
        ):
            operation = self.raw_cast(method, **arguments)
            self.assert_failed(operation, 'InvalidInput', f'{field}: ')
            self.assertLess(len(operation['error']), 1000)
        self.assert_untouched(guest, before)
        self.assert_succeeded(self.raw_cast('attach_volume', **good))

    def test_an_unknown_instance_is_said_to_be_unknown(self) -> None:
        for method, *arguments in (
            ('attach_volume', harness.new_id(), harness.file_connection(self.hypervisor.new_file())),
            ('attach_interface', self.port()),
            ('detach_volume', harness.new_id()),
        ):
            self.assert_failed(self.done(method, harness.new_id(), *arguments), 'InstanceNotFound', 'not on this host')
        self.assertRaises(
            exception.InstanceNotFound, self.api().list_devices, RequestContext(), harness.new_id()
        )

    def test_a_call_with_bad_input_raises_it_at_the_caller(self) -> None:
        error = self.assertRaises(exception.InvalidInput, self.api().list_devices, RequestContext(), 'nonsense')
        self.assertEqual('instance_uuid', error.kwargs['field'])

    def test_only_what_is_meant_to_be_called_can_be(self) -> None:
        client = rpc.client(self.transport, '1.0', timeout=10).prepare(server=self.host_name)
        for method in ('_accept', '__init__', 'target', 'shutdown', 'a' * 1000):
            self.assertEqual('NoSuchMethod', _refusal(client, method))
        later = rpc.client(self.transport, '9.0', timeout=10).prepare(server=self.host_name)
        self.assertEqual('UnsupportedVersion', _refusal(later, 'list_instances'))
        self.api().list_instances(RequestContext())

    def test_the_same_operation_id_is_not_done_twice(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        connection = harness.file_connection(self.hypervisor.new_file())
        ctxt, api = RequestContext(), self.api()
        for _ in range(3):
            api.attach_volume(ctxt, guest, volume, connection, disk_bus='scsi')
        self.assert_succeeded(self.wait(api, ctxt.operation_id))
        self.assert_succeeded(self.done('detach_volume', guest, volume))
        api.attach_volume(ctxt, guest, volume, connection, disk_bus='scsi')
        self.assert_succeeded(self.wait(api, ctxt.operation_id))
        self.assert_on_both(guest)
        self.assertEqual(1, api.get_operation(RequestContext(), ctxt.operation_id)['attempts'])

    def test_a_guest_from_before_aliases_has_them_after_the_start(self) -> None:
        volume, port, unknown = harness.new_id(), harness.new_id(), self.hypervisor.new_file()
        guest = self.hypervisor.new_guest(state='shut off')
        persistent = Side.PERSISTENT
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sda', serial=volume), persistent)
        self.host.guest(guest).attach(harness.disk_xml(unknown, 'sdb'), persistent)
        self.host.guest(guest).attach(
            f"<interface type='bridge'><mac address='{harness.new_mac()}'/><source bridge='br-int'/>"
            f"<virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>"
            "<model type='virtio'/></interface>",
            persistent,
        )
        before = self.persistent(guest).without_aliases()
        self.start_agent('another-host')
        self.assertEqual((set(), {volume, port}), self.ids(guest))
        self.assertEqual(before, self.persistent(guest).without_aliases())
        once = self.xml(guest)
        self.start_agent('a-third-host')
        self.assert_untouched(guest, once)

    def test_a_guest_is_reconciled_with_an_inventory(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='shut off'), harness.new_id()
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sdb'), Side.PERSISTENT)
        inventory = {'volumes': [{'id': volume, 'target': '/dev/sdb'}]}
        planned = self.api().reconcile_plan(RequestContext(), guest, inventory)
        self.assertEqual(['gets an alias'], [device['outcome'] for device in planned['devices']])
        self.assertEqual((set(), set()), self.ids(guest))
        self.assert_succeeded(self.done('reconcile_instance', guest, inventory))
        self.assertEqual((set(), {volume}), self.ids(guest))
        (seen,) = self.api().reconcile_status(RequestContext(), guest)
        self.assertEqual((1, 0, [], ''), tuple(seen[name] for name in ('aliased', 'remaining', 'pending', 'error')))
        self.assertIn(seen, self.api().reconcile_status(RequestContext()))
        bad = {'volumes': [{'id': volume, 'target': 'nowhere'}]}
        failed = self.done('reconcile_instance', guest, bad)
        self.assert_failed(failed, 'InvalidInput', 'inventory.volumes.0.target')

    def test_whether_nova_made_the_guest(self) -> None:
        for state in ('shut off', 'transient'):
            for metadata in ('', harness.NOVA):
                guest = self.hypervisor.new_guest(state=state, metadata=metadata)
                self.assert_succeeded(self.done('reconcile_instance', guest))
                (seen,) = self.api().reconcile_status(RequestContext(), guest)
                self.assertEqual(bool(metadata), seen['nova'])

    def test_a_running_guest_gets_its_aliases_on_the_operators_word(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        disk = harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume)
        self.host.guest(guest).attach(disk, Side.LIVE | Side.PERSISTENT)
        self.assert_succeeded(self.done('reconcile_instance', guest))
        (seen,) = self.api().reconcile_status(RequestContext(), guest)
        self.assertEqual([f'ua-{volume}'], seen['pending'])
        self.assertLess(0, self.api().reconcile_live_estimate(RequestContext(), guest)['seconds'])
        self.assert_succeeded(self.done('reconcile_live', guest))
        self.assert_on_both(guest, volume)
        self.assert_succeeded(self.done('detach_volume', guest, volume))
        self.assert_on_both(guest)

    def test_a_transient_guest_gets_them_as_an_inventory_tells(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='transient'), harness.new_id()
        self.host.guest(guest).attach(harness.disk_xml(self.hypervisor.new_file(), 'sdb'), Side.LIVE)
        inventory = {'volumes': [{'id': volume, 'target': '/dev/sdb'}]}
        self.assert_succeeded(self.done('reconcile_instance', guest, inventory))
        (seen,) = self.api().reconcile_status(RequestContext(), guest)
        self.assertEqual(['has no persistent config'], [device['outcome'] for device in seen['devices']])
        self.assertEqual((0, 1, [f'ua-{volume}']), tuple(seen[name] for name in ('aliased', 'remaining', 'pending')))
        bad = {'volumes': [{'id': volume, 'target': 'nowhere'}]}
        self.assert_failed(self.done('reconcile_live', guest, bad), 'InvalidInput', 'inventory.volumes.0.target')
        self.assert_succeeded(self.done('reconcile_live', guest, inventory))
        self.assertEqual(({volume}, set()), self.ids(guest))

    def test_a_migration_to_nowhere_is_refused(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        for uri in ('nonsense', 'qemu+ext://x/system?command=/bin/sh', 'qemu+tcp://h/system?command=x'):
            self.assert_failed(self.done('live_migrate', guest, uri), 'InvalidInput', 'dest_uri: ')
        self.assertIsNone(self.api().migration_progress(RequestContext(), guest))
        self.assertRaises(exception.HypervisorError, self.api().abort_migration, RequestContext(), guest)

    def test_a_guest_that_is_defined_later_has_its_aliases_soon(self) -> None:
        volume = harness.new_id()
        disk = harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume)
        guest = self.hypervisor.new_guest(disk, state='shut off')
        deadline = time.monotonic() + harness.SOON
        while self.ids(guest)[1] != {volume}:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_two_agents_on_one_broker_serve_their_own(self) -> None:
        self.start_agent('second')
        guest, other = self.hypervisor.new_guest(state='started'), harness.new_id()
        volume = harness.new_id()
        connection = harness.file_connection(self.hypervisor.new_file())
        operation = self.done('attach_volume', guest, volume, connection, disk_bus='scsi', host='second')
        self.assert_succeeded(operation)
        self.assertRaises(
            exception.OperationNotFound, self.api().get_operation, RequestContext(), operation['id']
        )
        self.assert_failed(self.done('detach', guest, other), 'DeviceNotFound', other)
        self.assert_succeeded(self.done('detach', guest, volume))


def _refusal(client: Any, method: str) -> str | None:
    """The class of the error that a call ends with; None if it does not."""
    try:
        client.call(RequestContext(), method)
    except oslo_messaging.RemoteError as error:
        return str(error.exc_type)
    except oslo_messaging.RPCDispatcherError as error:  # the fake transport raises the server's own
        return type(error).__name__
    return None
