# SPDX-License-Identifier: Apache-2.0
"""What a qcow2 image names in its header."""

import os
import pathlib
import struct
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.allowed import images
from aliasagent.tests import base

FORMAT = 0xE2792ACA


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack('>II', kind, len(content)) + content + b'\0' * (-len(content) % 8)


def backing_format(name: bytes) -> bytes:
    return extension(FORMAT, name)


def header(
    name: bytes = b'',
    extensions: bytes = backing_format(b'qcow2') + extension(0, b''),
    *,
    version: int = 3,
    features: int = 0,
    length: int | None = None,
    own_length: int = 104,
) -> bytes:
    """A header, the extensions and the name of a backing file."""
    size = len(name) if length is None else length
    fields = struct.pack('>Q20xI', features, own_length) if version > 2 else b''
    at = 72 + len(fields) + len(extensions)
    begin = struct.pack('>4sIQI', images.MAGIC, version, at if size else 0, size)
    return begin.ljust(72, b'\0') + fields + extensions + name


class ImagesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.make_directory())
        self.image = self.directory / 'image'

    def backing_file(self, content: bytes) -> images.Backing | None:
        self.image.write_bytes(content)
        return images.backing_file(str(self.image))

    def assert_unsafe(self, content: bytes, words: str) -> None:
        self.assertIn(words, str(self.assertRaises(images.Unsafe, self.backing_file, content)))

    def create(self, name: str, *options: str) -> str:
        path = str(self.directory / name)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, '1M'], check=True)
        return path

    def test_as_qemu_writes_them(self) -> None:
        for compat in ('compat=0.10', 'compat=1.1'):
            self.assertIsNone(images.backing_file(self.create('base', '-o', compat)))
            for kind in ('raw', 'qcow2'):
                top = self.create('top', '-u', '-o', compat, '-b', 'base', '-F', kind)
                self.assertEqual(images.Backing('base', kind), images.backing_file(top))
            for kind in ('vmdk', 'qed', 'qcow', 'vdi', 'luks'):
                top = self.create('top', '-u', '-o', compat, '-b', 'base', '-F', kind)
                error = self.assertRaises(images.Unsafe, images.backing_file, top)
                self.assertIn(f"is '{kind}', not raw or qcow2", str(error))
        outside = self.create('outside', '-o', f'data_file={self.directory}/data')
        self.assertRaises(images.Unsafe, images.backing_file, outside)

    def test_qemu_names_the_format_of_an_old_image_as_the_error_says(self) -> None:
        path = pathlib.Path(self.create('old', '-u', '-b', 'base', '-F', 'raw'))
        path.write_bytes(path.read_bytes().replace(struct.pack('>I', FORMAT), struct.pack('>I', 1)))
        error = self.assertRaises(images.Unsafe, images.backing_file, str(path))
        self.assertIn('does not name the format', str(error))
        self.assertIn('"qemu-img rebase -u -b FILE -F FORMAT"', str(error))
        subprocess.run(['qemu-img', 'rebase', '-u', '-b', 'base', '-F', 'raw', str(path)], check=True)
        self.assertEqual(images.Backing('base', 'raw'), images.backing_file(str(path)))

    def test_the_shortest_image_of_which_qemu_opens_the_backing_file(self) -> None:
        path = pathlib.Path(self.create('short', '-u', '-o', 'compat=0.10', '-b', 'base', '-F', 'qcow2'))
        offset, length = struct.unpack_from('>QI', path.read_bytes(), 8)
        path.write_bytes(path.read_bytes()[: offset + length])
        self.assertLess(path.stat().st_size, 512)
        shown = subprocess.run(['qemu-img', 'info', '-f', 'qcow2', str(path)], check=True, capture_output=True)
        self.assertIn(b'\nbacking file: base', shown.stdout)
        self.assertEqual(images.Backing('base', 'qcow2'), images.backing_file(str(path)))

    def test_what_is_no_qcow2_names_nothing(self) -> None:
        for content in (b'', b'QFI', b'\0' * 4096, b'KDMV' + b'\0' * 200):
            self.assertIsNone(self.backing_file(content))

    def test_what_may_keep_its_reader_waiting_is_unsafe(self) -> None:
        fifo = self.directory / 'fifo'
        os.mkfifo(fifo)
        for path in (str(fifo), os.devnull):
            self.assertIn('neither a file nor', str(self.assertRaises(images.Unsafe, images.backing_file, path)))

    def test_names(self) -> None:
        for name in (b'/a/b', b'b', b'../b', b'a/b:c', '/\u00fc'.encode(), b'/\xff'):
            found = self.backing_file(header(name))
            self.assertEqual(images.Backing(name.decode(errors='surrogateescape'), 'qcow2'), found)

    def test_what_is_no_file_is_unsafe(self) -> None:
        for name in (b'nbd://host/x', b'json:{"driver": "file", "filename": "/etc/shadow"}', b'file:/a', b'rbd:a/b'):
            self.assert_unsafe(header(name), 'no file of this host')

    def test_the_format_is_in_one_of_the_extensions(self) -> None:
        other, end = extension(0x6803F857, b'nine long'), extension(0, b'')
        raw = backing_format(b'raw')
        # With an end and without one, which is where the name begins; what comes after an end is none.
        for extensions in (raw, raw + end, other + raw, raw + other + end, raw + end + backing_format(b'vmdk')):
            for version in (2, 3):
                content = header(b'/a', extensions, version=version)
                self.assertEqual(images.Backing('/a', 'raw'), self.backing_file(content))

    def test_a_format_that_can_name_more_files_is_unsafe(self) -> None:
        for name in (b'vmdk', b'qed', b'QCOW2', b'raw\0', b'raw\0vmdk', b'', b'x' * 100, b'\xff'):
            self.assert_unsafe(header(b'/a', backing_format(name)), 'the format of its backing file is ')
        for first, second in ((b'raw', b'vmdk'), (b'vmdk', b'raw'), (b'raw', b'raw')):
            both = backing_format(first) + backing_format(second)
            self.assert_unsafe(header(b'/a', both), 'more than one format')

    def test_a_format_that_is_not_named_is_unsafe(self) -> None:
        end = extension(0, b'')
        for extensions in (b'', end, extension(1, b'raw') + end, end + backing_format(b'raw')):
            for version in (2, 3):
                self.assert_unsafe(header(b'/a', extensions, version=version), 'does not name the format')

    def test_extensions_that_are_not_whole_are_unsafe(self) -> None:
        raw = backing_format(b'raw')
        self.assert_unsafe(header(b'/a', raw + b'\0\0\0\1'), 'cut off')
        for length in (8, 0xFFFFFFFF):
            too_long = raw + struct.pack('>II', 1, length) + b'1234'
            self.assert_unsafe(header(b'/a', too_long), 'an extension that is too long')

    def test_headers_that_are_not_whole_are_unsafe(self) -> None:
        self.assert_unsafe(images.MAGIC, 'cut off')
        self.assert_unsafe(header()[:75], 'cut off')
        self.assert_unsafe(header(b'/a', length=3), 'cut off')
        self.assert_unsafe(header(b'/a\0b'), 'cut off')
        self.assert_unsafe(header(b'/' * 1024), 'impossible length')
        self.assert_unsafe(header(b'/a', own_length=96), 'impossible length')
        self.assert_unsafe(header(b'/a', version=1), 'version 1')
        self.assert_unsafe(header(features=1 << 2), 'another file')

    def test_a_name_far_away_is_not_looked_for(self) -> None:
        for at in ((1 << 21) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            content = bytearray(header(b'/a'))
            content[8:16] = struct.pack('>Q', at)
            self.assert_unsafe(bytes(content), 'not in its header')

    @given(st.binary(max_size=2000))
    def test_nothing_else_comes_of_whatever_is_there(self, content: bytes) -> None:
        self.assert_safe_or_unsafe(images.MAGIC + content)

    @given(
        st.sampled_from((2, 3)),
        st.integers(0, 200) | st.integers(0, 2**64 - 1),
        st.integers(0, 200) | st.integers(0, 2**32 - 1),
        st.integers(100, 120) | st.integers(0, 2**32 - 1),
        st.lists(st.builds(extension, st.sampled_from((0, 1, FORMAT)), st.binary(max_size=20)) | st.binary(max_size=8)),
    )
    def test_nothing_else_comes_of_a_header(
        self, version: int, at: int, size: int, own_length: int, rest: list[bytes]
    ) -> None:
        begin = struct.pack('>4sIQI', images.MAGIC, version, at, size).ljust(72, b'\0')
        fields = struct.pack('>Q20xI', 0, own_length) if version == 3 else b''
        self.assert_safe_or_unsafe(begin + fields + b''.join(rest))

    def assert_safe_or_unsafe(self, content: bytes) -> None:
        try:
            found = self.backing_file(content)
        except images.Unsafe:
            return
        if found is not None:
            self.assertTrue(found.name)
            self.assertIn(found.format, ('raw', 'qcow2'))
