# SPDX-License-Identifier: Apache-2.0
"""What a qcow2 image names in its header."""

import pathlib
import struct
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.tests import base
from aliasagent.virt import images


def header(name: bytes = b'', *, version: int = 3, features: int = 0, length: int | None = None) -> bytes:
    """A header of 104 bytes, and the name of a backing file after it."""
    size = len(name) if length is None else length
    begin = struct.pack('>4sIQI', images.MAGIC, version, 104 if size else 0, size)
    return begin.ljust(72, b'\0') + struct.pack('>Q', features).ljust(32, b'\0') + name


class ImagesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.make_directory())
        self.image = self.directory / 'image'

    def backing_file(self, content: bytes) -> str | None:
        self.image.write_bytes(content)
        return images.backing_file(str(self.image))

    def assert_unsafe(self, content: bytes, words: str) -> None:
        self.assertIn(words, str(self.assertRaises(images.Unsafe, self.backing_file, content)))

    def test_as_qemu_writes_them(self) -> None:
        create: list[str | pathlib.Path] = ['qemu-img', 'create', '-q', '-f', 'qcow2']
        for compat in ('0.10', '1.1'):
            base_image, top = self.directory / f'base-{compat}', self.directory / f'top-{compat}'
            subprocess.run([*create, '-o', f'compat={compat}', base_image, '1M'], check=True)
            subprocess.run([*create, '-o', f'compat={compat}', '-b', base_image.name, '-F', 'qcow2', top], check=True)
            self.assertIsNone(images.backing_file(str(base_image)))
            self.assertEqual(base_image.name, images.backing_file(str(top)))
        outside = self.directory / 'outside'
        subprocess.run([*create, '-o', f'data_file={self.directory}/data', outside, '1M'], check=True)
        self.assertRaises(images.Unsafe, images.backing_file, str(outside))

    def test_what_is_no_qcow2_names_nothing(self) -> None:
        for content in (b'', b'QFI', b'\0' * 4096, b'KDMV' + b'\0' * 200):
            self.assertIsNone(self.backing_file(content))

    def test_names(self) -> None:
        for name in (b'/a/b', b'b', b'../b', b'a/b:c', '/\u00fc'.encode(), b'/\xff'):
            self.assertEqual(name.decode(errors='surrogateescape'), self.backing_file(header(name)))

    def test_what_is_no_file_is_unsafe(self) -> None:
        for name in (b'nbd://host/x', b'json:{"driver": "file", "filename": "/etc/shadow"}', b'file:/a', b'rbd:a/b'):
            self.assert_unsafe(header(name), 'no file of this host')

    def test_headers_that_are_not_whole_are_unsafe(self) -> None:
        self.assert_unsafe(images.MAGIC, 'cut off')
        self.assert_unsafe(header()[:75], 'cut off')
        self.assert_unsafe(header(b'/a', length=3), 'cut off')
        self.assert_unsafe(header(b'/a\0b'), 'cut off')
        self.assert_unsafe(header(b'/' * 1024), 'no length that can be')
        self.assert_unsafe(header(b'/a', version=1), 'version 1')
        self.assert_unsafe(header(features=1 << 2), 'another file')

    @given(st.binary(max_size=2000))
    def test_nothing_else_comes_of_whatever_is_there(self, content: bytes) -> None:
        try:
            found = self.backing_file(images.MAGIC + content)
        except images.Unsafe:
            return
        self.assertTrue(found is None or found)
