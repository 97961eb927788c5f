# SPDX-License-Identifier: Apache-2.0
"""What the agent relies on in the services: their REST calls, and what they answer."""

import base64
import signal
import uuid
from typing import Any

from aliasagent.tests.cloud import base
from aliasagent.tests.ids import new_id
from sandbox import processes
from sandbox import rest

#: What a compute host tells Cinder of itself.
CONNECTOR = {
    'host': 'compute-1',
    'ip': '192.0.2.10',
    'platform': 'x86_64',
    'os_type': 'linux',
    'multipath': False,
    'initiator': 'iqn.1993-08.org.debian:01:0123456789ab',
}


class CinderTest(base.CloudTestCase):
    def complete(self, attachment: str) -> None:
        self.cinder_admin('POST', f'/attachments/{attachment}/action', {'os-complete': {}}, expect=(204,))

    def check_one_call(self, backend: str) -> dict[str, Any]:
        """Without a guest, one call reserves and connects; what Cinder then says of the connection."""
        volume = self.new_volume(backend)
        made = self.new_attachment(volume, connector=CONNECTOR)
        self.assertEqual('reserved', made['status'])
        self.complete(made['id'])
        self.wait_volume(volume, 'in-use')
        (shown,) = self.volume(volume)['attachments']
        self.assertEqual((made['id'], 'compute-1', None), tuple(
            shown[name] for name in ('attachment_id', 'host_name', 'server_id')
        ))
        self.cinder_admin('POST', f'/volumes/{volume}/action', {'os-begin_detaching': {}})
        self.wait_volume(volume, 'detaching')
        self.cinder_admin('DELETE', f'/attachments/{made["id"]}')
        self.wait_volume(volume, 'available')
        self.assertEqual([], self.attachments(volume))
        info: dict[str, Any] = made['connection_info']
        self.assertNotIn('data', info)
        self.assertEqual(made['id'], info['attachment_id'])
        return info

    def test_rbd_in_one_call(self) -> None:
        info = self.check_one_call('ceph')
        ceph = self.clouds.ceph
        self.assertEqual('rbd', info['driver_volume_type'])
        self.assertEqual(('cinder', ceph.secret), (info['auth_username'], info['secret_uuid']))
        self.assertEqual((['127.0.0.1'], [str(ceph.port)]), (info['hosts'], info['ports']))
        self.assertNotIn(ceph.key(), str(info))

    def test_nfs_in_one_call(self) -> None:
        info = self.check_one_call('nfs')
        cinder = self.clouds.cinder
        self.assertEqual('nfs', info['driver_volume_type'])
        self.assertEqual(f'127.0.0.1:{cinder.export}', info['export'])
        self.assertEqual(str(cinder.mount_base), info['mount_point_base'])

    def test_step_by_step_for_a_guest(self) -> None:
        for backend in ('ceph', 'nfs'):
            volume = self.new_volume(backend)
            made = self.new_attachment(volume, instance_uuid=new_id())
            self.wait_volume(volume, 'reserved')
            self.assertNotIn('driver_volume_type', self.attachment(made['id'])['connection_info'])
            self.cinder_admin('PUT', f'/attachments/{made["id"]}', {'attachment': {'connector': CONNECTOR}})
            self.wait_volume(volume, 'attaching')
            (attachment,) = self.attachments(volume)
            self.assertIn('driver_volume_type', attachment['connection_info'])
            self.complete(made['id'])
            self.wait_volume(volume, 'in-use')
            # Cinder wants to ask Nova about the guest first, and there is none, unless a service says that it may
            self.cinder_admin('DELETE', f'/attachments/{made["id"]}', expect=(409, 500))
            self.assertEqual('in-use', self.status(volume))
            self.delete_attachment(made['id'])
            self.wait_volume(volume, 'available')

    def test_a_reservation_is_given_back(self) -> None:
        volume = self.new_volume()
        made = self.new_attachment(volume, instance_uuid=new_id())
        self.wait_volume(volume, 'reserved')
        self.cinder('POST', f'/volumes/{volume}/action', {'os-reserve': {}}, expect=(400,))
        self.delete_attachment(made['id'])
        self.wait_volume(volume, 'available')

    def test_a_volume_cannot_be_attached_twice(self) -> None:
        volume = self.new_volume()
        self.new_attachment(volume, connector=CONNECTOR)
        refused = self.assertRaises(rest.Refused, self.new_attachment, volume, instance_uuid=new_id())
        self.assertEqual(400, refused.answer.status)
        self.assertEqual(1, len(self.attachments(volume)))

    def test_the_role_service_alone_may_not_attach(self) -> None:
        volume = self.new_volume()
        client = self.clouds.cinder.client('servicerole')
        new = {'attachment': {'volume_uuid': volume, 'connector': CONNECTOR}}
        client('POST', '/attachments', new, expect=(403, 404))
        self.assertEqual('available', self.status(volume))

    def test_a_cinder_that_was_killed_knows_its_volumes(self) -> None:
        self.alone()
        volume = self.new_volume()
        made = self.new_attachment(volume, instance_uuid=new_id())
        cinder = self.clouds.cinder
        before = cinder.address
        cinder.kill()
        self.assertRaises(OSError, self.status, volume)
        cinder.start()
        self.assertEqual(before, cinder.address)
        self.assertEqual('reserved', self.status(volume))
        self.delete_attachment(made['id'])
        self.wait_volume(volume, 'available')


class NeutronTest(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host_name = f'compute-{uuid.uuid4().hex[:8]}'
        self.addCleanup(self.clouds.neutron.remove_agent, self.host_name)

    def test_a_port_is_bound_and_unbound(self) -> None:
        self.clouds.neutron.add_agent(self.host_name)
        port, guest = self.new_port(), new_id()
        self.assertEqual(('unbound', '', ''), self.binding(port))
        bound = self.bind(port, self.host_name, guest)
        self.assertEqual(('ovs', self.host_name, guest), self.binding(port))
        details = bound['binding:vif_details']
        self.assertEqual(('br-int', 'system', False), tuple(
            details[name] for name in ('bridge_name', 'datapath_type', 'ovs_hybrid_plug')
        ))
        self.assertEqual('unbound', self.unbind(port)['binding:vif_type'])
        self.assertEqual(('unbound', '', ''), self.binding(port))

    def test_a_host_with_dpdk_has_sockets(self) -> None:
        self.clouds.neutron.add_agent(self.host_name, 'netdev')
        bound = self.bind(self.new_port(), self.host_name, new_id())
        self.assertEqual('vhostuser', bound['binding:vif_type'])
        self.assertIn('vhostuser_socket', bound['binding:vif_details'])

    def test_without_an_agent_binding_fails_with_a_good_status(self) -> None:
        port = self.new_port()
        bound = self.bind(port, self.host_name, new_id())
        self.assertEqual(('binding_failed', {}), (bound['binding:vif_type'], bound['binding:vif_details']))
        self.assertEqual('unbound', self.unbind(port)['binding:vif_type'])

    def test_who_may_bind(self) -> None:
        self.clouds.neutron.add_agent(self.host_name)
        port = self.new_port()
        new = {'port': {'binding:host_id': self.host_name}}
        self.neutron('PUT', f'/ports/{port}', new, expect=(403,))
        self.assertEqual('unbound', self.binding(port)[0])
        service = self.clouds.neutron.client('servicerole')
        profile = {'port': {**new['port'], 'binding:profile': {}}}
        self.assertEqual('ovs', service('PUT', f'/ports/{port}', profile)['port']['binding:vif_type'])

    def test_a_neutron_that_does_not_answer_answers_later(self) -> None:
        self.alone()
        port = self.new_port()
        neutron = self.clouds.neutron
        neutron.signal(signal.SIGSTOP)
        url = f'{neutron.url}/ports/{port}'
        self.assertRaises(OSError, rest.call, 'GET', url, headers=self.neutron.headers, timeout=0.5)
        neutron.signal(signal.SIGCONT)
        self.assertEqual('unbound', self.binding(port)[0])


class KeystoneTest(base.CloudTestCase):
    def test_a_wrong_password_gets_no_token(self) -> None:
        refused = self.assertRaises(rest.Refused, self.clouds.keystone.token, 'demo', password='wrong')
        self.assertEqual(401, refused.answer.status)

    def test_the_catalog_has_the_services(self) -> None:
        clouds = self.clouds
        client = rest.Client(clouds.keystone.url, {'X-Auth-Token': clouds.keystone.token('aliasagent')})
        catalog = client('GET', '/auth/catalog')['catalog']
        urls = {entry['type']: {endpoint['url'] for endpoint in entry['endpoints']} for entry in catalog}
        project = clouds.keystone.project('service')
        self.assertEqual({f'{clouds.cinder.url}/{project}'}, urls['block-storage'])
        self.assertEqual({clouds.neutron.url.removesuffix('/v2.0')}, urls['network'])


class CephTest(base.CloudTestCase):
    def test_clients_need_the_key(self) -> None:
        ceph = self.clouds.ceph
        words = ('rbd', '--id', 'cinder', '--pool', 'volumes', 'ls')
        ceph.run(*words, '--key', ceph.key())
        other = base64.b64encode(base64.b64decode(ceph.key())[:-16] + bytes(16)).decode()
        error = self.assertRaises(processes.PartFailed, ceph.run, *words, '--key', other)
        self.assertIn('Permission denied', str(error))
