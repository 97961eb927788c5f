# SPDX-License-Identifier: Apache-2.0
"""What is secret in a request or in the options is told nowhere."""

import base64
import io
import json
import logging
import pathlib
import urllib.request
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg

from aliasagent import conf
from aliasagent import exception
from aliasagent.client import rpc
from aliasagent.conf import keyring
from aliasagent.context import RequestContext
from aliasagent.shell import main
from aliasagent.shell.remote import agent as shell_agent
from aliasagent.tests.contract import agent_operations
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.functional import test_agent
from sandbox import processes

#: Part of every secret that is sent here, and of nothing else.
MARK = 'x7Qm-hush'
#: What Cinder's drivers send of secrets, or might.
SECRETS: dict[str, Any] = {
    'auth_password': f'{MARK}-chap',
    'discovery_auth_password': f'{MARK}-discovery',
    'keyring': f'[client.cinder]\n\tkey = {MARK}-keyring',
    'serverToken': f'{MARK}-token',
    'access_key': f'{MARK}-access',
    'secretKey': f'{MARK}-key',
    'client_secret': f'{MARK}-client',
    'dhchap_ctrl': f'{MARK}-dhchap',
    'options': f'username=a,password={MARK}-options',
    'volume_url': f'https://a:{MARK}-url@192.0.2.1/',
    'initiators': [{'login': [f'{MARK}-login']}],
    'x': {'y': {'z': f'{MARK}-deep'}},
}
#: The key of the Ceph user that the agent has, and its text in the keyring.
KEY = f'{MARK}-cephx'.encode()
KEY_TEXT = base64.b64encode(KEY).decode()
CHAP = {
    'target_portal': '192.0.2.1:3260',
    'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
    'target_lun': 1,
    'auth_method': 'CHAP',
    'auth_username': 'chap-user',
    'secret_uuid': '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed',
}
RBD = {
    'name': 'volumes/volume-1',
    'hosts': ['192.0.2.2'],
    'ports': ['6789'],
    'auth_enabled': True,
    'auth_username': 'cinder',
    'secret_type': 'ceph',
    'secret_uuid': '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed',
}


def connection(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """A ``connection_info`` that has secrets wherever there may be something more."""
    more = {
        'encryption': {'provider': 'luks', 'secret_uuid': CHAP['secret_uuid'], 'passphrase': f'{MARK}-luks'},
        'qos_specs': {'read_iops_sec': '100', 'password': f'{MARK}-qos'},
    }
    info = {'driver_volume_type': kind, 'data': {**data, **more, **SECRETS}}
    return {**info, **SECRETS, 'connector': {'password': f'{MARK}-connector'}, 'disk': {'cache': 'none'}}


def flat(info: dict[str, Any]) -> dict[str, Any]:
    """The same as Cinder's attachments API answers it, with the secrets beside all else."""
    return {**{name: value for name, value in info.items() if name != 'data'}, **info['data']}


class SecretsTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        # all that is logged, by whomever
        self.logged = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG, format='%(name)s %(message)s'))
        super().setUp()
        self.told: dict[str, str] = {}
        self.listener = agent_operations.Listener()
        self.listener.start(self.transport.conf.transport_url)
        self.addCleanup(self.listener.stop)
        self.guest = self.side.new_guest()

    def start_agent(self, host: str) -> None:
        self.metrics_port = processes.free_port()
        self.keyring = self.directory / 'keyring'
        self.keyring.write_text(f'[client.cinder]\n\tkey = {KEY_TEXT}\n')
        for name, value, group in (
            ('port', self.metrics_port, 'metrics'),
            ('user', 'cinder', 'ceph'),
            ('keyring', str(self.keyring), 'ceph'),
        ):
            conf.CONF.set_override(name, value, group)
            self.addCleanup(conf.CONF.clear_override, name, group)
        super().start_agent(host)

    def volume(self, info: Any, **more: Any) -> dict[str, Any]:
        return {'volume_id': harness.new_id(), 'connection_info': info, 'disk_bus': 'scsi', **more}

    def make(self, arguments: dict[str, Any], method: str = 'attach_volume') -> str:
        """Make a request in each way there is, with a context that has secrets; the outcome of the cast."""
        ctxt = {'operation_id': harness.new_id(), 'auth_token': f'{MARK}-context', 'password': f'{MARK}-context'}
        rpc.client(self.transport, '1.0').prepare(server=self.host_name).cast(ctxt, method, **arguments)
        operation = self.wait(self.api(), ctxt['operation_id'])
        try:
            self.api().submit(RequestContext(auth_token=f'{MARK}-token'), method, **arguments)
        except exception.AliasAgentError as error:
            self.tell('errors', f'{error} {error.kwargs}')
        return str(operation['state'])

    def tell(self, where: str, what: str) -> None:
        self.told[where] = f'{self.told.get(where, "")}{what}\n'

    def requests(self) -> None:
        """Requests that end in each way."""
        file = {'device_path': self.side.new_file()}
        here = {'instance_uuid': self.guest}
        volume = self.volume(connection('file', file))
        self.assertEqual('succeeded', self.make({**here, **volume}))
        for kind, data in (('iscsi', CHAP), ('rbd', RBD), ('nbd', {'host': '192.0.2.3'})):
            asked = {**here, **self.volume(connection(kind, data))}
            self.assertEqual('succeeded', self.make(asked))
            self.assertEqual('succeeded', self.make({**asked, 'connection_info': flat(asked['connection_info'])}))
        # With the key of the agent, whose secret libvirt has, loses, and does not take.

        def ours(name: str, **more: Any) -> dict[str, Any]:
            return {**here, **self.volume(connection('rbd', {**RBD, 'name': name, 'secret_uuid': None, **more}))}

        self.assertEqual('succeeded', self.make(ours('volumes/ours-1')))
        self.assertEqual([KEY], [secret.value for secret in self.side.fake.secrets.stored.values()])
        self.side.fake.drop_connections()
        self.side.fake.fail_next('secret.setValue', errors.internal('no room'), 2)
        self.assertEqual('succeeded', self.make(ours('volumes/ours-2')))
        self.assertEqual('failed', self.make(ours('volumes/ours-3', auth_username='glance')))
        for text in (KEY_TEXT, f'[client.cinder]\nkey = {MARK}\n', f'[client.cinder]\nkey = {KEY_TEXT}\nkey = AAAA\n'):
            self.keyring.write_text(text)
            self.services[0]._ceph.use(self.services[0]._ceph.login)
            refused = self.assertRaises(cfg.Error, keyring.login, conf.CONF)
            self.tell('errors', f'{refused} {refused!r}')
        nowhere = {'instance_uuid': harness.new_id()}
        taken = self.volume(connection('rbd', RBD), device_name='/dev/sda')
        for failing in (
            {**nowhere, **volume},
            {**here, **taken},
            {**here, **volume, 'connection_info': connection('rbd', RBD)},
        ):
            self.assertEqual('failed', self.make(failing))
        for info in (
            MARK,
            [MARK],
            {**connection('iscsi', CHAP), 'data': MARK},
            {**connection('iscsi', CHAP), 'data': [SECRETS]},
            {**connection('iscsi', CHAP), 'disk': {'password': MARK}},
            {**connection('iscsi', CHAP), 'disk': MARK},
            connection('iscsi', {**CHAP, 'secret_uuid': None}),
            flat(connection('iscsi', {**CHAP, 'secret_uuid': None})),
            flat(connection('iscsi', {**CHAP, 'auth_method': MARK, 'auth_username': [MARK]})),
            flat(connection('nvmeof', {'key': MARK})),
            connection('iscsi', {**CHAP, 'secret_uuid': MARK}),
            connection('iscsi', {**CHAP, 'auth_method': MARK}),
            connection('rbd', {**RBD, 'auth_username': [MARK]}),
            connection('file', {'device_path': '/no/such/file'}),
            connection('file', {'device_path': '/etc/shadow'}),
            connection('nbd', {'socket': '/etc/shadow'}),
        ):
            self.assertEqual('failed', self.make({**here, **self.volume(info)}))
        for uri in (
            f'qemu+ssh://a:{MARK}@there/system',
            f'xqemu+ssh://a:{MARK}@there/system',
            f'qemu+ssh:a:{MARK}@there/system',
            f'qemu+ssh://a:{MARK}@there/system ',
            f'qemu+ssh://a:{MARK}@there/system\n',
            f'qemu+tls://there:{MARK}/system',
            f'qemu+tls://there/system?password={MARK}',
            f'qemu+ssh://there/system?no_tty={MARK};x={MARK}',
            f'qemu+ssh://there/system?{MARK}',
            f'qemu+ssh://there/system#{MARK}',
            f'a:{MARK}@{"x" * 1000}',
        ):
            for address in ({'dest_uri': uri}, {'dest_uri': 'qemu+tls://10.0.0.2/system', 'migrate_uri': uri}):
                self.assertEqual('failed', self.make({**here, **address}, 'live_migrate'))
        client = rpc.client(self.transport, '1.0', timeout=10).prepare(server=self.host_name)
        for method, version in (('no_such_method', '1.0'), ('attach_volume', '9.0'), ('list_instances', '1.0')):
            try:
                client.prepare(version=version).call(RequestContext(), method, **here, **volume)
            except (oslo_messaging.RPCDispatcherError, oslo_messaging.RemoteError, exception.AliasAgentError) as error:
                self.tell('errors', str(error))
            else:
                self.fail(f'{method} {version} was done')

    def look(self) -> dict[str, str]:
        """All places where something is told, by their name. Whatever is added to them belongs here."""
        api = self.api()
        operations = api.list_operations(RequestContext(), limit=1000)
        self.assertLess(20, len(operations))
        ids = {operation['id'] for operation in operations}
        self.wait_heard(ids)
        conf.CONF.log_opt_values(logging.getLogger('aliasagent'), logging.DEBUG)
        with urllib.request.urlopen(f'http://127.0.0.1:{self.metrics_port}/metrics', timeout=harness.SOON) as page:
            metrics = page.read().decode()
        return {
            **self.told,
            'log': self.logged.output,
            'notifications': json.dumps(self.listener.heard),
            'operations': json.dumps([operations, [api.get_operation(RequestContext(), it) for it in sorted(ids)]]),
            'operation list': self.command('operation', 'list'),
            'operation show': ''.join(self.command('operation', 'show', it) for it in sorted(ids)),
            'metrics': metrics,
            'definitions': ''.join(self.xml(self.guest)),
            **{path.name: path.read_bytes().decode('latin-1') for path in self.directory.glob('*.sqlite*')},
        }

    def wait_heard(self, ids: set[str]) -> None:
        def heard() -> bool:
            ended = {p['operation_id'] for _by, event, p in self.listener.heard if not event.endswith('.start')}
            return ids <= ended

        processes.wait_until(heard, harness.SOON, 'the notifications')

    def command(self, *argv: str) -> str:
        """Run the command, as talkative as it can be, and return all that it says."""
        api, out = self.api(), io.StringIO()
        app = main.AliasAgentApp(lambda _options: shell_agent.Agent(api, timeout=10), stdout=out, stderr=out)
        handlers, level = list(app.LOG.handlers), logging.getLogger().level
        try:
            with fixtures.MonkeyPatch('sys.stdout', out), fixtures.MonkeyPatch('sys.stderr', out):
                self.assertEqual(0, app.run(['--debug', *argv, '-f', 'json']))
        finally:
            app.LOG.handlers = handlers
            logging.getLogger().setLevel(level)
        return out.getvalue()

    def test_no_secret_is_told_anywhere(self) -> None:
        for name, group in (('transport_url', None), ('transport_url', 'oslo_messaging_notifications')):
            # Only to be logged: all connections have been made.
            conf.CONF.set_override(name, f'rabbit://aliasagent:{MARK}-broker@127.0.0.1:1/', group)
            self.addCleanup(conf.CONF.clear_override, name, group)
        self.requests()
        looked = self.look()
        marks = (MARK, KEY_TEXT, KEY_TEXT[:8])
        self.assertEqual([], [where for where, text in looked.items() if any(mark in text for mark in marks)])
        # and something was told in each
        for where, words in (
            ('log', 'oslo_messaging_notifications.transport_url'),
            ('log', 'Refused attach_volume'),
            ('log', 'Failed: attach_volume'),
            ('log', 'The key of the Ceph user cinder is not given to libvirt: define the secret'),
            ('log', 'ceph.keyring'),
            ('errors', '[ceph] keyring'),
            ('errors', 'secret_uuid'),
            ('notifications', 'instance.volume_attach.error'),
            ('operations', 'connection_info.data'),
            ('operation list', '"failed"'),
            ('operation show', 'connection_info.data'),
            ('metrics', 'attach_volume'),
            ('definitions', CHAP['target_iqn']),
            ('first.sqlite-wal', CHAP['target_iqn']),
        ):
            self.assertIn(str(words), looked[where], where)

    def test_a_secret_would_be_found(self) -> None:
        """What is looked through holds what was asked: a name that is no secret is seen in each place."""
        name = 'iqn.2010-10.org.openstack:seen'
        info = {'driver_volume_type': 'iscsi', 'data': {**CHAP, 'target_iqn': name}}
        arguments = {'instance_uuid': self.guest, **self.volume(info)}
        self.assertEqual('succeeded', self.make(arguments))
        files = [path for path in pathlib.Path(self.directory).glob('*.sqlite*') if name.encode() in path.read_bytes()]
        self.assertEqual(['first.sqlite-wal'], [path.name for path in files])
