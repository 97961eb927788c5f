# SPDX-License-Identifier: Apache-2.0
"""Keep passwords of a volume's connection out of the log and out of errors.

os-brick and its libraries mask what they recognize as a password by its name. This module masks the values themselves,
wherever a library logs them: in a command line, in the output of a program, in a traceback.
"""

import collections
import contextlib
import logging
import threading
import traceback
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

MASK = '***'
#: The loggers of os-brick and of the libraries that it hands passwords to, with all loggers below them.
LOGGERS = ('os_brick', 'brick_privsep_hide_output', 'oslo_concurrency', 'oslo_privsep')
#: A member of a connection_info whose name contains one of these has a secret as its value.
_NAMES = ('password', 'secret', 'passphrase', 'keyring', 'token')
#: Members with such a name that are not secret.
_PUBLIC = frozenset({'secret_type', 'secret_uuid'})

_lock = threading.Lock()
_hidden: collections.Counter[str] = collections.Counter()


def is_secret(name: str) -> bool:
    """Return whether a member of a connection_info with this name has a secret."""
    return name not in _PUBLIC and any(part in name.lower() for part in _NAMES)


def without_secrets(data: Any) -> Any:
    """Return a copy of a connection_info without the members that have secrets."""
    if isinstance(data, dict):
        return {name: without_secrets(value) for name, value in data.items() if not is_secret(name)}
    if isinstance(data, list):
        return [without_secrets(value) for value in data]
    return data


def secrets_of(data: Any) -> set[str]:
    """Return the secrets of a connection_info."""
    if isinstance(data, dict):
        own = {value for name, value in data.items() if is_secret(name) and isinstance(value, str) and value}
        return own.union(*(secrets_of(value) for value in data.values()))
    if isinstance(data, list):
        return set[str]().union(*(secrets_of(value) for value in data))
    return set()


def redacted(text: str) -> str:
    """Return a text with each hidden secret masked."""
    with _lock:
        secrets = sorted(_hidden, key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


@contextlib.contextmanager
def hidden(secrets: AbstractSet[str]) -> Iterator[None]:
    """Mask secrets in the log of os-brick and its libraries, in all threads, until the context ends."""
    with _lock:
        _hidden.update(secrets)
    watch()
    try:
        yield
    finally:
        with _lock:
            _hidden.subtract(secrets)
            for secret in [secret for secret, count in _hidden.items() if count <= 0]:
                del _hidden[secret]


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not _hidden:
            return True
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - logging reports arguments that do not fit the message
            return True
        if record.exc_info and record.exc_info[1] is not None:
            text = '\n'.join((text, ''.join(traceback.format_exception(record.exc_info[1])).rstrip()))
        masked = redacted(text)
        if masked != text:
            record.msg, record.args, record.exc_info, record.exc_text = masked, (), None, None
        return True


_REDACT = _Redact()


def watch() -> None:
    """Filter the records of all loggers that exist by now: a logger does not filter the records of those below it."""
    for name in [*LOGGERS, *logging.root.manager.loggerDict]:
        if name.startswith(LOGGERS):
            logging.getLogger(name).addFilter(_REDACT)
