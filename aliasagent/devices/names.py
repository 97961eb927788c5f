# SPDX-License-Identifier: Apache-2.0
"""Ids, and the names that OpenStack derives from them. :mod:`aliasagent.devices.identity` decides their worth."""

import re

UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
_IS_UUID = re.compile(UUID, re.IGNORECASE)
#: Cinder's default template ``volume-<uuid>`` as the whole last part of a path or name: alone, as a snapshot's file
#: with the later writes (``volume-<uuid>.<uuid>``), with the extension of an image, or as an iSCSI target.
_VOLUME = re.compile(
    rf'(?:.*/)?volume-(?P<file>{UUID})(?:\.{UUID}|\.(?:raw|img|qcow2|vhdx?|vmdk))?'
    rf'|.*:volume-(?P<target>{UUID})(?:-lun-[0-9]+|/[0-9]+)?',
    re.IGNORECASE,
)
#: Nova's name of a disk that is no volume: ``<uuid of the instance>/disk`` in a directory, ``<uuid>_disk`` in a Ceph
#: pool or a volume group; with ``.swap``, ``.eph0``, ``.config``, ``.rescue`` and the like.
_LOCAL = re.compile(rf'(?:.*/)?(?P<instance>{UUID})[/_]disk(?:\.[a-z0-9.]+)?', re.IGNORECASE)
_MAPPER = '/dev/mapper/'
#: The same in a volume group, if Nova encrypts it (``[ephemeral_storage_encryption]``): Nova names the mapping itself,
#: so its dashes are not doubled.
_LOCAL_ENCRYPTED = re.compile(rf'/dev/mapper/(?P<instance>{UUID})_disk(?:\.[a-z0-9.]+)?-dmcrypt', re.IGNORECASE)
#: The dash between volume group and volume; a dash within either is doubled.
_SINGLE_DASH = re.compile('(?<!-)-(?!-)')
#: Nova's name for a port's device on the host: a prefix and the first 11 characters of the port's id.
_PORT = re.compile('(?:tap|vhu|nic)([0-9a-f]{8}-[0-9a-f]{2})', re.IGNORECASE)
#: Names that the kernel numbers in the order in which it finds block devices, or that are made of device numbers or of
#: data that a guest or a clone may have written.
_NUMBERED = re.compile(r'/dev/(?:[^/]+|block/.*|disk/(?!by-id/|by-path/).*)')
#: Names with the number of a LUN, which a storage array reuses.
_LUNS = ('iscsi:', '/dev/disk/by-path/')
#: Volumes of a pool whose name is their place in the pool.
_UNIT = re.compile('volume:.*/unit:[0-9:]+')
#: Sources that name a server, a slot of this host or a socket, which the next volume can reuse.
_OF_PLACES = ('nbd:', 'nvme:', 'unix:')
#: Names that libvirt generates for taps.
_MADE_UP = re.compile('(?:vnet|macvtap|macvlan)[0-9]+')


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID with its dashes, in either case."""
    return _IS_UUID.fullmatch(text) is not None


def normal(device_id: str) -> str:
    """Return an id for comparisons: a UUID in lower case, any other id unchanged."""
    return device_id.lower() if is_uuid(device_id) else device_id


def volume_in(source: str) -> str | None:
    """Return the id of the volume in the last part of a path or name; None if that has another form."""
    found = _VOLUME.fullmatch(_in_group(source))
    return None if found is None else (found['file'] or found['target']).lower()


def is_local_disk(source: str, instance: str) -> bool:
    """Return whether a source is named as Nova names a disk of an instance that is no volume."""
    found = _LOCAL.fullmatch(_in_group(source)) or _LOCAL_ENCRYPTED.fullmatch(source)
    return found is not None and found['instance'].lower() == instance.lower()


def _in_group(source: str) -> str:
    """Return the name within the volume group for a path of the device mapper; any other source unchanged."""
    if not source.startswith(_MAPPER):
        return source
    _group, *name = _SINGLE_DASH.split(source[len(_MAPPER) :])
    return name[0].replace('--', '-') if len(name) == 1 else ''


def port_in(name: str) -> str | None:
    """Return the first 11 characters of a port's id in the name of a device of the host; None for other names."""
    found = _PORT.fullmatch(name)
    return None if found is None else found[1].lower()


def is_lasting(source: str) -> bool:
    """Return whether a disk's source, as the agent writes it, always names the same data."""
    # ``/dev/sdb`` can be another device after the next start of the host, and a storage array gives the number of a LUN
    # to the next volume. But the name of a target with a volume's id is never reused.
    if source.startswith('/'):
        source = '/' + '/'.join(part for part in source.split('/') if part not in ('', '.'))
    if source.startswith(_LUNS):
        return volume_in(source) is not None
    return not source.startswith(_OF_PLACES) and not _NUMBERED.fullmatch(source) and not _UNIT.fullmatch(source)


def is_made_up(tap: str) -> bool:
    """Return whether libvirt has generated the name of a tap, which another tap can have after the next start."""
    return _MADE_UP.fullmatch(tap) is not None
