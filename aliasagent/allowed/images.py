# SPDX-License-Identifier: Apache-2.0
"""Reads which other files a qcow2 image names in its header: QEMU opens them for the guest together with the image.

A guest that can write to a volume can write such a header, so these files are checked as if the request named them. See
the QEMU specification "qcow2" for the layout, and CVE-2024-32498 for an attack without this check.

The format inspectors of oslo.utils (10.2) cannot replace this. They read an image of less than 512 bytes as raw, which
QEMU opens as qcow2, with its backing file; they do not return the name and format of the backing file; and they refuse
images that QEMU creates: version 2 with a backing format of qcow2, extended L2 entries.
"""

import dataclasses
import os
import stat
import struct
from collections.abc import Iterator

MAGIC = b'QFI\xfb'
#: The only formats in which a backing file is followed. In most others (vmdk, qed, ...) the content of the file makes
#: QEMU open further files, which nothing here would check.
RAW, QCOW2 = 'raw', 'qcow2'

#: The begin of a header: magic, version, and offset and length of the name of the backing file.
_BEGIN = struct.Struct('>4sIQI')
#: The length of a header of version 2; the header extensions follow it.
_LENGTH = 72
#: The rest of a header from version 3 on: the features that a reader must know, ..., and the header's own length.
_MORE = struct.Struct('>Q20xI')
_EXTERNAL_DATA = 1 << 2
#: The longest name that the specification allows, and the largest cluster that QEMU reads: all is in the first cluster.
_LONGEST_NAME, _LARGEST_CLUSTER = 1023, 1 << 21

#: The begin of a header extension: its type, and the length of its content, which is padded to a multiple of 8.
_EXTENSION = struct.Struct('>II')
_END, _BACKING_FORMAT = 0, 0xE2792ACA


class Unsafe(Exception):
    """An image that may not be attached, because of what its header names; the message says why."""


@dataclasses.dataclass(frozen=True)
class Backing:
    """The file that an image is based on."""

    #: A relative name is relative to the image's own directory.
    name: str
    #: The format that QEMU opens the file with, whatever its content: :data:`RAW` or :data:`QCOW2`.
    format: str


def backing_file(path: str) -> Backing | None:
    """Return the backing file of an image; None if the image has none, or is no qcow2.

    :raises Unsafe: the image or its backing file is no file of this host, the format of the backing file is not
        followed, the header is invalid, or the image keeps its data in another file.
    :raises OSError: the image cannot be read.
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
            raise Unsafe('the name of its backing file has an impossible length')
        if offset > _LARGEST_CLUSTER:
            raise Unsafe('the name of its backing file is not in its header')
        header += image.read(max(0, offset + length - len(header)))
    name = header[offset : offset + length]
    if len(name) != length:
        raise Unsafe('its header is cut off')
    return Backing(_file_name(name), _backing_format(header[extensions:offset]))


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking: to open a FIFO would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _has_content(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _length(header: bytes) -> int:
    """Return the length of the header, and refuse an image that keeps its data in another file."""
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
        raise Unsafe('its header has an impossible length')
    return int(length)


def _file_name(name: bytes) -> str:
    if b'\0' in name:
        raise Unsafe('the name of its backing file is cut off')
    found = os.fsdecode(name)
    # QEMU reads a name with a colon before its first slash as a protocol.
    if ':' in found.partition('/')[0]:
        raise Unsafe('its backing file is no file of this host')
    return found


def _backing_format(extensions: bytes) -> str:
    """Return the format that the backing file is opened with."""
    # A missing format is refused. QEMU and libvirt would guess the format from the file's content, which in a raw file
    # may be what a guest wrote: libvirt 9.0 opens a file as VMDK if it begins like one. Only old images lack the
    # format: qemu-img creates none since its release 6.1, and libvirt 9.0 opens no image that is based on one.
    named = [content for kind, content in _contents(extensions) if kind == _BACKING_FORMAT]
    if not named:
        raise Unsafe('it does not name the format of its backing file; "qemu-img rebase -u -b FILE -F FORMAT" does')
    if len(named) > 1:
        raise Unsafe('it names more than one format of its backing file')
    for followed in (RAW, QCOW2):
        if named[0] == followed.encode():
            return followed
    raise Unsafe(f'the format of its backing file is {named[0][:16].decode(errors="replace")!r}, not {RAW} or {QCOW2}')


def _contents(extensions: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each header extension."""
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
