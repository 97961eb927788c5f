# SPDX-License-Identifier: Apache-2.0
"""The RPC server: handles casts in order, and acknowledges them only when they are recorded."""

import contextlib
import logging
import re
import select
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers import common
from oslo_messaging._drivers import impl_fake
from oslo_messaging.rpc import dispatcher
from oslo_messaging.rpc import server

from aliasagent import context
from aliasagent.client import rpc
from aliasagent.messaging import known

LOG = logging.getLogger(__name__)

#: The number of characters after which an error cuts a value.
_LONGEST = 80
#: How many messages are handled and then acknowledged together. The first one waits for the last one.
_MOST_TOGETHER = 20
#: Seconds to wait for the rest of a message that has arrived in part.
_MOMENT = 0.005


class NotAccepted(Exception):
    """An endpoint did not accept a message. The server does not acknowledge it, and the broker redelivers it."""


class _LateListener(amqpdriver.RpcAMQPListener):
    """Leaves messages that are handled in order for the server to acknowledge; acknowledges others on receipt.

    Removes objects and lists from the context of a message: oslo.messaging would fail on them after it has acknowledged
    the message, and receive nothing for a second.
    """

    in_order: frozenset[str] = frozenset()
    # The endpoint detects duplicates: a message that was received before was not necessarily handled.
    use_cache = False

    def __call__(self, message: Any) -> None:
        for name in [name for name in message if name.startswith('_context_')]:
            if name == '_context_self' or isinstance(message[name], dict | list):
                del message[name]
        if _is_one_of(message.get('method'), self.in_order) and not message.get('_msg_id'):
            amqpdriver.AMQPListener.__call__(self, message)
        else:
            super().__call__(message)

    def next_here(self) -> Any:
        """Return the next message, if it has arrived or arrives in this moment; else None."""
        if not self.incoming and self._is_readable():
            with contextlib.suppress(common.Timeout):
                self.conn.consume(timeout=_MOMENT)
        return self.incoming.pop(0) if self.incoming else None

    def _is_readable(self) -> bool:
        """Return whether the socket has data. Misses data that TLS has decrypted already."""
        sock = getattr(getattr(self.conn.channel, 'connection', None), 'sock', None)
        if sock is None or sock.fileno() < 0:
            return False  # the connection is lost; the next poll opens another
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))


def _is_one_of(method: object, methods: frozenset[str]) -> bool:
    return isinstance(method, str) and method in methods


class _Checked:
    """Passes messages that an endpoint can handle to a dispatcher, and refuses all others with one clear error.

    The client receives the error if it waits for an answer; otherwise the error is logged. Without this check, the
    dispatcher answers a malformed message with an arbitrary error of Python, and if the method does not exist, it never
    ends the thread that sends heartbeats to a client with a ``call_monitor_timeout``.
    """

    _VERSION = re.compile(r'[0-9]{1,9}(\.[0-9]{1,9}){1,2}', re.ASCII)
    #: The values of a ``call_monitor_timeout`` that are valid; others are ignored.
    _MONITOR_SECONDS = range(2, 86400)

    def __init__(self, inner: dispatcher.RPCDispatcher) -> None:
        self._dispatcher = inner

    def dispatch(self, incoming: Any) -> Any:
        message = incoming.message
        try:
            self._check(message)
        except dispatcher.RPCDispatcherError as error:
            if not getattr(incoming, 'orig_msg_id', None):
                LOG.error('Refused a message: %s: %s', type(error).__name__, error)
            raise dispatcher.ExpectedException() from error
        if not isinstance(incoming.client_timeout, int) or incoming.client_timeout not in self._MONITOR_SECONDS:
            incoming.client_timeout = None
        if not isinstance(message.get('args', {}), dict):
            # The endpoint refuses this, and records the refusal for a client that queries the outcome.
            message['args'] = {'args': message['args']}
        try:
            return self._dispatcher.dispatch(incoming)
        except NotAccepted as error:
            incoming.is_not_accepted = True
            raise dispatcher.ExpectedException() from error

    def _check(self, message: Any) -> None:
        method, version, namespace = message.get('method'), message.get('version', '1.0'), message.get('namespace')
        if not isinstance(method, str):
            raise dispatcher.NoSuchMethod(_printable(method))
        endpoints = self._dispatcher.endpoints
        targets = [getattr(endpoint, 'target', None) or oslo_messaging.Target() for endpoint in endpoints]
        if not any(namespace in target.accepted_namespaces and self._serves(target, version) for target in targets):
            raise dispatcher.UnsupportedVersion(_printable(version), method=_printable(method))
        allowed = self._dispatcher.access_policy.is_allowed
        if not any(hasattr(endpoint, method) and allowed(endpoint, method) for endpoint in endpoints):
            raise dispatcher.NoSuchMethod(_printable(method))

    def _serves(self, target: oslo_messaging.Target, version: object) -> bool:
        """Return whether a target's version is compatible with the wanted one."""
        if not isinstance(version, str) or not self._VERSION.fullmatch(version):
            return False
        (major, *wanted), (own_major, *own) = (
            map(int, f'{text}.0'.split('.')[:3]) for text in (version, target.version or '1.0')
        )
        return major == own_major and wanted <= own


def _printable(value: object) -> str:
    """Return a value that a client sent, fit for a log line."""
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}... ({len(text)} characters)'


class InOrderServer(server.RPCServer):
    """Passes the casts of some methods to their endpoint in order, and acknowledges them afterwards.

    oslo.messaging acknowledges a message before the endpoint receives it, so that a crash loses messages in its memory
    and in the endpoint. This server handles casts in the thread that receives messages, and acknowledges them only
    then: the endpoint must be quick, or wait to keep further messages at the broker. The broker redelivers a message
    that was not acknowledged before a crash or a lost connection, and the endpoint has to detect duplicates. Calls go
    to the thread pool, because clients can retry them.

    Casts that have arrived already are handled together, so that the endpoint waits for the disk only once.

    ``_on_incoming`` and the listener are private in oslo.messaging: :mod:`aliasagent.messaging.known` and
    :mod:`aliasagent.messaging.rpc_parts` check them when the agent starts.
    """

    #: The methods that are handled in order.
    in_order: frozenset[str] = frozenset()
    #: Wraps the handling of some messages. They are acknowledged after it, unless it raises NotAccepted.
    together: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def __init__(self, transport: Any, target: Any, inner: Any, executor: Any = None) -> None:
        super().__init__(transport, target, _Checked(inner), executor)

    def _create_listener(self) -> Any:
        listener = super()._create_listener()
        poller = getattr(listener, '_poll_style_listener', None)
        # Of the supported drivers, only the one for RabbitMQ acknowledges messages.
        if type(poller) is amqpdriver.RpcAMQPListener:
            self.late(poller)
        elif type(poller) is not impl_fake.FakeListener:
            with contextlib.suppress(Exception):  # an unknown listener may have no cleanup()
                listener.cleanup()
            raise known.UnknownMessaging(f'its listener is {type(poller).__module__}.{type(poller).__name__}')
        return listener

    def late(self, poller: Any) -> Any:
        """Make the driver's listener leave the acknowledgement of casts to this server."""
        poller.__class__ = _LateListener
        poller.in_order = self.in_order
        return poller

    def _on_incoming(self, incoming: Any) -> None:
        (message,) = incoming
        if not self._is_in_order(message):
            super()._on_incoming(incoming)
            return
        messages, after = [message], None
        while len(messages) < _MOST_TOGETHER and (after := self._here()) is not None and self._is_in_order(after):
            messages.append(after)
            after = None
        with context.restored():
            self._handle(messages)
        # After the messages that arrived before it.
        if after is not None:
            super()._on_incoming([after])

    def _here(self) -> Any:
        """Return the next message, if it has arrived already; else None."""
        poller = getattr(self.listener, '_poll_style_listener', None)
        return poller.next_here() if isinstance(poller, _LateListener) else None

    def _is_in_order(self, incoming: Any) -> bool:
        # A call is not handled in order: its client may be gone, and the answer to it must not delay other messages.
        is_call = getattr(incoming, 'orig_msg_id', None)
        return not is_call and _is_one_of(incoming.message.get('method'), self.in_order)

    def _handle(self, messages: list[Any]) -> None:
        try:
            with self.together():
                for message in messages:
                    self._process_incoming([message])
                    if getattr(message, 'is_not_accepted', False):
                        raise NotAccepted
        except NotAccepted:
            # The broker redelivers all of them; the endpoint detects those that it has accepted.
            return
        for message in messages:
            self._acknowledge(message)

    def _acknowledge(self, incoming: Any) -> None:
        acknowledge = getattr(incoming.message, 'acknowledge', None)
        if acknowledge is not None:
            try:
                acknowledge()
            except Exception as error:  # noqa: BLE001 - after any error the broker redelivers the message
                ctxt = getattr(incoming, 'ctxt', None)
                context.RequestContext.from_dict(ctxt if isinstance(ctxt, dict) else {})  # the ids for the log line
                LOG.warning('Not acknowledged, the broker will redeliver a message that was handled: %s', error)

    def _process_incoming(self, incoming: Any) -> None:
        # The thread handles the next message, and writes log lines of its own in between.
        with context.restored():
            super()._process_incoming(incoming)

    @property
    def is_connected(self) -> bool:
        """Return whether the connection on which messages arrive is up, as far as this end can tell.

        A thread reads from the connection and detects its end at once, or after ``heartbeat_timeout_threshold`` seconds
        if the broker is silent; but not while that thread holds a request that has to wait.
        """
        # The driver for tests has no connection that could be lost.
        poller = getattr(self.listener, '_poll_style_listener', None)
        if poller is None:
            return False
        connection = getattr(getattr(poller, 'conn', None), 'connection', None)
        return connection is None or bool(connection.connection.connected)


def make(
    transport: oslo_messaging.Transport,
    host: str,
    endpoints: list[object],
    *,
    topic: str = rpc.TOPIC,
    in_order: Iterable[str] = (),
    together: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Any:
    """Return a server for the messages to ``host``. It serves only methods marked with ``oslo_messaging.expose``.

    :param in_order: the methods whose casts are handled in order, in the thread that receives messages.
    :param together: wraps the handling of some casts, which are acknowledged after it.
    """
    made = oslo_messaging.get_rpc_server(
        transport,
        oslo_messaging.Target(exchange=rpc.EXCHANGE, topic=topic, server=host),
        endpoints,
        serializer=rpc.ContextSerializer(),
        access_policy=dispatcher.ExplicitRPCAccessPolicy,
        server_cls=InOrderServer,
    )
    made.in_order = frozenset(in_order)
    made.together = together
    return made
