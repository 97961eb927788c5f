# SPDX-License-Identifier: Apache-2.0
"""What the client without oslo.messaging does with each option of oslo.messaging's RabbitMQ driver."""

import pathlib
from typing import Any

from oslo_config import cfg
from oslo_messaging import opts

from aliasagent.client import brokers
from aliasagent.client import options
from aliasagent.tests import base

#: Options without effect on a client that sends a few requests over one connection, and why.
WITHOUT_EFFECT = {
    'conn_pool_min_size': 'it has one connection, and no pool',
    'conn_pool_ttl': 'it has one connection, and no pool',
    'rpc_conn_pool_size': 'it has one connection, and no pool',
    'heartbeat_in_pthread': 'it sends no heartbeats: each of its answers has a time limit',
    'heartbeat_rate': 'it sends no heartbeats: each of its answers has a time limit',
    'heartbeat_timeout_threshold': 'it sends no heartbeats: each of its answers has a time limit',
    'kombu_missing_consumer_retry_timeout': 'it sends no answers',
    'kombu_reconnect_delay': 'it waits before it connects again as rabbit_retry_interval says',
    'kombu_reconnect_splay': 'it waits before it connects again as rabbit_retry_interval says',
    'direct_mandatory_flag': 'it sends no answers',
    'ssl_enforce_hostname_verification': 'oslo.messaging ignores it',
    'hostname': 'used with use_queue_manager only, which is left to oslo.messaging',
    'processname': 'used with use_queue_manager only, which is left to oslo.messaging',
    # those of the group DEFAULT
    'control_exchange': 'the contract names the exchange',
    'executor_thread_pool_size': 'it has no threads',
    'rpc_ping_enabled': 'it is no server',
}
#: Another value than the default, and what must be set with it to have an effect.
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    'transport_url': ('rabbit://other/', {}),
    'kombu_compression': ('gzip', {}),
    'kombu_failover_strategy': ('shuffle', {}),
    'rabbit_login_method': ('PLAIN', {}),
    'ssl_version': ('TLSv1_2', {'ssl': True}),
    'ssl_ca_file': ('FILE', {'ssl': True}),
    'ssl_cert_file': ('FILE', {'ssl': True}),
    'ssl_key_file': ('FILE', {'ssl': True}),
    'rabbit_quorum_queue': (True, {'amqp_durable_queues': False}),
    'rabbit_quorum_delivery_limit': (7, {'rabbit_transient_quorum_queue': True}),
    'rabbit_quorum_max_memory_bytes': (7, {'rabbit_transient_quorum_queue': True}),
    'rabbit_quorum_max_memory_length': (7, {'rabbit_transient_quorum_queue': True}),
}


def theirs() -> dict[str, tuple[str | None, cfg.Opt]]:
    """The group and the declaration of each option that oslo.messaging registers for RPC by RabbitMQ."""
    groups = dict(opts.list_opts())
    return {option.name: (group, option) for group in (None, options.RABBIT) for option in groups[group]}


def described(option: cfg.Opt) -> dict[str, Any]:
    """What decides how an option is read."""
    return {
        'name': option.name,
        'dest': option.dest,
        'type': (type(option), option.type),
        'default': option.default,
        'secret': option.secret,
        'deprecated': [(old.group, old.name) for old in option.deprecated_opts],
    }


def other(default: Any) -> Any:
    """Another value than a default."""
    return not default if isinstance(default, bool) else default + 1


class OptionsTestCase(base.TestCase):
    def settings(self, values: dict[str, Any]) -> brokers.Settings:
        """Read options, each of which is set in its group."""
        conf = cfg.ConfigOpts()
        options.register(conf)
        path = pathlib.Path(self.make_directory()) / 'file'
        path.touch()
        conf([], default_config_files=[])
        for name, value in values.items():
            conf.set_override(name, str(path) if value == 'FILE' else value, group=theirs()[name][0])
        return brokers.read(conf)

    def test_each_is_honoured_or_without_effect_or_left_to_oslo_messaging(self) -> None:
        """A new one has to be thought about: it may decide how a request is sent."""
        honoured = {option.name for option in options.DEFAULT_OPTS + options.RABBIT_OPTS}
        left = {option.name for option in options.LEFT_OPTS}
        self.assertEqual(set(), set(theirs()) - honoured - left - set(WITHOUT_EFFECT))
        self.assertEqual(set(), honoured & left | (honoured | left) & set(WITHOUT_EFFECT))
        for name in honoured | left:
            default = options.DEFAULTS.get(name, theirs()[name][1].default)
            value, more = OTHER[name] if name in OTHER else (other(default), {})
            if name in honoured:
                self.assertNotEqual(self.settings(more), self.settings({**more, name: value}), name)
            else:
                error = self.assertRaises(brokers.LeftToMessaging, self.settings, {**more, name: value})
                self.assertIn(name, str(error))

    def test_the_manual_page_names_what_is_left_to_oslo_messaging(self) -> None:
        page = (pathlib.Path(__file__).parents[4] / 'doc' / 'source' / 'cli' / 'aliasagent.rst').read_text()
        named = {option.name for _group, option in theirs().values() if f'``{option.name}``' in page}
        self.assertEqual({option.name for option in options.LEFT_OPTS}, named - {'transport_url'})

    def test_they_are_declared_as_by_oslo_messaging(self) -> None:
        for option in (*options.DEFAULT_OPTS, *options.RABBIT_OPTS, *options.LEFT_OPTS):
            self.assertEqual(described(theirs()[option.name][1]), described(option))

    def test_our_defaults(self) -> None:
        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], default_config_files=[])
        for name, value in options.DEFAULTS.items():
            self.assertEqual(value, conf[options.RABBIT][name])
