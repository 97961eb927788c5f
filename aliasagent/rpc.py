# SPDX-License-Identifier: Apache-2.0
"""How messages are sent and received: the exchange, the transport, clients and servers."""

from collections.abc import Iterable
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts
from oslo_messaging.rpc import dispatcher

from aliasagent import context
from aliasagent import exception
from aliasagent import rpc_server
from aliasagent.conf import messaging

EXCHANGE = 'aliasagent'
#: Where casts go, in the order in which they take effect.
TOPIC = 'compute'
#: Where calls go: they are answered even while casts have to wait.
ALT_TOPIC = 'compute-alt'

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
    _set_defaults(conf)
    return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_MODULES)


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    oslo_messaging.set_transport_defaults(EXCHANGE)
    group = 'oslo_messaging_rabbit'
    messaging.set_defaults()
    conf.register_opts(dict(opts.list_opts())[group], group=group)


def notifier(conf: cfg.ConfigOpts, host: str) -> oslo_messaging.Notifier | None:
    """What sends notifications, and tries until it has; None if none are configured (``driver``)."""
    _set_defaults(conf)
    transport = oslo_messaging.get_notification_transport(conf)
    if not set(conf.oslo_messaging_notifications.driver) - {'', 'noop'}:
        return None
    return oslo_messaging.Notifier(
        transport, publisher_id=f'aliasagent-compute:{host}', serializer=ContextSerializer(), retry=-1
    )


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


def server(
    transport: oslo_messaging.Transport,
    host: str,
    endpoints: list[object],
    *,
    topic: str = TOPIC,
    in_order: Iterable[str] = (),
) -> Any:
    """A server for the messages to ``host``. Only methods marked with ``oslo_messaging.expose`` can be called.

    :param in_order: the methods that are handled in the order of their messages, in the thread that takes them in.
    """
    made = oslo_messaging.get_rpc_server(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=topic, server=host),
        endpoints,
        serializer=ContextSerializer(),
        access_policy=dispatcher.ExplicitRPCAccessPolicy,
        server_cls=rpc_server.InOrderServer,
    )
    made.in_order = frozenset(in_order)
    return made
