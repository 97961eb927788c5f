# SPDX-License-Identifier: Apache-2.0
"""Find a difference between a guest's device and the device of a request.

A request sets only some properties of a device. Properties that only libvirt sets are no difference. So each type of
request lists the properties that it decides, with their fields.
"""

import dataclasses
from collections.abc import Mapping

from aliasagent.devices import base
from aliasagent.devices import identity

#: The properties that a request decides, each with the name of its field in the request.
Decided = Mapping[str, str]

#: The values of properties that a definition leaves out.
_DEFAULTS: Mapping[str, object] = {
    'cache': 'writeback',
    'driver_type': 'raw',
    'io': 'threads',
    'link_state': 'up',
    'managed': False,
    'queues': 1,
}
_WORDS: Mapping[str, Mapping[object, str]] = {'readonly': {True: 'ro', False: 'rw'}}


@dataclasses.dataclass(frozen=True)
class Difference:
    """One property that differs, as texts for an error."""

    field: str
    have: str
    want: str


def first(have: base.Device, want: base.Device, decided: Decided) -> Difference | None:
    """Return the first difference between two devices of one kind, or None if there is none that counts.

    :param have: the guest's device.
    :param want: the device of the request.
    """
    for name, field in decided.items():
        if name in identity.MAY_BE_MISSING:
            contradiction = identity.contradiction_in(name, have, want)
            if contradiction is not None:
                return Difference(field, *contradiction)
            continue
        one, other = _value(have, name), _value(want, name)
        if one != other:
            return Difference(field, _word(name, one), _word(name, other))
    return None


def _value(device: base.Device, name: str) -> object:
    value: object = getattr(device, name)
    if value is None:
        # QEMU's default for the length of a burst is one second.
        return 1 if name.endswith('_max_length') else _DEFAULTS.get(name)
    return value


def _word(name: str, value: object) -> str:
    words = _WORDS.get(name, {})
    if value in (None, ()):
        return 'none'
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    if isinstance(value, bool):
        return words.get(value, 'yes' if value else 'no')
    return str(value)
