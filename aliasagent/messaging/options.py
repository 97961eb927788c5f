# SPDX-License-Identifier: Apache-2.0
"""Sets defaults for options of oslo.messaging in the sample configuration and in the documents."""

from oslo_config import cfg
from oslo_messaging._drivers import amqp
from oslo_messaging._drivers import impl_rabbit

from aliasagent.client import rpc


def set_defaults() -> None:
    """Change the defaults in the lists of options that the sample generator reads."""
    for known in (amqp.amqp_opts, impl_rabbit.rabbit_opts):
        cfg.set_defaults(known, **rpc.DEFAULTS)
