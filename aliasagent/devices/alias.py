# SPDX-License-Identifier: Apache-2.0
"""User aliases: how they are made, read and told apart from those that libvirt generates.

The form is ``ua-<id of the volume or port>``, the same as Nova's, so that guests can move between the two. libvirt
keeps an alias on define and attach only if it begins with ``ua-`` and consists of ``[A-Za-z0-9_-]``; anything else it
drops silently. So everything is checked here first (libvirt, formatdomain, "Devices", element ``alias``).
"""

import re

from aliasagent import exception

PREFIX = 'ua-'
#: libvirt has no limit of its own; this is ours, to keep definitions and logs sane.
MAX_ID_LENGTH = 255

_ID = re.compile(rf'[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}')
#: What an id that was never set looks like after formatting; such an alias would be shared by all such devices.
_UNSET = frozenset({'None', 'null', 'undefined'})


def is_valid_id(device_id: str) -> bool:
    """Whether libvirt would keep an alias made of this id, and the id means something."""
    return _ID.fullmatch(device_id) is not None and device_id not in _UNSET


def make(device_id: str) -> str:
    """The alias of the device with this id.

    :raises InvalidInput: libvirt would drop such an alias.
    """
    if not is_valid_id(device_id):
        shown = device_id if len(device_id) <= MAX_ID_LENGTH else f'{device_id[:40]}...'
        raise exception.InvalidInput(field='device_id', reason=f'{shown!r} cannot be part of a device alias')
    return PREFIX + device_id


def parse(alias: str | None) -> str | None:
    """The id in a user alias; None if there is no alias or it is one that libvirt generated (``net0``)."""
    if alias is None or not alias.startswith(PREFIX):
        return None
    return alias[len(PREFIX) :] or None


def is_user(alias: str | None) -> bool:
    """Whether this is a user alias, whoever made it, even one without an id."""
    return alias is not None and alias.startswith(PREFIX)
