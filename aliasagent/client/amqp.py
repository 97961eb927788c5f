# SPDX-License-Identifier: Apache-2.0
"""Sends requests to agents over RabbitMQ, without oslo.messaging, which takes longer to import than an agent to answer.

It sends what oslo.messaging sends, and a test compares both byte by byte. Unlike oslo.messaging, it has one connection
with one channel, and no threads. It is for the command, which sends a few requests one after the other; control planes
use oslo.messaging.

It honours the options in :mod:`aliasagent.client.options`; :func:`aliasagent.client.brokers.read` refuses a
configuration that asks for more.
"""

import logging
import os
import random
import ssl
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import amqp

from aliasagent.client import brokers
from aliasagent.client import envelope
from aliasagent.client import sending

LOG = logging.getLogger(__name__)

#: Seconds that the broker has to accept a connection, and for each of its answers.
CONNECT_SECONDS = 5.0
#: Seconds that the broker has to confirm the end of the connection.
CLOSE_SECONDS = 0.5

#: The delivery mode of messages that the broker keeps on its disk.
_PERSISTENT = 2
#: The errors after which a client connects again.
_BROKEN: tuple[type[Exception], ...] = amqp.Connection.recoverable_connection_errors
#: All errors of the broker and of the connection; a refused login is one of the channel errors.
_ERRORS: tuple[type[Exception], ...] = (*amqp.Connection.connection_errors, *amqp.Connection.channel_errors)
#: What the client tells the broker that it can handle.
_CAPABILITIES = {'authentication_failure_close': True, 'connection.blocked': True, 'consumer_cancel_notify': True}


class Amqp(sending.Sender):
    """Sends requests over one connection to one of the brokers; used by one thread at a time.

    A connection that breaks during a request is made again, until the time for the answer is over. As with
    oslo.messaging, a request can then reach the agent twice: the agent recognizes it by its ``operation_id``.
    Each request raises a :exc:`aliasagent.client.sending.SendingError` if it fails.
    """

    undeliverable = sending.Undeliverable
    refused = (sending.RemoteError,)

    def __init__(self, settings: brokers.Settings) -> None:
        self._settings = settings
        # A random order, so that the connections of many clients spread over the brokers.
        self._brokers = random.sample(settings.brokers, len(settings.brokers))  # nosec B311
        self._link: _Link | None = None
        self._reply_queue = f'reply_{uuid.uuid4().hex}'

    def connect(self) -> None:
        """Connect to the first broker that accepts it, unless there is a connection.

        :raises BrokerUnreachable: no broker accepts connections, and answers.
        :raises BrokerError: a broker refused the login, or TLS failed, and no other broker accepts connections.
        """
        if self._link is not None:
            return
        reasons, refusal = [], None
        for broker in self._brokers:
            host, port = broker.address
            try:
                self._link = _Link(self._settings, broker)
            except sending.BrokerUnreachable as error:
                reasons.append(f'{host}:{port}: {error}')
            except sending.BrokerError as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal
        raise sending.BrokerUnreachable('; '.join(reasons))

    def close(self) -> None:
        """Close the connection, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def cast(self, request: sending.Request) -> None:
        deadline = time.monotonic() + self._settings.response_timeout
        body = envelope.request(request)
        self._persist(lambda link: link.publish(request, body, deadline), deadline)

    def call(self, request: sending.Request, timeout: int | None) -> Any:
        seconds = timeout or self._settings.response_timeout
        deadline = time.monotonic() + seconds
        msg_id = uuid.uuid4().hex
        body = envelope.request(request, _msg_id=msg_id, _reply_q=self._reply_queue, _timeout=None)

        def publish(link: '_Link') -> None:
            link.consume(self._reply_queue)
            link.publish(request, body, deadline, expires=seconds)

        def receive(link: '_Link') -> list[dict[str, Any]]:
            # A new connection must consume the queue again.
            link.consume(self._reply_queue)
            return link.receive(msg_id, deadline)

        self._persist(publish, deadline)
        try:
            return envelope.result(self._persist(receive, deadline))
        except sending.BrokerError as error:
            # The broker has the request, so the agent may do it.
            raise sending.NoAnswer(f'the connection to the message broker broke: {error}') from error

    def is_unsupported(self, error: Exception) -> bool:
        return isinstance(error, sending.RemoteError) and error.kind == 'UnsupportedVersion'

    def _persist(self, work: Callable[['_Link'], Any], deadline: float) -> Any:
        """Do something with the connection, and once more with another one if the connection breaks.

        :raises BrokerError: there is no connection at the deadline.
        """
        self.connect()
        pause, growth, longest = self._settings.retry
        wait = 0
        may_have_arrived = False
        while True:
            try:
                self.connect()
                assert self._link is not None
                return work(self._link)
            except sending.SendingError as error:
                if isinstance(error, sending.BrokerError):
                    may_have_arrived |= self._drop()
                error.may_have_arrived |= may_have_arrived
                if not isinstance(error, sending.BrokerUnreachable) or time.monotonic() + wait >= deadline:
                    raise
            except _ERRORS as error:
                may_have_arrived |= self._drop()
                if not isinstance(error, _BROKEN) or time.monotonic() + wait >= deadline:
                    raise sending.BrokerError(_words(error), may_have_arrived) from error
                LOG.info('the connection to the message broker broke: %s', _words(error))
            except BaseException:
                # The next request must not take a late answer of the broker for its own.
                self._drop()
                raise
            time.sleep(wait)
            wait = min(wait + growth if wait else pause, longest)

    def _drop(self) -> bool:
        """Forget the connection, and have the next one made to another broker.

        :returns: whether the broker may have a message that it has not confirmed.
        """
        link, self._link = self._link, None
        self._brokers.append(self._brokers.pop(0))
        if link is None:
            return False
        link.collect()
        return link.unconfirmed


class _Link:
    """A connection to a broker, and its channel.

    :raises BrokerUnreachable: the broker accepts no connections, or does not answer.
    :raises BrokerError: the broker refused the login, or TLS failed.
    """

    def __init__(self, settings: brokers.Settings, broker: brokers.Broker) -> None:
        self._settings = settings
        self._blocked = ''
        self._confirmed: bool | None = None
        #: Whether a message was sent, and the broker has neither confirmed nor refused it.
        self.unconfirmed = False
        self._returned = False
        self._consumed = False
        self._answers: list[dict[str, Any] | sending.RemoteError] = []
        self._connection: Any = amqp.Connection(**self._arguments(broker))
        try:
            self._connection.connect()
            # So that nothing waits forever; what may take longer has a time limit of its own.
            self._connection.sock.settimeout(CONNECT_SECONDS)
            self._channel = self._connection.channel()
            self._declare_exchange()
            self._channel.confirm_select()
        except _ERRORS as error:
            self.collect()
            if isinstance(error, TimeoutError):
                raise sending.BrokerUnreachable(f'no answer within {CONNECT_SECONDS:g} s') from error
            is_away = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
            raise (sending.BrokerUnreachable if is_away else sending.BrokerError)(_words(error)) from error
        self._channel.events['basic_ack'].add(lambda *_args: self._confirm(True))
        self._channel.events['basic_nack'].add(lambda *_args: self._confirm(False))
        self._channel.events['basic_return'].add(self._return)

    def publish(self, request: sending.Request, body: str, deadline: float, expires: int | None = None) -> None:
        """Send a message, and return when the broker has it.

        :param expires: seconds after which the broker may drop the message.
        :raises Undeliverable: no agent listens.
        :raises BrokerError: the broker refused the message, or accepts none now.
        :raises BrokerSilent: the broker did not confirm the message in time.
        """
        message = amqp.Message(
            body,
            priority=0,
            content_type='application/json',
            content_encoding='utf-8',
            application_headers={},
            delivery_mode=_PERSISTENT,
            **({} if expires is None else {'expiration': str(expires * 1000)}),
        )
        self._confirmed, self._returned = None, False
        begin = time.monotonic()
        self.unconfirmed = True
        self._channel.basic_publish(
            message, exchange=sending.EXCHANGE, routing_key=f'{request.topic}.{request.host}', mandatory=True
        )
        while self._confirmed is None:
            if not self._drain(deadline):
                if self._blocked:
                    raise sending.BrokerError(f'it accepts no messages now: {self._blocked}')
                raise sending.BrokerSilent(time.monotonic() - begin)
        self.unconfirmed = False
        if self._returned:
            raise sending.Undeliverable(f'no agent listens on topic {request.topic} of host {request.host}')
        if not self._confirmed:
            raise sending.BrokerError('it did not accept the message')

    def consume(self, queue: str) -> None:
        """Receive the answers that come to a queue; declare the queue before. Do nothing if it is received already."""
        if self._consumed:
            return
        self._channel.queue_declare(
            queue=queue,
            durable=self._settings.durable_replies,
            exclusive=False,
            auto_delete=False,
            arguments=self._settings.reply_arguments,
        )
        if self._settings.prefetch > 0:
            self._channel.basic_qos(0, self._settings.prefetch, False)
        self._channel.basic_consume(queue=queue, consumer_tag='1', callback=self._receive)
        self._consumed = True

    def receive(self, msg_id: str, deadline: float) -> list[dict[str, Any]]:
        """Return the messages of an answer; the last one has a true ``ending``.

        :raises NoAnswer: it did not come in time.
        :raises RemoteError: what came cannot be read.
        """
        found: list[dict[str, Any]] = []
        while True:
            while self._answers:
                answer = self._answers.pop(0)
                if isinstance(answer, sending.RemoteError):
                    raise answer
                # Another one is late: its question has timed out.
                if answer.get('_msg_id') == msg_id:
                    found.append(answer)
                    if answer.get('ending'):
                        return found
            if not self._drain(deadline):
                raise sending.NoAnswer(f'no answer to message {msg_id} in time')

    def close(self) -> None:
        """Tell the broker that the connection ends, and close it, whether the broker confirms or not."""
        if not self._connection.connected:
            return
        try:
            self._connection.sock.settimeout(CLOSE_SECONDS)
            self._connection.close()
        except _ERRORS as error:
            LOG.debug('the connection to the message broker was not closed in order: %s', error)
            self.collect()

    def collect(self) -> None:
        """Close the connection without telling the broker."""
        self._connection.collect()

    def _arguments(self, broker: brokers.Broker) -> dict[str, Any]:
        """Return the arguments of the connection."""
        host, port = broker.address
        user, password = broker.account
        # As kombu does: RabbitMQ may listen on IPv4 only.
        place = '127.0.0.1' if host == 'localhost' else f'[{host}]' if ':' in host else host
        name = f'{os.path.basename(sys.argv[0])}:{os.getpid()}:{uuid.uuid4()}'
        return {
            'host': f'{place}:{port}',
            'userid': user,
            'password': password,
            'login_method': self._settings.login_method,
            'virtual_host': self._settings.virtual_host,
            'ssl': self._settings.tls,
            'connect_timeout': CONNECT_SECONDS,
            # No heartbeats: there is no thread to send them while a program waits between two requests.
            'heartbeat': 0,
            'client_properties': {'capabilities': dict(_CAPABILITIES), 'connection_name': name},
            'on_blocked': self._block,
            'on_unblocked': lambda: self._block(''),
        }

    def _declare_exchange(self) -> None:
        """Declare the exchange, as one that does not survive a restart if another service has declared it so."""
        kind: dict[str, Any] = {'type': 'topic', 'auto_delete': self._settings.auto_delete}
        try:
            self._channel.exchange_declare(exchange=sending.EXCHANGE, durable=self._settings.durable, **kind)
        except amqp.Connection.channel_errors as error:
            if "inequivalent arg 'durable'" not in str(error):
                raise
            # py-amqp has opened the channel again, which the broker had closed.
            self._channel.exchange_declare(exchange=sending.EXCHANGE, durable=False, **kind)

    def _drain(self, deadline: float) -> bool:
        """Read from the broker until something has come; return False if nothing did until the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            self._connection.drain_events(timeout=left)
        except TimeoutError:
            return False
        return True

    def _confirm(self, accepted: bool) -> None:
        self._confirmed = accepted

    def _return(self, *_args: object) -> None:
        self._returned = True

    def _block(self, reason: str) -> None:
        self._blocked = reason

    def _receive(self, raw: Any) -> None:
        """Keep a message that has come to the reply queue."""
        self._channel.basic_ack(raw.delivery_tag)
        try:
            self._answers.append(envelope.answer(raw.body, (raw.headers or {}).get('compression')))
        except sending.RemoteError as error:
            LOG.info('%s: %s', error.text, error.__cause__)
            self._answers.append(error)


def _words(error: BaseException) -> str:
    """Return what an error says, or at least its class."""
    return (error.strerror if isinstance(error, OSError) else '') or str(error) or type(error).__name__
