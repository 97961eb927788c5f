# SPDX-License-Identifier: Apache-2.0
"""A message broker in this process, which speaks as much of AMQP 0-9-1 as the clients and agents of the tests.

It records what clients send, byte by byte. Queues are neither durable nor do they expire.
"""

import collections
import contextlib
import dataclasses
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import Protocol
from typing import Self

from amqp import serialization

#: The arguments of the methods that clients send: their name and format.
METHODS = {
    (10, 11): ('connection.start-ok', 'FsSs'),
    (10, 31): ('connection.tune-ok', 'BlB'),
    (10, 40): ('connection.open', 'ssb'),
    (10, 50): ('connection.close', 'BsBB'),
    (10, 51): ('connection.close-ok', ''),
    (20, 10): ('channel.open', 's'),
    (20, 40): ('channel.close', 'BsBB'),
    (20, 41): ('channel.close-ok', ''),
    (40, 10): ('exchange.declare', 'BssbbbbbF'),
    (50, 10): ('queue.declare', 'BsbbbbbF'),
    (50, 20): ('queue.bind', 'BsssbF'),
    (50, 40): ('queue.delete', 'Bsbbb'),
    (60, 10): ('basic.qos', 'lBb'),
    (60, 20): ('basic.consume', 'BssbbbbF'),
    (60, 30): ('basic.cancel', 'sb'),
    (60, 40): ('basic.publish', 'Bssbb'),
    (60, 80): ('basic.ack', 'Lb'),
    (85, 10): ('confirm.select', 'b'),
}
_PUBLISH = (60, 40)
#: The largest frame.
_FRAME = 131072


@dataclasses.dataclass
class Sent:
    """What a client has sent: one method, with its raw properties and body if it is a message."""

    name: str
    arguments: list[Any]
    properties: bytes = b''
    body: bytes = b''


class Consumer(Protocol):
    """Receives messages."""

    def deliver(self, channel: int, tag: str, message: Sent, /) -> None: ...


@dataclasses.dataclass
class Queue:
    """A queue, and who receives its messages in turn."""

    consumers: list[tuple['Consumer', int, str]] = dataclasses.field(default_factory=list)
    messages: list[Sent] = dataclasses.field(default_factory=list)


class Broker:
    """The broker; a context manager.

    :param password: the only one that it accepts.
    :param context: for TLS; None for none.
    """

    def __init__(self, password: str = 'guest', context: ssl.SSLContext | None = None) -> None:
        self.password = password
        self.context = context
        self.sent: list[Sent] = []
        self.lock = threading.RLock()
        self.exchanges: dict[str, bool] = {}
        self.queues: dict[str, Queue] = collections.defaultdict(Queue)
        self.bindings: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
        self.clients: list[Client] = []
        #: What is left out: ``start`` and ``confirm`` for no answer, ``accept`` for a refusal of each message.
        self.without: set[str] = set()
        self._socket = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._socket.getsockname()[1]
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f'rabbit://guest:guest@127.0.0.1:{self.port}/'

    def __enter__(self) -> Self:
        self.start(self._accept)
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def close(self) -> None:
        """Break all connections, and accept no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop()

    def stop(self) -> None:
        """Close, and wait for the end of all threads."""
        self.close()
        for thread in self._threads:
            thread.join(10)

    def drop(self) -> None:
        """Break all connections."""
        for client in list(self.clients):
            client.drop()

    def named(self, name: str) -> list[Sent]:
        """Return what was sent of one method."""
        return [sent for sent in self.sent if sent.name == name]

    def start(self, target: Any, *arguments: Any) -> None:
        """Do something in a thread that ends before the broker has stopped."""
        thread = threading.Thread(target=target, args=arguments, name='fake-broker', daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            self.start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), self._wrapped(connection) as wrapped:
            client = Client(self, wrapped)
            self.clients.append(client)
            try:
                client.serve()
            finally:
                self.clients.remove(client)
                client.drop()
                self.forget(client)

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        return connection if self.context is None else self.context.wrap_socket(connection, server_side=True)

    def forget(self, client: 'Client') -> None:
        with self.lock:
            for queue in self.queues.values():
                queue.consumers = [consumer for consumer in queue.consumers if consumer[0] is not client]

    def route(self, exchange: str, key: str, message: Sent) -> bool:
        """Bring a message to its queues; return whether there is one."""
        with self.lock:
            names = {key} & set(self.queues) if not exchange else self.bindings[exchange, key]
            for name in names:
                self.queues[name].messages.append(message)
                self.deliver(name)
            return bool(names)

    def deliver(self, name: str) -> None:
        """Send the messages of a queue to its consumers."""
        with self.lock:
            queue = self.queues[name]
            while queue.messages and queue.consumers:
                queue.consumers.append(consumer := queue.consumers.pop(0))
                client, channel, tag = consumer
                client.deliver(channel, tag, queue.messages.pop(0))


class Client:
    """The broker's side of one connection."""

    def __init__(self, broker: Broker, connection: socket.socket) -> None:
        self._broker = broker
        self._socket = connection
        self._lock = threading.RLock()
        self._tags: collections.Counter[int] = collections.Counter()
        self._confirming: set[int] = set()
        self._published: collections.Counter[int] = collections.Counter()

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() != -1

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer the client until it has gone."""
        self._read(8)
        if 'start' in self._broker.without:
            self._read(1)
            return
        features = ('publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'connection.blocked',
                    'authentication_failure_close')  # fmt: skip
        server = {'product': 'fake', 'version': '3.10.0', 'capabilities': dict.fromkeys(features, True)}
        self.send(0, (10, 10), 'ooFSS', 0, 9, server, 'PLAIN AMQPLAIN', 'en_US')
        while True:
            channel, method, payload = self._frame()
            name, form = METHODS[method]
            sent = Sent(name, list(serialization.loads(form, payload, 4)[0]) if form else [])
            if method == _PUBLISH:
                self._content(sent)
            self._broker.sent.append(sent)
            if not self._answer(name, channel, sent):
                return

    def _answer(self, name: str, channel: int, sent: Sent) -> bool:
        """Do what the client asks for; return whether the connection goes on."""
        act = getattr(self, f'on_{name.replace(".", "_").replace("-", "_")}', None)
        if act is not None:
            with self._broker.lock:
                act(channel, *sent.arguments, *([sent] if name == 'basic.publish' else []))
        return name not in ('connection.close', 'connection.close-ok')

    def on_connection_start_ok(self, _channel: int, _client: Any, _mechanism: str, answer: Any, _locale: str) -> None:
        answer = answer.encode() if isinstance(answer, str) else bytes(answer)
        if answer.endswith(self._broker.password.encode()):
            self.send(0, (10, 30), 'BlB', 2047, _FRAME, 60)
        else:
            self.send(0, (10, 50), 'BsBB', 403, 'ACCESS_REFUSED - Login was refused', 0, 0)

    def on_connection_open(self, _channel: int, *_arguments: object) -> None:
        self.send(0, (10, 41), 's', '')

    def on_connection_close(self, _channel: int, *_arguments: object) -> None:
        self.send(0, (10, 51))

    def on_channel_open(self, channel: int, *_arguments: object) -> None:
        self.send(channel, (20, 11), 'S', '')

    def on_channel_close(self, channel: int, *_arguments: object) -> None:
        self.send(channel, (20, 41))

    def on_exchange_declare(
        self, channel: int, _ticket: int, name: str, _kind: str, _passive: bool, durable: bool, *_more: object
    ) -> None:
        if self._broker.exchanges.setdefault(name, durable) != durable:
            words = f"PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{name}'"
            self.send(channel, (20, 40), 'BsBB', 406, words, 40, 10)
        else:
            self.send(channel, (40, 11))

    def on_queue_declare(self, channel: int, _ticket: int, name: str, *_more: object) -> None:
        queue = self._broker.queues[name]
        self.send(channel, (50, 11), 'sll', name, len(queue.messages), len(queue.consumers))

    def on_queue_bind(self, channel: int, _ticket: int, queue: str, exchange: str, key: str, *_more: object) -> None:
        self._broker.bindings[exchange, key].add(queue)
        self.send(channel, (50, 21))

    def on_queue_delete(self, channel: int, _ticket: int, name: str, *_more: object) -> None:
        self._broker.queues.pop(name, None)
        self.send(channel, (50, 41), 'l', 0)

    def on_basic_qos(self, channel: int, *_arguments: object) -> None:
        self.send(channel, (60, 11))

    def on_basic_consume(self, channel: int, _ticket: int, queue: str, tag: str, *_more: object) -> None:
        self.send(channel, (60, 21), 's', tag)
        self._broker.queues[queue].consumers.append((self, channel, tag))
        self._broker.deliver(queue)

    def on_basic_cancel(self, channel: int, tag: str, *_more: object) -> None:
        for queue in self._broker.queues.values():
            queue.consumers = [consumer for consumer in queue.consumers if consumer != (self, channel, tag)]
        self.send(channel, (60, 31), 's', tag)

    def on_confirm_select(self, channel: int, *_arguments: object) -> None:
        self._confirming.add(channel)
        self.send(channel, (85, 11))

    def on_basic_publish(
        self, channel: int, _ticket: int, exchange: str, key: str, mandatory: bool, _immediate: bool, sent: Sent
    ) -> None:
        is_routed = 'accept' not in self._broker.without and self._broker.route(exchange, key, sent)
        if mandatory and not is_routed and 'accept' not in self._broker.without:
            self._send_content(channel, (60, 50), sent, 'Bsss', 312, 'NO_ROUTE', exchange, key)
        if channel in self._confirming and 'confirm' not in self._broker.without:
            self._published[channel] += 1
            if 'accept' in self._broker.without:
                self.send(channel, (60, 120), 'Lb', self._published[channel], False)
            else:
                self.send(channel, (60, 80), 'Lb', self._published[channel], False)

    def deliver(self, channel: int, tag: str, message: Sent) -> None:
        """Send a message to a consumer."""
        self._tags[channel] += 1
        exchange, key = message.arguments[1:3]
        self._send_content(channel, (60, 60), message, 'sLbss', tag, self._tags[channel], False, exchange, key)

    def send(self, channel: int, method: tuple[int, int], form: str = '', *arguments: object) -> None:
        """Send a method."""
        payload = struct.pack('>HH', *method) + (serialization.dumps(form, arguments) if form else b'')
        self._write(1, channel, payload)

    def _send_content(
        self, channel: int, method: tuple[int, int], message: Sent, form: str, *arguments: object
    ) -> None:
        with self._lock:
            self.send(channel, method, form, *arguments)
            self._write(2, channel, struct.pack('>HHQ', 60, 0, len(message.body)) + message.properties)
            for begin in range(0, len(message.body), _FRAME - 8):
                self._write(3, channel, message.body[begin : begin + _FRAME - 8])

    def _write(self, kind: int, channel: int, payload: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(struct.pack('>BHI', kind, channel, len(payload)) + payload + b'\xce')

    def _content(self, sent: Sent) -> None:
        """Read the properties and the body of a message."""
        _channel, _method, header = self._frame()
        (size,) = struct.unpack_from('>Q', header, 4)
        sent.properties = header[12:]
        while len(sent.body) < size:
            _channel, _method, piece = self._frame()
            sent.body += piece

    def _frame(self) -> tuple[int, tuple[int, int], bytes]:
        """Return the channel, the method and the payload of the next frame that is no heartbeat."""
        while True:
            kind, channel, size = struct.unpack('>BHI', self._read(7))
            payload = self._read(size + 1)[:-1]
            if kind != 8:
                method: tuple[int, int] = struct.unpack_from('>HH', payload) if kind == 1 else (0, 0)
                return channel, method, payload

    def _read(self, size: int) -> bytes:
        """Read exactly so many bytes.

        :raises EOFError: the client has gone.
        """
        found = b''
        while len(found) < size:
            piece = self._socket.recv(size - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found


#: Makes a message's properties and body from its content, and the properties of the request.
Encode = Callable[[dict[str, Any], bytes], tuple[bytes, bytes]]


def encode(content: dict[str, Any], properties: bytes) -> tuple[bytes, bytes]:
    """Encode a message as an agent does."""
    return properties, json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(content)}).encode()


class FakeAgent:
    """Answers the requests to a host.

    :param answer: returns what is answered to a request: the fields of each message. By default, None as the result.
    """

    def __init__(
        self,
        broker: Broker,
        host: str,
        answer: Callable[[dict[str, Any]], Iterable[dict[str, Any]]] = lambda _request: result(None),
        encode: Encode = encode,
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self._broker = broker
        self._answer = answer
        self._encode = encode
        for topic in ('compute', 'compute-alt'):
            name = f'{topic}.{host}'
            broker.bindings['aliasagent', name].add(name)
            broker.queues[name].consumers.append((self, 0, ''))

    def deliver(self, _channel: int, _tag: str, message: Sent) -> None:
        """Answer a request, in a thread of its own."""
        request = json.loads(json.loads(message.body)['oslo.message'])
        self.requests.append(request)
        if '_msg_id' in request:
            self._broker.start(self._reply, request, message.properties)

    def _reply(self, request: dict[str, Any], properties: bytes) -> None:
        queue = request['_reply_q']
        for fields in self._answer(request):
            made = self._encode({'_msg_id': request['_msg_id'], **fields}, properties)
            self._broker.route('', queue, Sent('', [0, '', queue], *made))


def result(value: Any) -> list[dict[str, Any]]:
    """The answer with a result."""
    return [{'result': value, 'failure': None, 'ending': True}]


def failure(name: str, module: str, message: str, **details: str) -> list[dict[str, Any]]:
    """The answer with an error."""
    told = {'class': name, 'module': module, 'message': message, 'tb': [], 'args': [], 'kwargs': details}
    return [{'result': None, 'failure': json.dumps(told), 'ending': True}]
