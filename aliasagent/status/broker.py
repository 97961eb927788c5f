# SPDX-License-Identifier: Apache-2.0
"""The message broker as the configuration names it: can it be reached, and does what is there fit our settings."""

import contextlib
import dataclasses
import ssl
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import oslo_messaging
from kombu import connection as kombu
from oslo_config import cfg

from aliasagent.client import rpc
from aliasagent.messaging import rabbit

#: The kinds of transport that speak to a RabbitMQ.
_DRIVERS = ('rabbit', 'kombu')
_PORT = 5672
#: AMQP's code for what is not there.
_NOT_FOUND = 404
#: Declares something on a channel, passively or not.
Declare = Callable[[Any, bool], None]


class BrokerError(Exception):
    """The broker cannot be used; the words say at which address, and why, without credentials."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Our exchange, or a queue of ours, as it was found on the broker."""

    name: str
    #: Why it does not fit the settings, in the broker's words; empty if it does.
    reason: str

    @property
    def is_not_durable(self) -> bool:
        """Whether it does not fit because it is not durable, or is."""
        return "inequivalent arg 'durable'" in self.reason


class Broker:
    """The brokers of the option ``transport_url``.

    :param timeout: seconds for each address.
    """

    def __init__(self, conf: cfg.ConfigOpts, timeout: float) -> None:
        self._transport = rpc.transport(conf)  # which makes its options known
        self._url = oslo_messaging.TransportURL.parse(conf)
        self._options = conf.oslo_messaging_rabbit
        self._host = str(conf.host)
        self._timeout = timeout

    @property
    def is_rabbit(self) -> bool:
        """Whether there is a broker to look at: the transports for tests have none."""
        return self._url.transport in _DRIVERS

    def unreachable(self) -> list[str]:
        """The addresses that cannot be used, each with the reason, if others can.

        :raises BrokerError: none can.
        """
        failed = []
        for host in self._addresses():
            try:
                with self._connected(host):
                    pass
            except BrokerError as error:
                failed.append(str(error))
        if len(failed) == len(self._addresses()):
            raise BrokerError('; '.join(failed))
        return failed

    def found(self) -> list[Found]:
        """What there is of the agent's exchange and queues. Changes nothing.

        :raises BrokerError: it cannot be told.
        """
        arguments = self._arguments()
        for host in self._addresses():
            with contextlib.suppress(BrokerError), self._connected(host) as connection:
                return self._found(connection, arguments)
        raise BrokerError('no broker let itself be asked')

    @property
    def is_durable(self) -> bool:
        """Whether the settings want what survives a restart of the broker."""
        return bool(self._options.amqp_durable_queues or self._options.rabbit_quorum_queue)

    def _found(self, connection: Any, arguments: Any) -> list[Found]:
        how = {'durable': self.is_durable, 'auto_delete': bool(self._options.amqp_auto_delete)}

        def exchange(channel: Any, passive: bool) -> None:
            channel.exchange_declare(rpc.EXCHANGE, 'topic', passive=passive, **how)

        def queue(name: str) -> Declare:
            return lambda channel, passive: channel.queue_declare(name, passive=passive, arguments=arguments, **how)

        asked = {f'exchange {rpc.EXCHANGE}': exchange} | {f'queue {name}': queue(name) for name in self._queues()}
        answers = {name: _refusal(connection, declare) for name, declare in asked.items()}
        return [Found(name, reason) for name, reason in answers.items() if reason is not None]

    def _queues(self) -> list[str]:
        return [name for topic in (rpc.TOPIC, rpc.ALT_TOPIC) for name in (topic, f'{topic}.{self._host}')]

    def _arguments(self) -> Any:
        """What oslo.messaging asks of a topic's queue."""
        try:
            return rabbit.queue_arguments(self._options)
        except RuntimeError as error:
            raise BrokerError(str(error)) from error

    def _addresses(self) -> list[Any]:
        return list(self._url.hosts) or [oslo_messaging.TransportHost('localhost', _PORT, 'guest', 'guest')]

    @contextlib.contextmanager
    def _connected(self, host: Any) -> Iterator[Any]:
        where = f'{host.hostname or "localhost"}:{host.port or _PORT}'
        make: Any = kombu.Connection
        connection = make(
            transport='amqp',
            hostname=host.hostname or 'localhost',
            port=host.port or _PORT,
            userid=host.username or 'guest',
            password=host.password or 'guest',
            virtual_host=self._url.virtual_host or '/',
            connect_timeout=self._timeout,
            login_method=self._options.rabbit_login_method,
            ssl=self._ssl(host),
        )
        try:
            connection.connect()
            yield connection
        except (OSError, *connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerError(f'{where}: {_words(error)}') from error
        finally:
            connection.release()

    def _ssl(self, host: Any) -> Any:
        options = self._options
        if not options.ssl:
            return False
        given: dict[str, Any] = {'keyfile': options.ssl_key_file, 'certfile': options.ssl_cert_file}
        wanted = {name: value for name, value in given.items() if value}
        if options.ssl_version:
            wanted['ssl_version'] = rabbit.ssl_version(options.ssl_version)
        if options.ssl_ca_file:
            wanted |= {
                'ca_certs': options.ssl_ca_file,
                'cert_reqs': ssl.CERT_REQUIRED,
                # as oslo.messaging does
                'server_hostname': host.hostname if len(self._url.hosts) == 1 else None,
            }
        return wanted or True


def _refusal(connection: Any, declare: Declare) -> str | None:
    """Why the broker would not let us have something as we want it; empty if it would, None if it is not there.

    A passive declaration tells that something is there, but does not compare. One that is not passive does, and changes
    nothing where something is.
    """
    for passive in (True, False):
        # A refusal ends the channel.
        channel = connection.channel()
        try:
            declare(channel, passive)
        except connection.channel_errors as error:
            return None if passive and error.reply_code == _NOT_FOUND else _words(error)
        else:
            channel.close()
    return ''


def _words(error: Any) -> str:
    """What the broker or the network said, without the frame that it said it in."""
    return str(getattr(error, 'reply_text', None) or error or type(error).__name__)
