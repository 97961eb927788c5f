# SPDX-License-Identifier: Apache-2.0
"""The server: what it takes in, in which order, and what it tells the broker."""

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

#: The longest value that is repeated in an error; a longer one is cut.
_SHOWN = 80
#: How many messages are handled together, if the broker sends so many before it is told of one. The first one waits for
#: the last one.
_MOST_TOGETHER = 20
#: Seconds for the rest of a message of which some is here.
_MOMENT = 0.005


class NotTaken(Exception):
    """An endpoint's word that a message is to stay with the broker: it is not acknowledged, and comes again."""


class _LateListener(amqpdriver.RpcAMQPListener):
    """Leaves it to the server to acknowledge what is handled in order; the rest is acknowledged as it comes.

    Of the context only texts and the like are handed on: oslo.messaging would stumble over the rest when it has already
    acknowledged the message, and take nothing in for a second.
    """

    in_order: frozenset[str] = frozenset()
    # What comes a second time is for the endpoint to tell: that it came before does not mean that it was handled.
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
        """The next message, if it is here already or comes in this moment; else None."""
        if not self.incoming and self._is_readable():
            with contextlib.suppress(common.Timeout):
                self.conn.consume(timeout=_MOMENT)
        return self.incoming.pop(0) if self.incoming else None

    def _is_readable(self) -> bool:
        """Whether the broker has sent something. What TLS has decrypted already is not seen."""
        sock = getattr(getattr(self.conn.channel, 'connection', None), 'sock', None)
        if sock is None or sock.fileno() < 0:
            return False  # the connection is lost; whoever polls makes another
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))


def _is_one_of(method: object, methods: frozenset[str]) -> bool:
    return isinstance(method, str) and method in methods


class _Checked:
    """Has a dispatcher handle messages that somebody can be meant to handle, and refuses all others by one clear error.

    It goes to whoever waits for an answer, and into the log if nobody does. A dispatcher left to itself answers a
    message that is not as it must be by some error of Python's own, and never ends the thread that tells a patient
    caller that its request is being handled, if there is no such method.
    """

    _VERSION = re.compile(r'[0-9]{1,9}(\.[0-9]{1,9}){1,2}', re.ASCII)
    #: Seconds that a caller may want to be told in; what it says beyond that is no wish that makes sense.
    _PATIENT = range(2, 86400)

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
        if not isinstance(incoming.client_timeout, int) or incoming.client_timeout not in self._PATIENT:
            incoming.client_timeout = None
        if not isinstance(message.get('args', {}), dict):
            # For the endpoint to refuse: it keeps a record of what it refuses, for whoever asks for it.
            message['args'] = {'args': message['args']}
        try:
            return self._dispatcher.dispatch(incoming)
        except NotTaken as error:
            incoming.is_not_taken = True
            raise dispatcher.ExpectedException() from error

    def _check(self, message: Any) -> None:
        method, version, namespace = message.get('method'), message.get('version', '1.0'), message.get('namespace')
        if not isinstance(method, str):
            raise dispatcher.NoSuchMethod(_shown(method))
        endpoints = self._dispatcher.endpoints
        targets = [getattr(endpoint, 'target', None) or oslo_messaging.Target() for endpoint in endpoints]
        if not any(namespace in target.accepted_namespaces and self._serves(target, version) for target in targets):
            raise dispatcher.UnsupportedVersion(_shown(version), method=_shown(method))
        allowed = self._dispatcher.access_policy.is_allowed
        if not any(hasattr(endpoint, method) and allowed(endpoint, method) for endpoint in endpoints):
            raise dispatcher.NoSuchMethod(_shown(method))

    def _serves(self, target: oslo_messaging.Target, version: object) -> bool:
        """Whether a target's version is the wanted one, or a later one that has all of it."""
        if not isinstance(version, str) or not self._VERSION.fullmatch(version):
            return False
        (major, *wanted), (own_major, *own) = (
            map(int, f'{text}.0'.split('.')[:3]) for text in (version, target.version or '1.0')
        )
        return major == own_major and wanted <= own


def _shown(value: object) -> str:
    """What somebody sent, fit for a log line."""
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}... ({len(text)} characters)'


class InOrderServer(server.RPCServer):
    """Hands some methods to their endpoint in the order they came, and takes more in only after that.

    oslo.messaging tells the broker that it has a message before the endpoint sees it, so a crash loses those that wait
    in its memory, and the one in the endpoint's hands. So what nobody waits for is handled in the thread that takes
    messages in, and only then acknowledged: the endpoint must be quick, or wait if the rest is to stay with the broker.
    It gets a message again that was not acknowledged before a crash or a lost connection, and has to know those. Calls
    go to the pool: their senders can ask again.

    Those that are here already are handled together, which spares the endpoint to wait for the disk once for each.

    ``_on_incoming`` and the listener are no public parts of oslo.messaging: :mod:`aliasagent.messaging.known` and
    :mod:`aliasagent.messaging.rpc_parts` check them when the agent starts.
    """

    #: The methods that are handled in order.
    in_order: frozenset[str] = frozenset()
    #: What is around the handling of some messages. They are acknowledged after it, and not if it raises NotTaken.
    together: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def __init__(self, transport: Any, target: Any, inner: Any, executor: Any = None) -> None:
        super().__init__(transport, target, _Checked(inner), executor)

    def _create_listener(self) -> Any:
        listener = super()._create_listener()
        poller = getattr(listener, '_poll_style_listener', None)
        # Of the drivers that are known, only that for RabbitMQ acknowledges at all.
        if type(poller) is amqpdriver.RpcAMQPListener:
            self.late(poller)
        elif type(poller) is not impl_fake.FakeListener:
            with contextlib.suppress(Exception):  # it is not known whether it can be closed
                listener.cleanup()
            raise known.UnknownMessaging(f'its listener is {type(poller).__module__}.{type(poller).__name__}')
        return listener

    def late(self, poller: Any) -> Any:
        """Have the driver's listener leave it to this server to acknowledge what is handled in order."""
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
        # Not before those that came before it.
        if after is not None:
            super()._on_incoming([after])

    def _here(self) -> Any:
        """The next message, if it is here already; else None."""
        poller = getattr(self.listener, '_poll_style_listener', None)
        return poller.next_here() if isinstance(poller, _LateListener) else None

    def _is_in_order(self, incoming: Any) -> bool:
        # Who waits for an answer may be gone: nobody else shall have to wait until that is clear.
        is_call = getattr(incoming, 'orig_msg_id', None)
        return not is_call and _is_one_of(incoming.message.get('method'), self.in_order)

    def _handle(self, messages: list[Any]) -> None:
        try:
            with self.together():
                for message in messages:
                    self._process_incoming([message])
                    if getattr(message, 'is_not_taken', False):
                        raise NotTaken
        except NotTaken:
            # They all come again; those that were taken are known then.
            return
        for message in messages:
            self._acknowledge(message)

    def _acknowledge(self, incoming: Any) -> None:
        acknowledge = getattr(incoming.message, 'acknowledge', None)
        if acknowledge is not None:
            try:
                acknowledge()
            except Exception as error:  # noqa: BLE001 - whatever it is, the broker sends the message again
                ctxt = getattr(incoming, 'ctxt', None)
                context.RequestContext.from_dict(ctxt if isinstance(ctxt, dict) else {})  # whose it is
                LOG.warning('A message that was handled will come again: %s', error)

    def _process_incoming(self, incoming: Any) -> None:
        # The thread is used for the next message, and says things of its own meanwhile.
        with context.restored():
            super()._process_incoming(incoming)

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands on which its messages come, as far as this end knows.

        That is the one in use: a thread reads from it, so that its end is seen at once, and that of a broker that falls
        silent after ``heartbeat_timeout_threshold`` seconds; not, however, while that thread holds a request that has
        to wait. A driver for tests has no connection that could be lost.
        """
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
    """A server for the messages to ``host``. Only methods marked with ``oslo_messaging.expose`` can be called.

    :param in_order: the methods that are handled in the order of their messages, in the thread that takes them in.
    :param together: what is around the handling of some of those, which are acknowledged after it.
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
