# SPDX-License-Identifier: Apache-2.0
"""Volumes of a real Cinder and ports of a real Neutron in booted guests, by what a control plane hands on."""

from typing import Any

from aliasagent import exception
from aliasagent.tests.cloud import base
from aliasagent.tests.cloud.test_services import CONNECTOR
from sandbox import materials
from sandbox import processes


class VolumesTest(base.HostTestCase):
    def connect(self, backend: str) -> tuple[str, dict[str, Any]]:
        """Create and reserve a volume; its id, and the ``connection_info`` as the attachments API answers it."""
        volume = self.new_volume(backend)
        made = self.new_attachment(volume, connector={**CONNECTOR, 'host': self.host_name})
        return volume, made['connection_info']

    def test_a_guest_writes_to_a_volume_in_ceph(self) -> None:
        volume, info = self.connect('ceph')
        image = f'volume-{volume}'
        self.clouds.ceph.define_secret(self.side.connection)
        self.start_agent()
        guest = self.new_guest(write=True)
        self.done('attach_volume', guest.uuid, volume_id=volume, connection_info=info)
        self.assertEqual(1 << 30, self.wait_disk(guest, volume).bytes)
        last = self.wait_written(guest)
        self.assertEqual(1, len(self.clouds.ceph.watchers(image)))
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.wait_no_disk(guest, volume)
        self.assertEqual([], self.live(guest).by_alias(f'ua-{volume}'))
        self.assertEqual([], self.clouds.ceph.watchers(image))
        self.assertLessEqual(set(range(1, last + 1)), self.exported(volume))

        # once more, after kill -9: what the guest wrote is still there, and it writes on
        self.restart_agent()
        self.done('attach_volume', guest.uuid, volume_id=volume, connection_info=info)
        self.wait_disk(guest, volume)
        self.assertLess(last, self.wait_written(guest))
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.assertEqual([], self.clouds.ceph.watchers(image))

    def test_without_the_secret_the_guest_does_not_get_it(self) -> None:
        volume, info = self.connect('ceph')
        self.start_agent()
        guest = self.booted_guest()
        unknown = '11111111-2222-4333-8444-555555555555'
        arguments = {'volume_id': volume, 'connection_info': {**info, 'secret_uuid': unknown}}
        operation = self.ended('attach_volume', guest.uuid, **arguments)
        self.assertEqual('failed', operation['state'])
        self.assertIn(unknown, operation['error'])
        self.assertEqual([], self.clouds.ceph.watchers(f'volume-{volume}'))
        self.assertEqual({}, guest.sees().disks)

    def test_a_guest_writes_to_a_share_that_its_host_has_mounted(self) -> None:
        volume, info = self.connect('nfs')
        mounted = self.directory / 'mnt'
        mounted.mkdir()
        processes.run(*self.inside('mount', '-t', 'nfs', info['export'], str(mounted)))
        self.addCleanup(processes.run, *self.inside('umount', '--lazy', str(mounted)))
        # the mount is this host's alone: neither Cinder nor the tests see it
        self.assertEqual([], list(mounted.iterdir()))
        self.start_agent()
        guest = self.new_guest(write=True)
        info = {**info, 'device_path': str(mounted / info['name'])}
        self.done('attach_volume', guest.uuid, volume_id=volume, connection_info=info)
        self.wait_disk(guest, volume)
        last = self.wait_written(guest)
        self.done('detach_volume', guest.uuid, volume_id=volume)
        self.wait_no_disk(guest, volume)
        written = materials.records(self.clouds.cinder.export / info['name'])
        self.assertLessEqual(set(range(1, last + 1)), written)

    def test_the_host_has_no_sudo(self) -> None:
        """Or a test would not notice that the agent needs it."""
        self.assertRaises(processes.PartFailed, processes.run, *self.inside('sudo', 'true'))


class PortsTest(base.HostTestCase):
    switched = True

    def test_a_bound_port_is_in_the_switch_while_the_guest_has_it(self) -> None:
        self.start_agent()
        guest = self.booted_guest()
        port = self.new_port()
        bound = self.bind(port, self.host_name, guest.uuid)
        self.done('attach_interface', guest.uuid, port=bound)
        guest.wait_sees(lambda seen: seen.nics_with(bound['mac_address']), what='the port')
        (plugged,) = self.switch.ports(base.BRIDGE)
        self.assertEqual(
            (port, bound['mac_address'], guest.uuid, None),
            (plugged.iface_id, plugged.mac, plugged.guest, plugged.error),
        )
        self.done('detach_interface', guest.uuid, port_id=port)
        self.assertEqual([], self.switch.ports(base.BRIDGE))
        self.assertEqual({}, guest.wait_sees(lambda seen: not seen.nics, what='no port').nics)

    def test_a_port_whose_binding_failed_is_refused(self) -> None:
        self.start_agent()
        guest = self.booted_guest()
        bound = self.bind(self.new_port(), 'nowhere', guest.uuid)
        refused = self.assertRaises(exception.InvalidInput, self.submit, 'attach_interface', guest.uuid, port=bound)
        self.assertIn('binding_failed', str(refused))
        self.assertEqual([], self.switch.ports(base.BRIDGE))
