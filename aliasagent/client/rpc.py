# SPDX-License-Identifier: Apache-2.0
"""How messages are sent: the exchange, the transport, clients."""

from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts

from aliasagent import context
from aliasagent import exception

EXCHANGE = 'aliasagent'
#: Where casts go, in the order in which they take effect.
TOPIC = 'compute'
#: Where calls go: they are answered even while casts have to wait.
ALT_TOPIC = 'compute-alt'

_RABBIT = 'oslo_messaging_rabbit'
#: Our defaults in this group.
DEFAULTS = {
    # What the broker has taken survives its restart.
    'amqp_durable_queues': True,
    # How many messages are with us before the broker waits for us: they come again if we crash.
    'rabbit_qos_prefetch_count': 10,
}

#: Errors that a caller gets as themselves, not as a bare RemoteError.
ALLOWED_REMOTE_MODULES = [exception.__name__]


class ContextSerializer(oslo_messaging.NoOpSerializer):
    """Sends :class:`aliasagent.context.RequestContext`; accepts whatever a foreign client sends as its context."""

    def serialize_context(self, ctxt: object) -> dict[str, Any]:
        if isinstance(ctxt, context.RequestContext):
            return ctxt.to_dict()
        return dict(ctxt) if isinstance(ctxt, dict) else {}

    def deserialize_context(self, ctxt: object) -> context.RequestContext:
        return context.RequestContext.from_dict(ctxt if isinstance(ctxt, dict) else {})


def transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """The RPC transport of the configured ``transport_url``, on our exchange.

    ``conf`` has to be the global ``cfg.CONF``: oslo.messaging 18 registers some of its options nowhere else.
    """
    set_defaults(conf)
    return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_MODULES)


def set_defaults(conf: cfg.ConfigOpts) -> None:
    """Make the exchange and the options of oslo.messaging known, with our defaults in place of its own."""
    oslo_messaging.set_transport_defaults(EXCHANGE)
    conf.register_opts(dict(opts.list_opts())[_RABBIT], group=_RABBIT)
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group=_RABBIT)


def client(
    transport: oslo_messaging.Transport,
    version: str,
    *,
    topic: str = TOPIC,
    timeout: int | None = None,
    version_cap: str | None = None,
) -> Any:
    """A client that speaks ``version`` of the contract.

    ``at_least_once`` makes a cast to a host on which no agent listens fail instead of vanish.

    :param version_cap: a message of a later version is not sent but raises ``RPCVersionCapError``.
    """
    return oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=topic, version=version),
        serializer=ContextSerializer(),
        timeout=timeout,
        version_cap=version_cap,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )
