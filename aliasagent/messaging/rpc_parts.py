# SPDX-License-Identifier: Apache-2.0
"""Checks that the private code of oslo.messaging behaves as :mod:`aliasagent.messaging.rpc_server` needs it.

:mod:`aliasagent.messaging.known` checks that the attributes exist. This module sends a message through them before the
agent starts.
"""

import types
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import amqpdriver

from aliasagent.messaging import known
from aliasagent.messaging import rpc_server

#: What must happen to a cast, in this order.
_ORDER = ['received', 'handled', 'acknowledged']


def check(transport: oslo_messaging.Transport) -> None:
    """Check that oslo.messaging acknowledges a cast only after the endpoint has handled it.

    :param transport: from :func:`aliasagent.client.transport`; the check does not connect it.
    :raises UnknownMessaging: a cast cannot be handled, or is not acknowledged after it was handled.
    """
    try:
        happened = _send(transport)
    except Exception as error:
        raise known.UnknownMessaging(f'a message cannot be handled ({type(error).__name__}: {error})') from error
    if happened != _ORDER:
        raise known.UnknownMessaging(f'a message was {", ".join(happened) or "lost"}, not {", ".join(_ORDER)}')


class _Message(dict[str, Any]):
    """A message as the driver for RabbitMQ passes it on."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__(method='cast', args={}, version='1.0', _unique_id='check')
        self._happened = happened

    def acknowledge(self) -> None:
        self._happened.append('acknowledged')


def _send(transport: oslo_messaging.Transport) -> list[str]:
    """Send a cast through the driver's listener and the server, and return the steps that happened."""
    happened: list[str] = []

    class Endpoint:
        @oslo_messaging.expose
        def cast(self, _ctxt: object) -> None:
            happened.append('handled')

    made = rpc_server.make(transport, 'check', [Endpoint()], in_order=['cast'])
    driver: Any = types.SimpleNamespace(prefetch_size=1)
    listener = made.late(amqpdriver.RpcAMQPListener(driver, None))
    listener(_Message(happened))
    happened.append('received')
    made._on_incoming(listener.poll(timeout=0))
    return happened
