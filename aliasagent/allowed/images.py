# SPDX-License-Identifier: Apache-2.0
"""Which other files a qcow2 image names in its own header: QEMU opens them for the guest as it opens the image itself.

Whoever can write to a volume can write such a header, so they are looked at like what a request names itself. See the
QEMU specification "qcow2" for the layout; CVE-2024-32498 for what comes of not looking.

The format inspectors of oslo.utils (10.2) cannot replace this. They take an image of less than 512 bytes for a raw one,
which QEMU opens as qcow2, with its backing file; they do not return that file's name and format; and they refuse what
QEMU makes: version 2 with a backing format of qcow2, extended L2 entries.
"""

import dataclasses
import os
import stat
import struct
from collections.abc import Iterator

MAGIC = b'QFI\xfb'
#: The only formats in which a backing file is followed. In most others (vmdk, qed, ...) what the file holds makes QEMU
#: open further files, which nobody here would look at.
RAW, QCOW2 = 'raw', 'qcow2'

#: Of a header: version, and offset and length of the name of the backing file.
_BEGIN = struct.Struct('>4sIQI')
#: The length of a header of version 2; behind it come the header extensions.
_LENGTH = 72
#: From version 3 on: the features that a reader has to know, ..., and the header's own length.
_MORE = struct.Struct('>Q20xI')
_EXTERNAL_DATA = 1 << 2
#: The specification allows no longer name, and all of this is in the first cluster, of which QEMU reads none larger.
_LONGEST_NAME, _LARGEST_CLUSTER = 1023, 1 << 21

#: Of a header extension: its type, and the length of what follows, which is filled up to a multiple of 8.
_EXTENSION = struct.Struct('>II')
_END, _BACKING_FORMAT = 0, 0xE2792ACA


class Unsafe(Exception):
    """An image names something in a way that is not followed; the text says what."""


@dataclasses.dataclass(frozen=True)
class Backing:
    """The file that an image is based on."""

    #: A relative name is one in the image's own directory.
    name: str
    #: What QEMU opens it as, whatever it holds: :data:`RAW` or :data:`QCOW2`.
    format: str


def backing_file(path: str) -> Backing | None:
    """What an image is based on; None if it is on nothing, or is no qcow2.

    :raises Unsafe: that is no file, or one in a format that is not followed, or the image keeps its data elsewhere.
    :raises OSError: it cannot be read.
    """
    with open(path, 'rb', opener=_without_waiting) as image:
        if not _has_content(os.fstat(image.fileno()).st_mode):
            raise Unsafe('it is neither a file nor a block device')
        header = image.read(_LENGTH + _MORE.size)
        if not header.startswith(MAGIC):
            return None
        extensions = _length(header)
        _magic, _version, offset, length = _BEGIN.unpack_from(header)
        if not offset:
            return None
        if not 0 < length <= _LONGEST_NAME:
            raise Unsafe('the name of its backing file has no length that can be')
        if offset > _LARGEST_CLUSTER:
            raise Unsafe('the name of its backing file is not in its header')
        header += image.read(max(0, offset + length - len(header)))
    name = header[offset : offset + length]
    if len(name) != length:
        raise Unsafe('its header is cut off')
    return Backing(_file_name(name), _backing_format(header[extensions:offset]))


def _without_waiting(path: str, flags: int) -> int:
    """Open what may be a FIFO, which else is not open before somebody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _has_content(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _length(header: bytes) -> int:
    """How long the header itself is, which may keep no data elsewhere."""
    if len(header) < _LENGTH:
        raise Unsafe('its header is cut off')
    _magic, version, _offset, _size = _BEGIN.unpack_from(header)
    if version == 2:
        return _LENGTH
    if version != 3:
        raise Unsafe(f'it is a qcow2 of version {version}')
    if len(header) < _LENGTH + _MORE.size:
        raise Unsafe('its header is cut off')
    features, length = _MORE.unpack_from(header, _LENGTH)
    if features & _EXTERNAL_DATA:
        raise Unsafe('it keeps its data in another file')
    if length < _LENGTH + _MORE.size:
        raise Unsafe('its header has no length that can be')
    return int(length)


def _file_name(name: bytes) -> str:
    if b'\0' in name:
        raise Unsafe('the name of its backing file is cut off')
    found = os.fsdecode(name)
    # QEMU takes what has a colon before its first slash for a protocol.
    if ':' in found.partition('/')[0]:
        raise Unsafe('its backing file is no file of this host')
    return found


def _backing_format(extensions: bytes) -> str:
    """What the backing file is opened as.

    A format that is not named is not made up for. QEMU and libvirt would guess it from what the file holds, and in a
    raw one that may be what a guest wrote: libvirt 9.0 opens as VMDK what begins like one. Only old images are like
    that: qemu-img makes none since its release 6.1, and libvirt 9.0 opens none that is based on such an image in turn.
    """
    named = [content for kind, content in _contents(extensions) if kind == _BACKING_FORMAT]
    if not named:
        raise Unsafe('it does not name the format of its backing file; "qemu-img rebase -u -b FILE -F FORMAT" does')
    if len(named) > 1:
        raise Unsafe('it names more than one format of its backing file')
    for known in (RAW, QCOW2):
        if named[0] == known.encode():
            return known
    raise Unsafe(f'the format of its backing file is {named[0][:16].decode(errors="replace")!r}, not {RAW} or {QCOW2}')


def _contents(extensions: bytes) -> Iterator[tuple[int, bytes]]:
    """Of each header extension the type and what it holds."""
    at = 0
    while at < len(extensions):
        begin = extensions[at : at + _EXTENSION.size]
        if len(begin) < _EXTENSION.size:
            raise Unsafe('its header is cut off')
        kind, length = _EXTENSION.unpack(begin)
        if kind == _END:
            return
        at += _EXTENSION.size
        if length > len(extensions) - at:
            raise Unsafe('its header has an extension that is too long')
        yield kind, extensions[at : at + length]
        at += length + -length % 8
