# SPDX-License-Identifier: Apache-2.0
"""Ids, and the names that OpenStack makes of them for volumes and ports. What such a name is worth: see identity."""

import re

UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
_IS_UUID = re.compile(UUID, re.IGNORECASE)
#: Cinder's default template ``volume-<uuid>`` as the whole last part of a path or name: alone, as the file that holds
#: what was written since a snapshot (``volume-<uuid>.<uuid>``), with the extension of an image, or as an iSCSI target.
_VOLUME = re.compile(
    rf'(?:.*/)?volume-(?P<file>{UUID})(?:\.{UUID}|\.(?:raw|img|qcow2|vhdx?|vmdk))?'
    rf'|.*:volume-(?P<target>{UUID})(?:-lun-[0-9]+|/[0-9]+)?',
    re.IGNORECASE,
)
_MAPPER = '/dev/mapper/'
#: Between the volume group and the volume; a dash that is part of either is doubled.
_SINGLE_DASH = re.compile('(?<!-)-(?!-)')
#: What Nova calls a port's device on the host: a prefix and the first 11 characters of the port's id.
_PORT = re.compile('(?:tap|vhu|nic)([0-9a-f]{8}-[0-9a-f]{2})', re.IGNORECASE)
#: Names that the kernel gives in the order in which it finds block devices.
_NUMBERED = re.compile(r'/dev/[^/]+')


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID with its dashes, in letters of either case."""
    return _IS_UUID.fullmatch(text) is not None


def normal(device_id: str) -> str:
    """An id as it is compared: a UUID is the same in capitals, other ids are not."""
    return device_id.lower() if is_uuid(device_id) else device_id


def volume_in(source: str) -> str | None:
    """The id of the volume that the last part of a path or name is named after; None if it is named otherwise."""
    if source.startswith(_MAPPER):
        parts = _SINGLE_DASH.split(source[len(_MAPPER) :])
        if len(parts) != 2:
            return None
        source = parts[1].replace('--', '-')
    found = _VOLUME.fullmatch(source)
    return None if found is None else (found['file'] or found['target']).lower()


def port_in(name: str) -> str | None:
    """The first 11 characters of the id of the port that a device of the host is named after; None if of none."""
    found = _PORT.fullmatch(name)
    return None if found is None else found[1].lower()


def is_numbered(source: str) -> bool:
    """Whether a path such as ``/dev/sdb`` leads to another device after the next start of the host."""
    return _NUMBERED.fullmatch(source) is not None
