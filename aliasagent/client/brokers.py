# SPDX-License-Identifier: Apache-2.0
"""Reads from the configuration how to reach RabbitMQ: the brokers of the ``transport_url``, TLS, and the queues."""

import dataclasses
import ssl
import urllib.parse
from typing import Any

from oslo_config import cfg

from aliasagent.client import options

#: The driver of oslo.messaging that speaks to RabbitMQ.
DRIVER = 'rabbit'
PORT = 5672
_GUEST = 'guest'


class LeftToMessaging(Exception):
    """The configuration asks for what only oslo.messaging does. The text names it, without credentials."""


class BadURL(ValueError):
    """A transport URL is not valid. The text does not repeat the URL, which may hold a password."""


@dataclasses.dataclass(frozen=True)
class Broker:
    """The address of a broker, and the account there.

    :param host: a name or an address, without brackets; empty for the default.
    :param port: None for the default.
    """

    host: str = ''
    port: int | None = None
    user: str = ''
    password: str = dataclasses.field(default='', repr=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, with their defaults."""
        return self.host or 'localhost', self.port or PORT

    @property
    def account(self) -> tuple[str, str]:
        """User and password, with their defaults."""
        return self.user or _GUEST, self.password or _GUEST


@dataclasses.dataclass(frozen=True)
class URL:
    """A transport URL: ``driver://[user:password@]host:port[,...]/virtual_host?query``."""

    driver: str
    brokers: tuple[Broker, ...]
    virtual_host: str
    query: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides how a request is sent to RabbitMQ.

    :param response_timeout: seconds to wait for an answer.
    :param tls: the arguments with which py-amqp makes a TLS connection, or whether it makes one with its defaults.
    :param reply_arguments: the arguments of the reply queue.
    :param prefetch: how many unacknowledged answers the broker sends at most; 0 for no limit.
    :param retry: seconds between two attempts to connect again: the first interval, its growth, and the longest.
    """

    brokers: tuple[Broker, ...]
    virtual_host: str
    login_method: str
    response_timeout: int
    tls: dict[str, Any] | bool
    durable: bool
    auto_delete: bool
    durable_replies: bool
    reply_arguments: dict[str, Any]
    prefetch: int
    retry: tuple[int, int, int]


def parse(url: str) -> URL:
    """Parse a transport URL as oslo.messaging does.

    :raises BadURL: the URL is not valid.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        brokers = tuple(_broker(place) for place in parts.netloc.split(',') if place)
    except ValueError:
        # From None: a traceback would repeat a part of the URL.
        raise BadURL('the address of a broker is not valid') from None
    # A fragment may be the end of a password that is not encoded, after what looks like a port.
    if not parts.scheme or '#' in url:
        raise BadURL('the URL has no driver, or a fragment')
    return URL(parts.scheme, brokers or (Broker(),), urllib.parse.unquote(parts.path.removeprefix('/')), parts.query)


def _broker(place: str) -> Broker:
    """Parse ``[user[:password]@]host[:port]``.

    :raises ValueError: the port is not a number, or a bracket is missing.
    """
    account, _at, address = place.rpartition('@')
    user, _colon, password = account.partition(':')
    if address.startswith('['):
        host, end, rest = address[1:].partition(']')
        colon, port = rest[:1], rest[1:]
        if not end or colon not in ('', ':'):
            raise ValueError('not an address in brackets')
    elif address.count(':') == 1:
        host, colon, port = address.partition(':')
    else:
        # An IPv6 address without brackets has no port.
        host, colon, port = address, '', ''
    return Broker(host, int(port) if colon else None, urllib.parse.unquote(user), urllib.parse.unquote(password))


def read(conf: cfg.ConfigOpts) -> Settings:
    """Return the settings of a configuration with the options of :func:`aliasagent.client.options.register`.

    :raises LeftToMessaging: only oslo.messaging does what the configuration asks for.
    :raises BadURL: the ``transport_url`` is not valid.
    :raises cfg.Error: another option is not valid.
    """
    url = parse(conf.transport_url)
    if url.driver != DRIVER:
        raise LeftToMessaging(f'the driver {url.driver}')
    if url.query:
        raise LeftToMessaging('options in the query of the transport_url')
    # kombu decodes the virtual host once more, as a part of a URL of its own.
    if set(url.virtual_host) & set('%?#'):
        raise LeftToMessaging('a virtual host with %, ? or #')
    rabbit = conf[options.RABBIT]
    for option in options.LEFT_OPTS:
        if rabbit[option.name] != option.default:
            raise LeftToMessaging(f'[{options.RABBIT}] {option.name}')
    return Settings(
        brokers=url.brokers,
        virtual_host=url.virtual_host or '/',
        login_method=rabbit.rabbit_login_method,
        response_timeout=conf.rpc_response_timeout,
        tls=rabbit.ssl and (_tls(rabbit, url.brokers) or True),
        durable=rabbit.amqp_durable_queues or rabbit.rabbit_quorum_queue,
        auto_delete=rabbit.amqp_auto_delete,
        durable_replies=rabbit.rabbit_transient_quorum_queue,
        reply_arguments=_reply_arguments(rabbit),
        prefetch=rabbit.rabbit_qos_prefetch_count,
        retry=(rabbit.rabbit_retry_interval, rabbit.rabbit_retry_backoff, rabbit.rabbit_interval_max),
    )


def _reply_arguments(rabbit: Any) -> dict[str, Any]:
    """Return the arguments of the queue for answers.

    :param rabbit: the group ``oslo_messaging_rabbit``.
    """
    arguments: dict[str, Any] = {}
    if rabbit.rabbit_transient_quorum_queue:
        arguments['x-queue-type'] = 'quorum'
        limits = {
            'x-delivery-limit': rabbit.rabbit_quorum_delivery_limit,
            'x-max-in-memory-length': rabbit.rabbit_quorum_max_memory_length,
            'x-max-in-memory-bytes': rabbit.rabbit_quorum_max_memory_bytes,
        }
        arguments |= {name: value for name, value in limits.items() if value}
    if rabbit.rabbit_transient_queues_ttl > 0:
        arguments['x-expires'] = rabbit.rabbit_transient_queues_ttl * 1000
    return arguments


def _tls(rabbit: Any, brokers: tuple[Broker, ...]) -> dict[str, Any]:
    """Return the arguments with which py-amqp makes a TLS connection, as oslo.messaging chooses them.

    :param rabbit: the group ``oslo_messaging_rabbit``.
    :raises cfg.Error: a file cannot be read.
    """
    files = {'keyfile': 'ssl_key_file', 'certfile': 'ssl_cert_file', 'ca_certs': 'ssl_ca_file'}
    arguments: dict[str, Any] = {name: rabbit[option] for name, option in files.items() if rabbit[option]}
    for name, path in arguments.items():
        # Checked here: later, a file that is missing looks like a broker that cannot be reached.
        try:
            with open(path, 'rb'):
                pass
        except OSError as error:
            raise cfg.Error(f'[{options.RABBIT}] {files[name]}: {path}: {error.strerror}') from error
    if rabbit.ssl_ca_file:
        arguments['cert_reqs'] = ssl.CERT_REQUIRED
        # The name in a certificate is checked only where there is one broker.
        arguments['server_hostname'] = brokers[0].host or None if len(brokers) == 1 else None
    return arguments
