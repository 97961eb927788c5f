# SPDX-License-Identifier: Apache-2.0
"""Sends the requests of the command by oslo.messaging, with the errors of a sender that does without it.

For transports other than RabbitMQ, and for options of RabbitMQ that only oslo.messaging knows. Loaded only if a
configuration needs it: importing oslo.messaging takes most of a second.
"""

import contextlib
import socket
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import oslo_messaging
from kombu import exceptions as kombu_exceptions
from kombu.transport import pyamqp

from aliasagent import conf
from aliasagent.client import brokers
from aliasagent.client import options
from aliasagent.client import rpc
from aliasagent.client import sending
from aliasagent.conf import messaging

#: Seconds that connecting to a broker may take.
CONNECT_SECONDS = 5
#: The errors of the broker's client beside oslo.messaging's own; a refused login is one of the channel errors.
BROKER_ERRORS: tuple[type[Exception], ...] = (
    oslo_messaging.MessageDeliveryFailure,
    kombu_exceptions.KombuError,
    OSError,
    *pyamqp.Transport.connection_errors,
    *pyamqp.Transport.channel_errors,
)


class Messaging(sending.Sender):
    """Sends by oslo.messaging, and raises the errors of :mod:`aliasagent.client.sending`.

    :param transport: from :func:`aliasagent.client.transport`.
    :param addresses: host and port of the message brokers; empty if the transport has none.
    """

    undeliverable = sending.Undeliverable
    refused = (sending.RemoteError, oslo_messaging.UnsupportedVersion)

    def __init__(self, transport: oslo_messaging.Transport, addresses: Sequence[tuple[str, int]] = ()) -> None:
        self.addresses = addresses
        rpc.client(transport, '1.0')  # registers the option
        #: Seconds to wait for an answer.
        self.response_timeout: int = transport.conf.rpc_response_timeout
        self._transport = transport
        self._sender = rpc.Messaging(transport)
        self._is_seen = not addresses

    def connect(self) -> None:
        """Check that one of the brokers accepts connections, because oslo.messaging would retry forever.

        :raises BrokerUnreachable: none does.
        """
        if self._is_seen:
            return
        reasons = []
        for host, port in self.addresses:
            try:
                with contextlib.closing(socket.create_connection((host, port), timeout=CONNECT_SECONDS)):
                    self._is_seen = True
                    return
            except OSError as error:
                reasons.append(f'{host}:{port}: {error.strerror or error}')
        raise sending.BrokerUnreachable('; '.join(reasons))

    def close(self) -> None:
        """Close all connections."""
        self._transport.cleanup()

    def cast(self, request: sending.Request) -> None:
        with _translated():
            self._sender.cast(request)

    def call(self, request: sending.Request, timeout: int | None) -> Any:
        with _translated():
            return self._sender.call(request, timeout)

    def is_unsupported(self, error: Exception) -> bool:
        name = oslo_messaging.UnsupportedVersion.__name__
        return not isinstance(error, sending.RemoteError) or error.kind == name


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise errors of oslo.messaging as those of :mod:`aliasagent.client.sending`."""
    try:
        yield
    except oslo_messaging.RemoteError as error:
        raise sending.RemoteError(str(error.exc_type), str(error.value)) from error
    except oslo_messaging.MessagingTimeout as error:
        raise sending.NoAnswer(str(error)) from error
    except oslo_messaging.MessageUndeliverable as error:
        raise sending.Undeliverable('no agent listens') from error
    except BROKER_ERRORS as error:
        # Channel errors are refusals, as of a login.
        may_have_arrived = not isinstance(error, pyamqp.Transport.channel_errors)
        raise sending.BrokerError(str(error), may_have_arrived) from error


def make(transport_url: str | None, reply_queue_seconds: int) -> Messaging:
    """Return the sender of the global configuration, which has been read. It opens no connection yet.

    :param transport_url: replaces the one of the configuration; None not to.
    :param reply_queue_seconds: how long the broker keeps an unused reply queue, unless the configuration says.
    :raises cfg.Error: an option is not valid.
    """
    if transport_url is not None:
        with contextlib.suppress(oslo_messaging.InvalidTransportURL, ValueError):
            oslo_messaging.TransportURL.parse(conf.CONF)  # registers the option, even if its value is not valid
        conf.CONF.set_override('transport_url', transport_url)
    messaging.check(conf.CONF)
    url = oslo_messaging.TransportURL.parse(conf.CONF)
    transport = rpc.transport(conf.CONF)
    if url.transport != brokers.DRIVER:
        return Messaging(transport)
    conf.CONF.set_default('rabbit_transient_queues_ttl', reply_queue_seconds, group=options.RABBIT)
    return Messaging(transport, [broker.address for broker in brokers.parse(conf.CONF.transport_url).brokers])
