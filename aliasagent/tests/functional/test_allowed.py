# SPDX-License-Identifier: Apache-2.0
"""What a request may not name of the host, from the message to the guest."""

import pathlib
from typing import Any

from aliasagent import conf
from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent

PATH = 'connection_info.data.device_path'


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
            ('attach_interface', {'port': {**port, 'vif_type': 'hw_veb', 'pci_slot': '0000:06:12.5'}}, 'port.pci_slot'),
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
            found = domain.find(arguments['volume_id'])
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
