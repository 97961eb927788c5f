# SPDX-License-Identifier: Apache-2.0
"""The contract of an attach of what the guest has already: the same is done, another way or under another id is not."""

import os
import pathlib
from typing import Any

from aliasagent import exception
from aliasagent.tests import cases
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.virt.guest import Side

#: What a request for a volume may say that the disk is not, and the field that the error names.
OTHER_VOLUMES: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({'data': {'access_mode': 'ro'}}, {}, 'connection_info.data.access_mode rw, the request asks for ro'),
    ({'data': {'format': 'qcow2'}}, {}, 'connection_info.data.format raw, the request asks for qcow2'),
    (
        {'data': {'encryption': {'provider': 'luks', 'secret_uuid': '6fc0a1d6-51f8-4b4a-8f7c-5d6d0b3a5e11'}}},
        {},
        'connection_info.data.encryption none, the request asks for luks, 6fc0a1d6-51f8-4b4a-8f7c-5d6d0b3a5e11',
    ),
    ({'data': {'qos_specs': {'total_iops_sec': '500'}}}, {}, 'qos_specs.total_iops_sec none, the request asks for 500'),
    ({'data': {'discard': True}}, {}, 'connection_info.data.discard none, the request asks for unmap'),
    ({'data': {'physical_block_size': 4096}}, {}, 'data.physical_block_size none, the request asks for 4096'),
    ({'multiattach': True}, {}, 'connection_info.multiattach no, the request asks for yes'),
    ({'disk': {'cache': 'writethrough'}}, {}, 'connection_info.disk.cache none, the request asks for writethrough'),
    ({'disk': {'io': 'native'}}, {}, 'connection_info.disk.io threads, the request asks for native'),
    ({'disk': {'boot_order': 3}}, {}, 'connection_info.disk.boot_order none, the request asks for 3'),
    ({}, {'disk_bus': 'virtio'}, 'disk_bus scsi, the request asks for virtio'),
    ({}, {'device_name': '/dev/sdq'}, 'device_name sda, the request asks for sdq'),
    ({}, {'device_type': 'cdrom'}, 'device_type disk, the request asks for cdrom'),
)
#: The same of a port.
OTHER_PORTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({'mtu': 1400}, 'port.mtu 1450, the request asks for 1400'),
    ({'model': 'e1000e'}, 'port.model virtio, the request asks for e1000e'),
    ({'devname': 'aa-other'}, 'port.devname aa-asked, the request asks for aa-other'),
    ({'queues': 4}, 'port.queues 1, the request asks for 4'),
    ({'link_state': 'down'}, 'port.link_state up, the request asks for down'),
    ({'bandwidth': {'inbound': {'average': 9}}}, 'port.bandwidth.inbound.average none, the request asks for 9'),
    ({'vif_type': 'ovs'}, 'port.vif_type none, the request asks for openvswitch'),
)


def _file(path: str, change: dict[str, Any]) -> dict[str, Any]:
    """A ``connection_info`` for a disk image, with something else in it."""
    info = harness.file_connection(path)
    return {**info, **change, 'data': {**info['data'], **change.get('data', {})}}


class AgainContract(harness.DriverCase):
    def conflict(self, guest: str, volume: str, info: dict[str, Any], **more: Any) -> str:
        """The words in which a volume is refused; nothing has changed."""
        before = self.xml(guest)
        arguments = {'disk_bus': 'scsi', **more}
        error = self.assertRaises(
            exception.DeviceConflict, self.driver.attach, guest, requests.volume(volume, info, **arguments)
        )
        self.assert_untouched(guest, before)
        return str(error)

    # Another way

    def test_a_disk_that_is_there_in_another_way_is_a_conflict_that_names_the_field(self) -> None:
        for state in ('started', 'shut off'):
            guest = self.hypervisor.new_guest(state=state)
            volume, path = harness.new_id(), self.hypervisor.new_file()
            self.driver.attach(guest, requests.volume(volume, harness.file_connection(path), disk_bus='scsi'))
            for change, more, words in OTHER_VOLUMES:
                self.assertIn(words, self.conflict(guest, volume, _file(path, change), **more))

    def test_a_disk_that_is_asked_for_in_the_same_way_is_there(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        path = self.hypervisor.new_file()
        change = {
            'data': {'access_mode': 'ro', 'qos_specs': {'total_iops_sec': '500', 'total_iops_sec_max': '600'}},
            'disk': {'cache': 'writeback'},
        }
        volume = harness.new_id()
        for _ in range(2):
            self.driver.attach(guest, requests.volume(volume, _file(path, change), '/dev/sdc', 'scsi'))
            before = self.xml(guest)
        # What is left out is left to what is there.
        for more in ({}, {'disk_bus': 'scsi'}, {'device_name': 'sdc'}):
            self.driver.attach(guest, requests.volume(volume, _file(path, {'data': {'access_mode': 'ro'}}), **more))
            self.assert_untouched(guest, before)

    def test_read_only_with_limits_after_read_write(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        first, then = cases.read('B06-first-read-write'), cases.read('B06-then-read-only-with-limits')
        path, volume = self.hypervisor.new_file(), harness.new_id()
        for info in (first, then):
            info['driver_volume_type'] = 'file'
            info['data']['device_path'] = path
        self.driver.attach(guest, requests.volume(volume, first, disk_bus='scsi'))
        self.assertIn('connection_info.data.access_mode', self.conflict(guest, volume, then))
        then['data']['access_mode'] = 'rw'
        self.assertIn('connection_info.data.qos_specs.total_iops_sec', self.conflict(guest, volume, then))

    def test_an_image_whose_monitors_have_changed_is_the_same(self) -> None:
        guest, volume = self.hypervisor.new_guest(state='shut off'), harness.new_id()
        self.driver.attach(guest, requests.volume(volume, cases.read('B07-rbd-before')))
        before = self.xml(guest)
        self.driver.attach(guest, requests.volume(volume, cases.read('B07-rbd-after')))
        self.assert_untouched(guest, before)
        self.assertIn('source', self.conflict(guest, harness.new_id(), cases.read('B07-rbd-after')))

    def test_an_interface_that_is_there_in_another_way_is_a_conflict_that_names_the_field(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        port = self.port(mtu=1450, devname='aa-asked')
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        for change, words in OTHER_PORTS:
            error = self.assertRaises(
                exception.DeviceConflict, self.driver.attach, guest, requests.interface({**port, **change})
            )
            self.assertIn(words, str(error))
            self.assert_untouched(guest, before)
        least = {name: port[name] for name in ('id', 'address', 'vif_type', 'bridge')}
        self.driver.attach(guest, requests.interface(least))
        self.assert_untouched(guest, before)

    def test_an_interface_that_is_asked_for_in_the_same_way_is_there(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        name = f'aa{harness.new_id()[:11]}'
        port = self.port(mtu=1450, devname=name, model='e1000e', link_state='down')
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)

    def test_a_port_of_another_vlan_is_a_conflict(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        port = self.port(vif_type='ovs', bridge='br-int', vlan=7)
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        for vlan, words in (
            (8, 'port.vlan 7, the request asks for 8'),
            ([7, 8], '7, the request asks for 7, 8'),
            (0, 'asks for none'),
        ):
            error = self.assertRaises(
                exception.DeviceConflict, self.driver.attach, guest, requests.interface({**port, 'vlan': vlan})
            )
            self.assertIn(words, str(error))
        del port['vlan']
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)

    def test_a_host_device_that_is_there_in_another_way_is_a_conflict(self) -> None:
        guest, device = self.hypervisor.new_guest(state='shut off'), harness.new_id()
        request = {'type': 'pci', 'address': '0000:06:12.6'}
        self.driver.attach(guest, requests.hostdev(device, request))
        self.driver.attach(guest, requests.hostdev(device, {**request, 'managed': True}))
        unmanaged = requests.hostdev(device, {**request, 'managed': False})
        error = self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, unmanaged)
        self.assertIn('hostdev.managed yes, the request asks for no', str(error))

    def test_a_raw_disk_that_is_left_on_one_side_does_not_come_to_the_other_as_qcow2(self) -> None:
        for side in (Side.LIVE, Side.PERSISTENT):
            guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
            path = self.hypervisor.new_file()
            xml = harness.disk_xml(path, 'sdc', serial=volume, alias=f'ua-{volume}')
            self.host.guest(guest).attach(xml, side)
            words = self.conflict(guest, volume, _file(path, {'data': {'format': 'qcow2'}}))
            self.assertIn('connection_info.data.format raw, the request asks for qcow2', words)

    # Under another id

    def test_a_source_is_not_in_a_guest_twice(self) -> None:
        first, second = cases.read('B31-one-file-two-ids')
        for state in ('started', 'shut off', 'transient'):
            guest, path = self.hypervisor.new_guest(state=state), pathlib.Path(self.hypervisor.new_file())
            link, hard_link = path.with_suffix('.link'), path.with_suffix('.hard')
            link.symlink_to(path)
            os.link(path, hard_link)
            named = harness.file_connection(path), harness.file_connection(link)
            self.driver.attach(guest, requests.volume(first['volume_id'], named[0], disk_bus='scsi'))
            for name in (path, link, hard_link):
                for change in ({}, {'multiattach': True}):
                    words = self.conflict(guest, second['volume_id'], _file(str(name), change))
                    self.assertIn(f'ua-{first["volume_id"]}', words)
                    self.assertIn('is in the', words)
            # By another name it is the same volume, too.
            self.driver.attach(guest, requests.volume(first['volume_id'], named[1], disk_bus='scsi'))

    def test_a_source_that_one_side_only_has_is_not_attached(self) -> None:
        for side, words in ((Side.LIVE, 'in the running guest'), (Side.PERSISTENT, 'in the persistent config')):
            guest, path = self.hypervisor.new_guest(state='started'), self.hypervisor.new_file()
            other = harness.new_id()
            xml = harness.disk_xml(path, 'sdc', serial=other, alias=f'ua-{other}')
            self.host.guest(guest).attach(xml, side)
            said = self.conflict(guest, harness.new_id(), harness.file_connection(path))
            self.assertIn(words, said)
            self.assertIn(f'disk sdc ua-{other}', said)

    def test_what_a_disk_is_based_on_is_not_written_beneath_it(self) -> None:
        guest, path = self.hypervisor.new_guest(state='shut off'), self.hypervisor.new_file()
        backing = f"<backingStore type='file'><format type='raw'/><source file='{path}'/><backingStore/></backingStore>"
        xml = harness.disk_xml(self.hypervisor.new_file(), 'sdc', alias='ua-overlay')
        self.host.guest(guest).attach(xml.replace("type='raw'/>", f"type='qcow2'/>{backing}", 1), Side.PERSISTENT)
        words = self.conflict(guest, harness.new_id(), harness.file_connection(path))
        self.assertIn('disk sdc ua-overlay in the persistent config is based on its source', words)
        self.driver.attach(guest, requests.volume(harness.new_id(), _file(path, {'data': {'access_mode': 'ro'}})))

    def test_an_id_in_other_letters_is_another_alias_of_what_is_there(self) -> None:
        guest, volume, port = self.hypervisor.new_guest(state='started'), harness.new_id(), self.port()
        path = self.hypervisor.new_file()
        for xml in (
            harness.disk_xml(path, 'sdc', alias=f'ua-{volume.upper()}'),
            harness.interface_xml(self.hypervisor.bridge(), port['address'], alias=f'ua-{port["id"].upper()}'),
        ):
            self.host.guest(guest).attach(xml, Side.LIVE | Side.PERSISTENT)
        for name in (path, self.hypervisor.new_file()):
            self.assertIn(f'ua-{volume.upper()}', self.conflict(guest, volume, harness.file_connection(name)))
        before = self.xml(guest)
        error = self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, requests.interface(port))
        self.assertIn('has this id in another letter case', str(error))
        for device in (volume, port['id']):
            error = self.assertRaises(exception.DeviceConflict, self.driver.detach, guest, device)
            self.assertIn(f'letter case: {device.upper()}', str(error))
        self.assert_untouched(guest, before)

    def test_a_shared_disk_may_be_in_two_guests(self) -> None:
        path, volume = self.hypervisor.new_file(), harness.new_id()
        for _ in range(2):
            guest = self.hypervisor.new_guest(state='shut off')
            self.driver.attach(guest, requests.volume(volume, _file(path, {'multiattach': True}), disk_bus='scsi'))
            self.assertEqual((set(), {volume}), self.ids(guest))

    def test_a_port_with_the_mac_of_two_nameless_interfaces_is_refused_in_true_words(self) -> None:
        port = cases.read('B10-second-port-on-another-bridge')
        lines = cases.text('x01-cockpit-two-nics-one-mac.xml').splitlines()
        nics = ''.join(line for line in lines if '<interface' in line)
        guest = self.hypervisor.new_guest(nics, state='shut off')
        before = self.xml(guest)
        error = self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, requests.interface(port))
        for words in ('an interface on bridge:br1', 'the same MAC without user alias', 'on network:default'):
            self.assertIn(words, str(error))
        self.assert_untouched(guest, before)
