# SPDX-License-Identifier: Apache-2.0
"""Whether the private parts of oslo.messaging are those that :mod:`aliasagent.rpc_server` was written for.

They decide when the broker may forget a message. With other parts a cast could be acknowledged before it is recorded,
and be lost without any error. So the agent looks at the parts before it starts, and sends a message through them.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_messaging import server as base_server
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import base as driver_base
from oslo_messaging._drivers import impl_rabbit
from oslo_messaging.rpc import server

from aliasagent import rpc
from aliasagent import rpc_server

#: The methods that are called or replaced, and their parameters.
_METHODS: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (base_server.MessageHandlingServer, '_on_incoming', ('self', 'incoming')),
    (server.RPCServer, '__init__', ('self', 'transport', 'target', 'dispatcher', 'executor')),
    (server.RPCServer, '_create_listener', ('self',)),
    (server.RPCServer, '_process_incoming', ('self', 'incoming')),
    (driver_base.PollStyleListenerAdapter, '__init__', ('self', 'poll_style_listener', 'batch_size', 'batch_timeout')),
    (amqpdriver.AMQPListener, '__init__', ('self', 'driver', 'conn')),
    (amqpdriver.AMQPListener, '__call__', ('self', 'message')),
    (amqpdriver.RpcAMQPListener, '__call__', ('self', 'message')),
    (amqpdriver.AMQPIncomingMessage, 'acknowledge', ('self',)),
    (impl_rabbit.RabbitMessage, 'acknowledge', ('self',)),
    (impl_rabbit.Connection, 'consume', ('self', 'timeout')),
    (
        oslo_messaging.Notifier,
        '_notify',
        ('self', 'ctxt', 'event_type', 'payload', 'priority', 'publisher_id', 'retry'),
    ),
)
#: What must happen to a cast, in this order.
_ORDER = ['received', 'handled', 'acknowledged']


def check(transport: oslo_messaging.Transport) -> None:
    """Refuse an oslo.messaging whose private parts are not known.

    :param transport: from :func:`aliasagent.rpc.transport`; it is not connected.
    :raises UnknownMessaging: a part is missing or has other parameters, or a cast is not acknowledged after it was
        handled.
    """
    for owner, name, expected in _METHODS:
        _check_method(owner, name, expected)
    try:
        happened = _send(transport)
    except Exception as error:
        raise rpc_server.UnknownMessaging(f'a message cannot be handled ({type(error).__name__}: {error})') from error
    if happened != _ORDER:
        raise rpc_server.UnknownMessaging(f'a message was {", ".join(happened) or "lost"}, not {", ".join(_ORDER)}')


def _check_method(owner: type, name: str, expected: tuple[str, ...]) -> None:
    what = f'{owner.__module__}.{owner.__name__}.{name}'
    method: Callable[..., object] | None = getattr(owner, name, None)
    if method is None:
        raise rpc_server.UnknownMessaging(f'there is no {what}')
    found = tuple(inspect.signature(method).parameters)
    if found != expected:
        raise rpc_server.UnknownMessaging(f'{what} takes ({", ".join(found)}), not ({", ".join(expected)})')


class _Message(dict[str, Any]):
    """A message as the driver for RabbitMQ hands it on."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__(method='cast', args={}, version='1.0', _unique_id='check')
        self._happened = happened

    def acknowledge(self) -> None:
        self._happened.append('acknowledged')


def _send(transport: oslo_messaging.Transport) -> list[str]:
    """Send a cast through the driver's listener and the server; what happened to it."""
    happened: list[str] = []

    class Endpoint:
        @oslo_messaging.expose
        def cast(self, _ctxt: object) -> None:
            happened.append('handled')

    made = rpc.server(transport, 'check', [Endpoint()], in_order=['cast'])
    driver: Any = types.SimpleNamespace(prefetch_size=1)
    listener = made.late(amqpdriver.RpcAMQPListener(driver, None))
    listener(_Message(happened))
    happened.append('received')
    made._on_incoming(listener.poll(timeout=0))
    return happened
