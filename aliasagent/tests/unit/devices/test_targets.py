# SPDX-License-Identifier: Apache-2.0
"""The names of disks."""

import string

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.devices import targets
from aliasagent.tests import base

BUSES = {'virtio': 'vd', 'scsi': 'sd', 'sata': 'sd', 'usb': 'sd'}
buses = st.sampled_from(sorted(BUSES))
_one = [*string.ascii_lowercase]
_two = [first + second for first in _one for second in _one]
ALL = [*_one, *_two]


class FirstFreeTestCase(base.TestCase):
    @given(buses, st.sets(st.sampled_from([prefix + name for prefix in ('vd', 'sd', 'hd') for name in ALL])))
    def test_nobody_has_it_and_there_is_none_before_it(self, bus: str, taken: set[str]) -> None:
        name = targets.first_free(bus, taken)
        self.assertNotIn(name, taken)
        self.assertTrue(name.startswith(BUSES[bus]))
        index = ALL.index(name[2:])
        self.assertLessEqual({BUSES[bus] + earlier for earlier in ALL[:index]}, taken)

    @given(buses, st.integers(0, len(ALL) - 1))
    def test_after_so_many_others(self, bus: str, count: int) -> None:
        prefix = BUSES[bus]
        self.assertEqual(prefix + ALL[count], targets.first_free(bus, {prefix + name for name in ALL[:count]}))

    def test_beyond_z(self) -> None:
        self.assertEqual('vdaa', targets.first_free('virtio', {f'vd{letter}' for letter in string.ascii_lowercase}))
        self.assertEqual('sdaaa', targets.first_free('scsi', {f'sd{name}' for name in ALL}))

    def test_disks_on_buses_that_share_a_prefix_share_the_names(self) -> None:
        self.assertEqual('sdb', targets.first_free('usb', {'sda', 'vda'}))

    @given(buses, st.sets(st.text(max_size=4)))
    def test_whatever_is_taken(self, bus: str, taken: set[str]) -> None:
        self.assertNotIn(targets.first_free(bus, taken), taken)


class NamesTestCase(base.TestCase):
    def test_with_and_without_the_directory(self) -> None:
        for given_name in ('/dev/vdb', 'vdb'):
            self.assertEqual('vdb', targets.split(given_name))

    @given(buses, st.sampled_from(ALL))
    def test_a_name_belongs_to_its_buses_only(self, bus: str, name: str) -> None:
        targets.check(BUSES[bus] + name, bus)
        other = 'sd' if BUSES[bus] == 'vd' else 'vd'
        error = self.assertRaises(exception.InvalidInput, targets.check, other + name, bus)
        self.assertEqual('device_name', error.kwargs['field'])

    def test_names_of_buses_that_are_not_hot_plugged(self) -> None:
        for name in ('hda', 'xvda', 'fda', ''):
            for bus in BUSES:
                self.assertRaises(exception.InvalidInput, targets.check, name, bus)

    @given(st.sampled_from(ALL))
    def test_the_bus_of_a_name_takes_it(self, name: str) -> None:
        for prefix in ('sd', 'vd'):
            targets.check(prefix + name, targets.default_bus(prefix + name, 'disk'))

    def test_the_bus_of_a_type_takes_it(self) -> None:
        self.assertEqual('virtio', targets.default_bus(None, 'disk'))
        for device_type in ('lun', 'cdrom'):
            self.assertEqual('scsi', targets.default_bus(None, device_type))
