# SPDX-License-Identifier: Apache-2.0
"""How messages are sent and received: the exchange, the transport, clients and servers."""

import logging
import re
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

#: The longest value that is repeated in an error; a longer one is cut.
_SHOWN = 80


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

    def __init__(self, transport: Any, target: Any, inner: Any, executor: Any = None) -> None:
        super().__init__(transport, target, _Checked(inner), executor)

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
        # Who waits for an answer may be gone: nobody else shall have to wait until that is clear.
        is_call = getattr(incoming[0], 'orig_msg_id', None)
        if is_call or not _is_one_of(message.get('method'), self.in_order):
            super()._on_incoming(incoming)
            return
        self._process_incoming(incoming)
        if getattr(incoming[0], 'is_not_taken', False):
            return
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
