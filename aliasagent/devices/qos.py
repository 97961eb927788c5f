# SPDX-License-Identifier: Apache-2.0
"""The limits of a disk from Cinder's ``qos_specs``.

Cinder sends the specs that a hypervisor is to apply (consumer ``front-end`` or ``both``), and with ``both`` those for
the back end come along. So, as Nova does, what is not known here is left out without a word (Cinder, administration,
"Basic volume quality of service").

The combinations that QEMU refuses are refused here (throttle_is_valid in QEMU's util/throttle.c): of most of them
libvirt 9.0 only writes a warning to its log, and leaves the disk without any limit.
"""

import itertools
from typing import Any

from aliasagent import exception

_UNITS = ('bytes_sec', 'iops_sec')
_DIRECTIONS = ('total', 'read', 'write')
_LIMITS = tuple(f'{direction}_{unit}' for unit, direction in itertools.product(_UNITS, _DIRECTIONS))
#: The keys that count, which are also libvirt's names for them.
KEYS = (*(limit + suffix for suffix in ('', '_max', '_max_length') for limit in _LIMITS), 'size_iops_sec')
#: QEMU takes no greater limit, nor a burst with more in all (THROTTLE_VALUE_MAX).
MAXIMUM = 10**15

_FIELD = 'connection_info.data.qos_specs'


def limits(specs: dict[str, Any]) -> dict[str, int]:
    """The limits, by libvirt's names; 0, which means no limit, is left out.

    :param specs: whole numbers, as numbers or as texts.
    :raises InvalidInput: QEMU would refuse the combination.
    """
    found = {key: value for key in KEYS if (value := _number(key, specs.get(key)))}
    for suffix in ('', '_max'):
        for unit in _UNITS:
            _check_total(found, f'{unit}{suffix}')
    for limit in _LIMITS:
        _check_burst(found, limit)
    if 'size_iops_sec' in found and not any(f'{direction}_iops_sec' in found for direction in _DIRECTIONS):
        raise exception.InvalidInput(field=f'{_FIELD}.size_iops_sec', reason='there is no limit of requests to go by')
    return found


def _number(key: str, value: Any) -> int:
    if value is None:
        return 0
    number = int(value)
    if number > MAXIMUM:
        raise exception.InvalidInput(field=f'{_FIELD}.{key}', reason=f'{number} is above {MAXIMUM}, the most there is')
    return number


def _check_total(found: dict[str, int], what: str) -> None:
    parts = [f'{direction}_{what}' for direction in ('read', 'write') if f'{direction}_{what}' in found]
    if f'total_{what}' in found and parts:
        raise exception.InvalidInput(field=f'{_FIELD}.total_{what}', reason=f'does not go together with {parts[0]}')


def _check_burst(found: dict[str, int], limit: str) -> None:
    burst, length = f'{limit}_max', f'{limit}_max_length'
    if burst in found and limit not in found:
        raise exception.InvalidInput(field=f'{_FIELD}.{burst}', reason=f'there is no {limit} to go above')
    if burst in found and found[burst] < found[limit]:
        raise exception.InvalidInput(field=f'{_FIELD}.{burst}', reason=f'{found[burst]} is below {limit}')
    if length in found and burst not in found:
        raise exception.InvalidInput(field=f'{_FIELD}.{length}', reason=f'there is no {burst} to last')
    if length in found and found[length] * found[burst] > MAXIMUM:
        raise exception.InvalidInput(field=f'{_FIELD}.{length}', reason=f'{found[length]} s is too long for {burst}')
