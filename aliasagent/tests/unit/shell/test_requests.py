# SPDX-License-Identifier: Apache-2.0
"""Attach and detach: what is sent, what is waited for, and what the exit code says."""

import json
import pathlib
import time
from typing import Any

import fixtures
from testtools import matchers

from aliasagent import exception
from aliasagent.client import sending
from aliasagent.compute import contract
from aliasagent.tests import cases
from aliasagent.tests.unit.shell import base

NOT_ACCEPTED = exception.OperationNotFound(operation='x')
ATTACH_FILE = ('volume', 'attach', base.WEB, base.VOLUME, '--file', '/srv/a.raw')


def between(low: float, high: float) -> 'matchers.MatchesAll[float]':
    """Matches a number of seconds from ``low`` to ``high``."""
    return matchers.MatchesAll(matchers.GreaterThan(low), matchers.LessThan(high))


class SendTestCase(base.ShellTestCase):
    def sent(self, *argv: str) -> tuple[str, dict[str, Any]]:
        """The one cast that a command makes."""
        api = base.FakeComputeAPI()
        result = self.run_command(*argv, api=api)
        self.assertEqual((0, ''), (result.code, result.stderr))
        self.assertEqual(1, len(api.casts))
        self.assertEqual([], api.asked)
        return api.casts[0]

    def test_by_id_alone(self) -> None:
        for argv, action, given in (
            (('volume', 'attach', base.WEB, base.VOLUME, '--bus', 'scsi'), 'attach_volume', 'connection_info'),
            (('interface', 'attach', base.WEB, base.PORT), 'attach_interface', 'port'),
        ):
            sent, arguments = self.sent(*argv)
            self.assertEqual(action, sent)
            self.assertNotIn(given, arguments)
            contract.validate(action, arguments)

    def test_what_is_shown(self) -> None:
        api = base.FakeComputeAPI()
        result = self.run_command(*ATTACH_FILE, '-f', 'json', api=api)
        self.assertEqual(0, result.code)
        expected = {
            'operation_id': api.contexts[0].operation_id,
            'guest': base.WEB,
            'device': base.VOLUME,
            'state': 'sent',
        }
        self.assertEqual(expected, result.json)

    def test_volume_attach_file(self) -> None:
        method, arguments = self.sent('volume', 'attach', base.WEB, base.VOLUME, '--file', '/srv/a.raw')
        self.assertEqual('attach_volume', method)
        self.assertEqual(
            {
                'instance_uuid': base.WEB,
                'volume_id': base.VOLUME,
                'connection_info': {
                    'driver_volume_type': 'file',
                    'data': {'device_path': '/srv/a.raw', 'format': 'raw'},
                },
                'device_name': None,
                'disk_bus': None,
                'device_type': 'disk',
            },
            arguments,
        )

    def test_volume_attach_options(self) -> None:
        options = ('--file-format', 'qcow2', '--device-name', '/dev/sdc', '--bus', 'scsi', '--type', 'cdrom')
        _, arguments = self.sent(*ATTACH_FILE, *options)
        self.assertEqual('qcow2', arguments['connection_info']['data']['format'])
        self.assertEqual('/dev/sdc', arguments['device_name'])
        self.assertEqual('scsi', arguments['disk_bus'])
        self.assertEqual('cdrom', arguments['device_type'])

    def test_volume_attach_block(self) -> None:
        _, arguments = self.sent('volume', 'attach', base.WEB, base.VOLUME, '--block', '/dev/vg/lv')
        expected = {'driver_volume_type': 'local', 'data': {'device_path': '/dev/vg/lv'}}
        self.assertEqual(expected, arguments['connection_info'])

    def test_volume_attach_connection_info(self) -> None:
        text = '{"driver_volume_type": "local", "data": {"device_path": "/dev/sdz", "access_mode": "ro"}}'
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'info.json'
        path.write_text(text)
        for given in (text, f'@{path}'):
            _, arguments = self.sent('volume', 'attach', base.WEB, base.VOLUME, '--connection-info', given)
            self.assertEqual('ro', arguments['connection_info']['data']['access_mode'])

    def test_an_answer_of_cinder_is_sent_without_what_is_around_it(self) -> None:
        answer = cases.read('cinder-rbd')
        for given in (answer, answer['attachment'], answer['attachment']['connection_info']):
            argv = ('volume', 'attach', base.WEB, base.VOLUME, '--connection-info', json.dumps(given))
            self.assertEqual(answer['attachment']['connection_info'], self.sent(*argv)[1]['connection_info'])

    def test_an_answer_of_neutron_is_sent_without_what_is_around_it(self) -> None:
        answer = cases.read('neutron-bound')
        for given in (answer, answer['port']):
            argv = ('interface', 'attach', base.WEB, answer['port']['id'], '--port', json.dumps(given))
            self.assertEqual(answer['port'], self.sent(*argv)[1]['port'])

    def test_volume_detach(self) -> None:
        sent = self.sent('volume', 'detach', base.WEB, base.VOLUME)
        self.assertEqual(('detach_volume', {'instance_uuid': base.WEB, 'volume_id': base.VOLUME}), sent)

    def test_interface_attach(self) -> None:
        argv = ('interface', 'attach', base.WEB, base.PORT, '--mac', base.MAC, '--bridge', 'br0', '--mtu', '1400')
        method, arguments = self.sent(*argv)
        self.assertEqual('attach_interface', method)
        port = {'id': base.PORT, 'address': base.MAC, 'vif_type': 'bridge', 'bridge': 'br0', 'mtu': 1400}
        self.assertEqual({'instance_uuid': base.WEB, 'port': port}, arguments)

    def test_a_port_of_open_vswitch(self) -> None:
        argv = ('--mac', base.MAC, '--bridge', 'br-int', '--vif-type', 'ovs', '--vlan', '0')
        _, arguments = self.sent('interface', 'attach', base.WEB, base.PORT, *argv)
        self.assertEqual(('ovs', 0), (arguments['port']['vif_type'], arguments['port']['vlan']))

    def test_ids_that_are_no_uuids(self) -> None:
        nic = ('--mac', base.MAC, '--bridge', 'br0')
        for argv, sent in (
            (('volume', 'attach', base.WEB, 'rootdisk', '--file', '/a'), 'rootdisk'),
            (('volume', 'detach', base.WEB, 'rootdisk'), 'rootdisk'),
            (('interface', 'attach', base.WEB, 'nic_0', *nic), 'nic_0'),
            (('interface', 'detach', base.WEB, 'nic_0'), 'nic_0'),
        ):
            _, arguments = self.sent(*argv)
            port = arguments.get('port', {})
            self.assertEqual(sent, arguments.get('volume_id') or arguments.get('port_id') or port.get('id'))

    def test_interface_attach_port(self) -> None:
        text = f'{{"address": "{base.MAC}", "vif_type": "bridge", "bridge": "br0", "devname": "tap1"}}'
        _, arguments = self.sent('interface', 'attach', base.WEB, base.PORT, '--port', text)
        port = {'id': base.PORT, 'address': base.MAC, 'vif_type': 'bridge', 'bridge': 'br0', 'devname': 'tap1'}
        self.assertEqual(port, arguments['port'])

    def test_hostdev_attach(self) -> None:
        for argv, hostdev in (
            (('--pci', '0000:06:12.5'), {'type': 'pci', 'address': '0000:06:12.5'}),
            (('--mdev', base.VOLUME), {'type': 'mdev', 'uuid': base.VOLUME}),
            (('--usb', '1d6b:0002'), {'type': 'usb', 'vendor': '1d6b', 'product': '0002'}),
            (
                ('--hostdev', '{"type": "pci", "address": "0000:06:12.5", "managed": false}'),
                {'type': 'pci', 'address': '0000:06:12.5', 'managed': False},
            ),
        ):
            sent = self.sent('hostdev', 'attach', base.WEB, 'gpu-1', *argv)
            expected = {'instance_uuid': base.WEB, 'device_id': 'gpu-1', 'hostdev': hostdev}
            self.assertEqual(('attach_hostdev', expected), sent)

    def test_force(self) -> None:
        nic = ('--mac', base.MAC, '--bridge', 'br0')
        for method, argv in (
            ('attach_volume', ATTACH_FILE),
            ('attach_interface', ('interface', 'attach', base.WEB, base.PORT, *nic)),
            ('attach_hostdev', ('hostdev', 'attach', base.WEB, 'gpu-1', '--pci', '0000:06:12.5')),
            ('live_migrate', ('guest', 'migrate', base.WEB, 'qemu+tls://there/system')),
        ):
            without, forced = self.sent(*argv), self.sent(*argv, '--force')
            self.assertEqual((method, {**without[1], 'force': True}), forced)
            self.assertNotIn('force', without[1])

    def test_interface_detach(self) -> None:
        sent = self.sent('interface', 'detach', base.WEB, base.PORT)
        self.assertEqual(('detach_interface', {'instance_uuid': base.WEB, 'port_id': base.PORT}), sent)

    def test_device_detach(self) -> None:
        sent = self.sent('device', 'detach', base.WEB, 'any-id_1')
        self.assertEqual(('detach', {'instance_uuid': base.WEB, 'device_id': 'any-id_1'}), sent)

    def test_guest_by_name_or_uuid_in_any_form(self) -> None:
        for guest in ('web1', base.WEB.upper(), base.WEB.replace('-', '')):
            _, arguments = self.sent('device', 'detach', guest, 'any')
            self.assertEqual(base.WEB, arguments['instance_uuid'])


class BadInputTestCase(base.ShellTestCase):
    """Nothing sent, exit code 2 (5 if there is no such guest), and the option or field by its name."""

    def refused(self, *argv: str, code: int = 2) -> str:
        api = base.FakeComputeAPI()
        result = self.run_command(*argv, api=api)
        self.assertEqual(code, result.code, result.stderr)
        self.assertEqual([], api.casts)
        self.assertEqual('', result.stdout)
        self.assertNotIn('Traceback', result.stderr)
        return result.stderr

    def test_unknown_guest(self) -> None:
        said = self.refused('device', 'detach', 'web2', 'any', code=5)
        self.assertIn("GUEST: host here has no guest named 'web2'", said)

    def test_ambiguous_guest(self) -> None:
        said = self.refused('device', 'detach', 'twin', 'any')
        self.assertIn(f'{base.TWIN_1}, {base.TWIN_2}', said)

    def test_contract(self) -> None:
        volume = ('volume', 'attach', base.WEB)
        interface = ('interface', 'attach', base.WEB, base.PORT, '--bridge', 'br0')
        for field, argv in (
            ('volume_id:', (*volume, 'x/y', '--file', '/a')),
            ('connection_info.data.device_path:', (*volume, base.VOLUME, '--file', 'a')),
            ('connection_info.driver_volume_type: is missing', (*volume, base.VOLUME, '--connection-info', '{}')),
            ('port.address:', (*interface, '--mac', '01:00:00:00:00:00')),
            ('port.mtu:', (*interface, '--mac', base.MAC, '--mtu', '1')),
            ('device_id:', ('device', 'detach', base.WEB, 'a/b')),
        ):
            self.assertIn(field, self.refused(*argv))

    def test_json(self) -> None:
        argv = ('volume', 'attach', base.WEB, base.VOLUME, '--connection-info')
        self.assertIn('--connection-info: is not JSON', self.refused(*argv, '{'))
        # more than Python can read, more than it can handle, and a number that it does not read (issue 13, number 28)
        for depth in (100_000, 900, 100):
            text = '{"data": ' + '[' * depth + ']' * depth + '}'
            self.assertIn('--connection-info: is nested more than 100 levels deep', self.refused(*argv, text))
        self.assertIn('--connection-info: is not JSON: Exceeds the limit', self.refused(*argv, '1' * 5000))
        self.assertIn('--connection-info: is not a JSON object', self.refused(*argv, '[]'))
        self.assertIn('--connection-info: /nowhere: No such file', self.refused(*argv, '@/nowhere'))
        other = json.dumps({'attachment': {'volume_id': base.PORT, 'connection_info': {}}})
        self.assertIn(f"--connection-info: is of volume '{base.PORT}'", self.refused(*argv, other))

    def test_json_file_that_is_no_text(self) -> None:
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'port.json'
        path.write_bytes(b'\xff\xfe\xff')
        said = self.refused('interface', 'attach', base.WEB, base.PORT, '--port', f'@{path}')
        self.assertIn(f'--port: {path}: is not text', said)

    def test_contradictions(self) -> None:
        block = ('volume', 'attach', base.WEB, base.VOLUME, '--block', '/dev/sdz')
        self.assertIn('--file-format:', self.refused(*block, '--file-format', 'raw'))
        self.assertIn('not allowed with', self.refused(*block, '--file', '/a'))
        self.assertIn('--file-format:', self.refused(*block[:4], '--file-format', 'raw'))
        interface = ('interface', 'attach', base.WEB, base.PORT)
        self.assertIn('--mac: is missing', self.refused(*interface, '--bridge', 'br0'))
        self.assertIn('--bridge: is missing', self.refused(*interface, '--mac', base.MAC))
        self.assertIn('--vif-type: cannot', self.refused(*interface, '--port', '{}', '--vif-type', 'bridge'))
        self.assertIn('--port: its id', self.refused(*interface, '--port', '{"id": "x"}'))

    def test_column(self) -> None:
        said = self.refused(*ATTACH_FILE, '-c', 'error')
        self.assertIn("no column 'error'", said)

    def test_to_agents_that_are_too_old_it_is_sent(self) -> None:
        api = base.FakeComputeAPI('running', 'succeeded')
        api.unknown = {'submit'}
        api.submit = None  # type: ignore[assignment,method-assign]
        result = self.run_command(*ATTACH_FILE, '--wait', '-f', 'json', api=api)
        self.assertEqual((0, 'succeeded'), (result.code, result.json['state']))
        self.assertEqual(['attach_volume'], [method for method, _arguments in api.casts])

    def test_a_detach_is_never_forced(self) -> None:
        for kind in ('volume', 'interface', 'device'):
            self.assertIn('--force', self.refused(kind, 'detach', base.WEB, base.VOLUME, '--force'))

    def test_an_agent_that_is_too_old_to_be_forced(self) -> None:
        api = base.FakeComputeAPI()
        api.error = exception.Unsupported(what='attach_volume with force', reason='the agent is too old for that')
        result = self.run_command(*ATTACH_FILE, '--force', api=api)
        self.assertEqual(2, result.code)
        self.assertIn('attach_volume with force is not supported', result.stderr)

    def test_wait_eats_the_guest(self) -> None:
        said = self.refused('volume', 'detach', '--wait', 'web1', base.VOLUME)
        self.assertIn('write --wait last', said)


class WaitTestCase(base.ShellTestCase):
    def test_succeeded(self) -> None:
        api = base.FakeComputeAPI(NOT_ACCEPTED, 'accepted', 'running', 'succeeded')
        result = self.run_command(*ATTACH_FILE, '--wait', '-f', 'json', api=api)
        self.assertEqual((0, ''), (result.code, result.stderr))
        self.assertEqual('succeeded', result.json['state'])
        self.assertIsNone(result.json['error'])
        self.assertEqual({api.contexts[0].operation_id}, set(api.asked))
        self.assertEqual(4, len(api.asked))

    def test_what_is_to_be_repeated_in_nova(self) -> None:
        """After a detach from a guest of Nova, which still has the device in its database."""

        def said(*argv: str, status: object, outcome: str = 'succeeded') -> str:
            def reconcile_status(*_arguments: object) -> list[dict[str, object]]:
                if isinstance(status, Exception):
                    raise status
                return [{'nova': status}] if status is not None else []

            api = base.FakeComputeAPI(outcome)
            api.reconcile_status = reconcile_status  # type: ignore[method-assign,assignment]
            result = self.run_command(*argv, '-f', 'json', '--wait', api=api)
            self.assertEqual(outcome, result.json['state'])
            return result.stderr

        volume = ('volume', 'detach', base.WEB, base.VOLUME)
        self.assertIn(f'openstack server remove volume {base.WEB} {base.VOLUME}\n', said(*volume, status=True))
        port = said('interface', 'detach', base.WEB, base.PORT, status=True)
        self.assertIn(f'openstack server remove port {base.WEB} {base.PORT}\n', port)
        self.assertIn('openstack server remove', said('device', 'detach', base.WEB, 'any', status=True))
        self.assertEqual('', said(*volume, status=False))
        self.assertEqual('', said(*ATTACH_FILE, status=True))
        self.assertNotIn('openstack', said(*volume, status=True, outcome='failed'))
        # It is detached, whatever becomes of the question after it.
        self.assertIn('cannot tell whether', said(*volume, status=None))
        self.assertIn('cannot tell whether', said(*volume, status=sending.NoAnswer('gone')))

    def test_failed(self) -> None:
        result = self.run_command(*ATTACH_FILE, '-f', 'json', '--wait', api=base.FakeComputeAPI('running', 'failed'))
        self.assertEqual(1, result.code)
        self.assertEqual('failed', result.json['state'])
        self.assertEqual('DeviceConflict: the target vdb is taken\n', result.stderr)

    def test_timed_out(self) -> None:
        begin = time.monotonic()
        result = self.run_command(*ATTACH_FILE, '--wait=0.3', api=base.FakeComputeAPI(NOT_ACCEPTED, 'running'))
        self.assertEqual((4, ''), (result.code, result.stdout))
        self.assertIn('not finished after 0.3 s (state: running)', result.stderr)
        self.assertThat(time.monotonic() - begin, between(0.3, 3))

    def test_timed_out_before_it_was_accepted(self) -> None:
        result = self.run_command(*ATTACH_FILE, '--wait=0.2', api=base.FakeComputeAPI(NOT_ACCEPTED))
        self.assertEqual(4, result.code)
        self.assertIn('not accepted yet', result.stderr)

    def test_agent_goes_away(self) -> None:
        api = base.FakeComputeAPI('running', sending.NoAnswer('no answer'))
        result = self.run_command(*ATTACH_FILE, '--wait', api=api)
        self.assertEqual(3, result.code)
        self.assertIn('host here did not answer', result.stderr)
        self.assertIn(f'Operation {api.contexts[0].operation_id} was sent', result.stderr)

    def test_answer_that_never_comes_does_not_outlast_the_wait(self) -> None:
        api = base.FakeComputeAPI()
        api.get_operation = lambda *_: time.sleep(30)  # type: ignore[assignment,method-assign]
        begin = time.monotonic()
        result = self.run_command(*ATTACH_FILE, '--wait=0.2', api=api)
        self.assertEqual(4, result.code)
        self.assertIn('did not report its state in time', result.stderr)
        self.assertThat(time.monotonic() - begin, between(0.2, 5))


class UnreachableTestCase(base.ShellTestCase):
    def said(self, error: Exception) -> str:
        api = base.FakeComputeAPI()
        api.error = error
        result = self.run_command(*ATTACH_FILE, '--wait', api=api)
        self.assertEqual((3, ''), (result.code, result.stdout))
        self.assertNotIn('Traceback', result.stderr)
        return result.stderr

    def test_no_agent(self) -> None:
        said = self.said(base.undeliverable())
        self.assertIn('no agent for host here listens: is aliasagent-compute running there', said)

    def test_broker(self) -> None:
        self.assertIn('refused: gone. Check transport_url', self.said(sending.BrokerError('gone')))
        self.assertIn('did not answer within 3 s', self.said(sending.BrokerSilent(3)))

    def test_a_request_that_may_have_arrived(self) -> None:
        for error in (sending.BrokerError('gone'), base.undeliverable(), sending.BrokerUnreachable('a:1: gone')):
            self.assertNotIn('may have accepted', self.said(error))
            error.may_have_arrived = True
            said = self.said(error)
            self.assertIn('may have been sent; the agent may have accepted it as operation', said)
            self.assertNotIn('refused', said)

    def test_silent_broker(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.shell.remote.agent.CONNECT_SECONDS', 0.1))
        api = base.FakeComputeAPI()
        api.list_instances = lambda *_: time.sleep(30)  # type: ignore[assignment,method-assign]
        result = self.run_command('guest', 'list', api=api, timeout=0.1)
        self.assertEqual(3, result.code)
        self.assertIn('did not answer within 0.2 s', result.stderr)

    def test_no_broker(self) -> None:
        said = self.said(sending.BrokerUnreachable('127.0.0.1:1: Connection refused'))
        self.assertIn('the message broker cannot be reached (127.0.0.1:1: Connection refused): is RabbitMQ', said)
