# SPDX-License-Identifier: Apache-2.0
"""How messages are sent and received: the exchange, the transport, clients and servers."""

import contextlib
from collections.abc import Callable
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


class Notifier(oslo_messaging.Notifier):
    """Raises what kept a notification from being sent: oslo.messaging's own writes it to the log, and goes on.

    Of a broker that is away it hears nothing, for it tries again by itself (``retry=-1``), but of one that refuses: the
    queue, for one, was declared otherwise by another service. Used by one thread at a time.

    What it reaches into is private: a test holds it in place.
    """

    def __init__(self, transport: oslo_messaging.Transport, **kwargs: Any) -> None:
        super().__init__(transport, **kwargs)
        self._errors: list[Exception] = []
        # The drivers for messages swallow the transport's errors; the notifier those of all other drivers.
        transport._send_notification = self._noted(transport._send_notification)
        for extension in self._driver_mgr.extensions:
            extension.obj.notify = self._noted(extension.obj.notify)

    def _noted(self, function: Callable[..., None]) -> Callable[..., None]:
        def noted(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                self._errors.append(error)
                raise

        return noted

    def _notify(self, *args: Any, **kwargs: Any) -> None:
        """Send one.

        :raises NotificationNotSent: not all topics and drivers that are configured have got it.
        """
        self._errors.clear()
        super()._notify(*args, **kwargs)
        if self._errors:
            raise exception.NotificationNotSent(reason=self._errors[0]) from self._errors[0]


def notifier(conf: cfg.ConfigOpts, host: str) -> Notifier | None:
    """What sends notifications, or says that it could not; None if none are configured (``driver``)."""
    _set_defaults(conf)
    transport = oslo_messaging.get_notification_transport(conf)
    if not set(conf.oslo_messaging_notifications.driver) - {'', 'noop'}:
        return None
    return Notifier(transport, publisher_id=f'aliasagent-compute:{host}', serializer=ContextSerializer(), retry=-1)


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
    together: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Any:
    """A server for the messages to ``host``. Only methods marked with ``oslo_messaging.expose`` can be called.

    :param in_order: the methods that are handled in the order of their messages, in the thread that takes them in.
    :param together: what is around the handling of some of those, which are acknowledged after it.
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
    made.together = together
    return made
