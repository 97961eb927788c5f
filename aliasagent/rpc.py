# SPDX-License-Identifier: Apache-2.0
"""How messages are sent and received: the exchange, the transport, clients and servers."""

from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging.rpc import dispatcher

from aliasagent import context
from aliasagent import exception

EXCHANGE = 'aliasagent'
TOPIC = 'compute'

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
    oslo_messaging.set_transport_defaults(EXCHANGE)
    return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_MODULES)


def client(transport: oslo_messaging.Transport, version: str, *, timeout: int | None = None) -> Any:
    """A client that speaks ``version`` of the contract.

    ``at_least_once`` makes a cast to a host on which no agent listens fail instead of vanish.
    """
    return oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, version=version),
        serializer=ContextSerializer(),
        timeout=timeout,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )


def server(transport: oslo_messaging.Transport, host: str, endpoints: list[object], **options: Any) -> Any:
    """A server for the messages to ``host``. Only methods marked with ``oslo_messaging.expose`` can be called."""
    return oslo_messaging.get_rpc_server(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=host),
        endpoints,
        serializer=ContextSerializer(),
        access_policy=dispatcher.ExplicitRPCAccessPolicy,
        **options,
    )
