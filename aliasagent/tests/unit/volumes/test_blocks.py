# SPDX-License-Identifier: Apache-2.0
"""Which disk a block device is."""

import os
import pathlib
from unittest import mock

import fixtures

from aliasagent.tests import base
from aliasagent.volumes import blocks


class BlocksTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sys = pathlib.Path(self.make_directory())
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.SYS', self.sys))

    def write(self, path: str, text: str) -> None:
        (self.sys / path).parent.mkdir(parents=True, exist_ok=True)
        (self.sys / path).write_text(f'{text}\n')

    def test_a_scsi_disk(self) -> None:
        for wwid, expected in (('naa.6001', '36001'), ('eui.0025', '20025'), ('t10.LIO x', '1LIO x'), ('odd', '8')):
            self.write('sda/device/wwid', wwid)
            self.assertEqual({expected}, blocks.identities('/dev/sda'))

    def test_an_nvme_namespace(self) -> None:
        self.write('nvme0n1/wwid', 'uuid.ada5af06-300e-4d07-931d-3cc2bff8a8a9')
        self.assertEqual({'uuid.ada5af06-300e-4d07-931d-3cc2bff8a8a9'}, blocks.identities('/dev/nvme0n1'))

    def test_a_multipath_map_and_its_paths(self) -> None:
        self.write('dm-0/dm/uuid', 'mpath-36001')
        for name in ('sda', 'sdb'):
            self.write(f'{name}/device/wwid', 't10.LIO')
            self.write(f'dm-0/slaves/{name}', '')
            self.write(f'{name}/holders/dm-0', '')
        for name in ('dm-0', 'sda', 'sdb'):
            self.assertEqual({'36001', '1LIO'}, blocks.identities(f'/dev/{name}'))

    def test_other_maps_have_no_identity(self) -> None:
        self.write('dm-1/dm/uuid', 'LVM-abc')
        self.assertEqual(set(), blocks.identities('/dev/dm-1'))

    def test_by_a_link(self) -> None:
        self.write('sda/device/wwid', 'naa.6001')
        link = pathlib.Path(self.make_directory()) / 'by-path'
        link.symlink_to('/dev/sda')
        self.assertEqual({'36001'}, blocks.identities(str(link)))

    def test_names_after_ids(self) -> None:
        directory = pathlib.Path(self.make_directory())
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.BY_ID', directory))
        for known, name in (
            ('36001405b', 'dm-uuid-mpath-36001405b'),
            ('36001405b', 'wwn-0x6001405b'),
            ('36001405b', 'scsi-36001405b'),
            ('1LIO-ORG volume  a', 'scsi-1LIO-ORG_volume_a'),
            ('uuid.ada5af06-300e', 'nvme-uuid.ada5af06-300e'),
        ):
            self.assertIsNone(blocks.lasting_path('/dev/sda', [known]))
            (directory / name).symlink_to('/dev/sda')
            self.assertEqual(f'{directory}/{name}', blocks.lasting_path('/dev/sda', ['39', known]))
            self.assertIsNone(blocks.lasting_path('/dev/sdb', [known]))
            (directory / name).unlink()

    def test_nothing(self) -> None:
        self.assertEqual(set(), blocks.identities('/dev/sdq'))
        self.assertEqual([], blocks.users('/dev/sdq'))

    def test_the_number_of_a_device(self) -> None:
        directory = pathlib.Path(self.make_directory())
        self.assertEqual(('', ''), (blocks._number(directory), blocks._number(directory / 'gone')))
        status = os.stat_result((0o060660, *[0] * 9), {'st_rdev': os.makedev(253, 7)})
        with mock.patch('os.stat', lambda _path: status):
            self.assertEqual('253:7', blocks._number(directory))

    def test_who_has_a_map_of_a_path_open(self) -> None:
        proc = pathlib.Path(self.make_directory())
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.PROC', proc))
        self.useFixture(
            fixtures.MonkeyPatch(
                'aliasagent.volumes.blocks._number', lambda path: '253:0' if os.readlink(path) == '/dev/dm-0' else ''
            )
        )
        device = '/dev/dm-0'
        for process, name, opened in (('7', 'qemu', device), ('8', 'multipathd', device), ('9', 'sh', '/gone')):
            (proc / process / 'fd').mkdir(parents=True)
            (proc / process / 'fd' / '0').symlink_to(opened)
            (proc / process / 'comm').write_text(f'{name}\n')
        (proc / 'self').mkdir()
        self.write('dm-0/dev', '253:0')
        self.write('sda/dev', '8:0')
        self.assertEqual([], blocks.users('/dev/sda'))
        self.write('sda/holders/dm-0', '')
        self.assertEqual(['qemu (7)'], blocks.users('/dev/sda'))
        self.assertEqual(['qemu (7)'], blocks.users('/dev/dm-0'))
