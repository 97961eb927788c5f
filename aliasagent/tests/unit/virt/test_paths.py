# SPDX-License-Identifier: Apache-2.0
"""Where a path leads, and what the host itself uses."""

import os
import pathlib
import stat
from unittest import mock

from aliasagent import exception
from aliasagent.allowed import paths
from aliasagent.allowed import rules
from aliasagent.tests import base
from aliasagent.tests.unit.virt import test_images

FIELD = 'connection_info.data.device_path'
NUMBERS = {'sda': '8:0', 'sda1': '8:1', 'sda2': '8:2', 'sdb': '8:16', 'sdc': '8:32', 'dm-0': '253:0', 'dm-1': '253:1'}


class CheckTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        # the directory itself may be behind a link
        self.directory = pathlib.Path(os.path.realpath(self.make_directory()))
        self.inside = self.directory / 'inside'
        self.outside = self.directory / 'outside'
        for directory in (self.inside, self.outside):
            directory.mkdir()
            (directory / 'file').write_text('')
        self.within = rules.Bounds(paths=(str(self.inside),))

    def check(self, path: pathlib.Path) -> None:
        paths.check([rules.Need(FIELD, rules.PATHS, str(path))], self.within, self.directory)

    def assert_refused(self, path: pathlib.Path, words: str) -> None:
        error = self.assertRaises(exception.InvalidInput, self.check, path)
        self.assertEqual(FIELD, error.kwargs['field'])
        self.assertIn(words, str(error))

    def test_what_is_inside_passes(self) -> None:
        self.check(self.inside / 'file')

    def test_what_is_outside_is_refused_by_its_name(self) -> None:
        self.assert_refused(self.outside / 'file', '[allowed] paths')

    def test_a_link_inside_may_lead_to_another_place_inside(self) -> None:
        (self.inside / 'link').symlink_to('file')
        self.check(self.inside / 'link')

    def test_a_link_that_leads_out_is_refused(self) -> None:
        target = self.outside / 'file'
        (self.inside / 'link').symlink_to(target)
        (self.inside / 'second').symlink_to('link')
        (self.inside / 'directory').symlink_to(self.outside)
        (self.inside / 'relative').symlink_to('../outside')
        (self.inside / 'nowhere').symlink_to(self.outside / 'not-there')
        for name in ('link', 'second', 'directory/file', 'relative/file'):
            self.assert_refused(self.inside / name, f'leads to {target}')
        # what is not there yet may come
        self.assert_refused(self.inside / 'nowhere', f'leads to {self.outside}/not-there')

    def test_a_link_outside_is_refused_though_it_leads_in(self) -> None:
        (self.outside / 'link').symlink_to(self.inside / 'file')
        self.assert_refused(self.outside / 'link', 'outside/link is not among')

    def test_dots_lead_where_the_kernel_would_go(self) -> None:
        (self.inside / 'directory').symlink_to(self.outside)
        self.assert_refused(self.inside / '..' / 'outside' / 'file', f'leads to {self.outside}')
        self.assert_refused(self.inside / 'directory' / '..' / 'inside' / '..' / 'outside', 'leads to')

    def test_a_link_in_the_allowed_directory_itself_is_the_operators(self) -> None:
        (self.directory / 'link').symlink_to(self.inside)
        self.within = rules.Bounds(paths=(str(self.directory / 'link'),))
        self.check(self.directory / 'link' / 'file')

    def test_a_link_to_itself_is_refused(self) -> None:
        (self.inside / 'loop').symlink_to('loop')
        self.assert_refused(self.inside / 'loop', 'cannot be looked up')

    def test_what_may_not_be_looked_up_is_refused(self) -> None:
        with mock.patch('os.path.realpath', autospec=True, side_effect=PermissionError(13, 'Permission denied')):
            self.assert_refused(self.inside / 'file', 'cannot be looked up: Permission denied')

    def test_what_is_not_there_yet_is_for_others_to_miss(self) -> None:
        self.check(self.inside / 'socket')

    def test_a_device_that_is_no_path_is_refused_by_its_name(self) -> None:
        need = rules.Need('hostdev.address', 'pci', '0000:06:12.5')
        self.assertRaises(exception.InvalidInput, paths.check, [need], self.within)
        paths.check([need], rules.Bounds(pci=('0000:06:*',)))


class ImageTestCase(CheckTestCase):
    """What an image is based on is opened with it."""

    def check(self, path: pathlib.Path) -> None:
        need = rules.Need(FIELD, rules.PATHS, str(path), is_image=True)
        paths.check([need], self.within, self.directory)

    def image(self, backing: object = '', name: str = 'image', kind: str = 'qcow2') -> pathlib.Path:
        path = self.inside / name
        path.write_bytes(test_images.header(str(backing).encode(), test_images.backing_format(kind.encode())))
        return path

    def test_what_is_inside_passes(self) -> None:
        self.check(self.image())
        self.check(self.image('file'))
        self.check(self.image(self.inside / 'file'))
        self.image('file', 'middle')
        self.check(self.image('middle'))
        self.check(self.inside / 'not-there')

    def test_what_is_outside_is_refused(self) -> None:
        (self.inside / 'link').symlink_to(self.outside / 'file')
        for name in (self.outside / 'file', '../outside/file', 'link'):
            self.assert_refused(self.image(name), '[allowed] paths')
        self.image(self.outside / 'file', 'middle')
        self.assert_refused(self.image('middle'), f'{self.outside}/file')

    def test_a_volume_that_is_no_image_is_the_guests_own_matter(self) -> None:
        path = self.image(self.outside / 'file')
        super().check(path)

    def test_what_is_opened_as_raw_is_not_looked_into(self) -> None:
        """A guest may have written what it liked into a raw volume, of which a snapshot was made."""
        self.image(self.outside / 'file', 'middle')
        self.check(self.image('middle', kind='raw'))
        self.assert_refused(self.image(self.outside / 'file', kind='raw'), '[allowed] paths')

    def test_what_is_opened_as_anything_else_is_refused(self) -> None:
        """A text in an allowed place that says as a VMDK where the data is."""
        descriptor = self.inside / 'descriptor'
        extent = f'RW 1 FLAT "{self.outside}/file" 0'
        descriptor.write_text(f'# Disk DescriptorFile\ncreateType="monolithicFlat"\n{extent}\n')
        self.assert_refused(self.image('descriptor', kind='vmdk'), "backing file is 'vmdk'")
        self.image('descriptor', 'middle', kind='vmdk')
        self.assert_refused(self.image('middle'), "backing file is 'vmdk'")

    def test_one_that_is_based_on_itself(self) -> None:
        self.image('image', 'other')
        self.assert_refused(self.image('other'), 'based on itself')

    def test_one_that_is_not_safe(self) -> None:
        self.assert_refused(self.image('nbd://host/x'), 'not an image that may be attached: its backing file is no')

    def test_a_relative_name_behind_a_link(self) -> None:
        """libvirt goes by the name that it was given, QEMU by itself might go by the place."""
        other = self.inside / 'other'
        other.mkdir()
        (other / 'link').symlink_to(self.image('file'))
        self.assert_refused(other / 'link', 'can be two files')
        (other / 'file').symlink_to(self.inside / 'file')
        self.check(other / 'link')

    def test_one_that_may_not_be_read(self) -> None:
        path = self.image()
        with mock.patch('builtins.open', autospec=True, side_effect=PermissionError(13, 'Permission denied')):
            self.assert_refused(path, 'cannot be looked up: Permission denied')


class InUseTestCase(CheckTestCase):
    """A host with sda (sda1 at /, sda2 in LVM with a volume at /srv), sdb (swap), sdc (free, in LVM)."""

    def setUp(self) -> None:
        super().setUp()
        for name, number in NUMBERS.items():
            (self.inside / name).write_text('')
            (self.device(name) / 'holders').mkdir(parents=True)
            (self.device(name) / 'dev').write_text(f'{number}\n')
        for name in ('sda1', 'sda2'):
            (self.device('sda') / name).mkdir()
            (self.device('sda') / name / 'partition').write_text('1\n')
            (self.device('sda') / name / 'dev').write_text(f'{NUMBERS[name]}\n')
        for below, above in (('sda2', 'dm-0'), ('sdc', 'dm-1')):
            (self.device(below) / 'holders' / above).symlink_to(self.device(above))
        proc = self.directory / 'proc'
        (proc / 'self').mkdir(parents=True)
        (proc / 'self' / 'mountinfo').write_text(
            '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n'
            '23 22 0:5 / /proc rw - proc proc rw\n'
            '24 22 253:0 / /srv/a\\040b rw - xfs /dev/mapper/a rw\n'
        )
        (proc / 'swaps').write_text(f'Filename\tType\tSize\tUsed\tPriority\n{self.inside}/sdb  partition 1 0 -2\n')
        real = {str(self.inside / name): number for name, number in NUMBERS.items()}
        patch = mock.patch('aliasagent.allowed.paths.block_device', autospec=True, side_effect=real.get)
        patch.start()
        self.addCleanup(patch.stop)

    def device(self, name: str) -> pathlib.Path:
        return self.directory / 'sys' / 'dev' / 'block' / NUMBERS[name]

    def test_what_the_host_has_mounted_is_refused_by_each_of_its_names(self) -> None:
        (self.inside / 'by-id').symlink_to('sda')
        for name, where in (('sda1', '/'), ('sda', '/'), ('by-id', '/'), ('sda2', '/srv/a b'), ('dm-0', '/srv/a b')):
            self.assert_refused(self.inside / name, f'in use by the host itself: mounted at {where}')

    def test_what_the_host_has_mounted_is_refused_in_a_container(self) -> None:
        """The table of the process itself has the mounts of the container (issue 13, number 15)."""
        proc = self.directory / 'proc'
        (proc / '1').mkdir()
        (proc / 'self' / 'mountinfo').rename(proc / '1' / 'mountinfo')
        (proc / 'self' / 'mountinfo').write_text(
            '1 1 0:50 / / rw - overlay overlay rw\n2 1 8:32 / /mine rw - ext4 c rw\n'
        )
        self.assert_refused(self.inside / 'sda1', 'in use by the host itself: mounted at /')
        self.assert_refused(self.inside / 'sdc', 'in use by the host itself: mounted at /mine')

    def test_swap_is_refused(self) -> None:
        self.assert_refused(self.inside / 'sdb', 'in use by the host itself: swap space')

    def test_what_is_made_of_it_does_not_matter_if_nobody_uses_that(self) -> None:
        self.check(self.inside / 'sdc')
        self.check(self.inside / 'dm-1')

    def test_a_table_that_cannot_be_read_says_nothing(self) -> None:
        (self.directory / 'proc' / 'self' / 'mountinfo').unlink()
        (self.directory / 'proc' / 'self' / 'mountinfo').mkdir()
        self.assert_refused(self.inside / 'sdc', 'cannot be looked up')


class BlockDeviceTestCase(base.TestCase):
    def test_only_a_block_device_has_numbers(self) -> None:
        self.assertIsNone(paths.block_device('/dev/null'))
        self.assertIsNone(paths.block_device(__file__))
        self.assertIsNone(paths.block_device('/no/such/file'))

    def test_its_numbers_are_the_kernels(self) -> None:
        path = pathlib.Path(self.make_directory()) / 'device'
        found = mock.Mock(st_mode=stat.S_IFBLK | 0o660, st_rdev=os.makedev(253, 17))
        with mock.patch('os.stat', autospec=True, return_value=found):
            self.assertEqual('253:17', paths.block_device(str(path)))
