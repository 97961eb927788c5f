# SPDX-License-Identifier: Apache-2.0
"""What detachDeviceAlias and detachDeviceFlags do, and how a device's end is learned of."""

import time

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract.hypervisor import BOTH
from aliasagent.tests.contract.hypervisor import CONFIG
from aliasagent.tests.contract.hypervisor import CURRENT
from aliasagent.tests.contract.hypervisor import LIVE
from aliasagent.tests.contract.hypervisor import MAC
from aliasagent.tests.contract.hypervisor import OTHER_MAC
from aliasagent.tests.contract.hypervisor import disk
from aliasagent.tests.contract.hypervisor import find
from aliasagent.tests.contract.hypervisor import interface
from aliasagent.tests.contract.hypervisor import user_aliases


class DetachContract(hypervisor.HypervisorContract):
    def test_detach_is_told_by_an_event_with_the_alias(self) -> None:
        domain, events = self.clean_guest(), self.events()
        for alias, xml in self.one_of_each().items():
            domain.attachDeviceFlags(xml, BOTH)
            domain.detachDeviceAlias(alias, CONFIG)
            self.assertEqual([], user_aliases(domain, inactive=True))
            self.assertEqual([alias], user_aliases(domain))
            domain.detachDeviceAlias(alias, LIVE)
            self.assertTrue(events.wait(domain, 'removed', alias), events.seen)
            self.assertEqual([], user_aliases(domain))

    def test_both_sides_in_one_call(self) -> None:
        domain, events = self.clean_guest(), self.events()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio'), BOTH)
        domain.detachDeviceAlias('ua-1', BOTH)
        self.assertEqual([], user_aliases(domain, inactive=True))
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'), events.seen)

    def test_an_unknown_alias_is_an_internal_error(self) -> None:
        domain = self.new_guest()
        for flags in (LIVE, CONFIG, BOTH, CURRENT):
            with self.unchanged(domain), self.refused(1, 'no device found with alias ua-1', libvirt.VIR_FROM_DOMAIN):
                domain.detachDeviceAlias('ua-1', flags)

    def test_the_config_is_looked_at_first(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-live'), LIVE)
        domain.attachDeviceFlags(disk(self.disk_file('b'), 'sdb', 'ua-saved'), CONFIG)
        for alias in ('ua-live', 'ua-saved'):
            with self.unchanged(domain), self.refused(1, f'no device found with alias {alias}'):
                domain.detachDeviceAlias(alias, BOTH)

    def test_of_interfaces_with_one_mac_the_right_one_goes(self) -> None:
        domain, events = self.clean_guest(), self.events()
        for number in range(4):
            domain.attachDeviceFlags(interface(self.bridge(), f'ua-{number}', MAC), BOTH)
        for flags in (LIVE, CONFIG, BOTH):
            with self.refused(9, f'multiple devices matching MAC address {MAC} found'):
                domain.detachDeviceFlags(interface(self.bridge(), mac=MAC), flags)
        for alias, left in (('ua-2', ['ua-0', 'ua-1', 'ua-3']), ('ua-0', ['ua-1', 'ua-3'])):
            device = find(domain, alias)
            assert device is not None
            domain.detachDeviceAlias(alias, BOTH)
            self.assertTrue(events.wait(domain, 'removed', alias), events.seen)
            self.assertEqual(left, user_aliases(domain))
            self.assertEqual(left, user_aliases(domain, inactive=True))

    def test_a_driver_alias_is_good_for_a_running_guest_only(self) -> None:
        domain, events = self.clean_guest(), self.events()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'vda', bus='virtio'), BOTH)
        domain.attachDeviceFlags(interface(self.bridge()), BOTH)
        for alias in ('virtio-disk0', 'net0'):
            for flags in (CONFIG, BOTH):
                with self.refused(1, f'no device found with alias {alias}'):
                    domain.detachDeviceAlias(alias, flags)
            domain.detachDeviceAlias(alias, LIVE)
            self.assertTrue(events.wait(domain, 'removed', alias), events.seen)
        domain.detachDeviceFlags(disk('/', 'vda', bus='virtio'), CONFIG)
        domain.detachDeviceFlags(interface(self.bridge()), CONFIG)

    def test_detach_by_xml_takes_the_disk_at_the_target_whatever_its_alias(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('y'), 'sda', 'ua-y'), BOTH)
        domain.detachDeviceFlags(disk(self.disk_file('x'), 'sda', 'ua-x'), BOTH)
        self.assertEqual([], self.soon(lambda: user_aliases(domain), lambda left: not left))
        self.assertEqual([], user_aliases(domain, inactive=True))

    def test_detach_by_xml_of_what_is_not_there(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(interface(self.bridge(), 'ua-1', MAC), BOTH)
        with self.unchanged(domain):
            with self.refused(99, 'disk sdz not found', libvirt.VIR_FROM_QEMU):
                domain.detachDeviceFlags(disk('/a', 'sdz'), LIVE)
            with self.refused(99, 'no target device sdz', libvirt.VIR_FROM_QEMU):
                domain.detachDeviceFlags(disk('/a', 'sdz'), CONFIG)
            for flags in (LIVE, CONFIG):
                with self.refused(99, f"matching MAC address '{OTHER_MAC}' and alias '(<null>)'"):
                    domain.detachDeviceFlags(interface(self.bridge(), mac=OTHER_MAC), flags)
                with self.refused(99, f"matching MAC address '{MAC}' and alias 'ua-2'"):
                    domain.detachDeviceFlags(interface(self.bridge(), 'ua-2', MAC), flags)

    def test_a_guest_that_does_not_answer(self) -> None:
        domain, events = self.new_guest(), self.events()
        xml = disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio')
        domain.attachDeviceFlags(xml, BOTH)
        domain.detachDeviceAlias('ua-1', BOTH)
        self.assertEqual([], user_aliases(domain, inactive=True))
        with self.refused(1, 'no device found with alias ua-1'):
            domain.detachDeviceAlias('ua-1', BOTH)
        with self.refused(67, 'non unique alias detected: ua-1'):
            domain.attachDeviceFlags(xml, LIVE)
        domain.detachDeviceAlias('ua-1', LIVE)
        time.sleep(0.3)
        self.assertEqual(['ua-1'], user_aliases(domain))
        self.assertEqual([], events.of(domain, 'removed'))
        domain.reset(0)
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'), events.seen)
        self.assertTrue(events.wait(domain, 'reboot'), events.seen)
        self.assertEqual([], user_aliases(domain))

    def test_a_stop_ends_it_without_an_event(self) -> None:
        domain, events = self.new_guest(), self.events()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio'), LIVE)
        domain.detachDeviceAlias('ua-1', LIVE)
        domain.destroy()
        self.assertTrue(events.wait(domain, 'lifecycle', libvirt.VIR_DOMAIN_EVENT_STOPPED), events.seen)
        self.assertEqual([], events.of(domain, 'removed'))

    def test_a_scsi_disk_needs_no_answer(self) -> None:
        domain, events = self.new_guest(), self.events()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), BOTH)
        domain.detachDeviceAlias('ua-1', BOTH)
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'), events.seen)

    def test_a_paused_guest_answers_when_it_runs_again(self) -> None:
        domain, events = self.clean_guest(), self.events()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio'), LIVE)
        domain.suspend()
        domain.detachDeviceAlias('ua-1', LIVE)
        time.sleep(0.3)
        self.assertEqual(['ua-1'], user_aliases(domain))
        domain.resume()
        self.assertTrue(events.wait(domain, 'removed', 'ua-1'), events.seen)

    def test_sides_that_are_not_there(self) -> None:
        stopped, transient = self.new_guest(running=False), self.new_guest(persistent=False)
        for flags in (LIVE, BOTH):
            with self.refused(55, 'domain is not running'):
                stopped.detachDeviceAlias('ua-1', flags)
            with self.refused(55, 'domain is not running'):
                stopped.detachDeviceFlags(disk('/a', 'sda'), flags)
        for flags in (CONFIG, BOTH):
            with self.refused(55, 'transient domains do not have any persistent config'):
                transient.detachDeviceAlias('ua-1', flags)

    def test_kinds_that_cannot_be_detached(self) -> None:
        xml = (
            "<sound model='ich6'><alias name='ua-sound'/></sound><audio id='1' type='none'/>"
            "<video><model type='vga'/><alias name='ua-video'/></video>"
            "<input type='keyboard' bus='ps2'><alias name='ua-input'/></input>"
        )
        domain = self.new_guest(devices=xml, root_ports=8)
        for alias, text in (
            ('ua-sound', "live detach of device 'sound' is not supported"),
            ('ua-video', "live detach of device 'video' is not supported"),
            ('ua-input', "input device on bus 'ps2' cannot be detached"),
            ('pci.1', "'pci' controller cannot be hot unplugged"),
        ):
            with self.refused(84, text, libvirt.VIR_FROM_QEMU):
                domain.detachDeviceAlias(alias, LIVE)
        with self.refused(84, "persistent detach of device 'video' is not supported"):
            domain.detachDeviceAlias('ua-video', CONFIG)
        domain.detachDeviceAlias('ua-sound', CONFIG)
        self.assertNotIn('ua-sound', user_aliases(domain, inactive=True))

    def test_a_controller_in_use_stays(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), LIVE)
        with self.refused(9, 'device is busy', libvirt.VIR_FROM_QEMU):
            domain.detachDeviceAlias('scsi0', LIVE)
