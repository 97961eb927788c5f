# SPDX-License-Identifier: Apache-2.0
"""What oslo.messaging's driver for RabbitMQ makes of its options: its own functions tell, for it alone knows."""

from typing import Any

from oslo_messaging._drivers import impl_rabbit


def queue_arguments(options: Any) -> Any:
    """The arguments with which the queue of a topic is declared.

    :param options: the group ``oslo_messaging_rabbit``.
    :raises RuntimeError: the options contradict each other.
    """
    quorum = impl_rabbit.QuorumMemConfig(
        options.rabbit_quorum_delivery_limit,
        options.rabbit_quorum_max_memory_length,
        options.rabbit_quorum_max_memory_bytes,
    )
    return impl_rabbit._get_queue_arguments(options.rabbit_ha_queues, 0, options.rabbit_quorum_queue, quorum, False)


def ssl_version(name: str) -> Any:
    """The version of TLS that the option ``ssl_version`` names, as the module ``ssl`` knows it."""
    return impl_rabbit.Connection.validate_ssl_version(name)
