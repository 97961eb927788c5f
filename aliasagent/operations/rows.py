# SPDX-License-Identifier: Apache-2.0
"""Converts operations to rows of the journal and back."""

import functools
import json
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations.model import Operation
from aliasagent.operations.model import State
from aliasagent.requests import catalog
from aliasagent.requests.base import Json
from aliasagent.requests.base import Request

#: In the order of :class:`Operation`'s members.
COLUMNS = (
    'id, action, instance, device, arguments, state, error_class, error, accepted_at, started_at, finished_at, '
    'attempts, request_id, released_at, asked, may_still_go'
)
#: The placeholders of a row.
VALUES = f'({", ".join("?" for _ in COLUMNS.split(", "))})'
_Text = TypeVar('_Text', str, str | None)


def values_of(operation: Operation) -> list[Any]:
    """Return the values of an operation's columns, in their order."""
    request = operation.request
    arguments = json.dumps(None if request is None else request.to_dict())
    return list((vars(operation) | {'request': arguments, 'asked': dumped(operation.asked)}).values())


def loaded(row: Sequence[Any]) -> Operation:
    """Return the operation of a row.

    :raises ValueError: the row is not valid.
    """
    id_, action, instance, device, arguments, state, *rest, asked, may_still_go = row
    open_ = None if may_still_go is None else bool(may_still_go)
    found = None if asked is None else DeviceFingerprint.from_dict(json.loads(asked))
    action = Action(action)
    values = (id_, action, instance, device, request_of(action, arguments), State(state), *rest, found, open_)
    return Operation(*values)


# The attaches of a guest's devices are read again for each operation on the guest.
@functools.lru_cache(maxsize=1024)
def request_of(action: Action, arguments: str) -> Request | None:
    """Return the request of a row; None if it was refused before it was accepted, or is not valid in this release."""
    members: Json | None = json.loads(arguments)
    if members is None:
        return None
    try:
        return catalog.parse(action, members)
    except (exception.InvalidInput, AttributeError, KeyError, TypeError, ValueError):
        return None


def dumped(asked: DeviceFingerprint | None) -> str | None:
    """Return the JSON of a device that a detach found."""
    return None if asked is None else json.dumps(asked.to_dict())


def marks(values: Collection[object]) -> str:
    """Return one SQL placeholder for each value."""
    # All SQL of the journal is made of constants and placeholders, never of values: bandit's B608 does not apply.
    return ', '.join('?' * len(values))


def storable(text: _Text) -> _Text:
    """Return a text with lone surrogates escaped, which SQLite cannot store."""
    # JSON can carry a lone surrogate, and no record must be lost because of one.
    return text if text is None else text.encode('utf-8', 'backslashreplace').decode()
