# SPDX-License-Identifier: Apache-2.0
"""Interprets the options for RabbitMQ with the functions of oslo.messaging's own driver."""

from typing import Any

from oslo_messaging._drivers import impl_rabbit


def queue_arguments(options: Any) -> Any:
    """Return the arguments with which the driver declares the queue of a topic.

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
    """Return the constant of the module ``ssl`` for a value of the option ``ssl_version``."""
    return impl_rabbit.Connection.validate_ssl_version(name)
