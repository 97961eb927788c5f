# SPDX-License-Identifier: Apache-2.0
"""What guests look like before anything is changed."""

from unittest import mock

import libvirt

from aliasagent.devices.domain import Domain
from aliasagent.status import guests
from aliasagent.tests import base
from aliasagent.tests import on_fake
from aliasagent.tests.contract import harness
from aliasagent.tests.fakes.libvirt import domain_xml
from aliasagent.tests.ids import VOLUME
from aliasagent.virt import guest

NAME = f'ua-{VOLUME}'


class SurveyTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()

    def add(self, name: str, devices: str = '', running: bool = True) -> str:
        instance = harness.new_id()
        self.fake.add_guest(xml=domain_xml(name, instance, devices), running=running)
        return instance

    def test_nobody(self) -> None:
        self.assertEqual(guests.Survey(), guests.survey(self.host))

    def test_each_is_told_by_its_name_and_left_as_it_is(self) -> None:
        mine = self.add('serial', harness.disk_xml('/a', 'sda', serial=VOLUME))
        self.add('strange', harness.disk_xml('/b', 'sda') + harness.disk_xml('/c', 'sdb'))
        self.add('done', harness.disk_xml('/d', 'sda', alias=NAME))
        before = self.fake.open().lookupByUUIDString(mine).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        found = guests.survey(self.host)
        self.assertEqual(3, found.guests)
        self.assertEqual({'serial': 1}, found.to_give)
        self.assertEqual({'strange': 2}, found.unknown)
        self.assertEqual(({}, {}, {}), (found.not_live, found.doubled, found.unread))
        self.assertEqual(before, self.fake.open().lookupByUUIDString(mine).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def test_disks_of_nova_that_are_no_volumes(self) -> None:
        instance = harness.new_id()
        sources = (f'/var/lib/nova/instances/{instance}/disk', f'/dev/vg/{instance}_disk.swap')
        devices = [harness.disk_xml(source, target) for source, target in zip(sources, ('sda', 'sdb'), strict=True)]
        self.fake.add_guest(xml=domain_xml('nova', instance, ''.join(devices)), running=True)
        self.assertEqual(guests.Survey(guests=1), guests.survey(self.host))

    def test_an_alias_that_waits_for_the_next_start(self) -> None:
        instance = self.add('waits', harness.disk_xml('/a', 'sda', serial=VOLUME))
        domain = self.fake.open().lookupByUUIDString(instance)
        domain.connect().defineXML(
            domain_xml('waits', instance, harness.disk_xml('/a', 'sda', serial=VOLUME, alias=NAME))
        )
        found = guests.survey(self.host)
        self.assertEqual(({}, {'waits': 1}), (found.to_give, found.not_live))

    def test_aliases_that_rest_on_the_name_of_a_source(self) -> None:
        """Issue 13, 17: an earlier release gave them by that alone."""
        recorded, serial = harness.new_id(), harness.new_id()
        devices = (
            harness.disk_xml(f'/srv/volume-{VOLUME}', 'sda', alias=NAME)
            + harness.disk_xml(f'/srv/volume-{serial}', 'sdb', alias=f'ua-{serial}', serial=serial)
            + harness.disk_xml(f'/srv/volume-{recorded}', 'sdc', alias=f'ua-{recorded}')
            + harness.disk_xml('/srv/other', 'sdd', alias='ua-other')
        )
        instance = self.add('named', devices)
        known = {(instance, recorded)}
        found = guests.survey(self.host, lambda *device: device in known)
        self.assertEqual({'named': [NAME]}, found.by_name)
        known.add((instance, VOLUME))
        self.assertEqual({}, guests.survey(self.host, lambda *device: device in known).by_name)

    def test_what_cannot_be_read_is_told(self) -> None:
        self.add('torn')
        broken = Domain.parse('<domain/>')
        with mock.patch.object(guest.Guest, 'persistent_text', autospec=True, return_value=broken.to_xml()[:-3]):
            found = guests.survey(self.host)
        self.assertEqual((0, ['torn']), (found.guests, list(found.unread)))


class DoublesTestCase(base.TestCase):
    def doubles(self, *devices: str) -> list[str]:
        return Domain.parse(f'<domain><devices>{"".join(devices)}</devices></domain>').doubled_aliases()

    def test_of_any_kind(self) -> None:
        disk, rng = (f"<{kind}><alias name='{NAME}'/></{kind}>" for kind in ('disk', 'rng'))
        self.assertEqual([], self.doubles(disk))
        self.assertEqual([NAME], self.doubles(disk, rng))
        self.assertEqual([NAME], self.doubles(disk, disk))

    def test_only_user_aliases_count(self) -> None:
        self.assertEqual([], self.doubles("<disk><alias name='vd'/></disk>" * 2, '<disk/><disk/>'))

    def test_the_first_console_is_the_first_serial_port(self) -> None:
        serial, console = (f"<{kind}><alias name='{NAME}'/></{kind}>" for kind in ('serial', 'console'))
        self.assertEqual([], self.doubles(serial, console))
        self.assertEqual([NAME], self.doubles(serial, console, console))
        self.assertEqual([NAME], self.doubles("<serial><alias name='x'/></serial>", console, console))
