# SPDX-License-Identifier: Apache-2.0
"""Volumes and ports by their ids alone, from the message to the cloud and the guest, and back."""

import json
import logging
from typing import Any
from unittest import mock

import fixtures

from aliasagent import conf
from aliasagent import exception
from aliasagent.conf import openstack
from aliasagent.context import RequestContext
from aliasagent.tests import neutron
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.cinder import FakeCinder
from aliasagent.tests.fakes.cloud import FakeCloud
from aliasagent.tests.functional import test_agent

PASSWORD = 'x7Qm-hush-chap'


class ByIdCase(test_agent.FakeAgentCase):
    groups: tuple[str, ...] = ('cinder', 'neutron')

    def setUp(self) -> None:
        self.logged = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG, format='%(name)s %(message)s'))
        self.cloud = self.useFixture(FakeCloud())
        self.cinder = FakeCinder()
        self.cloud.services['volume'] = self.cinder.answer
        self.neutron = neutron.FakeNeutron(self.cloud, {'first': 'ovs'})
        super().setUp()
        self.guest = self.side.new_guest()
        self.set('allowed', 'storage_hosts', ['127.0.0.1'])
        self.set('allowed', 'bridges', ['br-int'])

    def set(self, group: str, name: str, value: Any) -> None:
        conf.CONF.set_override(name, value, group)
        self.addCleanup(conf.CONF.clear_override, name, group)

    def start_agent(self, host: str) -> None:
        path = self.directory / 'cloud.conf'
        path.write_text(self.cloud.configuration(*self.groups))
        conf.CONF([], project='aliasagent', default_config_files=[str(path)])
        openstack.register(conf.CONF)
        # Other tests have no such sections, and some of these options are required.
        for group in openstack.configured(conf.CONF):
            self.addCleanup(conf.CONF._groups.pop, group)
        self.set('brick', 'lock_path', str(self.directory / 'locks'))
        super().start_agent(host)

    def ended(self, method: str, **arguments: Any) -> dict[str, Any]:
        ctxt = RequestContext()
        self.api().submit(ctxt, method, instance_uuid=self.guest, **arguments)
        found: dict[str, Any] = self.wait(self.api(), ctxt.operation_id)
        return found

    def counted(self, stage: str) -> float | None:
        """How many volumes the metrics count in a stage."""
        registry = self.services[0].metrics.registry
        return registry.get_sample_value('aliasagent_connections', {'kind': 'volume', 'stage': stage})

    def connections(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api().list_connections(RequestContext(), self.guest)
        return found


class ByIdTest(ByIdCase):
    def test_a_volume(self) -> None:
        volume = self.cinder.add_volume()
        self.assert_succeeded(self.ended('attach_volume', volume_id=volume))
        self.assertEqual('in-use', self.cinder.volumes[volume]['status'])
        (disk,) = self.persistent(self.guest).by_alias(f'ua-{volume}')
        self.assertEqual(f'rbd:volumes/volume-{volume}', disk.source)
        (found,) = self.connections()
        self.assertEqual(
            (volume, 'volume', 'given', True, True, None),
            tuple(found[name] for name in ('device', 'kind', 'stage', 'complete', 'in_use', 'problem')),
        )
        self.assertEqual((1, 0, 0), tuple(self.counted(stage) for stage in ('given', 'undoing', 'preparing')))
        self.assert_succeeded(self.ended('detach_volume', volume_id=volume))
        self.assertEqual(0, self.counted('given'))
        self.assertEqual('available', self.cinder.volumes[volume]['status'])
        self.assertEqual(([], {}), (self.connections(), self.cinder.attachments))

    def test_a_port(self) -> None:
        port = self.neutron.add()
        self.assert_succeeded(self.ended('attach_interface', port_id=port))
        shown = self.neutron.shown(port)
        self.assertEqual(('first', self.guest), (shown['binding:host_id'], shown['device_id']))
        (interface,) = self.persistent(self.guest).by_alias(f'ua-{port}')
        self.assertEqual(f'tap{port[:11]}', interface.target)
        self.assertEqual(['port'], [it['kind'] for it in self.connections()])
        self.assert_succeeded(self.ended('detach_interface', port_id=port))
        shown = self.neutron.shown(port)
        self.assertEqual(('', ''), (shown['binding:host_id'] or '', shown['device_id']))
        self.assertEqual([], self.connections())

    def test_casts(self) -> None:
        volume, port = self.cinder.add_volume(), self.neutron.add()
        for method, arguments in (('attach_volume', {'volume_id': volume}), ('attach_interface', {'port_id': port})):
            ctxt = RequestContext()
            getattr(self.api(), method)(ctxt, self.guest, **arguments)
            self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))
        self.assertEqual({volume, port}, {it['device'] for it in self.connections()})

    def test_what_may_not_be_attached(self) -> None:
        self.set('allowed', 'storage_hosts', [])
        self.set('allowed', 'bridges', [])
        volume, port = self.cinder.add_volume(), self.neutron.add()
        for method, arguments, field in (
            ('attach_volume', {'volume_id': volume}, 'connection_info.data.hosts.0'),
            ('attach_interface', {'port_id': port}, 'port.bridge'),
        ):
            failed = self.ended(method, **arguments)
            self.assertEqual('InvalidInput', failed['error_class'], failed['error'])
            self.assertIn(field, failed['error'])
        self.assertEqual('available', self.cinder.volumes[volume]['status'])
        self.assertEqual('', self.neutron.shown(port)['device_id'])
        self.assertEqual([], self.connections())

    def test_what_cinder_answers_is_checked_as_what_a_client_sends(self) -> None:
        volume = self.cinder.add_volume()
        self.cinder.connection['hosts'] = 'nonsense'
        failed = self.ended('attach_volume', volume_id=volume)
        self.assertEqual('InvalidInput', failed['error_class'], failed['error'])
        self.assertIn('(in the answer of the service)', failed['error'])
        self.assertEqual(('available', []), (self.cinder.volumes[volume]['status'], self.connections()))

    def test_errors_are_in_the_words_of_the_service(self) -> None:
        volume = self.cinder.add_volume()
        taken = self.cinder.add_attachment(volume, 'attached', attached_host='elsewhere', mountpoint='/dev/vdb')
        failed = self.ended('attach_volume', volume_id=volume)
        self.assertEqual('CloudRefused', failed['error_class'])
        for words in ('the current status is in-use', taken, 'to host elsewhere'):
            self.assertIn(words, failed['error'])
        failed = self.ended('attach_interface', port_id=harness.new_id())
        self.assertEqual('CloudRefused', failed['error_class'])
        self.assertIn('there is no such port', failed['error'])

    def test_no_secret_is_told_anywhere(self) -> None:
        volume = self.cinder.add_volume()
        self.cinder.connection |= {'auth_password': PASSWORD, 'keyring': PASSWORD, 'encrypted': False}
        self.assert_succeeded(self.ended('attach_volume', volume_id=volume))
        told = json.dumps([self.connections(), self.api().list_operations(RequestContext())])
        self.assertNotIn(PASSWORD, told)
        for path in self.directory.glob('first.sqlite*'):
            self.assertNotIn(PASSWORD.encode(), path.read_bytes())
        self.assertIn(volume, self.logged.output)
        for secret in (PASSWORD, self.cloud.password, self.cloud.token):
            self.assertNotIn(secret, self.logged.output)

    def test_the_connector_of_the_host(self) -> None:
        found = self.api().get_volume_connector(RequestContext())
        self.assertEqual('first', found['host'])


class WithoutTest(ByIdCase):
    groups = ()

    def refused(self, method: str, **arguments: Any) -> str:
        error = self.assertRaises(
            exception.InvalidInput, self.api().submit, RequestContext(), method, instance_uuid=self.guest, **arguments
        )
        return str(error)

    def test_what_is_missing_is_named(self) -> None:
        for is_installed in (True, False):
            with mock.patch.object(openstack, 'is_installed', autospec=True, return_value=is_installed):
                volume = self.refused('attach_volume', volume_id=harness.new_id())
                port = self.refused('attach_interface', port_id=harness.new_id())
            self.assertIn('connection_info: is missing, and the agent has no section [cinder]', volume)
            self.assertIn('port: is missing, and the agent has no section [neutron]', port)
            for words in (volume, port):
                self.assertEqual(not is_installed, 'install aliasagent[openstack]' in words)
        self.assertIn('give the port, or the port_id', self.refused('attach_interface'))
        self.assertEqual([], self.connections())

    def test_a_port_of_another_id(self) -> None:
        port = {'id': harness.new_id(), 'address': harness.new_mac(), 'vif_type': 'bridge', 'bridge': 'br-int'}
        self.assertIn('port_id: is ', self.refused('attach_interface', port=port, port_id=harness.new_id()))
