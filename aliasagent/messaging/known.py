# SPDX-License-Identifier: Apache-2.0
"""The private parts of oslo.messaging that this release uses, and whether the installed one has them.

They decide when the broker may forget a message. With other parts a cast could be acknowledged before it is recorded,
and be lost without any error. They are looked up by their names: what imports them would fail before it could say why.
"""

import inspect
import pkgutil
from importlib import metadata
from typing import Any

_DRIVERS = 'oslo_messaging._drivers'
#: What is called or replaced, and its parameters.
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
#: What else has to be there.
_THERE = (
    f'{_DRIVERS}.amqp:amqp_opts',
    f'{_DRIVERS}.amqpdriver:AMQPListener.use_cache',
    f'{_DRIVERS}.common:Timeout',
    f'{_DRIVERS}.impl_fake:FakeListener',
    f'{_DRIVERS}.impl_rabbit:QuorumMemConfig',
    f'{_DRIVERS}.impl_rabbit:rabbit_opts',
)
#: Attributes that an object gets when it is made, by the method that sets them.
_SET = {
    'oslo_messaging:Notifier.__init__': ('_driver_mgr',),
    'oslo_messaging.rpc.dispatcher:RPCDispatcher.__init__': ('access_policy', 'endpoints'),
    f'{_DRIVERS}.amqpdriver:AMQPIncomingMessage.__init__': ('client_timeout', 'orig_msg_id'),
    f'{_DRIVERS}.amqpdriver:AMQPListener.__init__': ('conn', 'incoming'),
    f'{_DRIVERS}.base:PollStyleListenerAdapter.__init__': ('_poll_style_listener',),
    f'{_DRIVERS}.impl_rabbit:Connection.__init__': ('channel', 'connection'),
}


class UnknownMessaging(Exception):
    """oslo.messaging is not as this release knows it, so that a cast could be lost.

    :param reason: what is different.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f'oslo.messaging {metadata.version("oslo.messaging")} is unknown to this release, and could lose requests: '
            f'{reason}; install a version that it was tested with (see its requirements.txt)'
        )


def check() -> None:
    """Refuse an oslo.messaging whose private parts are not known. To be called before they are imported.

    :raises UnknownMessaging: a part is missing, or has other parameters.
    """
    for name in _THERE:
        _find(name)
    for name, expected in _CALLED.items():
        found = ', '.join(inspect.signature(_find(name)).parameters)
        if found != expected:
            raise UnknownMessaging(f'{_words(name)} takes ({found}), not ({expected})')
    for name, attributes in _SET.items():
        used = _find(name).__code__.co_names
        for attribute in attributes:
            if attribute not in used:
                raise UnknownMessaging(f'{_words(name)} sets no {attribute}')


def _find(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise UnknownMessaging(f'there is no {_words(name)}') from error


def _words(name: str) -> str:
    return name.replace(':', '.')
