# SPDX-License-Identifier: Apache-2.0
"""What attachDeviceFlags does with aliases, addresses and whatever stands in the way."""

from typing import Any

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.contract.hypervisor import BOTH
from aliasagent.tests.contract.hypervisor import CONFIG
from aliasagent.tests.contract.hypervisor import CURRENT
from aliasagent.tests.contract.hypervisor import LIVE
from aliasagent.tests.contract.hypervisor import MAC
from aliasagent.tests.contract.hypervisor import MISSING_BRIDGE
from aliasagent.tests.contract.hypervisor import MISSING_FILE
from aliasagent.tests.contract.hypervisor import disk
from aliasagent.tests.contract.hypervisor import find
from aliasagent.tests.contract.hypervisor import interface
from aliasagent.tests.contract.hypervisor import mdev
from aliasagent.tests.contract.hypervisor import pci_hostdev
from aliasagent.tests.contract.hypervisor import scsi_hostdev
from aliasagent.tests.contract.hypervisor import tap
from aliasagent.tests.contract.hypervisor import user_aliases


class AttachContract(hypervisor.HypervisorContract):
    def test_attach_keeps_the_alias_on_both_sides_and_tells(self) -> None:
        domain, events = self.clean_guest(), self.events()
        for alias, xml in self.one_of_each().items():
            domain.attachDeviceFlags(xml, BOTH)
            self.assertTrue(events.wait(domain, 'added', alias), events.seen)
        self.assertEqual(['ua-net', 'ua-rng', 'ua-scsi', 'ua-virtio'], user_aliases(domain))
        self.assertEqual(['ua-net', 'ua-rng', 'ua-scsi', 'ua-virtio'], user_aliases(domain, inactive=True))

    def test_an_alias_that_is_none_is_dropped_without_a_word(self) -> None:
        domain = self.new_guest()
        for number, alias in enumerate(('ua-b d', 'volume-1', 'ua-a.b', 'UA-x', 'ua-\xfc')):
            target = f'sd{"abcde"[number]}'
            domain.attachDeviceFlags(disk(self.disk_file(target), target, alias), BOTH)
            self.assertIsNotNone(find(domain, f'scsi0-0-0-{number}'), alias)
        self.assertEqual([], user_aliases(domain))
        self.assertEqual([], user_aliases(domain, inactive=True))
        domain.attachDeviceFlags(disk(self.disk_file('vda'), 'vda', 'x', bus='virtio'), LIVE)
        self.assertIsNotNone(find(domain, 'virtio-disk0'))
        domain.attachDeviceFlags(interface(self.bridge(), 'y'), LIVE)
        self.assertIsNotNone(find(domain, 'net0'))

    def test_any_length_of_alias_is_kept(self) -> None:
        domain = self.new_guest(running=False)
        long = f'ua-{"x" * 1021}'
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-'), CONFIG)
        domain.attachDeviceFlags(disk('/b', 'sdb', long), CONFIG)
        self.assertEqual(['ua-', long], user_aliases(domain, inactive=True))

    def test_a_second_device_with_the_alias_is_refused(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), BOTH)
        for xml in (disk(self.disk_file('b'), 'sdb', 'ua-1'), interface(self.bridge(), 'ua-1')):
            for flags in (LIVE, CONFIG, BOTH):
                with self.unchanged(domain), self.refused(67, 'non unique alias detected: ua-1'):
                    domain.attachDeviceFlags(xml, flags)

    def test_a_second_disk_at_the_target_is_refused(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), BOTH)
        taken = disk(self.disk_file('b'), 'sda', 'ua-2')
        with self.unchanged(domain):
            with self.refused(27, "target 'sda' duplicated for disk sources"):
                domain.attachDeviceFlags(taken, LIVE)
            for flags in (CONFIG, BOTH):
                with self.refused(55, 'target sda already exists', libvirt.VIR_FROM_QEMU):
                    domain.attachDeviceFlags(taken, flags)

    def test_present_in_the_config_alone_is_no_way_to_both(self) -> None:
        domain = self.new_guest()
        xml = disk(self.disk_file('a'), 'sda', 'ua-1')
        domain.attachDeviceFlags(xml, CONFIG)
        with self.unchanged(domain), self.refused(67, 'non unique alias detected'):
            domain.attachDeviceFlags(xml, BOTH)
        domain.attachDeviceFlags(xml, LIVE)
        self.assertEqual(['ua-1'], user_aliases(domain))

    def test_a_source_must_be_there_for_a_running_guest_only(self) -> None:
        domain = self.new_guest()
        for bus, target in (('scsi', 'sda'), ('virtio', 'vda')):
            xml = disk(MISSING_FILE, target, f'ua-{bus}', bus=bus)
            for flags in (LIVE, BOTH):
                with self.unchanged(domain), self.refused(38, 'Cannot access storage file', libvirt.VIR_FROM_STORAGE):
                    domain.attachDeviceFlags(xml, flags)
            domain.attachDeviceFlags(xml, CONFIG)
        block = disk('/dev/aliasagent-no-such', 'sdb', 'ua-block', kind='block')
        with self.unchanged(domain), self.refused(38, "Cannot access storage file '/dev/aliasagent-no-such'"):
            domain.attachDeviceFlags(block, LIVE)

    def test_a_bridge_must_be_there_for_a_running_guest_only(self) -> None:
        domain = self.new_guest()
        xml = interface(MISSING_BRIDGE, 'ua-net')
        for flags in (LIVE, BOTH):
            with self.unchanged(domain), self.refused(38, f"Cannot get interface MTU on '{MISSING_BRIDGE}'"):
                domain.attachDeviceFlags(xml, flags)
        domain.attachDeviceFlags(xml, CONFIG)
        self.assertEqual(['ua-net'], user_aliases(domain, inactive=True))

    def test_a_lun_with_a_serial_is_refused(self) -> None:
        domain = self.new_guest()
        lun = disk('/dev/aliasagent-no-such', 'sda', 'ua-lun', device='lun', kind='block', serial='abc')
        for flags in (LIVE, CONFIG, BOTH):
            with self.unchanged(domain), self.refused(67, "'lun' devices do not support the serial property"):
                domain.attachDeviceFlags(lun, flags)
        domain.attachDeviceFlags(disk('/dev/x', 'sda', 'ua-lun', device='lun', kind='block'), CONFIG)
        self.assertEqual(['ua-lun'], user_aliases(domain, inactive=True))

    def test_root_ports_run_out_for_a_running_guest_only(self) -> None:
        domain = self.new_guest(root_ports=1)
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'vda', 'ua-1', bus='virtio'), BOTH)
        more = (disk(self.disk_file('b'), 'vdb', 'ua-2', bus='virtio'), interface(self.bridge(), 'ua-3'))
        for xml in more:
            for flags in (LIVE, BOTH):
                with self.unchanged(domain), self.refused(1, 'No more available PCI slots'):
                    domain.attachDeviceFlags(xml, flags)
        for xml in more:
            domain.attachDeviceFlags(xml, CONFIG)
        self.assertEqual(['ua-1', 'ua-2', 'ua-3'], user_aliases(domain, inactive=True))
        domain.attachDeviceFlags(disk(self.disk_file('c'), 'sda', 'ua-4'), BOTH)

    def test_a_shut_off_guest_has_a_config_only(self) -> None:
        domain = self.new_guest(running=False)
        xml = disk('/a', 'sda', 'ua-1')
        for flags in (LIVE, BOTH):
            with self.unchanged(domain), self.refused(55, 'domain is not running'):
                domain.attachDeviceFlags(xml, flags)
        domain.attachDeviceFlags(xml, CURRENT)
        self.assertEqual(['ua-1'], user_aliases(domain, inactive=True))

    def test_a_transient_guest_has_no_config(self) -> None:
        domain = self.new_guest(persistent=False)
        xml = disk(self.disk_file('a'), 'sda', 'ua-1')
        for flags in (CONFIG, BOTH):
            with self.refused(55, 'transient domains do not have any persistent config'):
                domain.attachDeviceFlags(xml, flags)
        domain.attachDeviceFlags(xml, CURRENT)
        self.assertEqual(['ua-1'], user_aliases(domain))

    def test_current_is_the_running_one_if_there_is_one(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), CURRENT)
        self.assertEqual(['ua-1'], user_aliases(domain))
        self.assertEqual([], user_aliases(domain, inactive=True))

    def test_a_paused_guest_takes_devices(self) -> None:
        domain = self.new_guest()
        domain.suspend()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1'), BOTH)
        self.assertEqual(['ua-1'], user_aliases(domain))

    def test_kinds_that_cannot_be_attached(self) -> None:
        domain = self.new_guest()
        with self.unchanged(domain):
            for xml, kind in (("<sound model='ich6'/>", 'sound'), ("<graphics type='vnc'/>", 'graphics')):
                with self.refused(84, f"live attach of device '{kind}' is not supported", libvirt.VIR_FROM_QEMU):
                    domain.attachDeviceFlags(xml, LIVE)
            with self.refused(84, "persistent attach of device 'graphics' is not supported"):
                domain.attachDeviceFlags("<graphics type='vnc'/>", CONFIG)
            # libvirt 9.0 leaves it to QEMU (code 1), 11.3 knows better (84)
            with self.refused((1, 84), 'hotplug'):
                domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-1', bus='sata'), LIVE)

    def test_xml_that_is_no_device(self) -> None:
        domain = self.new_guest()
        for code, text, xml in (
            # libvirt 9.0 begins with '(device_definition):1:', 11.3 with 'at line 1:'
            (35, 'end of Start Tag disk', '<disk'),
            (67, "unknown device type 'foo'", '<foo/>'),
            (27, 'unable to parse mac address', interface(self.bridge(), mac='zz')),
            (20, 'missing target information', "<disk type='file'><source file='/x'/></disk>"),
        ):
            for flags in (LIVE, CONFIG, BOTH):
                with self.unchanged(domain), self.refused(code, text):
                    domain.attachDeviceFlags(xml, flags)

    def test_an_interface_gets_a_mac_and_a_tap(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(interface(self.bridge(), 'ua-net', mac=None), BOTH)
        live, saved = find(domain, 'ua-net'), find(domain, 'ua-net', inactive=True)
        assert live is not None and saved is not None
        taps = [target.get('dev', '')[:4] for target in live.iterfind('target')]
        self.assertEqual(['vnet'], taps)
        self.assertEqual([], saved.findall('target'))
        for device in (live, saved):
            self.assertEqual([17], [len(mac.get('address', '')) for mac in device.iterfind('mac')])
            self.assertEqual(['pci'], [address.get('type') for address in device.iterfind('address')])

    def test_a_disk_gets_its_address_from_its_target(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('a'), 'sdc', 'ua-1'), BOTH)
        for inactive in (False, True):
            device = find(domain, 'ua-1', inactive)
            assert device is not None
            self.assertEqual(['2'], [address.get('unit') for address in device.iterfind('address')])
        live, saved = find(domain, 'ua-1'), find(domain, 'ua-1', inactive=True)
        assert live is not None and saved is not None
        self.assertEqual((1, 0), (len(live.findall('backingStore')), len(saved.findall('backingStore'))))

    def unit_of(self, domain: Any, alias: str) -> str | None:
        device = find(domain, alias, inactive=True)
        assert device is not None
        (address,) = device.iterfind('address')
        self.assertEqual(['drive', '0'], [address.get('type'), address.get('controller')])
        return address.get('unit')

    def test_a_scsi_disk_is_not_given_the_place_of_another_device(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(scsi_hostdev('ua-host'), CONFIG)
        self.assertEqual('0', self.unit_of(domain, 'ua-host'))
        conflict = "using disk target name 'sda' conflicts with SCSI host device address controller='0' bus='0'"
        with self.unchanged(domain):
            with self.refused(67, conflict, libvirt.VIR_FROM_DOMAIN):
                domain.attachDeviceFlags(disk('/a', 'sda', 'ua-a'), CONFIG)
            with self.refused(55, 'already contains a disk with that address', libvirt.VIR_FROM_QEMU):
                domain.attachDeviceFlags(disk('/b', 'sdb', 'ua-b', unit=0), CONFIG)
        domain.attachDeviceFlags(disk('/b', 'sdb', 'ua-b'), CONFIG)
        domain.attachDeviceFlags(disk('/z', 'sdz', 'ua-z', unit=2), CONFIG)
        with self.unchanged(domain):
            with self.refused(55, 'already contains a disk with that address'):
                domain.attachDeviceFlags(disk('/c', 'sdc', 'ua-c'), CONFIG)
            with self.refused(27, 'in use by a SCSI disk', libvirt.VIR_FROM_DOMAIN):
                domain.attachDeviceFlags(scsi_hostdev(lun=1, unit=2), CONFIG)
        domain.attachDeviceFlags(scsi_hostdev('ua-more', lun=1), CONFIG)
        self.assertEqual(['1', '2', '3'], [self.unit_of(domain, f'ua-{name}') for name in ('b', 'z', 'more')])
        domain.attachDeviceFlags(disk('/a', 'sda', 'ua-a', bus='sata'), CONFIG)  # another bus, other places

    def test_a_running_guests_scsi_disk_is_not_given_the_place_of_another(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('c'), 'sdc', 'ua-c', unit=0), BOTH)
        for flags in (LIVE, CONFIG, BOTH):
            with self.unchanged(domain), self.refused(55, 'already contains a disk with that address'):
                domain.attachDeviceFlags(disk(self.disk_file('a'), 'sda', 'ua-a'), flags)

    def test_two_sata_disks_in_one_place_are_not_defined_and_not_always_refused_before(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(disk('/c', 'sdc', 'ua-c', bus='sata', unit=0), CONFIG)
        duplicate = 'Found duplicate drive address for disk with target name'
        try:
            # libvirt 9.0 takes it, 11.3 refuses it here already
            domain.attachDeviceFlags(disk('/a', 'sda', 'ua-a', bus='sata'), CONFIG)
        except libvirt.libvirtError as error:
            self.assertEqual(67, error.get_error_code())
            self.assertIn(duplicate, error.get_error_message())
            self.assertEqual({'ua-c'}, set(user_aliases(domain, inactive=True)))
            return
        self.assertEqual(['0', '0'], [self.unit_of(domain, f'ua-{name}') for name in 'ac'])
        with self.unchanged(domain), self.refused(67, duplicate):
            self.connection().defineXML(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def test_a_guest_is_not_defined_with_two_devices_in_one_place(self) -> None:
        host, a, b = scsi_hostdev(unit=0), disk('/a', 'sda'), disk('/b', 'sdb', unit=0)
        for code, words, devices in (
            (67, "using disk target name 'sda' conflicts with SCSI host device", host + a),
            (67, "Found duplicate drive address for disk with target name 'sda'", a + b),
            (27, 'in use by a SCSI disk', host + b),
            (67, 'in use by another SCSI host device', host + scsi_hostdev(lun=1, unit=0)),
        ):
            with self.refused(code, words, libvirt.VIR_FROM_DOMAIN):
                self.new_guest(running=False, devices=devices)
        self.new_guest(running=False, devices=scsi_hostdev() + a)

    def scsi_controllers(self, domain: Any, inactive: bool = False) -> list[str | None]:
        devices = hypervisor.devices(domain, inactive)
        found = [device for device in devices if (device.tag, device.get('type')) == ('controller', 'scsi')]
        return [device.get('model') for device in sorted(found, key=lambda device: device.get('index', ''))]

    def test_the_eighth_scsi_disk_brings_a_controller_of_another_model_on_each_side(self) -> None:
        domain = self.new_guest()
        domain.attachDeviceFlags(disk(self.disk_file('h'), 'sdh', 'ua-h'), BOTH)
        self.assertEqual(['virtio-scsi', 'virtio-scsi'], self.scsi_controllers(domain))
        self.assertEqual(['virtio-scsi', 'lsilogic'], self.scsi_controllers(domain, inactive=True))
        bridges = [device for device in hypervisor.devices(domain, True) if device.get('model') == 'pcie-to-pci-bridge']
        self.assertEqual(1, len(bridges))
        for inactive in (False, True):
            device = find(domain, 'ua-h', inactive)
            assert device is not None
            places = [(address.get('controller'), address.get('unit')) for address in device.iterfind('address')]
            self.assertEqual([('1', '0')], places)

    def test_a_disk_that_names_its_unit_brings_none(self) -> None:
        domain = self.new_guest()
        for name, unit in (('sdh', 7), ('sdi', 255)):
            domain.attachDeviceFlags(disk(self.disk_file(name), name, f'ua-{name}', unit=unit), BOTH)
            self.assertEqual(str(unit), self.unit_of(domain, f'ua-{name}'))
        for inactive in (False, True):
            self.assertEqual(['virtio-scsi'], self.scsi_controllers(domain, inactive))

    def test_the_eighth_scsi_host_device_brings_a_controller_too(self) -> None:
        domain = self.new_guest(running=False)
        for lun in range(8):
            domain.attachDeviceFlags(scsi_hostdev(f'ua-{lun}', lun=lun), CONFIG)
        self.assertEqual(['virtio-scsi', 'virtio-scsi'], self.scsi_controllers(domain, inactive=True))

    def test_a_tap_that_others_made_is_taken_only_if_they_keep_it(self) -> None:
        domain, name = self.new_guest(), self.tap()
        with self.unchanged(domain), self.refused(55, 'interface already exists', libvirt.VIR_FROM_NONE):
            domain.attachDeviceFlags(tap(name, 'ua-1'), BOTH)
        domain.attachDeviceFlags(tap(name, 'ua-1', managed='no'), BOTH)
        for inactive in (False, True):
            device = find(domain, 'ua-1', inactive)
            assert device is not None
            self.assertEqual([(name, 'no')], [(it.get('dev'), it.get('managed')) for it in device.iterfind('target')])

    def test_a_tap_that_others_are_to_keep_must_be_there(self) -> None:
        domain = self.new_guest()
        missing = "managed='no' but specified dev doesn't exist"
        with self.unchanged(domain), self.refused(1, missing):
            domain.attachDeviceFlags(tap('aa-no-tap', 'ua-1', managed='no'), BOTH)
        domain.attachDeviceFlags(tap('aa-tap', 'ua-1'), BOTH)
        device = find(domain, 'ua-1')
        assert device is not None
        self.assertEqual([('aa-tap', None)], [(it.get('dev'), it.get('managed')) for it in device.iterfind('target')])

    def test_interfaces_may_share_a_mac(self) -> None:
        domain = self.new_guest()
        for number in range(3):
            domain.attachDeviceFlags(interface(self.bridge(), f'ua-{number}', MAC), BOTH)
        self.assertEqual(['ua-0', 'ua-1', 'ua-2'], user_aliases(domain))

    def test_host_devices_in_a_config(self) -> None:
        domain = self.new_guest(running=False)
        domain.attachDeviceFlags(pci_hostdev('ua-pci'), CONFIG)
        domain.attachDeviceFlags(mdev('ua-mdev'), CONFIG)
        with self.refused(55, 'device is already in the domain configuration'):
            domain.attachDeviceFlags(pci_hostdev('ua-again'), CONFIG)
        self.assertEqual(['ua-mdev', 'ua-pci'], user_aliases(domain, inactive=True))
        for alias in ('ua-pci', 'ua-mdev'):
            domain.detachDeviceAlias(alias, CONFIG)
        self.assertEqual([], user_aliases(domain, inactive=True))
