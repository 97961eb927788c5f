# SPDX-License-Identifier: Apache-2.0
"""How aliases come into definitions that are there already: update, define, save and restore."""

import uuid
from typing import Any

import libvirt
from lxml import etree

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract.hypervisor import BOTH
from aliasagent.tests.contract.hypervisor import CONFIG
from aliasagent.tests.contract.hypervisor import LIVE
from aliasagent.tests.contract.hypervisor import MAC
from aliasagent.tests.contract.hypervisor import OTHER_MAC
from aliasagent.tests.contract.hypervisor import disk
from aliasagent.tests.contract.hypervisor import find
from aliasagent.tests.contract.hypervisor import interface
from aliasagent.tests.contract.hypervisor import pci_hostdev
from aliasagent.tests.contract.hypervisor import user_aliases

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
SECURE = libvirt.VIR_DOMAIN_XML_SECURE
PASSWORD = "<graphics type='vnc' port='-1' passwd='secret'/>"


def edited(domain: Any, old: str, new: str) -> str:
    text: str = domain.XMLDesc(INACTIVE | SECURE)
    assert old in text
    return text.replace(old, new)


class DefinitionContract(hypervisor.HypervisorContract):
    def saved(self, domain: Any) -> list[str]:
        return user_aliases(domain, inactive=True)

    def test_a_disk_gains_changes_and_loses_its_alias_in_the_config(self) -> None:
        domain, path = self.new_guest(), self.disk_file('a')
        domain.attachDeviceFlags(disk(path, 'sda'), BOTH)
        for alias in ('ua-1', 'ua-2', None, 'ua-3'):
            domain.updateDeviceFlags(disk(path, 'sda', alias), CONFIG)
            self.assertEqual([alias] if alias else [], self.saved(domain))
        device = find(domain, 'ua-3', inactive=True)
        assert device is not None
        self.assertIsNotNone(device.find('address'))
        self.assertEqual([], user_aliases(domain))

    def test_an_interface_gains_and_loses_its_alias_but_does_not_change_it(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(interface(self.bridge()), BOTH)
        domain.updateDeviceFlags(interface(self.bridge(), 'ua-1'), CONFIG)
        self.assertEqual(['ua-1'], self.saved(domain))
        device = find(domain, 'ua-1', inactive=True)
        assert device is not None
        self.assertIsNotNone(device.find('address'))
        with self.unchanged(domain), self.refused(99, f"matching MAC address '{MAC}' and alias 'ua-2'"):
            domain.updateDeviceFlags(interface(self.bridge(), 'ua-2'), CONFIG)
        domain.updateDeviceFlags(interface(self.bridge()), CONFIG)
        self.assertEqual([], self.saved(domain))

    def test_an_update_lets_a_second_device_have_the_alias(self) -> None:
        """Nobody checks: and from then on nothing can be attached to, or defined from, this config."""
        domain, path = self.new_guest(running=False), '/b'
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-1'), CONFIG)
        domain.attachDeviceFlags(disk(path, 'sdb'), CONFIG)
        domain.updateDeviceFlags(disk(path, 'sdb', 'ua-1'), CONFIG)
        self.assertEqual(['ua-1', 'ua-1'], self.saved(domain))
        with self.refused(67, 'non unique alias detected: ua-1'):
            domain.attachDeviceFlags(disk('/c', 'sdc', 'ua-3'), CONFIG)
        with self.refused(67, 'non unique alias detected: ua-1'):
            self.connection().defineXML(domain.XMLDesc(INACTIVE | SECURE))
        domain.detachDeviceAlias('ua-1', CONFIG)
        self.assertEqual(['ua-1'], self.saved(domain))

    def test_a_live_alias_stays(self) -> None:
        domain, path = self.new_guest(), self.disk_file('a')
        domain.attachDeviceFlags(disk(path, 'sda', 'ua-1'), BOTH)
        domain.attachDeviceFlags(interface(self.bridge(), 'ua-2'), BOTH)
        with self.unchanged(domain):
            with self.refused(29, 'changing device alias is not allowed'):
                domain.updateDeviceFlags(disk(path, 'sda', 'ua-9'), LIVE)
            with self.refused(99, f"matching MAC address '{MAC}' and alias 'ua-9'"):
                domain.updateDeviceFlags(interface(self.bridge(), 'ua-9'), LIVE)
            with self.refused(29, 'changing device alias is not allowed'):
                domain.updateDeviceFlags(disk(path, 'sda', 'ua-9'), BOTH)

    def test_a_running_guest_that_was_undefined_has_no_config_to_update(self) -> None:
        domain, path = self.new_guest(), self.disk_file('a')
        domain.attachDeviceFlags(disk(path, 'sda'), BOTH)
        domain.undefine()
        with self.unchanged(domain), self.refused(55, 'transient domains do not have any persistent config'):
            domain.updateDeviceFlags(disk(path, 'sda', 'ua-1'), CONFIG)

    def test_update_of_what_is_not_there(self) -> None:
        domain = self.new_guest()
        with self.unchanged(domain):
            with self.refused(8, "target sdq doesn't exist"):
                domain.updateDeviceFlags(disk('/a', 'sdq', 'ua-1'), CONFIG)
            with self.refused(1, "disk 'sdq' not found"):
                domain.updateDeviceFlags(disk(self.disk_file('a'), 'sdq', 'ua-1'), LIVE)
            for flags in (LIVE, CONFIG):
                with self.refused(99, f"matching MAC address '{OTHER_MAC}'"):
                    domain.updateDeviceFlags(interface(self.bridge(), 'ua-1', OTHER_MAC), flags)

    def test_update_of_interfaces_with_one_mac(self) -> None:
        domain = self.new_guest(running=False)
        for number in range(2):
            domain.attachDeviceFlags(interface(self.bridge(), f'ua-{number}'), CONFIG)
        with self.unchanged(domain), self.refused(9, 'multiple devices matching MAC address'):
            domain.updateDeviceFlags(interface(self.bridge()), CONFIG)

    def test_update_of_a_shut_off_guest(self) -> None:
        domain = self.new_guest(running=False)
        with self.refused(55, 'domain is not running'):
            domain.updateDeviceFlags(disk('/a', 'sda'), LIVE)

    def test_host_devices_are_not_updated(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(pci_hostdev('ua-1'), CONFIG)
        with self.unchanged(domain), self.refused(84, "persistent update of device 'hostdev' is not supported"):
            domain.updateDeviceFlags(pci_hostdev('ua-2'), CONFIG)

    def test_define_changes_the_config_of_a_running_guest_only(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-old'), BOTH)
        self.connection().defineXML(edited(domain, 'ua-old', 'ua-new'))
        self.assertEqual((['ua-old'], ['ua-new']), (user_aliases(domain), self.saved(domain)))
        domain.reset(0)
        self.assertEqual(['ua-old'], user_aliases(domain))
        domain.destroy()
        domain.create()
        self.assertEqual(['ua-new'], user_aliases(domain))

    def test_define_drops_what_is_no_alias(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-old'), CONFIG)
        self.connection().defineXML(edited(domain, 'ua-old', 'ua-n e w'))
        self.assertEqual([], self.saved(domain))

    def test_define_refuses(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-1'), CONFIG)
        domain.attachDeviceFlags(disk('/b', 'sdb', 'ua-2'), CONFIG)
        another = edited(domain, domain.UUIDString(), str(uuid.uuid4()))
        for code, text, xml in (
            (67, 'non unique alias detected: ua-1', edited(domain, 'ua-2', 'ua-1')),
            (27, "target 'sda' duplicated for disk sources '/a' and '/b'", _at(domain, 'sdb', 'sda')),
            (9, f"domain '{domain.name()}' already exists with uuid {domain.UUIDString()}", another),
            # libvirt 9.0 begins with '(domain_definition):1:', 11.3 with 'at line 1:'
            (35, 'end of Start Tag domain', '<domain'),
        ):
            with self.unchanged(domain), self.refused(code, text):
                self.connection().defineXML(xml)

    def test_a_password_is_dumped_only_if_asked_for_and_lost_if_not(self) -> None:
        domain = self.new_guest(devices=PASSWORD)
        found = ['secret' in domain.XMLDesc(flags) for flags in (0, INACTIVE, SECURE, INACTIVE | SECURE)]
        self.assertEqual([False, False, True, True], found)
        self.connection().defineXML(domain.XMLDesc(INACTIVE | SECURE))
        self.assertIn('secret', domain.XMLDesc(INACTIVE | SECURE))
        self.connection().defineXML(domain.XMLDesc(INACTIVE))
        self.assertNotIn('secret', domain.XMLDesc(INACTIVE | SECURE))

    def test_a_running_guest_gains_aliases_by_save_and_restore(self) -> None:
        domain, events, path = self.new_guest(), self.events(), self.save_path()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda'), LIVE)
        domain.attachDeviceFlags(interface(self.bridge()), LIVE)
        self.assertEqual([], user_aliases(domain))
        domain.save(path)
        image = etree.fromstring(self.connection().saveImageGetXMLDesc(path, SECURE))
        for kind in ('disk', 'interface'):
            device = image.find(f'devices/{kind}')
            assert device is not None
            for alias in device.findall('alias'):
                device.remove(alias)
            etree.SubElement(device, 'alias', name=f'ua-{kind}')
        self.connection().restoreFlags(path, etree.tostring(image, encoding='unicode'), 0)
        self.assertEqual(['ua-disk', 'ua-interface'], user_aliases(domain))
        domain.detachDeviceAlias('ua-disk', LIVE)
        self.assertTrue(events.wait(domain, 'removed', 'ua-disk'), events.seen)

    def test_a_paused_guest_is_paused_after_save_and_restore(self) -> None:
        domain, path = self.new_guest(), self.save_path()
        domain.suspend()
        domain.save(path)
        self.connection().restoreFlags(path, None, 0)
        self.assertEqual(libvirt.VIR_DOMAIN_PAUSED, domain.state()[0])
        domain.resume()
        domain.save(path)
        self.connection().restoreFlags(path, None, 0)
        self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, domain.state()[0])

    def test_restore_refuses_duplicates(self) -> None:
        domain, path = self.new_guest(), self.save_path()
        for target in ('sda', 'sdb'):
            domain.attachDeviceFlags(disk(self.disk_file(target), target, f'ua-{target}'), LIVE)
        domain.save(path)
        image = self.connection().saveImageGetXMLDesc(path, SECURE).replace('ua-sdb', 'ua-sda')
        with self.refused(67, 'non unique alias detected: ua-sda'):
            self.connection().restoreFlags(path, image, 0)
        self.connection().restore(path)
        self.assertEqual(['ua-sda', 'ua-sdb'], user_aliases(domain))


def _at(domain: Any, old: str, new: str) -> str:
    """The definition with a disk moved to another target, and without addresses that would tell."""
    tree = etree.fromstring(domain.XMLDesc(INACTIVE | SECURE))
    for device in tree.iterfind('devices/disk'):
        for address in device.findall('address'):
            device.remove(address)
        target = device.find('target')
        assert target is not None
        if target.get('dev') == old:
            target.set('dev', new)
    return etree.tostring(tree, encoding='unicode')
