# SPDX-License-Identifier: Apache-2.0
"""Requests to services that answer, and to those that do not."""

import json
import threading
from typing import Any

from aliasagent.cloud import service
from aliasagent.cloud.ports import Port
from aliasagent.cloud.ports import Ports
from aliasagent.cloud.servers import Servers
from aliasagent.cloud.servers import VolumeAttachment
from aliasagent.cloud.service import Service
from aliasagent.exception import CloudError
from aliasagent.tests import ids
from aliasagent.tests.unit.cloud import base

SERVER = ids.new_id()


class ServicesTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.counted: list[tuple[str, bool]] = []
        self.make('timeout = 1\n')

    def make(self, more: str = '') -> None:
        conf = self.configured('nova', 'neutron', more=more)
        nova, neutron = (
            Service(conf, group, on_answer=lambda *what: self.counted.append(what)) for group in ('nova', 'neutron')
        )
        self.servers, self.ports = Servers(nova), Ports(neutron)

    def refusal(self) -> str:
        """Return why none of the questions is answered, and check that each is not."""
        reasons = []
        asks = self.servers.get, self.servers.attachments, self.ports.of_server, self.servers.is_changing_devices
        for ask in asks:
            error = self.assertRaises(CloudError, ask, SERVER)
            self.assertIn(SERVER, str(error))
            self.assertNotIn('hush', str(error))
            reasons.append(str(error))
        return '\n'.join(reasons)


class AnswersTestCase(ServicesTestCase):
    def test_a_server_with_its_volumes_and_ports(self) -> None:
        volume = ids.new_id()
        self.cloud.add_server(SERVER, volumes={volume: '/dev/vdb'})
        port = self.cloud.add_port(SERVER, '52:54:00:00:00:01')
        other = self.cloud.add_port(ids.new_id(), '52:54:00:00:00:02')
        found = self.servers.get(SERVER)
        assert found is not None
        self.assertEqual((True, False), (found.is_quiet, found.is_busy))
        self.assertEqual({'first', 'first.example.org'}, found.hosts)
        self.assertEqual([VolumeAttachment(volume, '/dev/vdb')], self.servers.attachments(SERVER))
        self.assertEqual([Port(port, '52:54:00:00:00:01', None)], self.ports.of_server(SERVER))
        self.assertNotEqual(port, other)
        self.servers.check()
        self.ports.check()
        self.assertEqual({('nova', True), ('neutron', True)}, set(self.counted))
        # 2.1 is the default of every Nova; a newer one would refuse an agent that asked for less than it has.
        self.assertEqual([], [name for it in self.cloud.headers for name in it if 'microversion' in name.lower()])

    def test_a_server_of_another_cloud(self) -> None:
        self.assertIsNone(self.servers.get(SERVER))
        self.assertIsNone(self.servers.attachments(SERVER))
        self.assertEqual([], self.ports.of_server(SERVER))
        self.assertNotIn(False, [answered for _name, answered in self.counted])

    def test_what_newer_and_other_novas_answer(self) -> None:
        """Microversion 2.89 has no id; a virtualization without names has no device."""
        self.cloud.add_server(SERVER, volumes={})
        more = {'attachment_id': ids.new_id(), 'bdm_uuid': ids.new_id(), 'tag': None, 'delete_on_termination': False}
        self.cloud.volumes[SERVER] = [{'volumeId': ids.VOLUME, 'device': None, 'serverId': SERVER, **more}]
        self.assertEqual([VolumeAttachment(ids.VOLUME, None)], self.servers.attachments(SERVER))
        self.cloud.volumes[SERVER][0]['device'] = ''
        self.assertEqual([VolumeAttachment(ids.VOLUME, None)], self.servers.attachments(SERVER))
        del self.cloud.volumes[SERVER][0]['device']
        self.assertEqual([VolumeAttachment(ids.VOLUME, None)], self.servers.attachments(SERVER))

    def test_states(self) -> None:
        self.cloud.add_server(SERVER, volumes={})
        for task, state, is_quiet, is_busy in (
            (None, 'active', True, False),
            ('migrating', 'active', False, True),
            (None, 'rescued', False, False),
            (None, 'building', False, True),
            (None, 'stopped', True, False),
        ):
            self.cloud.servers[SERVER].update({'OS-EXT-STS:task_state': task, 'OS-EXT-STS:vm_state': state})
            found = self.servers.get(SERVER)
            assert found is not None
            self.assertEqual((is_quiet, is_busy), (found.is_quiet, found.is_busy), state)

    def test_actions(self) -> None:
        self.cloud.add_server(SERVER, volumes={})
        self.assertFalse(self.servers.is_changing_devices(SERVER))
        for end, expected in ((None, True), ('2026-01-31T12:00:00.000000', False)):
            self.cloud.actions[SERVER] = [('attach_volume', [end])]
            self.assertEqual(expected, self.servers.is_changing_devices(SERVER))
        # Only an administrator sees the events.
        self.cloud.before = lambda path: (200, {'instanceAction': {}}) if 'req-' in path else None
        refused = self.assertRaises(CloudError, self.servers.is_changing_devices, SERVER)
        self.assertIn(f'show action req-0 of server {SERVER} failed: the answer is not valid', str(refused))

    def test_a_user_who_may_not_see_the_host(self) -> None:
        self.cloud.add_server(SERVER, volumes={})
        for name in ('host', 'hypervisor_hostname'):
            del self.cloud.servers[SERVER][f'OS-EXT-SRV-ATTR:{name}']
        found = self.servers.get(SERVER)
        assert found is not None
        self.assertEqual(frozenset(), found.hosts)

    def test_ports(self) -> None:
        slot = {'pci_slot': '0000:06:12.5'}
        for more, expected in (
            ({'binding:vnic_type': 'direct', 'binding:profile': slot}, '0000:06:12.5'),
            ({'binding:vnic_type': 'direct-physical', 'binding:profile': slot}, '0000:06:12.5'),
            # The definition of a macvtap does not name its function.
            ({'binding:vnic_type': 'macvtap', 'binding:profile': slot}, None),
            ({'binding:vnic_type': 'direct', 'binding:profile': None}, None),
        ):
            self.cloud.ports.clear()
            port = self.cloud.add_port(SERVER, '52:54:00:00:00:01', **more)
            self.assertEqual([Port(port, '52:54:00:00:00:01', expected)], self.ports.of_server(SERVER))
        for vif_type in ('unbound', 'binding_failed'):
            self.cloud.ports.clear()
            self.cloud.add_port(SERVER, '52:54:00:00:00:01', **{'binding:vif_type': vif_type})
            self.assertEqual([], self.ports.of_server(SERVER))

    def test_pages_of_ports(self) -> None:
        first = self.cloud.add_port(SERVER, '52:54:00:00:00:01')
        second = self.cloud.add_port(SERVER, '52:54:00:00:00:02')
        one, two = self.cloud.ports

        def page(path: str) -> tuple[int, Any]:
            if f'marker={first}' in path:
                return 200, {'ports': [two]}
            link = {'rel': 'next', 'href': 'http://192.0.2.1/elsewhere'}
            return 200, {'ports': [one], 'ports_links': [link]}

        self.cloud.before = page
        self.assertEqual([first, second], [it.id for it in self.ports.of_server(SERVER)])

    def test_pages_without_end(self) -> None:
        self.cloud.add_port(SERVER, '52:54:00:00:00:01')
        link = {'rel': 'next', 'href': self.cloud.url}
        self.cloud.before = lambda _path: (200, {'ports': self.cloud.ports, 'ports_links': [link]})
        error = self.assertRaises(CloudError, self.ports.of_server, SERVER)
        self.assertIn('more than 10 pages', str(error))
        self.assertEqual(10, len(self.cloud.asked))

    def test_ports_of_other_servers(self) -> None:
        self.cloud.add_port(ids.new_id(), '52:54:00:00:00:01')
        self.cloud.before = lambda _path: (200, {'ports': self.cloud.ports})
        error = self.assertRaises(CloudError, self.ports.of_server, SERVER)
        self.assertIn('ports of other servers', str(error))

    def test_a_token_that_has_expired_is_renewed(self) -> None:
        self.cloud.add_server(SERVER, volumes={})
        self.assertIsNotNone(self.servers.get(SERVER))
        self.cloud.token = 'x7Qm-hush-another'
        self.assertIsNotNone(self.servers.get(SERVER))


#: Answers that are not valid to each question.
BAD_ANSWERS: dict[str, Any] = {
    'nothing': b'',
    'html': b'<html>',
    'half': b'{"server": {',
    'deep': b'[' * 100_000,
    'list': [],
    'text': 'text',
    'empty': {},
    'nulls': {'server': None, 'volumeAttachments': None, 'ports': None, 'instanceActions': None},
    'texts': {'server': 'x', 'volumeAttachments': 'x', 'ports': 'x', 'instanceActions': 'x'},
    'numbers': {'server': 1, 'volumeAttachments': 1, 'ports': 1, 'instanceActions': 1},
    'empty entries': {'server': {}, 'volumeAttachments': [{}], 'ports': [{}], 'instanceActions': [{}]},
    'no ids': {
        'server': {'OS-EXT-STS:task_state': None, 'OS-EXT-STS:vm_state': None},
        'volumeAttachments': [{'volumeId': 'x" or 1', 'device': '/dev/vdb'}],
        'instanceActions': [{'action': 'attach_volume'}],
        'ports': [{
            'id': '../x', 'mac_address': '52:54:00:00:00:01', 'device_id': SERVER,
            'binding:vif_type': 'ovs', 'binding:vnic_type': 'normal',
        }],
    },
    'no binding': {
        'server': {'OS-EXT-STS:task_state': 1, 'OS-EXT-STS:vm_state': 'active'},
        'volumeAttachments': [{'volumeId': ids.VOLUME, 'device': 1}],
        'instanceActions': [{'action': 'attach_volume', 'request_id': 1}],
        'ports': [{'id': ids.PORT, 'mac_address': '52:54:00:00:00:01', 'device_id': SERVER}],
    },
    'long texts': {
        'server': {'OS-EXT-STS:task_state': 'x' * 1000, 'OS-EXT-STS:vm_state': 'active'},
        'volumeAttachments': [{'volumeId': ids.VOLUME, 'device': 'x' * 1000}],
        'instanceActions': [{'action': 'attach_volume', 'request_id': 'x' * 1000}],
        'ports': [{
            'id': ids.PORT, 'mac_address': 'x' * 1000, 'device_id': SERVER,
            'binding:vif_type': 'ovs', 'binding:vnic_type': 'normal',
        }],
    },
}  # fmt: skip


class BadAnswersTestCase(ServicesTestCase):
    def test_a_status_of_a_failure(self) -> None:
        for status in (204, 300, 302, 400, 401, 403, 409, 429, 500, 503):
            self.cloud.before = lambda _path, status=status: (status, {'error': {'message': 'why'}})  # type: ignore[misc]
            reasons = self.refusal().splitlines()
            steps = (
                *('nova: show server', 'nova: list the volumes of server', 'neutron: list the ports of server'),
                'nova: list the actions of server',
            )
            for reason, step in zip(reasons, steps, strict=True):
                self.assertIn(step, reason)
                words = '' if status == 204 else ': why'
                self.assertIn(f'HTTP {status}{words} (request req-of-the-fake)', reason)
        self.assertEqual({False}, {answered for _name, answered in self.counted})
        self.assertEqual([], [path for path in self.cloud.asked if 'elsewhere' in path])

    def test_answers_that_are_not_valid(self) -> None:
        for name, body in BAD_ANSWERS.items():
            self.cloud.before = lambda _path, body=body: (200, body)  # type: ignore[misc]
            words = '(request req-of-the-fake)' if isinstance(body, bytes) else 'answer'
            self.assertIn(words, self.refusal(), name)


class NoAnswersTestCase(ServicesTestCase):
    def test_a_keystone_that_refuses(self) -> None:
        for status in (401, 403, 500):
            self.cloud.login = status, {}
            self.make()
            self.assertIn(f'HTTP {status}', self.refusal())

    def test_a_wrong_password(self) -> None:
        self.make('password = x7Qm-hush-wrong\n[nova]\npassword = x7Qm-hush-wrong\n')
        self.assertIn('(HTTP 401)', self.refusal())

    def test_a_service_that_is_down(self) -> None:
        self.cloud.server.shutdown()
        self.cloud.server.server_close()
        self.assertIn('Unable to establish connection', self.refusal())

    def test_a_service_that_hangs(self) -> None:
        self.make('[nova]\ntimeout = 1\n')
        end = threading.Event()
        self.addCleanup(end.set)

        def hang(_path: str) -> None:
            end.wait(base.PATIENCE)

        self.cloud.before = hang
        error = self.assertRaises(CloudError, self.servers.get, SERVER)
        self.assertIn('timed out', str(error))

    def test_an_answer_that_takes_for_ever(self) -> None:
        self.patch(service, '_MAX_TIMEOUTS', 0.2)
        self.cloud.before = lambda _path: (200, {'server': 'x' * 10_000})
        self.assertRaises(CloudError, self.servers.get, SERVER)  # logs in
        self.cloud.drip = 1000
        error = self.assertRaises(CloudError, self.servers.get, SERVER)
        self.assertIn('no whole answer within 0.4 s', str(error))

    def test_a_short_answer_byte_by_byte(self) -> None:
        self.patch(service, '_MAX_TIMEOUTS', 0.2)
        self.cloud.before = lambda _path: (200, {'server': 'x' * 100})
        self.assertRaises(CloudError, self.servers.get, SERVER)  # logs in
        self.cloud.drip = 1
        error = self.assertRaises(CloudError, self.servers.get, SERVER)
        self.assertIn('no whole answer within 0.4 s', str(error))

    def test_a_keystone_that_answers_something_else(self) -> None:
        for token in ('x', {}, {'catalog': [None], 'expires_at': 'x'}):
            self.cloud.login = 201, {'token': token}
            self.make()
            self.assertIn('show server', self.refusal())

    def test_an_answer_that_is_too_long(self) -> None:
        self.patch(service, '_MAX_BYTES', 1000)
        self.cloud.before = lambda _path: (200, {'server': 'x' * 1000})
        self.assertIn('has more than 1000 bytes', self.refusal())

    def test_an_answer_that_breaks_off(self) -> None:
        body = json.dumps({'server': 'x' * 1000}).encode()
        self.cloud.before = lambda _path: (200, body)
        self.assertRaises(CloudError, self.servers.get, SERVER)  # logs in
        self.cloud.shortage = 10
        error = self.assertRaises(CloudError, self.servers.get, SERVER)
        self.assertIn('IncompleteRead', str(error))
