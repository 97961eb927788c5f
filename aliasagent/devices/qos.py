# SPDX-License-Identifier: Apache-2.0
"""The limits of a disk from Cinder's ``qos_specs``.

Cinder sends the specs for the hypervisor (consumer ``front-end`` or ``both``); with ``both``, it also sends those for
the back end. So the agent silently ignores other keys, as Nova does (Cinder, administration, "Basic volume quality of
service").

The agent refuses the combinations that QEMU refuses (throttle_is_valid in QEMU's util/throttle.c): for most of them
libvirt 9.0 only logs a warning, and leaves the disk without any limit.
"""

import itertools
from typing import Any

from aliasagent import exception

_UNITS = ('bytes_sec', 'iops_sec')
_DIRECTIONS = ('total', 'read', 'write')
_LIMITS = tuple(f'{direction}_{unit}' for unit, direction in itertools.product(_UNITS, _DIRECTIONS))
#: The keys that the agent uses, which are also libvirt's names.
KEYS = (*(limit + suffix for suffix in ('', '_max', '_max_length') for limit in _LIMITS), 'size_iops_sec')
#: QEMU's maximum for a limit, and for a burst in total (THROTTLE_VALUE_MAX).
MAXIMUM = 10**15

_FIELD = 'connection_info.data.qos_specs'


def limits(specs: dict[str, Any]) -> dict[str, int]:
    """Return the limits by libvirt's names, without those of 0, which means no limit.

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
        raise exception.InvalidInput(field=f'{_FIELD}.size_iops_sec', reason='needs a limit of requests')
    return found


def _number(key: str, value: Any) -> int:
    if value is None:
        return 0
    number = int(value)
    if number > MAXIMUM:
        raise exception.InvalidInput(field=f'{_FIELD}.{key}', reason=f'{number} is above the maximum, {MAXIMUM}')
    return number


def _check_total(found: dict[str, int], what: str) -> None:
    parts = [f'{direction}_{what}' for direction in ('read', 'write') if f'{direction}_{what}' in found]
    if f'total_{what}' in found and parts:
        raise exception.InvalidInput(field=f'{_FIELD}.total_{what}', reason=f'cannot be combined with {parts[0]}')


def _check_burst(found: dict[str, int], limit: str) -> None:
    burst, length = f'{limit}_max', f'{limit}_max_length'
    if burst in found and limit not in found:
        raise exception.InvalidInput(field=f'{_FIELD}.{burst}', reason=f'needs {limit}')
    if burst in found and found[burst] < found[limit]:
        raise exception.InvalidInput(field=f'{_FIELD}.{burst}', reason=f'{found[burst]} is below {limit}')
    if length in found and burst not in found:
        raise exception.InvalidInput(field=f'{_FIELD}.{length}', reason=f'needs {burst}')
    if length in found and found[length] * found[burst] > MAXIMUM:
        raise exception.InvalidInput(field=f'{_FIELD}.{length}', reason=f'{found[length]} s is too long for {burst}')
