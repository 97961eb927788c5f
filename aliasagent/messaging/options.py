# SPDX-License-Identifier: Apache-2.0
"""Our defaults for options of oslo.messaging, in the sample of the configuration and in the documents."""

from oslo_config import cfg
from oslo_messaging._drivers import amqp
from oslo_messaging._drivers import impl_rabbit

from aliasagent.client import rpc


def set_defaults() -> None:
    """Write our defaults into the lists of options that the generator of the sample reads."""
    for known in (amqp.amqp_opts, impl_rabbit.rabbit_opts):
        cfg.set_defaults(known, **rpc.DEFAULTS)
