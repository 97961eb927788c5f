# SPDX-License-Identifier: Apache-2.0
"""The options of oslo.messaging that a client reads which does without oslo.messaging.

They have the names, types and defaults of oslo.messaging's own options, except for :data:`DEFAULTS`; a test compares
them. A configuration cannot have both: :func:`register` is for a configuration of its own.
"""

from typing import Any

from oslo_config import cfg

RABBIT = 'oslo_messaging_rabbit'
#: Defaults of the group ``oslo_messaging_rabbit`` that differ from those of oslo.messaging.
DEFAULTS: dict[str, Any] = {
    # Queues survive a restart of the broker.
    'amqp_durable_queues': True,
    # How many unacknowledged messages the agent holds at most; the broker redelivers them after a crash.
    'rabbit_qos_prefetch_count': 10,
}

DEFAULT_OPTS: list[cfg.Opt] = [
    cfg.StrOpt('transport_url', default='rabbit://', secret=True),
    cfg.IntOpt('rpc_response_timeout', default=60),
]

#: What decides how a request is sent.
RABBIT_OPTS: list[cfg.Opt] = [
    cfg.BoolOpt('amqp_auto_delete', default=False),
    cfg.BoolOpt('amqp_durable_queues', default=False),
    cfg.IntOpt('rabbit_interval_max', min=1, default=30),
    cfg.StrOpt(
        'rabbit_login_method', choices=('PLAIN', 'AMQPLAIN', 'EXTERNAL', 'RABBIT-CR-DEMO'), default='AMQPLAIN'
    ),
    cfg.IntOpt('rabbit_qos_prefetch_count', default=0),
    cfg.IntOpt('rabbit_quorum_delivery_limit', default=0),
    cfg.IntOpt('rabbit_quorum_max_memory_bytes', default=0),
    cfg.IntOpt('rabbit_quorum_max_memory_length', default=0),
    cfg.BoolOpt('rabbit_quorum_queue', default=False),
    cfg.IntOpt('rabbit_retry_backoff', min=0, default=2),
    cfg.IntOpt('rabbit_retry_interval', min=1, default=1),
    cfg.IntOpt('rabbit_transient_queues_ttl', min=0, default=1800),
    cfg.BoolOpt('rabbit_transient_quorum_queue', default=False),
    cfg.BoolOpt('ssl', default=False),
    cfg.StrOpt('ssl_ca_file', default=''),
    cfg.StrOpt('ssl_cert_file', default=''),
    cfg.StrOpt('ssl_key_file', default=''),
]
#: What only oslo.messaging does: a client that finds another value than the default uses oslo.messaging.
LEFT_OPTS: list[cfg.Opt] = [
    cfg.BoolOpt('enable_cancel_on_failover', default=False),
    cfg.StrOpt('kombu_compression'),
    cfg.StrOpt('kombu_failover_strategy', choices=('round-robin', 'shuffle'), default='round-robin'),
    cfg.BoolOpt('rabbit_ha_queues', default=False),
    cfg.BoolOpt('rabbit_stream_fanout', default=False),
    cfg.BoolOpt('ssl_enforce_fips_mode', default=False),
    cfg.StrOpt('ssl_version', default=''),
    cfg.BoolOpt('use_queue_manager', default=False),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options with the defaults of this project.

    :param conf: a configuration in which oslo.messaging does not register its own.
    """
    conf.register_opts(DEFAULT_OPTS)
    conf.register_opts([*RABBIT_OPTS, *LEFT_OPTS], group=RABBIT)
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group=RABBIT)
