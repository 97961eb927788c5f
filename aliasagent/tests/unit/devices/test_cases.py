# SPDX-License-Identifier: Apache-2.0
"""Requests of people whose guests and clouds are not like ours: taken by the contract, and what becomes of them."""

from typing import Any

from aliasagent import exception
from aliasagent.compute import contract
from aliasagent.devices.disk import Disk
from aliasagent.devices.interface import Interface
from aliasagent.requests import sources
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume
from aliasagent.tests import base
from aliasagent.tests import cases
from aliasagent.tests.unit.devices import golden


def disk(info: dict[str, Any], *, bus: str = 'virtio', device_id: str = golden.VOLUME) -> Disk:
    """The disk of a connection, as an agent has it that got it in a message."""
    arguments = {'instance_uuid': golden.DEVICE, 'volume_id': device_id, 'connection_info': info, 'disk_bus': bus}
    contract.validate('attach_volume', arguments)
    target = {'virtio': 'vda'}.get(bus, 'sda')
    return AttachVolume.from_dict(arguments).disk(target=target, bus=bus)


def interface(port: dict[str, Any]) -> Interface:
    """The interface of a port, likewise."""
    arguments = {'instance_uuid': golden.DEVICE, 'port': port}
    contract.validate('attach_interface', arguments)
    made = AttachInterface.from_dict(arguments).device()
    assert isinstance(made, Interface)
    return made


class CasesTestCase(base.TestCase):
    def refused(self, field: str, words: str, make: Any, request: dict[str, Any], **more: Any) -> None:
        error = self.assertRaises(exception.InvalidInput, make, request, **more)
        self.assertEqual(field, error.kwargs['field'])
        self.assertIn(words, str(error))
        self.assertNotIn('schema', str(error))

    def test_whatever_has_a_device_path_is_a_block_device(self) -> None:
        for name in ('B12-nvmeof', 'B12-scaleio'):
            info = cases.read(name)
            made = disk(info)
            self.assertEqual(('block', info['data']['device_path']), (made.type, made.source))
            self.assertEqual(info['data']['device_path'], sources.of(info).local_path)
        for kind in ('rbd', 'nbd', 'iscsi', 'lightos', 'a-driver-of-next-year'):
            made = disk({'driver_volume_type': kind, 'data': {'device_path': '/dev/x0'}})
            self.assertEqual(('block', '/dev/x0'), (made.type, made.source), kind)

    def test_of_a_file_system_the_path_is_a_files(self) -> None:
        for kind in ('nfs', 'smbfs', 'quobyte', 'vzstorage', 'gpfs'):
            info = {
                'driver_volume_type': kind,
                'data': {'device_path': '/mnt/v', 'format': 'qcow2'},
                'mount_point_base': '/mnt',
            }
            made = disk(info)
            self.assertEqual(('file', '/mnt/v', 'qcow2'), (made.type, made.source, made.driver_type), kind)

    def test_what_no_host_is_connected_to_is_missing_its_path(self) -> None:
        info = cases.read('B12-nvmeof')
        del info['data']['device_path']
        self.refused('connection_info.data.device_path', 'is missing', disk, info)

    def test_queues(self) -> None:
        info = cases.read('B16-queues')
        self.assertEqual((4, 1), (disk(info).queues, disk(info).iothread))
        del info['disk']['iothread']
        self.refused('connection_info.disk.queues', 'needs bus virtio, not scsi', disk, info, bus='scsi')
        info['disk']['queues'] = 1025
        self.refused('connection_info.disk.queues', '1025 is above 1024', disk, info)

    def test_a_link_that_is_down(self) -> None:
        port = cases.read('B58-link-down')
        self.assertEqual('down', interface(port).link_state)
        self.assertIn('<link state="down"/>', interface(port).to_xml())
        self.refused(
            'port.link_state',
            'libvirt cannot set the link state',
            interface,
            {**cases.read('B61-sriov-bound-to-vfio-already'), 'link_state': 'down'},
        )
        self.refused('port.link_state', 'is not one of up, down', interface, {**port, 'link_state': 'sideways'})

    def test_a_function_that_vfio_has_already(self) -> None:
        port = cases.read('B61-sriov-bound-to-vfio-already')
        self.assertIs(False, interface(port).managed)
        del port['managed']
        self.assertIs(True, interface(port).managed)

    def test_a_trunk(self) -> None:
        port = cases.read('B65-trunk')
        self.assertEqual((True, (10, 20)), (interface(port).vlan_trunk, interface(port).vlan_tags))
        sriov = {**cases.read('B61-sriov-bound-to-vfio-already'), 'vlan': [10, 20]}
        self.refused('port.vlan', 'hw_veb has one VLAN', interface, sriov)
        self.refused('port.vlan.1', '5000 is above 4094', interface, {**port, 'vlan': [10, 5000]})
        self.refused('port.vlan', 'has a member twice', interface, {**port, 'vlan': [10, 10]})
        self.refused('port.vlan', 'has less than 1 members', interface, {**port, 'vlan': []})
        self.refused('port.vlan', 'is above 4095', interface, {**port, 'vlan': 5000})

    def test_ids_that_are_no_uuids(self) -> None:
        ids = {'pvc-0a8f7a7e-2d5d-4f7b-8b7e-5f2d7f1b2c11', 'rootdisk', 'default'}
        self.assertEqual([], [name for name in ids if f'ua-{name}' not in cases.text('x03-kubevirt-names.xml')])
        for name in (*ids, 'A_1'):
            made = disk(cases.read('B12-scaleio'), device_id=name)
            self.assertEqual((f'ua-{name}', name), (made.alias, made.serial))
            self.assertEqual(f'ua-{name}', interface({**cases.read('B58-link-down'), 'id': name}).alias)
            for method, field in (('detach_volume', 'volume_id'), ('detach_interface', 'port_id')):
                contract.validate(method, {'instance_uuid': golden.DEVICE, field: name})

    def test_a_switch_knows_a_port_by_a_uuid_only(self) -> None:
        port = {**cases.read('B04-port-ovs-without-vlan'), 'id': 'default'}
        self.refused('port.ovs_interfaceid', 'accepts only a UUID', interface, port)
        made = interface({**port, 'ovs_interfaceid': golden.PORT})
        self.assertEqual(('ua-default', golden.PORT), (made.alias, made.interfaceid))
