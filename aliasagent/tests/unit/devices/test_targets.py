# SPDX-License-Identifier: Apache-2.0
"""The names of disks."""

import string

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import targets
from aliasagent.devices import xml
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


def address(controller: object, unit: object, **more: str) -> xml.Element:
    return etree.Element('address', {'type': 'drive', 'controller': str(controller), 'unit': str(unit), **more})


class LeadingToTestCase(base.TestCase):
    """Measured on libvirt 9.0: sdg is unit 6, sdh is on the next SCSI controller, and of SATA sdg is."""

    def test_as_libvirt_places_them(self) -> None:
        for bus, controller, unit, name in (
            ('scsi', 0, 0, 'sda'),
            ('scsi', 0, 6, 'sdg'),
            ('scsi', 1, 0, 'sdh'),
            ('scsi', 3, 5, 'sdaa'),
            ('sata', 0, 1, 'sdb'),
            ('sata', 4, 1, 'sdz'),
        ):
            found = targets.leading_to(address(controller, unit, bus='0', target='0'), bus)
            self.assertEqual(name, found)

    @given(st.sampled_from(['scsi', 'sata']), st.integers(0, len(ALL) - 1))
    def test_each_name_leads_somewhere(self, bus: str, index: int) -> None:
        units = {'scsi': 7, 'sata': 6}[bus]
        self.assertEqual('sd' + ALL[index], targets.leading_to(address(index // units, index % units), bus))

    def test_where_no_name_leads(self) -> None:
        for bus, found in (
            ('scsi', address(0, 7)),
            ('sata', address(0, 6)),
            ('scsi', address(0, 0, target='1')),
            ('scsi', address(0, 0, bus='1')),
            ('scsi', address(0, -1)),
            ('scsi', address(-1, 0)),
            ('scsi', address('x', 0)),
            ('scsi', address(0, '')),
            ('usb', address(0, 0)),
            ('virtio', address(0, 0)),
            ('scsi', address(0, 0, type='usb')),
            ('scsi', None),
        ):
            self.assertIsNone(targets.leading_to(found, bus))

    @given(buses, st.text(max_size=5), st.text(max_size=5))
    def test_whatever_is_written_there(self, bus: str, controller: str, unit: str) -> None:
        try:
            found = address(controller, unit)
        except ValueError:
            return  # no XML
        targets.leading_to(found, bus)


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
