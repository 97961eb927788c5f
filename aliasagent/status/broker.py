# SPDX-License-Identifier: Apache-2.0
"""Checks the configured message brokers: whether they can be reached, and whether their queues fit our settings."""

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
#: AMQP's code for an exchange or queue that does not exist.
_NOT_FOUND = 404
#: Declares an exchange or queue on a channel, passively or not.
Declare = Callable[[Any, bool], None]


class BrokerError(Exception):
    """The broker cannot be used. The text names the address and the reason, without credentials."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Our exchange, or one of our queues, as it exists on the broker."""

    name: str
    #: Why it does not fit the settings, in the broker's words; empty if it fits.
    reason: str

    @property
    def is_not_durable(self) -> bool:
        """Whether it does not fit because of its argument ``durable``."""
        return "inequivalent arg 'durable'" in self.reason


class Broker:
    """The brokers of the option ``transport_url``.

    :param timeout: seconds for each address.
    """

    def __init__(self, conf: cfg.ConfigOpts, timeout: float) -> None:
        rpc.transport(conf)  # which makes its options known
        self._url = oslo_messaging.TransportURL.parse(conf)
        self._options = conf.oslo_messaging_rabbit
        self._host = str(conf.host)
        self._timeout = timeout

    @property
    def is_rabbit(self) -> bool:
        """Whether there is a broker to check: the transports for tests have none."""
        return self._url.transport in _DRIVERS

    def unreachable(self) -> list[str]:
        """Return the addresses that cannot be used, each with the reason.

        :raises BrokerError: no address can be used.
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
        """Return those of the agent's exchange and queues that exist, without changing them.

        :raises BrokerError: no broker can be used.
        """
        arguments = self._arguments()
        for host in self._addresses():
            with contextlib.suppress(BrokerError), self._connected(host) as connection:
                return self._found(connection, arguments)
        raise BrokerError('no broker can be used')

    @property
    def is_durable(self) -> bool:
        """Whether the settings ask for queues that survive a restart of the broker."""
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
    """Return why the broker refuses our declaration of an exchange or queue.

    Returns an empty text if the broker accepts the declaration, None if there is no such exchange or queue. A passive
    declaration only checks that the queue exists. A second one, not passive, compares the settings, and changes nothing
    because the queue exists.
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
    """Return the text of an error of the broker or the network, without AMQP's frame."""
    return str(getattr(error, 'reply_text', None) or error or type(error).__name__)
