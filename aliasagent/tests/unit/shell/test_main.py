# SPDX-License-Identifier: Apache-2.0
"""The command as a whole: its lists, its options, its words."""

import argparse
import csv
import errno
import logging
import pathlib
import re
import traceback
from typing import Any

import fixtures
import testtools
from oslo_config import fixture as config_fixture
from oslotest import base as test_base

from aliasagent import conf
from aliasagent import exception
from aliasagent.client import amqp
from aliasagent.client import sending
from aliasagent.shell import errors
from aliasagent.shell.remote import connection
from aliasagent.shell.remote import messaging
from aliasagent.tests.unit.conf import test_messaging
from aliasagent.tests.unit.shell import base


class ListTestCase(base.ShellTestCase):
    def test_guests(self) -> None:
        result = self.run_command('guest', 'list', '-f', 'json')
        self.assertEqual(0, result.code)
        self.assertEqual({'uuid': base.WEB, 'name': 'web1', 'state': 'running', 'persistent': True}, result.json[0])

    def test_devices(self) -> None:
        result = self.run_command('device', 'list', 'web1', '-f', 'json')
        self.assertEqual(0, result.code)
        named, nameless = result.json
        self.assertEqual(['id', 'kind', 'alias', 'target', 'live', 'persistent'], list(named))
        self.assertEqual(f'ua-{base.VOLUME}', named['alias'])
        self.assertIs(True, named['live'])
        self.assertIs(False, named['persistent'])
        self.assertIsNone(nameless['id'])

    def test_kinds(self) -> None:
        def shown(*options: str) -> list[str]:
            return [row['kind'] for row in self.run_command('device', 'list', 'web1', '-f', 'json', *options).json]

        self.assertEqual(['interface'], shown('--kind', 'interface'))
        self.assertEqual(['disk', 'interface'], shown('--kind', 'interface', '--kind', 'disk'))
        self.assertEqual([], shown('--kind', 'nothing'))

    def test_formats(self) -> None:
        for name in ('json', 'yaml', 'csv', 'value', 'table'):
            result = self.run_command('device', 'list', base.WEB, '-f', name)
            self.assertEqual(0, result.code, result.stderr)
            self.assertIn(base.VOLUME, result.stdout)
        table = self.run_command('device', 'list', base.WEB).stdout
        self.assertIn(' -  ', table)
        self.assertNotIn('None', table)
        rows = list(csv.reader(self.run_command('device', 'list', base.WEB, '-f', 'csv').stdout.splitlines()))
        self.assertEqual(3, len(rows))

    def test_unknown_guest(self) -> None:
        result = self.run_command('device', 'list', base.TWIN_1)
        self.assertEqual(5, result.code)
        self.assertEqual(f'instance {base.TWIN_1} is not on this host\n', result.stderr)

    def test_agent_in_trouble(self) -> None:
        api = base.FakeComputeAPI()
        api.error = base.rebuilt(exception.HypervisorUnavailable(reason='connection refused'))
        result = self.run_command('guest', 'list', api=api)
        self.assertEqual(1, result.code)
        expected = 'HypervisorUnavailable: the hypervisor cannot be reached: connection refused\n'
        self.assertEqual(expected, result.stderr)

    def test_agent_with_a_bug(self) -> None:
        api = base.FakeComputeAPI()
        api.error = sending.RemoteError('KeyError', 'name')
        result = self.run_command('guest', 'list', api=api)
        self.assertEqual((1, 'the agent answered with KeyError: name\n'), (result.code, result.stderr))


class OptionsTestCase(base.ShellTestCase):
    def test_given(self) -> None:
        argv = ('--host', 'there', '--config-file', 'a', '--config-file', 'b', '--timeout', '7', 'guest', 'list')
        self.assertEqual(0, self.run_command(*argv).code)
        found = {name: getattr(self.options, name) for name in ('host', 'config_file', 'timeout', 'transport_url')}
        self.assertEqual({'host': 'there', 'config_file': ['a', 'b'], 'timeout': 7, 'transport_url': None}, found)

    def test_no_command(self) -> None:
        result = self.run_command()
        self.assertEqual(2, result.code)
        self.assertIn('no command given', result.stderr)

    def test_unknown_command(self) -> None:
        self.assertEqual(2, self.run_command('volume', 'eat').code)
        for words in (('bogus',), ('bogus', 'list')):
            done = self.run_command('help', *words)
            self.assertEqual(2, done.code)
            self.assertEqual(
                f'there is no command {" ".join(words)!r}; "aliasagent help" lists all commands\n', done.stderr
            )

    def test_timeout(self) -> None:
        for text in ('0', '-1', '1.5', 'soon'):
            self.assertEqual(2, self.run_command('--timeout', text, 'guest', 'list').code)

    def test_help_connects_to_nothing(self) -> None:
        result = self.run_command('--help')
        self.assertEqual(0, result.code)
        self.assertIn('exit codes:', result.stdout)
        self.assertIn('volume attach', result.stdout)
        for command in ('guest list', 'device list', 'device detach', 'volume attach', 'volume detach'):
            shown = self.run_command(*command.split(), '--help')
            self.assertEqual(0, shown.code)
            self.assertIn(f'usage: aliasagent {command}', shown.stdout)
        self.assertIsNone(self.options)


class LoggingTestCase(base.ShellTestCase):
    """What libraries log is not for everybody."""

    def said(self, *argv: str) -> str:
        class Talkative(base.FakeComputeAPI):
            def list_instances(self, ctxt: Any) -> list[dict[str, Any]]:
                logging.getLogger('oslo.messaging').error('from the library')
                return super().list_instances(ctxt)

        return self.run_command(*argv, 'guest', 'list', api=Talkative()).stderr

    def test_quiet(self) -> None:
        self.assertEqual('', self.said())

    def test_verbose(self) -> None:
        self.assertIn('from the library', self.said('-v'))

    def test_file(self) -> None:
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'log'
        self.assertEqual('', self.said('--log-file', str(path)))
        self.assertIn('from the library', path.read_text())

    def test_a_file_that_cannot_be_written(self) -> None:
        for more in ((), ('--debug',)):
            done = self.run_command(*more, '--log-file', '/no/such/log', 'guest', 'list')
            expected = (2, '', '--log-file: /no/such/log: No such file or directory\n')
            self.assertEqual(expected, (done.code, done.stdout, done.stderr))

    def test_debug_shows_where(self) -> None:
        api = base.FakeComputeAPI()
        api.error = base.undeliverable()
        result = self.run_command('--debug', 'guest', 'list', api=api)
        self.assertEqual(3, result.code)
        self.assertIn('Traceback', result.stderr)

    def test_bug_of_ours(self) -> None:
        api = base.FakeComputeAPI()
        api.error = KeyError('name')
        result = self.run_command('guest', 'list', api=api)
        self.assertEqual(1, result.code)
        self.assertIn('unexpected KeyError', result.stderr)


class ConnectionTestCase(test_base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.useFixture(config_fixture.Config(conf.CONF))
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def connect(self, **given: Any) -> Any:
        options = {'host': None, 'config_file': [], 'transport_url': 'kombu+memory://', 'timeout': None} | given
        return connection.connect(argparse.Namespace(**options))

    def config_file(self, text: str) -> str:
        path = self.directory / 'aliasagent.conf'
        path.write_text(text)
        return str(path)

    def test_configuration(self) -> None:
        text = '[DEFAULT]\nhost = there\ntransport_url = rabbit://guest:guest@broker:5673/\nrpc_response_timeout = 9\n'
        found = self.connect(config_file=[self.config_file(text)], transport_url=None)
        self.assertEqual(('there', 9, [('broker', 5673)]), (found.host, found.timeout, found._brokers))

    def test_options_win(self) -> None:
        text = '[DEFAULT]\nhost = there\ntransport_url = rabbit://broker/\n'
        found = self.connect(
            config_file=[self.config_file(text)], host='elsewhere', timeout=3, transport_url='rabbit://a,b:7/'
        )
        expected = ('elsewhere', 3, [('a', 5672), ('b', 7)])
        self.assertEqual(expected, (found.host, found.timeout, found._brokers))

    def test_reply_queues_do_not_pile_up(self) -> None:
        path = self.config_file('[oslo_messaging_rabbit]\nrabbit_transient_queues_ttl = 600\n')
        for files, seconds in (([], 60), ([path], 600)):
            found = self.connect(config_file=files, transport_url='rabbit://broker/')
            self.assertEqual({'x-expires': 1000 * seconds}, found.api._sender._settings.reply_arguments)
            found = self.connect(config_file=files, transport_url='rabbit://broker/?rpc_conn_pool_size=20')
            self.assertIsInstance(found.api._sender, messaging.Messaging)
            self.assertEqual(seconds, conf.CONF.oslo_messaging_rabbit.rabbit_transient_queues_ttl)

    def test_what_only_oslo_messaging_does(self) -> None:
        def sender(url: str, text: str = '') -> Any:
            return self.connect(transport_url=url, config_file=[self.config_file(text)]).api._sender

        rabbit = '[oslo_messaging_rabbit]\n'
        for url in ('rabbit://a,b:7/v', 'rabbit://', 'rabbit://[::1]:7//'):
            self.assertIsInstance(sender(url, f'{rabbit}rabbit_transient_quorum_queue = true\n'), amqp.Amqp)
        for url in ('fake:/', 'kombu+memory://', 'rabbit://a/?ssl=true', 'rabbit://a/50%25'):
            self.assertIsInstance(sender(url), messaging.Messaging)
        for option in ('kombu_compression = gzip', 'kombu_failover_strategy = shuffle', 'rabbit_ha_queues = true'):
            found = sender('rabbit://a:7,b/', f'{rabbit}{option}\n')
            self.assertIsInstance(found, messaging.Messaging)
            self.assertEqual([('a', 7), ('b', 5672)], found.addresses)

    def test_unreadable_configuration(self) -> None:
        for path in (str(self.directory / 'nothing'), self.config_file('no option here')):
            with testtools.ExpectedException(errors.BadInput, f'.*{re.escape(path)}'):
                self.connect(config_file=[path])

    def advice(self, **given: Any) -> str:
        found: str = self.connect(**given)._advice
        return found

    def test_where_the_address_of_the_broker_comes_from(self) -> None:
        path = self.config_file('[DEFAULT]\ntransport_url = rabbit://broker/\n')
        self.assertIn(f'transport_url in {path}', self.advice(config_file=[path], transport_url=None))
        path = self.config_file('[DEFAULT]\nhost = there\n')
        self.assertIn(f'transport_url is not set in {path}', self.advice(config_file=[path], transport_url=None))
        self.assertIn(f'not set in {path}: set it', self.advice(config_file=[path, path], transport_url=None))
        with fixtures.EnvironmentVariable('OS_DEFAULT__TRANSPORT_URL', 'rabbit://broker/'):
            self.assertIn('OS_DEFAULT__TRANSPORT_URL', self.advice(config_file=[path], transport_url=None))
        self.assertEqual('Check --transport-url', self.advice(config_file=[path], transport_url='rabbit://a/'))

    def discover(self, *files: str) -> None:
        """Have oslo.config look for configuration files in a directory of this test's own only, as in /etc."""
        for name in files:
            path = self.directory / 'etc' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('[DEFAULT]\nhost = found\ntransport_url = rabbit://found/\n')
        self.useFixture(
            fixtures.MonkeyPatch(
                'oslo_config.cfg._get_config_dirs',
                lambda project=None: [str(self.directory / 'etc' / (project or '')), str(self.directory / 'etc')],
            )
        )

    def test_the_configuration_of_the_agent_is_found(self) -> None:
        self.discover('aliasagent/aliasagent.conf')
        found = self.connect(transport_url=None)
        self.assertEqual(('found', [('found', 5672)]), (found.host, found._brokers))

    def test_there_is_no_configuration(self) -> None:
        self.discover()
        self.assertIn('No configuration was found: give --transport-url', self.advice(transport_url=None))

    def test_a_configuration_that_may_not_be_read(self) -> None:
        def refuse(_self: object) -> None:
            raise PermissionError(errno.EACCES, 'Permission denied', '/etc/aliasagent/aliasagent.conf')

        self.useFixture(fixtures.MonkeyPatch('oslo_config.cfg.ConfigParser.parse', refuse))
        with testtools.ExpectedException(errors.BadInput, '.*run the command as root'):
            self.connect(config_file=[self.config_file('[DEFAULT]\n')])

    def test_bad_url(self) -> None:
        for url in ('nonsense', 'nodriver://', 'rabbit://host:port/', *test_messaging.BAD_URLS):
            error = self.assertRaises(errors.BadInput, self.connect, transport_url=url)
            self.assertIn('transport_url', str(error))
            self.assertNotIn(test_messaging.MARK, ''.join(traceback.format_exception(error)))

    def test_a_bad_url_of_the_configuration_is_not_asked_for_if_another_is_given(self) -> None:
        path = self.config_file('[DEFAULT]\ntransport_url = rabbit://a:b#c@broker/\n')
        found = self.connect(config_file=[path], transport_url='rabbit://there/')
        self.assertEqual([('there', 5672)], found._brokers)

    def test_what_is_needed_of_the_configuration_is_understood(self) -> None:
        for text in (
            '[DEFAULT]\nhost = bad host!\n',
            '[DEFAULT]\nrpc_response_timeout = soon\n',
            '[upgrade_levels]\ncompute = newest\n',
            '[oslo_messaging_rabbit]\nrabbit_qos_prefetch_count = ten\n',
        ):
            path = self.config_file(text)
            with testtools.ExpectedException(errors.BadInput, f'.*from {re.escape(path)} is not valid'):
                self.connect(config_file=[path], transport_url='rabbit://')
        self.connect(config_file=[self.config_file('[unplug]\ntimeout = 20s\n')])
