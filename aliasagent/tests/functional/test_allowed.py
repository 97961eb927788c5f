# SPDX-License-Identifier: Apache-2.0
"""What a request may not name of the host, from the message to the guest."""

import pathlib
from typing import Any

from aliasagent import conf
from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.devices import identity
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent
from aliasagent.tests.unit.virt import test_images
from aliasagent.virt.guest import Side

PATH = 'connection_info.data.device_path'


def iscsi(portal: str) -> dict[str, Any]:
    """A volume whose target QEMU logs in to by itself."""
    data = {'target_portal': portal, 'target_iqn': 'iqn.2010-10.org.openstack:volume-1', 'target_lun': 1}
    return {'driver_volume_type': 'iscsi', 'data': data}


class AllowedTest(test_agent.FakeAgentCase):
    """An agent that lets pass the files of one directory, and no device."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.side.new_guest()
        self.outside = pathlib.Path(self.side.new_file())
        self.inside = self.directory / 'inside'
        self.inside.mkdir()
        (self.inside / 'file.img').write_text('')
        (self.inside / 'link.img').symlink_to(self.outside)
        self.allow('paths', str(self.inside))

    def allow(self, kind: str, *patterns: str) -> None:
        conf.CONF.set_override(kind, list(patterns), 'allowed')
        self.addCleanup(conf.CONF.clear_override, kind, 'allowed')

    def volume(self, connection_info: dict[str, Any]) -> dict[str, Any]:
        return {'volume_id': harness.new_id(), 'connection_info': connection_info, 'disk_bus': 'scsi'}

    def file(self, path: pathlib.Path) -> dict[str, Any]:
        return self.volume(harness.file_connection(path))

    def test_what_is_out_of_bounds_is_refused_however_it_is_asked_for(self) -> None:
        port = {'id': harness.new_id(), 'address': harness.new_mac()}
        before = self.xml(self.guest)
        for method, arguments, field in (
            ('attach_volume', self.file(self.outside), PATH),
            ('attach_volume', self.file(pathlib.Path('/etc/shadow')), PATH),
            ('attach_volume', self.volume({'driver_volume_type': 'local', 'data': {'device_path': '/dev/sda'}}), PATH),
            (
                'attach_volume',
                self.volume({'driver_volume_type': 'nbd', 'data': {'socket': '/run/libvirt/libvirt-sock'}}),
                'connection_info.data.socket',
            ),
            (
                'attach_volume',
                self.volume(
                    {
                        'driver_volume_type': 'nfs',
                        'data': {'export': 'nfs:/share', 'name': 'volume-1'},
                        'mount_point_base': '/etc',
                    }
                ),
                'connection_info.mount_point_base',
            ),
            ('attach_volume', self.volume(iscsi('127.0.0.1:3260')), 'connection_info.data.target_portal'),
            ('attach_volume', self.volume(iscsi('[::ffff:127.0.0.1]:3260')), 'connection_info.data.target_portal'),
            (
                'attach_volume',
                self.volume({'driver_volume_type': 'nbd', 'data': {'host': '169.254.169.254', 'port': 80}}),
                'connection_info.data.host',
            ),
            (
                'attach_volume',
                self.volume(
                    {'driver_volume_type': 'rbd', 'data': {'name': 'a/b', 'hosts': ['192.0.2.1', 'localhost']}}
                ),
                'connection_info.data.hosts.1',
            ),
            ('attach_interface', {'port': {**port, 'vif_type': 'hw_veb', 'pci_slot': '0000:06:12.5'}}, 'port.pci_slot'),
            ('attach_interface', {'port': {**port, 'vif_type': 'bridge', 'bridge': 'br-ex'}}, 'port.bridge'),
            ('attach_interface', {'port': {**port, 'vif_type': 'ovs', 'bridge': 'br-tun'}}, 'port.bridge'),
            ('attach_interface', {'port': {**port, 'vif_type': 'network', 'network': 'default'}}, 'port.network'),
            (
                'attach_interface',
                {
                    'port': {
                        **port,
                        'vif_type': 'macvtap',
                        'macvtap_source': 'eth0',
                        'macvtap_mode': 'passthrough',
                    }
                },
                'port.macvtap_source',
            ),
            ('attach_interface', {'port': {**port, 'vif_type': 'tap', 'devname': 'eth0'}}, 'port.devname'),
            (
                'attach_interface',
                {'port': {**port, 'vif_type': 'bridge', 'bridge': self.side.bridge(), 'devname': 'eth0'}},
                'port.devname',
            ),
            (
                'attach_interface',
                {'port': {**port, 'vif_type': 'vhostuser', 'vhostuser_socket': str(self.inside / 'file.img')}},
                'port.vhostuser_socket',
            ),
            ('live_migrate', {'dest_uri': 'qemu+tls://198.51.100.1/system'}, 'dest_uri'),
            ('live_migrate', {'dest_uri': 'qemu+tls://127.0.0.1/system'}, 'dest_uri'),
            ('live_migrate', {'dest_uri': 'qemu+ssh://10.0.0.2/system?keyfile=/etc/shadow'}, 'dest_uri'),
            ('live_migrate', {'dest_uri': 'qemu+unix:///system?socket=/run/x'}, 'dest_uri'),
            (
                'live_migrate',
                {'dest_uri': 'qemu+tls://10.0.0.2/system', 'migrate_uri': 'tcp://198.51.100.1'},
                'migrate_uri',
            ),
            (
                'live_migrate',
                {'dest_uri': 'qemu+tls://10.0.0.2/system', 'migrate_uri': f'unix://{self.inside}/file.img'},
                'migrate_uri',
            ),
            (
                'attach_interface',
                {'port': {**port, 'vif_type': 'vhostuser', 'vhostuser_socket': '/run/libvirt/libvirt-sock'}},
                'port.vhostuser_socket',
            ),
            ('attach_hostdev', self.hostdev(type='pci', address='0000:06:12.5'), 'hostdev.address'),
            ('attach_hostdev', self.hostdev(type='mdev', uuid=harness.new_id()), 'hostdev.uuid'),
            ('attach_hostdev', self.hostdev(type='usb', vendor='1d6b', product='0002'), 'hostdev'),
            ('attach_hostdev', self.hostdev(type='scsi', adapter='scsi_host0', bus=0, target=0, unit=0), 'hostdev'),
        ):
            operation = self.raw_cast(method, instance_uuid=self.guest, **arguments)
            self.assert_failed(operation, 'InvalidInput', f'{field}: ')
            self.assertIn('[allowed]', operation['error'])
            ctxt = RequestContext()
            error = self.assertRaises(
                exception.InvalidInput, self.api().submit, ctxt, method, instance_uuid=self.guest, **arguments
            )
            self.assertEqual(field, error.kwargs['field'])
            self.assertRaises(
                exception.OperationNotFound, self.api().get_operation, RequestContext(), ctxt.operation_id
            )
        self.assert_untouched(self.guest, before)

    def assert_refused_when_work_begins(self, method: str, arguments: dict[str, Any], words: str) -> None:
        before = self.xml(self.guest)
        ctxt = RequestContext()
        arguments = {'instance_uuid': self.guest, **arguments}
        self.api().submit(ctxt, method, **arguments)
        for operation in (self.wait(self.api(), ctxt.operation_id), self.raw_cast(method, **arguments)):
            self.assert_failed(operation, 'InvalidInput', words)
            self.assertEqual(1, operation['attempts'])
        self.assert_untouched(self.guest, before)

    def test_what_is_at_a_sockets_path_stays(self) -> None:
        self.allow('sockets', str(self.inside))
        (self.inside / 'directory').symlink_to(self.outside.parent)
        port = {'id': harness.new_id(), 'address': harness.new_mac(), 'vif_type': 'vhostuser'}
        for path, words in (
            (self.inside / 'file.img', 'is no socket'),
            (self.inside / 'link.img', 'leads to'),
            (self.inside / 'directory' / self.outside.name, 'leads to'),
        ):
            arguments = {'port': {**port, 'vhostuser_socket': str(path)}}
            self.assert_refused_when_work_begins('attach_interface', arguments, words)
            self.assertTrue(path.exists())

    def test_a_name_of_this_host_is_found_out_when_the_work_begins(self) -> None:
        for host in ('127.1', '2130706433', '0x7f000001'):
            self.assert_refused_when_work_begins(
                'attach_volume',
                self.volume({'driver_volume_type': 'nbd', 'data': {'host': host}}),
                f'connection_info.data.host: {host} has the address 127.0.0.1',
            )
            self.assert_refused_when_work_begins(
                'live_migrate', {'dest_uri': f'qemu+tcp://{host}/system'}, f'dest_uri: {host} has the address 127.0.0.1'
            )
            self.assert_refused_when_work_begins(
                'live_migrate',
                {'dest_uri': 'qemu+tcp://10.0.0.2/system', 'migrate_uri': f'tcp://{host}:22'},
                f'migrate_uri: {host} has the address 127.0.0.1',
            )

    def test_a_socket_to_migrate_through_is_looked_at(self) -> None:
        self.allow('migration_sockets', str(self.inside))
        self.assert_refused_when_work_begins(
            'live_migrate', {'dest_uri': f'qemu+unix:///system?socket={self.inside}/file.img'}, 'dest_uri: what is at'
        )
        self.allow('migration_keys', str(self.inside))
        self.assert_refused_when_work_begins(
            'live_migrate', {'dest_uri': f'qemu+ssh://10.0.0.2/system?keyfile={self.inside}/link.img'}, 'leads to'
        )

    def left_live_only(self, path: pathlib.Path) -> dict[str, Any]:
        """Attach a raw file, and have another client take it out of the saved definition."""
        arguments = {'instance_uuid': self.guest, **self.file(path)}
        self.assert_succeeded(self.raw_cast('attach_volume', **arguments))
        self.host.guest(self.guest).detach(f'ua-{arguments["volume_id"]}', Side.PERSISTENT)
        return arguments

    def test_a_path_is_looked_at_though_one_side_has_the_device(self) -> None:
        path = self.inside / 'volume.img'
        path.symlink_to(self.inside / 'file.img')
        arguments = self.left_live_only(path)
        before = self.xml(self.guest)
        path.unlink()
        path.symlink_to(self.outside)
        operation = self.raw_cast('attach_volume', **arguments)
        self.assert_failed(operation, 'InvalidInput', f'{PATH}: {path} leads to {self.outside}')
        self.assert_untouched(self.guest, before)
        path.unlink()
        path.symlink_to(self.inside / 'file.img')
        self.assert_succeeded(self.raw_cast('attach_volume', **arguments))

    def test_a_raw_disk_does_not_come_back_as_an_image(self) -> None:
        path = self.inside / 'file.img'
        arguments = self.left_live_only(path)
        before = self.xml(self.guest)
        # as the guest writes it
        path.write_bytes(test_images.header(str(self.outside).encode(), test_images.backing_format(b'raw')))
        data = {**arguments['connection_info']['data'], 'format': 'qcow2'}
        arguments['connection_info'] = {**arguments['connection_info'], 'data': data}
        operation = self.raw_cast('attach_volume', **arguments)
        self.assertEqual('failed', operation['state'])
        # The format differs from what the guest has, and the image is based on what is out of bounds.
        self.assertIn(operation['error_class'], ('InvalidInput', 'DeviceConflict'))
        self.assert_untouched(self.guest, before)

    def test_a_link_that_leads_out_is_refused_when_the_work_begins(self) -> None:
        before = self.xml(self.guest)
        arguments = {'instance_uuid': self.guest, **self.file(self.inside / 'link.img')}
        ctxt = RequestContext()
        self.api().submit(ctxt, 'attach_volume', **arguments)
        for operation in (self.wait(self.api(), ctxt.operation_id), self.raw_cast('attach_volume', **arguments)):
            self.assert_failed(operation, 'InvalidInput', f'{PATH}: {self.inside}/link.img leads to {self.outside}')
            self.assertEqual(1, operation['attempts'])
        self.assert_untouched(self.guest, before)

    def test_what_is_in_bounds_is_attached_under_the_name_that_was_given(self) -> None:
        self.allow('paths', str(self.inside), str(self.outside))
        arguments = self.file(self.inside / 'link.img')
        self.assert_succeeded(self.raw_cast('attach_volume', instance_uuid=self.guest, **arguments))
        for domain in (self.live(self.guest), self.persistent(self.guest)):
            found = identity.find(domain, arguments['volume_id'])
            assert found is not None
            self.assertEqual(f'{self.inside}/link.img', found.device.source)

    def test_what_is_done_is_not_told_as_refused_when_the_bounds_have_changed_since(self) -> None:
        # as an agent that was killed before it could tell finds it after its start
        self.allow('paths', str(self.inside), str(self.outside))
        arguments = {'instance_uuid': self.guest, **self.file(self.inside / 'link.img')}
        self.assert_succeeded(self.raw_cast('attach_volume', **arguments))
        self.allow('paths', str(self.inside))
        self.assert_succeeded(self.raw_cast('attach_volume', **arguments))

    def test_a_change_of_the_options_counts_at_once(self) -> None:
        arguments = {'instance_uuid': self.guest, **self.hostdev(type='pci', address='0000:06:12.5')}
        self.assert_failed(self.raw_cast('attach_hostdev', **arguments), 'InvalidInput', '[allowed] pci')
        self.allow('pci', '0000:06:*')
        self.assert_succeeded(self.raw_cast('attach_hostdev', **arguments))
        self.allow('pci')
        # What is out of bounds by now can still be taken out.
        self.assert_succeeded(self.raw_cast('detach', instance_uuid=self.guest, device_id=arguments['device_id']))

    def hostdev(self, **hostdev: Any) -> dict[str, Any]:
        return {'device_id': harness.new_id(), 'hostdev': hostdev}
