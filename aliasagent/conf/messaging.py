# SPDX-License-Identifier: Apache-2.0
"""Our defaults for options of oslo.messaging."""

from oslo_config import cfg
from oslo_messaging._drivers import amqp
from oslo_messaging._drivers import impl_rabbit

#: Our defaults in the group oslo_messaging_rabbit.
DEFAULTS = {
    # What the broker has taken survives its restart.
    'amqp_durable_queues': True,
    # How many messages are with us before the broker waits for us: they come again if we crash.
    'rabbit_qos_prefetch_count': 10,
}


def set_defaults() -> None:
    """Have our defaults take the place of oslo.messaging's; also for the sample of the configuration."""
    for known in (amqp.amqp_opts, impl_rabbit.rabbit_opts):
        cfg.set_defaults(known, **DEFAULTS)
