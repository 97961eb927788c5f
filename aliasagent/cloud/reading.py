# SPDX-License-Identifier: Apache-2.0
"""Read the values in the answers of services."""

from aliasagent.devices import names


def text(value: object) -> str:
    """Return a text.

    :raises ValueError: it is none, or empty, or too long.
    """
    if not isinstance(value, str) or not 0 < len(value) < 256:
        raise ValueError(f'{str(value)[:40]!r} is no text of 1 to 255 characters')
    return value


def uuid(value: object) -> str:
    """Return a UUID in lower case.

    :raises ValueError: it is none.
    """
    found = text(value)
    if not names.is_uuid(found):
        raise ValueError(f'{found[:40]!r} is no UUID')
    return found.lower()
