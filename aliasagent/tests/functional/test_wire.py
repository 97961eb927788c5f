# SPDX-License-Identifier: Apache-2.0
"""What Cinder and Neutron answer, sent to an agent as it is: from the message to the guest."""

from typing import Any

from aliasagent import conf
from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.tests import cases
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent

SECRET = '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed'


class WireTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        super().setUp()
        self.guest = self.side.new_guest()

    def set(self, group: str, name: str, value: Any) -> None:
        conf.CONF.set_override(name, value, group)
        self.addCleanup(conf.CONF.clear_override, name, group)

    def volume(self, info: dict[str, Any]) -> dict[str, Any]:
        volume = info.get('volume_id') or harness.new_id()
        return {'instance_uuid': self.guest, 'volume_id': volume, 'connection_info': info, 'disk_bus': 'scsi'}

    def succeed(self, method: str, arguments: dict[str, Any]) -> None:
        ctxt = RequestContext()
        self.api().submit(ctxt, method, **arguments)
        self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))

    def test_an_attachment_of_ceph(self) -> None:
        info = cases.read('cinder-rbd')['attachment']['connection_info']
        asked = self.volume(info)
        self.succeed('attach_volume', asked)
        (disk,) = self.persistent(self.guest).by_alias(f'ua-{asked["volume_id"]}')
        self.assertEqual(f'rbd:{info["name"]}', disk.source)

    def test_the_other_spelling_is_the_same_request(self) -> None:
        info = cases.read('cinder-rbd')['attachment']['connection_info']
        asked = self.volume(info)
        ctxt = RequestContext()
        first = self.api().submit(ctxt, 'attach_volume', **asked)
        asked['connection_info'] = {'driver_volume_type': 'rbd', 'data': {**info, 'secret_uuid': SECRET}}
        self.assertRaises(exception.OperationConflict, self.api().submit, ctxt, 'attach_volume', **asked)
        asked['connection_info']['data'] = info
        again = self.api().submit(ctxt, 'attach_volume', **asked)
        self.assertEqual((first['id'], first['accepted_at']), (again['id'], again['accepted_at']))

    def test_ceph_without_a_secret(self) -> None:
        info = {**cases.read('cinder-rbd')['attachment']['connection_info'], 'secret_uuid': None}
        asked = self.volume(info)
        refused = self.assertRaises(
            exception.InvalidInput, self.api().submit, RequestContext(), 'attach_volume', **asked
        )
        self.assertIn('[ceph] secret_uuid is not set', str(refused))
        self.set('ceph', 'secret_uuid', SECRET)
        self.succeed('attach_volume', asked)
        (disk,) = self.persistent(self.guest).by_alias(f'ua-{asked["volume_id"]}')
        self.assertIn(f'<secret type="ceph" uuid="{SECRET}"/>', disk.to_xml().replace("'", '"'))

    def test_a_share_that_is_not_mounted(self) -> None:
        info = cases.read('cinder-nfs')['attachment']['connection_info']
        ctxt = RequestContext()
        self.api().attach_volume(ctxt, **self.volume(info))
        operation = self.wait(self.api(), ctxt.operation_id)
        self.assertEqual(('failed', 'InvalidInput'), (operation['state'], operation['error_class']))
        self.assertIn('connection_info.device_path: is missing: mount the share', operation['error'])

    def test_a_bound_port(self) -> None:
        port = cases.read('neutron-bound')['port']
        asked = {'instance_uuid': self.guest, 'port': port}
        refused = self.assertRaises(
            exception.InvalidInput, self.api().submit, RequestContext(), 'attach_interface', **asked
        )
        self.assertIn('port.bridge: br-int is not among what the option [allowed] bridges lets pass', str(refused))
        self.set('allowed', 'bridges', ['br-int'])
        self.succeed('attach_interface', asked)
        (interface,) = self.persistent(self.guest).by_alias(f'ua-{port["id"]}')
        self.assertEqual('tap91f04c6a-7c', interface.target)

    def test_a_port_that_is_not_bound(self) -> None:
        for name in ('unbound', 'binding-failed'):
            port = {**cases.read(f'neutron-{name}')['port'], 'id': harness.new_id()}
            ctxt = RequestContext()
            self.api().attach_interface(ctxt, self.guest, port)
            operation = self.wait(self.api(), ctxt.operation_id)
            self.assertEqual(
                ('failed', 'InvalidInput', port['id']),
                (operation['state'], operation['error_class'], operation['device']),
            )
            self.assertIn('binding:host_id', operation['error'])
