# SPDX-License-Identifier: Apache-2.0
"""How the client reads where the brokers are, and what it does not do without oslo.messaging."""

import pathlib
import ssl
import types
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import impl_rabbit

from aliasagent.client import brokers
from aliasagent.client import options
from aliasagent.messaging import rabbit
from aliasagent.tests import base
from aliasagent.tests.unit.conf import test_messaging

URLS = (
    'rabbit://',
    'rabbit:///',
    'rabbit://broker',
    'rabbit://broker/',
    'rabbit://broker//',
    'rabbit://broker/nova',
    'rabbit://broker:7/nova/x',
    'rabbit://u@broker:7/a%20b%2Fc',
    'rabbit://u:p@broker:7',
    'rabbit://u:@broker:7/',
    'rabbit://u%40a:p%2F%3A%23%25@broker/',
    'rabbit://u@a:p@broker/',
    'rabbit://u:p@a:1,u2:p2@b:2,u3:p3@c/v',
    'rabbit://a,b:7,,c/',
    'kombu://u:p@[::1]:7/',
    'rabbit://u:p@2001:db8::1/',
    'rabbit://u:p@:7/',
    'RABBIT://u:p@Broker/',
    'fake:/',
    'fake://',
    'kombu+memory://',
    'rabbit://u:p@broker/?ssl=true&x=1',
)


#: Refused by the urllib of some Pythons, for oslo.messaging and for us.
SEVERAL_IN_BRACKETS = 'kombu://u:p@[2001:db8::1],[::1]/'


class ParseTestCase(base.TestCase):
    def test_several_addresses_in_brackets(self) -> None:
        try:
            oslo_messaging.TransportURL.parse(cfg.CONF, SEVERAL_IN_BRACKETS)
        except ValueError:
            self.assertRaises(brokers.BadURL, brokers.parse, SEVERAL_IN_BRACKETS)
        else:
            self.assert_as_oslo_messaging(SEVERAL_IN_BRACKETS)

    def test_as_oslo_messaging(self) -> None:
        for text in URLS:
            self.assert_as_oslo_messaging(text)

    def assert_as_oslo_messaging(self, text: str) -> None:
        theirs, ours = oslo_messaging.TransportURL.parse(cfg.CONF, text), brokers.parse(text)
        hosts = [(it.hostname or '', it.port, it.username or '', it.password or '') for it in theirs.hosts]
        self.assertEqual(
            (theirs.transport, hosts or [('', None, '', '')], theirs.virtual_host or '', bool(theirs.query)),
            (
                ours.driver,
                [(it.host, it.port, it.user, it.password) for it in ours.brokers],
                ours.virtual_host,
                bool(ours.query),
            ),
            text,
        )

    def test_not_valid(self) -> None:
        for text in (
            *('', 'nonsense', 'rabbit://a:b/', 'rabbit://a:/', 'rabbit://[::1/', 'rabbit://[::1]:/', 'rabbit://[::1]7/'),
            'rabbit://nova:31337#x@broker:5672/',
            *test_messaging.BAD_URLS,
        ):
            error = self.assertRaises(brokers.BadURL, brokers.parse, text)
            self.assertNotIn(test_messaging.MARK, str(error))

    def test_no_password_is_shown(self) -> None:
        self.assertNotIn('hush', repr(brokers.parse('rabbit://u:hush@broker/?p=hush')))

    def test_defaults(self) -> None:
        broker = brokers.Broker()
        self.assertEqual((('localhost', 5672), ('guest', 'guest')), (broker.address, broker.account))


class SettingsTestCase(base.TestCase):
    def settings(self, url: str = 'rabbit://', **rabbit_options: Any) -> brokers.Settings:
        return brokers.read(self.conf(url, **rabbit_options))

    def conf(self, url: str, **rabbit_options: Any) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        options.register(conf)
        path = pathlib.Path(self.make_directory()) / 'conf'
        lines = [f'{name} = {value}' for name, value in rabbit_options.items()]
        path.write_text('\n'.join(['[DEFAULT]', f'transport_url = {url}', f'[{options.RABBIT}]', *lines]))
        conf([], default_config_files=[str(path)])
        return conf

    def test_reply_queues(self) -> None:
        # as oslo.messaging makes the queues of topics, whose options are the others
        for quorum in ('false', 'true'):
            conf = self.conf(
                'rabbit://',
                rabbit_transient_quorum_queue=quorum,
                rabbit_quorum_queue=quorum,
                rabbit_quorum_delivery_limit=1,
                rabbit_quorum_max_memory_bytes=2,
                rabbit_quorum_max_memory_length=3,
                rabbit_transient_queues_ttl=0,
            )
            self.assertEqual(
                rabbit.queue_arguments(conf[options.RABBIT]), brokers.read(conf).reply_arguments
            )
        self.assertEqual({'x-expires': 5000}, self.settings(rabbit_transient_queues_ttl=5).reply_arguments)

    def test_durable(self) -> None:
        self.assertTrue(self.settings().durable)
        self.assertFalse(self.settings(amqp_durable_queues=False).durable)
        self.assertTrue(self.settings(amqp_durable_queues=False, rabbit_quorum_queue=True).durable)

    def test_virtual_host(self) -> None:
        for url, name in (('rabbit://a', '/'), ('rabbit://a/', '/'), ('rabbit://a//', '/'), ('rabbit://a/b', 'b')):
            self.assertEqual(name, self.settings(url).virtual_host)

    def test_what_is_left_to_oslo_messaging(self) -> None:
        for url in ('fake:/', 'kombu+memory://', 'rabbit://a/?ssl=1', 'rabbit://a/b%25', 'amqp://a/', 'kombu://a/'):
            self.assertRaises(brokers.LeftToMessaging, self.settings, url)

    def test_a_value_that_is_not_valid(self) -> None:
        for name in ('ssl', 'rabbit_qos_prefetch_count', 'rabbit_login_method'):
            error = self.assertRaises(cfg.Error, self.settings, **{name: 'perhaps'})
            self.assertIn(name, str(error))

    def test_tls(self) -> None:
        directory = pathlib.Path(self.make_directory())
        ca, certificate, key = (directory / name for name in ('ca', 'certificate', 'key'))
        for path in (ca, certificate, key):
            path.touch()
        self.assertIs(False, self.settings(ssl_ca_file=ca).tls)
        self.assertIs(True, self.settings(ssl=True).tls)
        files = {'ssl_ca_file': ca, 'ssl_cert_file': certificate, 'ssl_key_file': key}
        expected: dict[str, Any] = {'ca_certs': str(ca), 'certfile': str(certificate), 'keyfile': str(key)}
        expected['cert_reqs'] = ssl.CERT_REQUIRED
        urls = (('rabbit://', None), ('rabbit://a/', 'a'), ('rabbit://[::1]/', '::1'), ('rabbit://a,b/', None))
        for url, host in urls:
            expected['server_hostname'] = host
            self.assertEqual(expected, self.settings(url, ssl=True, **files).tls)
            # Releases of oslo.messaging before 18 check no name.
            if hasattr(impl_rabbit.Connection, '_get_ssl_server_hostname'):
                paths = {name: str(path) for name, path in files.items()}
                self.assertEqual(expected, self.theirs(url, ssl=True, **paths))

    def theirs(self, url: str, **rabbit_options: Any) -> Any:
        """The same arguments, as oslo.messaging chooses them."""
        parsed = oslo_messaging.TransportURL.parse(cfg.CONF, url)
        name = impl_rabbit.Connection._get_ssl_server_hostname(parsed)
        driver = types.SimpleNamespace(ssl_version='', ssl_server_hostname=name, **rabbit_options)
        return impl_rabbit.Connection._fetch_ssl_params(driver)

    def test_a_file_of_tls_that_is_missing(self) -> None:
        for name in ('ssl_ca_file', 'ssl_cert_file', 'ssl_key_file'):
            error = self.assertRaises(cfg.Error, self.settings, ssl=True, **{name: '/no/such/file'})
            self.assertIn(f'[oslo_messaging_rabbit] {name}: /no/such/file', str(error))
