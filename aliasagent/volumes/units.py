# SPDX-License-Identifier: Apache-2.0
"""Name what a volume is in its storage, so that connections of the same one can be counted."""

from typing import Any

Json = dict[str, Any]


def of(volume_id: str, kind: str, data: Json) -> list[str]:
    """Return the units of storage that a connection uses, each as text.

    :param volume_id: the unit of a type whose connection_info has no other one
    :param kind: the ``driver_volume_type``
    :param data: the members of the connection_info
    """
    if kind in ('iscsi', 'iser'):
        found = {f'{name} lun {lun}' for name, lun in targets(data, 'target_iqn')}
    elif kind == 'fibre_channel':
        found = {f'{name.lower()} lun {lun}' for name, lun in targets(data, 'target_wwn')}
    elif kind == 'nvmeof':
        found = _namespaces(data)
    else:
        found = set()
    return sorted(found) or [f'volume {volume_id}']


def targets(data: Json, member: str) -> list[tuple[str, Any]]:
    """Return each target with its LUN: single values, lists of the same length, or several targets with one LUN.

    :param member: the member with the name of one target; with an ``s`` it has those of several
    """
    found: list[tuple[str, Any]] = []
    one = _listed(data.get('target_lun'))
    for names, luns in (
        (_listed(data.get(member)), one),
        (_listed(data.get(f'{member}s')), _listed(data.get('target_luns')) or one),
    ):
        found.extend(zip(names, luns * len(names) if len(luns) == 1 else luns, strict=False))
    return found


def subsystems(data: Json) -> set[str]:
    """Return the names of the subsystems of an NVMe volume."""
    return {str(name) for target in _replicas(data) if (name := _subsystem(target))}


def _replicas(data: Json) -> list[Json]:
    return data.get('volume_replicas') or [data]


def _subsystem(target: Json) -> Any:
    return target.get('target_nqn') or target.get('nqn')


def _namespaces(data: Json) -> set[str]:
    """Return each subsystem of NVMe with its namespace."""
    found = set()
    for target in _replicas(data):
        name = _subsystem(target)
        ids = [target.get(member) for member in ('vol_uuid', 'volume_nguid', 'ns_id')]
        if name:
            found.add(' '.join(['nvme', str(name), *(str(one) for one in ids if one not in (None, ''))][:3]))
    return found


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
