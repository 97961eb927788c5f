# SPDX-License-Identifier: Apache-2.0
"""Checks that the installed oslo.messaging has the private attributes that this release uses.

The attributes decide when the broker may delete a message. If they differ, a cast could be acknowledged before it is
recorded, and be lost without an error. The check resolves them by name: an import of a missing one would fail before
the check could report why.
"""

import inspect
import pkgutil
from importlib import metadata
from typing import Any

_DRIVERS = 'oslo_messaging._drivers'
#: Functions that the agent calls or replaces, with their parameters.
_CALLED = {
    'oslo_messaging:Notifier._notify': 'self, ctxt, event_type, payload, priority, publisher_id, retry',
    'oslo_messaging:Transport._send_notification': 'self, target, ctxt, message, version, retry',
    'oslo_messaging.rpc.server:RPCServer.__init__': 'self, transport, target, dispatcher, executor',
    'oslo_messaging.rpc.server:RPCServer._create_listener': 'self',
    'oslo_messaging.rpc.server:RPCServer._process_incoming': 'self, incoming',
    'oslo_messaging.server:MessageHandlingServer._on_incoming': 'self, incoming',
    f'{_DRIVERS}.amqpdriver:AMQPIncomingMessage.acknowledge': 'self',
    f'{_DRIVERS}.amqpdriver:AMQPListener.__call__': 'self, message',
    f'{_DRIVERS}.amqpdriver:AMQPListener.__init__': 'self, driver, conn',
    f'{_DRIVERS}.amqpdriver:RpcAMQPListener.__call__': 'self, message',
    f'{_DRIVERS}.base:PollStyleListenerAdapter.__init__': 'self, poll_style_listener, batch_size, batch_timeout',
    f'{_DRIVERS}.impl_rabbit:Connection.consume': 'self, timeout',
    f'{_DRIVERS}.impl_rabbit:Connection.validate_ssl_version': 'version',
    f'{_DRIVERS}.impl_rabbit:RabbitMessage.acknowledge': 'self',
    f'{_DRIVERS}.impl_rabbit:_get_queue_arguments': (
        'rabbit_ha_queues, rabbit_queue_ttl, rabbit_quorum_queue, rabbit_quorum_queue_config, rabbit_stream_fanout'
    ),
}
#: Other attributes that have to exist.
_THERE = (
    f'{_DRIVERS}.amqp:amqp_opts',
    f'{_DRIVERS}.amqpdriver:AMQPListener.use_cache',
    f'{_DRIVERS}.common:Timeout',
    f'{_DRIVERS}.impl_fake:FakeListener',
    f'{_DRIVERS}.impl_rabbit:QuorumMemConfig',
    f'{_DRIVERS}.impl_rabbit:rabbit_opts',
)
#: Attributes of objects, by the method that sets them.
_SET = {
    'oslo_messaging:Notifier.__init__': ('_driver_mgr',),
    'oslo_messaging.rpc.dispatcher:RPCDispatcher.__init__': ('access_policy', 'endpoints'),
    f'{_DRIVERS}.amqpdriver:AMQPIncomingMessage.__init__': ('client_timeout', 'orig_msg_id'),
    f'{_DRIVERS}.amqpdriver:AMQPListener.__init__': ('conn', 'incoming'),
    f'{_DRIVERS}.base:PollStyleListenerAdapter.__init__': ('_poll_style_listener',),
    f'{_DRIVERS}.impl_rabbit:Connection.__init__': ('channel', 'connection'),
}


class UnknownMessaging(Exception):
    """oslo.messaging differs from the tested versions, so that a cast could be lost.

    :param reason: the difference.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f'oslo.messaging {metadata.version("oslo.messaging")} is unknown to this release, and could lose requests: '
            f'{reason}; install a version that it was tested with (see its requirements.txt)'
        )


def check() -> None:
    """Check the private attributes of oslo.messaging. Call this before they are imported.

    :raises UnknownMessaging: an attribute is missing, or has other parameters.
    """
    for name in _THERE:
        _find(name)
    for name, expected in _CALLED.items():
        found = ', '.join(inspect.signature(_find(name)).parameters)
        if found != expected:
            raise UnknownMessaging(f'{_dotted(name)} takes ({found}), not ({expected})')
    for name, attributes in _SET.items():
        used = _find(name).__code__.co_names
        for attribute in attributes:
            if attribute not in used:
                raise UnknownMessaging(f'{_dotted(name)} sets no {attribute}')


def _find(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise UnknownMessaging(f'there is no {_dotted(name)}') from error


def _dotted(name: str) -> str:
    return name.replace(':', '.')
