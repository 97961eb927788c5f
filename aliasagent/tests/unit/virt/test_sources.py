# SPDX-License-Identifier: Apache-2.0

import os
import pathlib

import fixtures

from aliasagent.devices import identity
from aliasagent.devices.disk import Disk
from aliasagent.devices.interface import Interface
from aliasagent.tests import base
from aliasagent.virt import sources


def disk(path: pathlib.Path, *, backing: pathlib.Path | None = None, readonly: bool = False) -> Disk:
    """A disk of a file."""
    made = Disk.new()
    made.type = 'file'
    made.source_file = str(path)
    made.readonly = readonly
    if backing is not None:
        made.element.append(disk(backing).element)
        made.element[-1].tag = 'backingStore'
    return made


class SourcesTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.file, self.link, self.hard_link, self.other = (
            self.directory / name for name in ('file', 'link', 'hard-link', 'other')
        )
        self.file.touch()
        self.other.touch()
        self.link.symlink_to(self.file)
        os.link(self.file, self.hard_link)

    def test_a_file_is_the_same_by_every_name(self) -> None:
        for path in (self.file, self.link, self.hard_link):
            self.assertTrue(identity.have_one_source(disk(self.file), disk(path), sources.lead_to_one))
            self.assertFalse(identity.have_one_source(disk(self.other), disk(path), sources.lead_to_one))

    def test_what_is_not_there_is_known_by_where_its_links_lead(self) -> None:
        missing, link = self.directory / 'missing', self.directory / 'dangling'
        link.symlink_to(missing)
        self.assertTrue(identity.have_one_source(disk(missing), disk(link), sources.lead_to_one))
        self.assertFalse(identity.have_one_source(disk(missing), disk(self.file), sources.lead_to_one))

    def test_a_network_source_is_known_by_its_name(self) -> None:
        one, other = Disk.new(), Disk.new()
        for made in (one, other):
            made.source_protocol, made.source_name = 'rbd', 'volumes/image'
        self.assertTrue(identity.have_one_source(one, other, sources.lead_to_one))
        other.source_name = 'volumes/image-2'
        self.assertFalse(identity.have_one_source(one, other, sources.lead_to_one))
        self.assertFalse(identity.have_one_source(one, disk(self.file), sources.lead_to_one))

    def test_other_kinds(self) -> None:
        interface = Interface.new()
        self.assertFalse(identity.have_one_source(interface, disk(self.file), sources.lead_to_one))
        self.assertFalse(identity.is_written_beneath(interface, disk(self.file), sources.lead_to_one))
        self.assertFalse(identity.is_written_beneath(disk(self.file), interface, sources.lead_to_one))

    def test_what_a_disk_is_based_on_is_not_written_beneath_it(self) -> None:
        overlay = disk(self.other, backing=self.file)
        for path in (self.file, self.link, self.hard_link):
            self.assertTrue(identity.is_written_beneath(disk(path), overlay, sources.lead_to_one))
            self.assertFalse(identity.is_written_beneath(disk(path, readonly=True), overlay, sources.lead_to_one))
        self.assertFalse(identity.is_written_beneath(disk(self.other), overlay, sources.lead_to_one))
