# SPDX-License-Identifier: Apache-2.0
"""The messages of oslo.messaging, for a client that does without it: writes requests, and reads answers."""

import json
import uuid
from typing import Any

from aliasagent import exception
from aliasagent.client import sending

#: The version of the envelope around each message.
_VERSION = '2.0'


def request(asked: sending.Request, **more: Any) -> str:
    """Return the text of a request.

    :param more: the fields of a call.
    """
    message = {
        'method': asked.method,
        'args': asked.arguments,
        'version': asked.version,
        **more,
        '_unique_id': uuid.uuid4().hex,
        **{f'_context_{name}': value for name, value in asked.ctxt.to_dict().items()},
    }
    return json.dumps({'oslo.version': _VERSION, 'oslo.message': json.dumps(message)})


def answer(body: str | bytes, compression: str | None) -> dict[str, Any]:
    """Read one of the messages of an answer.

    :param compression: of an agent with the option ``kombu_compression``.
    :raises RemoteError: the message cannot be read.
    """
    try:
        read: dict[str, Any] = json.loads(json.loads(_decompressed(body, compression))['oslo.message'])
        if read.get('failure'):
            read['failure'] = _rebuilt(json.loads(read['failure']))
    except Exception as error:  # decompressing and decoding raise errors of many kinds
        raise sending.RemoteError(type(error).__name__, 'the answer cannot be read') from error
    return read


def result(answers: list[dict[str, Any]]) -> Any:
    """Return the result in the messages of an answer.

    :raises AliasAgentError: the agent raised this error.
    :raises RemoteError: the agent raised another error.
    """
    found = None
    for one in answers:
        if one.get('failure'):
            raise one['failure']
        # The last message of an answer may have no result.
        if one.get('result') is not None:
            found = one['result']
    return found


def _decompressed(body: str | bytes, kind: str | None) -> str | bytes:
    if not kind:
        return body
    # Imported here, because few agents compress.
    from kombu import compression

    decompress: Any = compression.decompress
    text: bytes = decompress(body, kind)
    return text


def _rebuilt(failure: dict[str, Any]) -> Exception:
    """Return the error that an agent raised."""
    name, module = str(failure.get('class')), failure.get('module')
    unknown = sending.RemoteError(name, str(failure.get('message')))
    kind = getattr(exception, name, None) if module == exception.__name__ else None
    if not isinstance(kind, type) or not issubclass(kind, exception.AliasAgentError):
        return unknown
    try:
        return kind(**failure.get('kwargs', {}))
    except (TypeError, KeyError):
        # A class that has other details in the agent's version.
        return unknown
