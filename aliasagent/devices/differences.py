# SPDX-License-Identifier: Apache-2.0
"""In what a device that a guest has differs from the one that a request asks for.

A request says only a part of what a device is: what it leaves out is no difference, and neither is what libvirt adds.
So the room that makes a device of a request says, too, which of its properties the request decides, and by which field.
"""

import dataclasses
from collections.abc import Mapping

from aliasagent.devices import base
from aliasagent.devices import identity

#: The properties that a request decides, each with the name of the field that says it.
Decided = Mapping[str, str]

#: What it means if a definition does not say it.
_UNSAID: Mapping[str, object] = {
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
    """One property that differs, in words fit for an error."""

    field: str
    have: str
    want: str


def first(have: base.Device, want: base.Device, decided: Decided) -> Difference | None:
    """Return the first difference between two devices of one kind, or None if there is none that counts.

    :param have: the device that the guest has.
    :param want: the device that is asked for.
    """
    for name, field in decided.items():
        if name in identity.MAY_BE_UNSAID:
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
        # QEMU takes a second for the length of a burst that has none.
        return 1 if name.endswith('_max_length') else _UNSAID.get(name)
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
