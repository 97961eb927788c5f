# SPDX-License-Identifier: Apache-2.0
"""The contract of every kind of device: each goes in under its id and out by it.

What a test host cannot run (PCI, mdev, SR-IOV, vhostuser, Ceph) is given to guests that are shut off.
"""

from typing import Any

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.virt.guest import Side

_SECRET = '6fc0a1d6-51f8-4b4a-8f7c-5d6d0b3a5e11'

VOLUMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'local': ({'driver_volume_type': 'local', 'data': {'device_path': '/dev/null'}}, {}),
    'local lun': ({'driver_volume_type': 'local', 'data': {'device_path': '/dev/zero'}}, {'device_type': 'lun'}),
    'iscsi': (
        {
            'driver_volume_type': 'iscsi',
            'data': {
                'target_portal': '192.0.2.1:3260',
                'target_iqn': 'iqn.2010-10.org.openstack:volume',
                'target_lun': 1,
                'auth_method': 'CHAP',
                'auth_username': 'user',
                'auth_password': 'not for the guest',
                'secret_uuid': _SECRET,
            },
        },
        {},
    ),
    'iscsi lun': (
        {
            'driver_volume_type': 'iscsi',
            'data': {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2010-10.org.openstack:v', 'target_lun': 1},
        },
        {'device_type': 'lun'},
    ),
    'rbd': (
        {
            'driver_volume_type': 'rbd',
            'data': {
                'name': 'volumes/image',
                'hosts': ['192.0.2.1', '192.0.2.2'],
                'ports': ['6789', '6789'],
                'auth_enabled': True,
                'auth_username': 'cinder',
                'secret_uuid': _SECRET,
            },
        },
        {},
    ),
    'nbd': ({'driver_volume_type': 'nbd', 'data': {'host': '192.0.2.1', 'port': 10809, 'export': 'volume'}}, {}),
}
PORTS: dict[str, dict[str, Any]] = {
    'ovs': {'vif_type': 'ovs', 'bridge': 'br-int', 'devname': 'tap-ovs', 'vlan': 7},
    'tap': {'vif_type': 'tap', 'devname': 'tap-plain'},
    'macvtap': {'vif_type': 'macvtap', 'macvtap_source': 'eth0'},
    'hw_veb': {'vif_type': 'hw_veb', 'pci_slot': '0000:06:12.5', 'vlan': 7},
    'vhostuser': {'vif_type': 'vhostuser', 'vhostuser_socket': '/run/vhost.sock', 'queues': 4},
    'vdpa': {'vif_type': 'vdpa', 'vdpa_device': '/dev/vhost-vdpa-0', 'queues': 2},
    'network': {'vif_type': 'network', 'network': 'default'},
}
HOSTDEVS: dict[str, dict[str, Any]] = {
    'pci': {'type': 'pci', 'address': '0000:06:12.6'},
    'mdev': {'type': 'mdev', 'uuid': '2c1a1a3e-9d5c-4b0e-8a52-60e9a1b3f2d4'},
    'usb': {'type': 'usb', 'vendor': '1d6b', 'product': '0002'},
    'scsi': {'type': 'scsi', 'adapter': 'scsi_host0', 'bus': 0, 'target': 2, 'unit': 3},
}
#: Kinds that we find, list and detach, but do not build.
OTHERS = {
    'rng': "<rng model='virtio'><backend model='random'>/dev/urandom</backend>{alias}</rng>",
    'watchdog': "<watchdog model='i6300esb' action='reset'>{alias}</watchdog>",
    'controller': "<controller type='scsi' index='3' model='virtio-scsi'>{alias}</controller>",
    'input': "<input type='tablet' bus='virtio'>{alias}</input>",
    'channel': "<channel type='null'><target type='virtio' name='org.example.x'/>{alias}</channel>",
    'vsock': "<vsock model='virtio'><cid auto='no' address='77'/>{alias}</vsock>",
    'shmem': "<shmem name='shm0'><model type='ivshmem-plain'/><size unit='M'>4</size>{alias}</shmem>",
}


class KindsContract(harness.DriverCase):
    def assert_in_and_out(self, guest: str, device: str, attach: Any, kind: str) -> None:
        """It is there once, asking again changes nothing, and it goes alone."""
        stays = self.ids(guest)[1]
        attach()
        self.assertEqual((set(), stays | {device}), self.ids(guest))
        before = self.xml(guest)
        attach()
        self.assert_untouched(guest, before)
        shown = [entry for entry in self.driver.list_devices(guest) if entry.id == device]
        self.assertEqual([(kind, False, True)], [(entry.kind, entry.live, entry.persistent) for entry in shown])
        self.detach(guest, device, kind)
        self.assertEqual((set(), stays), self.ids(guest))
        attach()

    def test_volumes(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        for name, (connection, more) in VOLUMES.items():
            volume = harness.new_id()

            def attach(volume: str = volume, connection: Any = connection, more: Any = more) -> None:
                self.driver.attach(guest, requests.volume(volume, connection, **{'disk_bus': 'scsi', **more}))

            self.assert_in_and_out(guest, volume, attach, 'disk')
            (disk,) = self.persistent(guest).by_alias(f'ua-{volume}')
            self.assertNotIn('not for the guest', disk.to_xml(), name)

    def test_interfaces(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        for request in PORTS.values():
            port = {'id': harness.new_id(), 'address': harness.new_mac(), **request}

            def attach(port: Any = port) -> None:
                self.driver.attach(guest, requests.interface(port))

            self.assert_in_and_out(guest, port['id'], attach, 'interface')

    def test_a_port_that_is_a_whole_card(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        port: dict[str, Any] = {
            'id': harness.new_id(),
            'mac_address': harness.new_mac(),
            'binding:vif_type': 'hostdev_physical',
            'binding:vnic_type': 'direct-physical',
            'binding:vif_details': {'port_filter': False, 'vlan': '7'},
            'binding:profile': {'pci_slot': '0000:06:00.0', 'physical_network': 'physnet1'},
        }
        self.driver.attach(guest, requests.interface(port))
        (listed,) = [entry for entry in self.driver.list_devices(guest) if entry.id == port['id']]
        self.assertEqual('hostdev', listed.kind)
        # No card of the host twice, under whichever id.
        double = requests.hostdev(harness.new_id(), {'type': 'pci', 'address': '0000:06:00.0'})
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, double)
        self.detach(guest, port['id'], 'interface')
        self.assertEqual((set(), set()), self.ids(guest))
        usb = {'type': 'usb', 'vendor': '1d6b', 'product': '0002'}
        guest, other = self.hypervisor.new_guest("<controller type='usb' model='qemu-xhci'/>", state='shut off'), 'key'
        self.driver.attach(guest, requests.hostdev(other, usb))
        self.assertRaises(exception.DeviceConflict, self.detach, guest, other, 'interface')

    def test_host_devices(self) -> None:
        guest = self.hypervisor.new_guest("<controller type='usb' model='qemu-xhci'/>", state='shut off')
        for request in HOSTDEVS.values():
            device = harness.new_id()

            def attach(device: str = device, request: Any = request) -> None:
                self.driver.attach(guest, requests.hostdev(device, request))

            self.assert_in_and_out(guest, device, attach, 'hostdev')

    def test_a_host_device_from_before_aliases_is_known_by_its_address(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        xml = (
            "<hostdev mode='subsystem' type='pci' managed='yes'>"
            "<source><address domain='0x0000' bus='0x06' slot='0x12' function='0x6'/></source></hostdev>"
        )
        self.host.guest(guest).attach(xml, Side.PERSISTENT)
        before = self.xml(guest)
        double = requests.hostdev(harness.new_id(), HOSTDEVS['pci'])
        self.assertRaises(exception.DeviceConflict, self.driver.attach, guest, double)
        self.assert_untouched(guest, before)
        mdev = harness.new_id()
        self.host.guest(guest).attach(
            f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
            f"<source><address uuid='{mdev}'/></source></hostdev>",
            Side.PERSISTENT,
        )
        self.detach(guest, mdev)
        self.assert_untouched(guest, before)

    def test_whatever_else_carries_an_id_goes_by_it(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        for kind, xml in OTHERS.items():
            device = f'{kind}-1'
            self.host.guest(guest).attach(xml.format(alias=f"<alias name='ua-{device}'/>"), Side.PERSISTENT)
            shown = [entry for entry in self.driver.list_devices(guest) if entry.id == device]
            self.assertEqual([kind], [entry.kind for entry in shown])
            self.detach(guest, device)
            self.assertEqual((set(), set()), self.ids(guest))

    def test_what_a_running_guest_never_releases_is_refused_at_once(self) -> None:
        staying = {
            'sound': "<sound model='ich6'>{alias}</sound>",
            'serial-bus': "<controller type='virtio-serial' index='0'>{alias}</controller>",
            'mouse': "<input type='mouse' bus='ps2'>{alias}</input>",
            'sata': f"<disk type='file' device='disk'><source file='{self.hypervisor.new_file()}'/>"
            "<target dev='sdx' bus='sata'/>{alias}</disk>",
        }
        devices = ''.join(xml.format(alias=f"<alias name='ua-{name}'/>") for name, xml in staying.items())
        guest = self.hypervisor.new_guest(devices, state='started')
        before = self.xml(guest)
        for name in staying:
            self.assertRaises(exception.Unsupported, self.detach, guest, name)
        self.assert_untouched(guest, before)

    def test_a_disk_that_a_running_guest_never_releases_goes_from_one_that_is_shut_off(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        self.detach(guest, self.attach(guest, bus='sata'))
        self.assertEqual((set(), set()), self.ids(guest))
