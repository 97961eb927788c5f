# SPDX-License-Identifier: Apache-2.0
"""Which other files a qcow2 image names in its own header: QEMU opens them for the guest as it opens the image itself.

Whoever can write to a volume can write such a header, so they are looked at like what a request names itself. See the
QEMU specification "qcow2" for the layout; CVE-2024-32498 for what comes of not looking.
"""

import os
import struct

MAGIC = b'QFI\xfb'

#: Of a header: version, and offset and length of the name of the backing file.
_BEGIN = struct.Struct('>4sIQI')
#: From version 3 on: the features that a reader has to know.
_FEATURES = struct.Struct('>Q')
_FEATURES_AT = 72
_EXTERNAL_DATA = 1 << 2
#: The specification allows no longer name.
_LONGEST_NAME = 1023


class Unsafe(Exception):
    """An image names something in a way that is not followed; the text says what."""


def backing_file(path: str) -> str | None:
    """The name of the file that an image is based on; None if it is on none, or is no qcow2.

    A relative name is one in the image's own directory.

    :raises Unsafe: it names something else than a file, or keeps its data elsewhere.
    :raises OSError: it cannot be read.
    """
    with open(path, 'rb') as image:
        header = image.read(_FEATURES_AT + _FEATURES.size)
        if not header.startswith(MAGIC):
            return None
        if len(header) < _FEATURES_AT:
            raise Unsafe('its header is cut off')
        _magic, version, offset, length = _BEGIN.unpack_from(header)
        if version not in (2, 3):
            raise Unsafe(f'it is a qcow2 of version {version}')
        if version == 3:
            if len(header) < _FEATURES_AT + _FEATURES.size:
                raise Unsafe('its header is cut off')
            (features,) = _FEATURES.unpack_from(header, _FEATURES_AT)
            if features & _EXTERNAL_DATA:
                raise Unsafe('it keeps its data in another file')
        if not offset:
            return None
        if not 0 < length <= _LONGEST_NAME:
            raise Unsafe('the name of its backing file has no length that can be')
        image.seek(offset)
        name = image.read(length)
    if len(name) != length or b'\0' in name:
        raise Unsafe('the name of its backing file is cut off')
    found = os.fsdecode(name)
    # QEMU takes what has a colon before its first slash for a protocol.
    if ':' in found.partition('/')[0]:
        raise Unsafe('its backing file is no file of this host')
    return found
