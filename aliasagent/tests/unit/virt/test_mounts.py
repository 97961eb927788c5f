# SPDX-License-Identifier: Apache-2.0
"""Whether the mounts that are seen are the host's (issue 13, number 15)."""

import pathlib

from aliasagent.allowed import mounts
from aliasagent.tests import base

HOST, OTHER = 'pid:[4026531836]', 'pid:[4026532999]'


class DoubtTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.make_directory())
        (self.root / 'proc/self/ns').mkdir(parents=True)
        (self.root / 'proc/1').mkdir()
        (self.root / 'run').mkdir()

    def doubt(self, pids: str = HOST, *, readable: bool = True, **environment: str) -> str | None:
        (self.root / 'proc/self/ns/pid').unlink(missing_ok=True)
        (self.root / 'proc/self/ns/pid').symlink_to(pids)
        (self.root / 'proc/1/mountinfo').unlink(missing_ok=True)
        if readable:
            (self.root / 'proc/1/mountinfo').write_text('')
        return mounts.doubt(self.root, environment)

    def test_a_host(self) -> None:
        self.assertIsNone(self.doubt())

    def test_a_service_from_which_systemd_hides_other_processes(self) -> None:
        self.assertIsNone(self.doubt(readable=False))

    def test_a_container_that_sees_the_processes_of_the_host(self) -> None:
        self.assertIsNone(self.doubt(container='podman'))

    def test_a_container_that_sees_its_own_processes_only(self) -> None:
        said = self.doubt(OTHER)
        assert said is not None
        for words in ("does not run in the host's pid namespace", '--pid=host', 'hostPID: true'):
            self.assertIn(words, said)

    def test_a_container_from_which_the_first_process_is_hidden(self) -> None:
        for environment in ({'container': 'oci'}, {'KUBERNETES_SERVICE_HOST': '192.0.2.1'}):
            self.assertIn('/proc/1/mountinfo cannot be read', str(self.doubt(readable=False, **environment)))
        for mark in ('.dockerenv', 'run/.containerenv'):
            (self.root / mark).write_text('')
            self.assertIn('/proc/1/mountinfo cannot be read', str(self.doubt(readable=False)))
            (self.root / mark).unlink()

    def test_a_namespace_that_cannot_be_read(self) -> None:
        (self.root / 'proc/self/ns/pid').unlink(missing_ok=True)
        self.assertIn('No such file', str(mounts.doubt(self.root, {})))
