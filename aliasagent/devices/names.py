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
#: Names that the kernel gives in the order in which it finds block devices, or that tell their numbers, or what a guest
#: or a clone may have written into them.
_NUMBERED = re.compile(r'/dev/(?:[^/]+|block/.*|disk/(?!by-id/|by-path/).*)')
#: Places at which a storage array puts volumes, each with a number.
_LUNS = ('iscsi:', '/dev/disk/by-path/')
#: Volumes of a pool that are called by their place in it.
_UNIT = re.compile('volume:.*/unit:[0-9:]+')
#: Protocols and kinds of sources that tell a server, a place on this host or a socket, at which the next one is found.
_OF_PLACES = ('nbd:', 'nvme:', 'unix:')
#: Names that libvirt makes up for taps.
_MADE_UP = re.compile('(?:vnet|macvtap|macvlan)[0-9]+')


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


def is_lasting(source: str) -> bool:
    """Whether the source of a disk, as the agent writes it, stays with what it is of.

    ``/dev/sdb`` leads to another device after the next start of the host, and a storage array gives the number of a LUN
    to the next volume. But a target that is named after a volume is that of no other.
    """
    if source.startswith('/'):
        source = '/' + '/'.join(part for part in source.split('/') if part not in ('', '.'))
    if source.startswith(_LUNS):
        return volume_in(source) is not None
    return not source.startswith(_OF_PLACES) and not _NUMBERED.fullmatch(source) and not _UNIT.fullmatch(source)


def is_made_up(tap: str) -> bool:
    """Whether libvirt has made up the name of a tap, so that the next start gives it to another."""
    return _MADE_UP.fullmatch(tap) is not None
