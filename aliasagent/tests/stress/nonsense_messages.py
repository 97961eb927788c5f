# SPDX-License-Identifier: Apache-2.0
"""Messages that make no sense, by kind, each with what has to come of it."""

import dataclasses
import enum
import gzip
import json
import random
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

#: What a log line must never be made of, however it got into a message.
FORGED = 'FORGED'
_FORGERY = f'x\n2026-01-01 00:00:00.000 1 ERROR aliasagent [-] {FORGED}'


class Outcome(enum.Enum):
    """What has to come of a message."""

    #: An error is answered, and names what is wrong.
    ANSWER = 'answered'
    #: An operation has failed with InvalidInput, which names what is wrong.
    OPERATION = 'recorded as failed'
    #: Nobody could be told: one line in the log, by the agent or by oslo.messaging.
    LOG = 'logged'


@dataclasses.dataclass
class Nonsense:
    """One message."""

    kind: str
    outcome: Outcome
    body: bytes
    content_type: str = 'application/json'
    encoding: str = 'utf-8'
    headers: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: The id under which its outcome can be found: of the call or of the operation.
    id: str = ''
    #: The class of the error, and words of which one must be in it.
    error_class: str = ''
    names: tuple[str, ...] = ()


Maker = Callable[['Generator'], Nonsense]
_ACTIONS = ('attach_volume', 'attach_interface', 'detach_volume', 'detach_interface', 'detach', 'live_migrate')
_CALLS = ('list_devices', 'get_operation', 'submit', 'list_operations', 'reconcile_plan', 'abort_migration')
_FIELDS: dict[str, dict[str, Any]] = {
    'attach_volume': {
        'volume_id': None,
        'connection_info': {'driver_volume_type': 'file', 'data': {'device_path': '/srv/a.img', 'format': 'raw'}},
    },
    'attach_interface': {
        'port': {'id': str(uuid.uuid4()), 'address': '52:54:00:00:00:01', 'vif_type': 'bridge', 'bridge': 'br0'}
    },
    'detach_volume': {'volume_id': None},
    'detach_interface': {'port_id': None},
    'detach': {'device_id': None},
    'live_migrate': {'dest_uri': 'qemu+tcp://nowhere/system'},
    'list_devices': {},
    'reconcile_plan': {},
    'abort_migration': {},
}


class Generator:
    """Makes messages from a seed.

    :param guests: UUIDs of guests that are there: what makes sense in a message shall be right.
    :param reply_queue: where answers go.
    """

    def __init__(self, seed: int, guests: list[str], reply_queue: str) -> None:
        self.chance = random.Random(seed)
        self.guests = guests
        self.reply_queue = reply_queue
        self._used: list[str] = []

    def messages(self, count: int) -> Iterator[tuple[str, list[Nonsense]]]:
        """So many in all, kind by kind."""
        for number, (kind, maker) in enumerate(KINDS.items()):
            share = count // len(KINDS) + (number < count % len(KINDS))
            yield kind, [dataclasses.replace(maker(self), kind=kind) for _ in range(share)]

    # Components

    def text(self) -> str:
        return self.chance.choice(
            (
                '',
                ' ',
                'None',
                '../../etc/passwd',
                "'; DROP TABLE operations; --",
                '<disk/>',
                _FORGERY,
                '\x00\x1b[2J\r\n',
                '\ud800',
                '\U0001f4a9' * 20,
                '%s%n{0}{self}',
                'x' * self.chance.choice((300, 70_000)),
                str(uuid.UUID(int=self.chance.getrandbits(128))) + 'x',
            )
        )

    def value(self, depth: int = 0) -> Any:
        """Anything that JSON can hold."""
        if depth < 3 and self.chance.random() < 0.3:
            size = self.chance.randrange(4)
            if self.chance.random() < 0.5:
                return [self.value(depth + 1) for _ in range(size)]
            return {self.text()[:300]: self.value(depth + 1) for _ in range(size)}
        return self.chance.choice((None, True, False, 0, -1, 2**63, 10**300, 1.5, 1e308, self.text()))

    def wrong(self) -> Any:
        """What no field of a request takes."""
        value = self.value()
        return 7 if isinstance(value, str | dict) or value is None else value

    def nested(self, levels: int) -> Any:
        value: Any = 'x'
        for _ in range(levels):
            value = [value] if self.chance.random() < 0.5 else {'x': value}
        return value

    def id(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))

    def arguments(self, method: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A method's arguments with one thing wrong, and the names by which an error may call it."""
        fields = {name: self.id() if value is None else value for name, value in _FIELDS.get(method, {}).items()}
        arguments = {'instance_uuid': self.chance.choice(self.guests), **fields}
        field = self.chance.choice(sorted(arguments))
        match self.chance.randrange(4):
            case 0:
                del arguments[field]
            case 1:
                arguments[field] = self.wrong()
            case 2:
                arguments[field] = self.nested(200)
            case _:
                field = self.chance.choice(('surprise', 'self', 'ctxt', 'context', '__class__', 'operation', 'kwargs'))
                arguments[field] = self.value()
        return arguments, (field,)

    def envelope(self, message: Any) -> bytes:
        return json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(message)}).encode()

    def call(self, message: dict[str, Any], error_class: str, names: tuple[str, ...]) -> Nonsense:
        """A message whose sender waits for the answer."""
        id_ = uuid.UUID(int=self.chance.getrandbits(128)).hex
        body = self.envelope(
            {'version': '1.0', **message, '_msg_id': id_, '_reply_q': self.reply_queue, '_unique_id': id_}
        )
        return Nonsense('', Outcome.ANSWER, body, id=id_, error_class=error_class, names=names)

    def cast(self, message: dict[str, Any], names: tuple[str, ...]) -> Nonsense:
        """A message whose outcome can be asked for."""
        id_ = self.id()
        self._used.append(id_)
        body = self.envelope(
            {'version': '1.0', **message, '_context_operation_id': id_, '_unique_id': uuid.uuid4().hex}
        )
        return Nonsense('', Outcome.OPERATION, body, id=id_, error_class='InvalidInput', names=names)

    def used_id(self) -> str:
        """The id of an operation that is known already."""
        return self.chance.choice(self._used)

    def lost(self, message: Any) -> Nonsense:
        """A message whose sender is nobody."""
        return Nonsense('', Outcome.LOG, self.envelope(message))


def _cast_bad_arguments(it: Generator) -> Nonsense:
    method = it.chance.choice(_ACTIONS)
    arguments, names = it.arguments(method)
    return it.cast({'method': method, 'args': arguments, '_context_request_id': it.value()}, names)


def _call_bad_arguments(it: Generator) -> Nonsense:
    method = it.chance.choice(('list_devices', 'reconcile_plan', 'abort_migration'))
    arguments, names = it.arguments(method)
    version = '1.0' if method == 'list_devices' else '1.2'
    return it.call({'method': method, 'args': arguments, 'version': version}, 'InvalidInput', names)


def _submit_bad_arguments(it: Generator) -> Nonsense:
    method = it.chance.choice(_ACTIONS)
    arguments, (name,) = it.arguments(method)
    names: tuple[str, ...] = (name, 'operation: the value is nested too deeply')
    operation: dict[str, Any] = {'id': it.id(), 'action': method, 'arguments': arguments}
    if it.chance.random() < 0.3:
        field = it.chance.choice(sorted(operation))
        operation[field], names = it.wrong(), (f'operation.{field}', *names[1:])
    return it.call({'method': 'submit', 'args': {'operation': operation}, 'version': '1.3'}, 'InvalidInput', names)


def _not_a_dictionary(it: Generator) -> Any:
    return it.chance.choice((None, 7, 'args', [], [1], True))


def _cast_args_not_a_dictionary(it: Generator) -> Nonsense:
    return it.cast({'method': it.chance.choice(_ACTIONS), 'args': _not_a_dictionary(it)}, ('args', 'instance_uuid'))


def _call_args_not_a_dictionary(it: Generator) -> Nonsense:
    message = {'method': it.chance.choice(_CALLS), 'args': _not_a_dictionary(it), 'version': '1.3'}
    return it.call(message, 'InvalidInput', ('args', 'instance_uuid', 'operation'))


def _method(it: Generator) -> str:
    return it.chance.choice(
        ('_accept', '__init__', '__class__', 'target', 'submit_', 'ATTACH_VOLUME', 'x' * 200, 'stop', '_driver', 'ß')
    )


def _call_unknown_method(it: Generator) -> Nonsense:
    method = _method(it)
    return it.call(
        {'method': method, 'args': it.arguments('detach')[0], '_timeout': None}, 'NoSuchMethod', (method[:80],)
    )


def _call_unknown_method_watched(it: Generator) -> Nonsense:
    """Its sender wants to be told from time to time that it is being done."""
    method = _method(it)
    timeout = it.chance.choice((2, 3600, 10**9, 'x', [1], -1, {'a': 1}))
    return it.call({'method': method, 'args': {}, '_timeout': timeout}, 'NoSuchMethod', (method[:80],))


def _cast_unknown_method(it: Generator) -> Nonsense:
    return it.lost({'method': _method(it), 'args': {}, 'version': '1.0', '_context_operation_id': it.id()})


def _cast_method_no_text(it: Generator) -> Nonsense:
    message = {'args': {}, 'version': '1.0', 'method': it.chance.choice((None, 7, [], ['detach'], {'a': 1}, True))}
    if it.chance.random() < 0.2:
        del message['method']
    return it.lost(message)


def _call_method_no_text(it: Generator) -> Nonsense:
    method = it.chance.choice((None, 7, [], ['detach'], {'a': 1}, True))
    return it.call({'method': method, 'args': {}}, 'NoSuchMethod', ('method', str(method)))


def _version(it: Generator) -> Any:
    return it.chance.choice(('1.99', '2.0', '0.9', 'x', '', '1', '1.x', '1.0.x', None, 1, 1.0, [1, 0], {'a': 1}, True))


def _call_version(it: Generator) -> Nonsense:
    version = _version(it)
    message = {'method': it.chance.choice(('list_instances', 'detach')), 'args': {}, 'version': version}
    return it.call(message, 'UnsupportedVersion', ('ersion',))


def _cast_version(it: Generator) -> Nonsense:
    args = {'instance_uuid': it.chance.choice(it.guests), 'device_id': it.id()}
    return it.lost({'method': 'detach', 'args': args, 'version': _version(it), '_context_operation_id': it.id()})


def _call_namespace(it: Generator) -> Nonsense:
    namespace: Any = it.chance.choice(('x', 7, [], {'a': 1}, 'baseapi'))
    message = {'method': 'list_instances', 'args': {}, 'namespace': namespace}
    return it.call(message, 'UnsupportedVersion', ('list_instances', 'ersion'))


def _cast_no_usable_id(it: Generator) -> Nonsense:
    message = {'method': 'detach', 'args': {'instance_uuid': it.chance.choice(it.guests), 'device_id': it.id()}}
    id_ = it.value()
    if isinstance(id_, str) and id_.isalnum():
        id_ = ''
    # What is no text is as good as not sent: an id is made, so the text must be one that cannot be an id.
    return it.lost({**message, 'version': '1.0', '_context_operation_id': id_ if isinstance(id_, str) and id_ else '/'})


def _cast_used_id(it: Generator) -> Nonsense:
    """A conflict: nothing is wrong but that its id was used for something else."""
    args = {'instance_uuid': it.chance.choice(it.guests), 'device_id': it.id()}
    return it.lost({'method': 'detach', 'args': args, 'version': '1.0', '_context_operation_id': it.used_id()})


def _context_that_breaks(it: Generator) -> Nonsense:
    message = {'method': 'detach', 'args': {}, 'version': '1.0'}
    name = it.chance.choice(('_context_self', '_context_cls', '_context_x'))
    return it.lost({**message, name: it.nested(400) if name == '_context_x' else it.value()})


def _no_envelope(it: Generator) -> Nonsense:
    message = it.chance.choice(
        (
            None,
            7,
            'text',
            [],
            [1, 2],
            {'method': ['detach']},
            {'oslo.version': '9.9', 'oslo.message': '{}'},
            {'oslo.version': 7, 'oslo.message': '{}'},
            {'oslo.version': '2.0', 'oslo.message': 'no json'},
            {'oslo.version': '2.0', 'oslo.message': {'method': 'detach'}},
            {'oslo.version': '2.0', 'oslo.message': '[1]'},
            {'oslo.version': '2.0', 'oslo.message': 'null'},
        )
    )
    return Nonsense('', Outcome.LOG, json.dumps(message).encode())


def _no_json(it: Generator) -> Nonsense:
    junk = it.chance.randbytes(it.chance.choice((0, 1, 50, 5000)))
    body = it.chance.choice((junk, b'{', b'{"a": 1' + junk, b'[' * 100_000, b'\xff\xfe{}', b'1' * 5000, b'NaN,'))
    types = ('application/json', 'application/x-python-serialize', 'application/x-yaml', 'text/plain', 'x', '')
    headers = it.chance.choice(({}, {'compression': 'application/x-gzip'}, {'compression': 'no such'}))
    if headers.get('compression') == 'application/x-gzip' and it.chance.random() < 0.5:
        body = gzip.compress(body)
    encoding = it.chance.choice(('utf-8', 'binary', 'no-such', ''))
    return Nonsense('', Outcome.LOG, body, it.chance.choice(types), encoding, headers)


def _huge(it: Generator) -> Nonsense:
    if it.chance.random() < 0.9:
        return _cast_bad_arguments(it)
    return it.cast(
        {'method': 'detach', 'args': {'instance_uuid': it.guests[0], 'device_id': 'x' * 2_000_000}}, ('device_id',)
    )


def _nobody_waits_for_the_answer(it: Generator) -> Nonsense:
    """A call whose reply queue is not there, or is no name."""
    arguments, names = it.arguments('detach')
    made = it.cast({'method': 'detach', 'args': arguments}, names)
    message = json.loads(json.loads(made.body)['oslo.message'])
    message['_msg_id'] = it.chance.choice((it.id(), 7, ['x'], {'a': 1}))
    message['_reply_q'] = it.chance.choice(('reply_nobody', 7, ['x'], {'a': 1}, None))
    return dataclasses.replace(made, body=it.envelope(message))


#: What kinds there are, and what makes one.
KINDS: dict[str, Maker] = {
    'cast, bad arguments': _cast_bad_arguments,
    'call, bad arguments': _call_bad_arguments,
    'submit, bad arguments': _submit_bad_arguments,
    'cast, args no dictionary': _cast_args_not_a_dictionary,
    'call, args no dictionary': _call_args_not_a_dictionary,
    'call, unknown method': _call_unknown_method,
    'call, unknown method, watched': _call_unknown_method_watched,
    'cast, unknown method': _cast_unknown_method,
    'call, method no text': _call_method_no_text,
    'cast, method no text': _cast_method_no_text,
    'call, version': _call_version,
    'cast, version': _cast_version,
    'call, namespace': _call_namespace,
    'cast, no usable id': _cast_no_usable_id,
    'cast, id used before': _cast_used_id,
    'context that breaks': _context_that_breaks,
    'no envelope': _no_envelope,
    'no JSON': _no_json,
    'huge': _huge,
    'reply to nobody': _nobody_waits_for_the_answer,
}
