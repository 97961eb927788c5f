# SPDX-License-Identifier: Apache-2.0
"""The transport, the RPC client and the sender of oslo.messaging."""

from typing import Any

import oslo_messaging
from oslo_config import cfg

from aliasagent import context
from aliasagent import exception
from aliasagent.client import options
from aliasagent.client import sending

EXCHANGE = sending.EXCHANGE
TOPIC = sending.TOPIC
ALT_TOPIC = sending.ALT_TOPIC
DEFAULTS = options.DEFAULTS

#: Modules whose errors a client receives as themselves, not as a bare RemoteError.
ALLOWED_REMOTE_MODULES = [exception.__name__]


class ContextSerializer(oslo_messaging.NoOpSerializer):
    """Sends :class:`aliasagent.context.RequestContext`; accepts any context of other clients."""

    def serialize_context(self, ctxt: object) -> dict[str, Any]:
        if isinstance(ctxt, context.RequestContext):
            return ctxt.to_dict()
        return dict(ctxt) if isinstance(ctxt, dict) else {}

    def deserialize_context(self, ctxt: object) -> context.RequestContext:
        return context.RequestContext.from_dict(ctxt if isinstance(ctxt, dict) else {})


def transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """Return the RPC transport of the configured ``transport_url``.

    :param conf: must be the global ``cfg.CONF``: oslo.messaging 18 registers some options only there.
    """
    set_defaults(conf)
    return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_MODULES)


def set_defaults(conf: cfg.ConfigOpts) -> None:
    """Set the exchange, and register the options of oslo.messaging with the defaults of this project."""
    # Imported here, because it imports all drivers.
    from oslo_messaging import opts

    oslo_messaging.set_transport_defaults(EXCHANGE)
    conf.register_opts(dict(opts.list_opts())[options.RABBIT], group=options.RABBIT)
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group=options.RABBIT)


def client(
    transport: oslo_messaging.Transport,
    version: str,
    *,
    topic: str = TOPIC,
    timeout: int | None = None,
    version_cap: str | None = None,
) -> Any:
    """Return an RPC client for a version of the contract.

    :param version_cap: a message of a later version is not sent, and raises ``RPCVersionCapError``.
    """
    # With at_least_once, a cast to a host without an agent fails instead of being lost.
    return oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(exchange=EXCHANGE, topic=topic, version=version),
        serializer=ContextSerializer(),
        timeout=timeout,
        version_cap=version_cap,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )


class Messaging(sending.Sender):
    """Sends requests by oslo.messaging, and raises its errors.

    :param transport: from :func:`transport`.
    """

    undeliverable = oslo_messaging.MessageUndeliverable
    refused = (oslo_messaging.RemoteError, oslo_messaging.UnsupportedVersion)

    def __init__(self, transport: oslo_messaging.Transport) -> None:
        self._transport = transport
        #: The prepared clients, because preparing one takes as long as encoding a request.
        self._clients: dict[tuple[str, str, str, int | None], Any] = {}

    def cast(self, request: sending.Request) -> None:
        self._client(request).cast(request.ctxt, request.method, **request.arguments)

    def call(self, request: sending.Request, timeout: int | None) -> Any:
        return self._client(request, timeout).call(request.ctxt, request.method, **request.arguments)

    def is_unsupported(self, error: Exception) -> bool:
        name = oslo_messaging.UnsupportedVersion.__name__
        return not isinstance(error, oslo_messaging.RemoteError) or error.exc_type == name

    def _client(self, request: sending.Request, timeout: int | None = None) -> Any:
        key = request.topic, request.host, request.version, timeout
        if key not in self._clients:
            made = client(self._transport, request.version, topic=request.topic, timeout=timeout)
            self._clients[key] = made.prepare(server=request.host)
        return self._clients[key]
