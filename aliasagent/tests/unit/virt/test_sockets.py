# SPDX-License-Identifier: Apache-2.0
"""What may be at the path of a socket."""

import os
import pathlib
import socket
import stat
from typing import Any
from unittest import mock

import fixtures

from aliasagent import exception
from aliasagent.allowed import paths
from aliasagent.allowed import rules
from aliasagent.tests import base

FIELD = 'port.vhostuser_socket'


class SocketsTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.inside, self.outside = self.directory / 'inside', self.directory / 'outside'
        for each in (self.inside, self.outside):
            each.mkdir()
        self.within = rules.Bounds(sockets=(str(self.inside),), migration_sockets=(str(self.inside),), paths=('/',))

    def check(self, path: pathlib.Path, kind: str = rules.SOCKETS) -> None:
        paths.check([rules.Need(FIELD, kind, str(path))], self.within)

    def assert_refused(self, path: pathlib.Path, words: str) -> None:
        before = os.lstat(path) if os.path.lexists(path) else None
        for kind in (rules.SOCKETS, rules.MIGRATION_SOCKETS):
            error = self.assertRaises(exception.InvalidInput, self.check, path, kind)
            self.assertEqual(FIELD, error.kwargs['field'])
            self.assertIn(words, str(error))
        self.assertEqual(before, os.lstat(path) if os.path.lexists(path) else None)

    def bind(self, path: pathlib.Path) -> pathlib.Path:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        return path

    def test_a_socket_or_nothing(self) -> None:
        self.check(self.bind(self.inside / 'vhu1'))
        self.check(self.inside / 'vhu2')
        self.check(self.inside / 'no' / 'vhu3')

    def test_anything_else_is_refused(self) -> None:
        (self.inside / 'image').write_text('')
        (self.inside / 'directory').mkdir()
        os.mkfifo(self.inside / 'fifo')
        for name in ('image', 'directory', 'fifo'):
            self.assert_refused(self.inside / name, 'is no socket')

    def test_a_device_node_is_refused(self) -> None:
        node, lstat = os.stat_result([stat.S_IFBLK | 0o600, *[0] * 9]), os.lstat

        def is_node(path: str, **more: Any) -> os.stat_result:
            return node if str(path).endswith('/sda') else lstat(path, **more)

        with mock.patch('aliasagent.allowed.paths.os.lstat', is_node):
            error = self.assertRaises(exception.InvalidInput, self.check, self.inside / 'sda')
        self.assertIn('is no socket', str(error))

    def test_a_link_is_no_socket(self) -> None:
        (self.inside / 'link').symlink_to(self.bind(self.inside / 'vhu1'))
        (self.inside / 'dangling').symlink_to(self.inside / 'nothing')
        for name in ('link', 'dangling'):
            self.assert_refused(self.inside / name, 'is no socket')

    def test_what_is_out_of_bounds_is_refused(self) -> None:
        self.assert_refused(self.bind(self.outside / 'vhu1'), '[allowed] ')
        (self.inside / 'link').symlink_to(self.outside)
        self.assert_refused(self.inside / 'link' / 'vhu1', f'leads to {self.outside}/vhu1')
        self.assert_refused(self.inside / 'link' / 'vhu2', f'leads to {self.outside}/vhu2')

    def test_an_allowed_directory_may_be_a_link(self) -> None:
        (self.directory / 'link').symlink_to(self.inside)
        self.within = rules.Bounds(sockets=(f'{self.directory}/link/vhu*',))
        self.check(self.directory / 'link' / 'vhu1')

    def test_what_cannot_be_looked_up_is_refused(self) -> None:
        (self.inside / 'file').write_text('')
        self.assert_refused(self.inside / 'file' / 'vhu1', 'cannot be looked up')
