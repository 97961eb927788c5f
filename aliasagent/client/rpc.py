# SPDX-License-Identifier: Apache-2.0
"""The exchange, the transport and the RPC client."""

from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts

from aliasagent import context
from aliasagent import exception

EXCHANGE = 'aliasagent'
#: The topic of casts, which take effect in their order.
TOPIC = 'compute'
#: The topic of calls, which the agent answers even while casts have to wait.
ALT_TOPIC = 'compute-alt'

_RABBIT = 'oslo_messaging_rabbit'
#: Defaults in this group that differ from those of oslo.messaging.
DEFAULTS = {
    # Queues survive a restart of the broker.
    'amqp_durable_queues': True,
    # How many unacknowledged messages the agent holds at most; the broker redelivers them after a crash.
    'rabbit_qos_prefetch_count': 10,
}

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
    oslo_messaging.set_transport_defaults(EXCHANGE)
    conf.register_opts(dict(opts.list_opts())[_RABBIT], group=_RABBIT)
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group=_RABBIT)


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
