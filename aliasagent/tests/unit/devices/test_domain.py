# SPDX-License-Identifier: Apache-2.0
"""A guest's definition and its devices."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import disk
from aliasagent.devices import hostdev
from aliasagent.devices import identity
from aliasagent.devices import interface
from aliasagent.devices import properties
from aliasagent.devices import xml
from aliasagent.devices.base import Device
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.devices import definitions
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies


class DomainTestCase(base.TestCase):
    def test_what_it_says_of_itself(self) -> None:
        domain = Domain.parse(definitions.text('nova'))
        self.assertEqual('instance-00000a1c', domain.name)
        self.assertEqual('5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c01', domain.uuid)
        self.assertTrue(domain.is_live)
        self.assertEqual({'vda', 'vdb', 'vdc', 'vdd', 'sda'}, domain.disk_targets())

    def test_names_that_a_new_disk_cannot_have(self) -> None:
        place = "<address type='drive' controller='{}' bus='0' target='0' unit='{}'/>"
        domain = Domain.parse(
            f"""
            <domain><devices>
              <disk><target dev='vda' bus='virtio'/></disk>
              <disk><target dev='sdx' bus='scsi'/>{place.format(0, 1)}</disk>
              <disk><target dev='sdy' bus='sata'/>{place.format(1, 1)}</disk>
              <hostdev type='scsi'>{place.format(1, 0)}</hostdev>
              <hostdev type='scsi'><source><address bus='0' target='0' unit='3'/></source></hostdev>
              <hostdev type='pci'><address type='pci' domain='0' bus='0' slot='2' function='0'/></hostdev>
              <controller type='scsi' index='0'/><rng/>
            </devices></domain>"""
        )
        have = {'vda', 'sdx', 'sdy'}
        self.assertEqual(have, domain.disk_targets())
        self.assertEqual(have, domain.taken_targets('virtio'))
        self.assertEqual(have, domain.taken_targets('usb'))
        self.assertEqual(have | {'sdb', 'sdh'}, domain.taken_targets('scsi'))
        self.assertEqual(have | {'sdh'}, domain.taken_targets('sata'))

    def test_without_an_id_it_is_not_live(self) -> None:
        self.assertFalse(Domain.parse(definitions.text('sev')).is_live)
        self.assertFalse(Domain.parse('<domain/>').is_live)
        self.assertTrue(Domain.parse("<domain id='1'/>").is_live)

    def test_an_empty_definition(self) -> None:
        for text in ('<domain/>', '<domain><devices/><uuid/><name/><metadata/></domain>'):
            domain = Domain.parse(text)
            self.assertEqual([], list(domain.devices()))
            self.assertEqual(('', ''), (domain.name, domain.uuid))
            self.assertEqual((frozenset(), set()), (domain.ports(), domain.disk_targets()))

    def test_the_views_fit_the_kinds(self) -> None:
        kinds = {'disk': disk.Disk, 'interface': interface.Interface, 'hostdev': hostdev.Hostdev, 'rng': Device}
        for kind, view in kinds.items():
            (device,) = Domain.parse(f'<domain><devices><{kind}/></devices></domain>').devices()
            self.assertIs(view, type(device))
            self.assertEqual(kind, device.kind)

    def test_what_is_no_device_is_not_listed(self) -> None:
        text = '<domain><devices><emulator>x</emulator><!-- c --><?p i?>text<rng/></devices><rng/></domain>'
        self.assertEqual(['rng'], [device.kind for device in Domain.parse(text).devices()])

    def test_ports_of_any_version_of_the_metadata(self) -> None:
        for version in ('1.0', '1.1', '2'):
            text = (
                f"<domain><metadata><n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/{version}'><n:ports>"
                f"<n:port uuid='ABC'/><n:port uuid='def'/></n:ports></n:instance><port uuid='ghi'/>"
                f"<o:port xmlns:o='urn:other' uuid='jkl'/></metadata></domain>"
            )
            self.assertEqual({'abc', 'def'}, Domain.parse(text).ports())

    def test_a_guest_is_novas_by_what_nova_wrote_into_its_metadata(self) -> None:
        nova = 'http://openstack.org/xmlns/libvirt/nova/'
        for version, element in itertools.product(('1.0', '1.1', '1.2', '2'), ('instance', 'owner')):
            for written in (
                f"<nova:{element} xmlns:nova='{nova}{version}'/>",
                f"<{element} xmlns='{nova}{version}'>text</{element}>",
                f"<a:o xmlns:a='urn:a'/><!-- c --><?p i?>x<n:{element} xmlns:n='{nova}{version}'><n:x/></n:{element}>",
            ):
                text = f'<domain><metadata>{written}</metadata><devices/></domain>'
                self.assertTrue(Domain.parse(text).is_novas, text)

    def test_other_metadata_make_no_guest_novas(self) -> None:
        nova = "xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'"
        for written in (
            '<metadata/>',
            '<metadata><instance/><owner/></metadata>',
            "<metadata><nova:instance xmlns:nova='urn:nova'/></metadata>",
            "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova'/></metadata>",
            "<metadata><nova:instance xmlns:nova='http://example.org/http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>",
            f'<metadata><nova:ports {nova}/><nova:instances {nova}/></metadata>',
            f'<metadata><!-- <nova:instance {nova}/> --></metadata>',
            f'<metadata><?nova <nova:instance {nova}/> ?></metadata>',
            f'<metadata><a:note {nova} xmlns:a="urn:a"><![CDATA[<nova:instance/>]]></a:note></metadata>',
            f'<metadata><a:was {nova} xmlns:a="urn:a"><nova:instance/></a:was></metadata>',
            f'<metadata><a:instance {nova} xmlns:a="urn:a" nova:instance="x"/></metadata>',
            f'<nova:instance {nova}/>',
            f'<devices><nova:instance {nova}/></devices>',
            f'<description>&lt;metadata&gt;&lt;nova:instance {nova}/&gt;&lt;/metadata&gt;</description>',
            '<sysinfo><system><entry name="product">OpenStack Nova</entry></system></sysinfo>',
        ):
            self.assertFalse(Domain.parse(f'<domain>{written}</domain>').is_novas, written)

    def test_ports_of_the_running_guest(self) -> None:
        port = "<n:port xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1' uuid='a'/>"
        domain, asked = Domain.parse(f'<domain><metadata>{port}</metadata></domain>'), []

        def of_running() -> frozenset[str]:
            asked.append(1)
            return frozenset({'b'})

        domain.add_ports(of_running)
        self.assertEqual([{'a', 'b'}] * 2, [domain.ports(), domain.ports()])
        self.assertEqual([1], asked)
        other = Domain.parse('<domain/>')
        other.add_ports(of_running)
        self.assertEqual((frozenset(), [1]), (other.ports(), asked))

    def test_without_aliases_shows_every_other_difference(self) -> None:
        domain = Domain.parse("<domain><devices><rng><alias name='rng0'/></rng></devices></domain>")
        plain = domain.without_aliases()
        (device,) = domain.devices()
        device.alias = 'ua-x'
        self.assertEqual(plain, domain.without_aliases())
        device.alias = None
        self.assertEqual(plain, domain.without_aliases())
        device.element.set('x', 'y')
        self.assertNotEqual(plain, domain.without_aliases())

    def test_a_device_has_one_view(self) -> None:
        domain = Domain.parse("<domain><devices><rng/><disk><alias name='ua-a'/></disk></devices></domain>")
        first, second = list(domain.devices()), list(domain.devices())
        self.assertEqual(2, len(first))
        for one, again in zip(first, second, strict=True):
            self.assertIs(one, again)

    def test_an_alias_is_found_once_it_is_set_and_not_once_it_is_removed(self) -> None:
        domain = Domain.parse('<domain><devices><rng/><disk/></devices></domain>')
        for device in domain.devices():
            self.assertEqual([], domain.by_alias('ua-x'))
            device.alias = 'ua-x'
            self.assertEqual([device], domain.by_alias('ua-x'))
            self.assertTrue(device.is_claimed)
            device.alias = 'ua-y'
            self.assertEqual([], domain.by_alias('ua-x'))
            self.assertEqual('y', device.device_id)
            device.alias = None
            self.assertFalse(device.is_claimed)
        self.assertEqual([None, None], [device.alias for device in domain.devices()])

    def test_a_device_that_was_taken_out_is_not_listed(self) -> None:
        domain = Domain.parse('<domain><devices><rng/><disk/></devices></domain>')
        gone, left = domain.devices()
        properties.remove(gone.element)
        self.assertEqual([left], list(domain.devices()))


class AnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains())
    def test_looking_at_its_devices_never_raises(self, root: etree._Element) -> None:
        domain = Domain.parse(xml.to_text(root))
        before = snapshot.take_all(domain.root)
        ports = domain.ports()
        for device in domain.devices():
            self.assertTrue(device.kind)
            for said in (device.alias, device.device_id, device.target, device.source):
                self.assertIsInstance(said, (str, type(None)))
            self.assertIsInstance(device.describe(), str)
            self.assertIsInstance(device.can_be_unplugged, bool)
            identity.identify(device, ports)
            identity.supports(device, identity.claim(device))
        domain.disk_targets()
        domain.without_aliases()
        self.assertEqual([], snapshot.changed(before))
        self.assertEqual([], snapshot.added(before, domain.root))

    @given(strategies.elements(depth=2, name=st.just('domain')))
    def test_nor_in_a_definition_of_anything(self, root: etree._Element) -> None:
        domain = Domain.parse(xml.to_text(root))
        for device in domain.devices():
            identity.identify(device, domain.ports())
            device.describe()
        self.assertIsInstance(domain.uuid + domain.name, str)

    def test_numbers_beyond_reason(self) -> None:
        for number in ('9' * 5000, '0x' + 'f' * 5000, '-1', '', 'x', '٣', '1_0', '0b1'):
            for kind in ('pci', 'usb', 'scsi', 'mdev', 'scsi_host', 'x'):
                text = (
                    f"<domain><devices><hostdev type='{kind}'><source><adapter name='a'/><vendor id='{number}'/>"
                    f"<product id='{number}'/><address bus='{number}' slot='{number}' unit='{number}' target='{number}'"
                    f" device='{number}'/></source></hostdev>"
                    f"<hostdev type='{kind}'><source><address bus='{number}' device='{number}'/></source></hostdev>"
                    f"<interface type='hostdev'><source><address bus='{number}'/></source></interface>"
                    f"<disk type='nvme'><source><address bus='{number}'/></source></disk></devices></domain>"
                )
                for device in Domain.parse(text).devices():
                    self.assertIsInstance(device.source, (str, type(None)))
                    identity.identify(device, frozenset())
                    identity.claim(device)

    @given(strategies.domains(), st.data())
    def test_changing_one_alias_changes_nothing_else(self, root: etree._Element, data: st.DataObject) -> None:
        domain = Domain(root)
        devices = list(domain.devices())
        if not devices:
            return
        device = data.draw(st.sampled_from(devices))
        plain = domain.without_aliases()
        before = snapshot.take_all(root)
        device.alias = 'ua-new'
        for node in [*snapshot.changed(before)]:
            # libvirt's parser and ours take the first alias of a device.
            self.assertIs(device.element.find('alias'), node.node)
        self.assertLessEqual(len(snapshot.added(before, root)), 1)
        self.assertEqual(plain, domain.without_aliases())
        again = Domain.parse(domain.to_xml())
        self.assertEqual(etree.canonicalize(domain.to_xml()), etree.canonicalize(again.to_xml()))

    def test_the_kept_definitions_come_out_as_they_went_in(self) -> None:
        for name in definitions.NAMES:
            text = definitions.text(name)
            canonical = etree.canonicalize(text.decode(), with_comments=True)
            self.assertEqual(canonical, etree.canonicalize(Domain.parse(text).to_xml(), with_comments=True), name)

    def test_the_error_for_another_root_is_short(self) -> None:
        error = self.assertRaises(exception.InvalidXML, Domain.parse, f'<{"x" * (1 << 20)}/>')
        self.assertLess(len(str(error)), 200)
