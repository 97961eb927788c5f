# SPDX-License-Identifier: Apache-2.0
"""How messages are sent and received: the exchange, the transport, clients and servers."""

import logging
from collections.abc import Iterable
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts
from oslo_messaging._drivers import amqpdriver
from oslo_messaging.rpc import dispatcher
from oslo_messaging.rpc import server as rpc_server

from aliasagent import context
from aliasagent import exception

LOG = logging.getLogger(__name__)

EXCHANGE = 'aliasagent'
#: Where casts go, in the order in which they take effect.
TOPIC = 'compute'
#: Where calls go: they are answered even while casts have to wait.
ALT_TOPIC = 'compute-alt'

#: Our defaults for options of oslo.messaging.
_DEFAULTS = {
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
    _set_defaults(conf)
    return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_MODULES)


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    oslo_messaging.set_transport_defaults(EXCHANGE)
    group = 'oslo_messaging_rabbit'
    conf.register_opts(dict(opts.list_opts())[group], group=group)
    for name, value in _DEFAULTS.items():
        conf.set_default(name, value, group=group)


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
    transport: oslo_messaging.Transport, version: str, *, topic: str = TOPIC, timeout: int | None = None
) -> Any:
    """A client that speaks ``version`` of the contract.

    ``at_least_once`` makes a cast to a host on which no agent listens fail instead of vanish.
    """
    return oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=topic, version=version),
        serializer=ContextSerializer(),
        timeout=timeout,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )


class _LateListener(amqpdriver.RpcAMQPListener):
    """Leaves it to the server to acknowledge what is handled in order; the rest is acknowledged as it comes."""

    in_order: frozenset[str] = frozenset()
    # What comes a second time is for the endpoint to tell: that it came before does not mean that it was handled.
    use_cache = False

    def __call__(self, message: Any) -> None:
        if message.get('method') in self.in_order:
            amqpdriver.AMQPListener.__call__(self, message)
        else:
            super().__call__(message)


class InOrderServer(rpc_server.RPCServer):
    """Hands some methods to their endpoint one by one, in the order they came, and takes the next one only after that.

    oslo.messaging tells the broker that it has a message before the endpoint sees it, so a crash loses those that wait
    in its memory, and the one in the endpoint's hands. So what nobody waits for is handled in the thread that takes
    messages in, and only then acknowledged: the endpoint must be quick, or wait if the rest is to stay with the broker.
    It gets a message again that was not acknowledged before a crash or a lost connection, and has to know those. Calls
    go to the pool: their senders can ask again.

    ``_on_incoming`` and the listener are no public parts of oslo.messaging: a test holds them in place.
    """

    #: The methods that are handled in order.
    in_order: frozenset[str] = frozenset()

    def _create_listener(self) -> Any:
        listener = super()._create_listener()
        poller = getattr(listener, '_poll_style_listener', None)
        # Of the drivers, only that for RabbitMQ acknowledges at all.
        if isinstance(poller, amqpdriver.RpcAMQPListener):
            poller.__class__ = _LateListener
            poller.in_order = self.in_order
        return listener

    def _on_incoming(self, incoming: Any) -> None:
        message = incoming[0].message
        if message.get('method') not in self.in_order:
            super()._on_incoming(incoming)
            return
        self._process_incoming(incoming)
        acknowledge = getattr(message, 'acknowledge', None)
        if acknowledge is not None:
            try:
                acknowledge()
            except Exception as error:  # noqa: BLE001 - whatever it is, the broker sends the message again
                LOG.warning('A message that was handled will come again: %s', error)


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
        server_cls=InOrderServer,
    )
    made.in_order = frozenset(in_order)
    return made
