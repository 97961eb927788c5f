# SPDX-License-Identifier: Apache-2.0
"""Make and parse user aliases, and distinguish them from the aliases that libvirt generates.

The form is ``ua-<id of the volume or port>``, as in Nova. libvirt keeps an alias on define and attach only if it begins
with ``ua-`` and consists of ``[A-Za-z0-9_-]``, and silently drops any other alias. So ids are checked here first
(libvirt, formatdomain, "Devices", element ``alias``).
"""

import re

from aliasagent import exception

PREFIX = 'ua-'
#: The agent's limit, to keep definitions and logs readable; libvirt has none.
MAX_ID_LENGTH = 255

_ID = re.compile(rf'[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}')
#: Texts of ids that a client never set. All devices with such an id would share one alias.
_UNSET = frozenset({'None', 'null', 'undefined'})


def is_valid_id(device_id: str) -> bool:
    """Return whether libvirt would keep an alias made of this id, and a client has set the id."""
    return _ID.fullmatch(device_id) is not None and device_id not in _UNSET


def make(device_id: str) -> str:
    """Return the user alias for an id.

    :raises InvalidInput: libvirt would drop such an alias.
    """
    if not is_valid_id(device_id):
        shown = device_id if len(device_id) <= MAX_ID_LENGTH else f'{device_id[:40]}...'
        raise exception.InvalidInput(field='device_id', reason=f'{shown!r} cannot be part of a device alias')
    return PREFIX + device_id


def parse(alias: str | None) -> str | None:
    """Return the id in a user alias; None for any other alias, such as libvirt's ``net0``."""
    if alias is None or not alias.startswith(PREFIX):
        return None
    return alias[len(PREFIX) :] or None


def is_user(alias: str | None) -> bool:
    """Return whether an alias is a user alias of any client, even one without an id."""
    return alias is not None and alias.startswith(PREFIX)
