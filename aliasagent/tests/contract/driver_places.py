# SPDX-License-Identifier: Apache-2.0
"""The contract of where a device goes: which place of a controller, which tap, which VLAN."""

from typing import Any

from aliasagent import exception
from aliasagent.tests import cases
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import requests
from aliasagent.virt.guest import Side


class PlacesContract(harness.DriverCase):
    def places(self, guest: str, alias: str) -> list[tuple[str | None, str | None]]:
        """Controller and unit of a device, on each side that the guest has."""
        read = self.host.guest(guest).definitions()
        found = []
        for _side, domain in read.sides():
            (device,) = domain.by_alias(alias)
            address = device.element.find('address')
            assert address is not None
            found.append((address.get('controller'), address.get('unit')))
        return found

    def controllers(self, guest: str) -> list[list[str | None]]:
        """The models of the SCSI controllers on each side."""
        read = self.host.guest(guest).definitions()
        return [
            [
                found.element.get('model')
                for found in domain.devices()
                if (found.kind, found.element.get('type')) == ('controller', 'scsi')
            ]
            for _side, domain in read.sides()
        ]

    def eight(self, guest: str) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = cases.read('B01-eight-scsi-disks')
        for request in given:
            request['connection_info']['data']['device_path'] = self.hypervisor.new_file()
            self.driver.attach(guest, requests.volume(**request))
        return given

    def test_eight_scsi_disks_are_on_the_guests_own_controller(self) -> None:
        for state in ('started', 'shut off'):
            guest = self.hypervisor.new_guest(state=state)
            before = self.controllers(guest)
            given = self.eight(guest)
            for number, request in enumerate(given):
                alias = f'ua-{request["volume_id"]}'
                self.assertEqual({('0', str(number))}, set(self.places(guest, alias)))
            self.assertEqual(before, self.controllers(guest))
            texts = self.xml(guest)
            for request in given:
                self.driver.attach(guest, requests.volume(**request))
            self.assert_untouched(guest, texts)

    def test_a_name_beyond_the_seventh_does_not_lead_to_another_controller(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        before = self.controllers(guest)
        for name, unit in (('/dev/sdz', '7'), ('sdh', '8'), ('sdb', '1')):
            volume = self.attach(guest, device_name=name)
            self.assertEqual([('0', unit)] * 2, self.places(guest, f'ua-{volume}'))
        self.assertEqual(before, self.controllers(guest))

    def test_a_place_that_one_side_only_has_taken_is_not_chosen(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        for unit, side in ((0, Side.LIVE), (7, Side.PERSISTENT)):
            place = f"<address type='drive' controller='0' bus='0' target='0' unit='{unit}'/>"
            xml = harness.disk_xml(self.hypervisor.new_file(), f'sdx{"ab"[unit % 2]}')
            self.host.guest(guest).attach(xml.replace('</disk>', f'{place}</disk>'), side)
        self.assertEqual([('0', '8')] * 2, self.places(guest, f'ua-{self.attach(guest, device_name="sda")}'))

    def test_host_devices_of_scsi_stay_on_the_guests_own_controller(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        before = self.controllers(guest)
        self.attach(guest, device_name='sdb')
        for number, unit in enumerate((0, 2, 3, 4, 5, 6, 7, 8)):
            device = harness.new_id()
            request = {'type': 'scsi', 'adapter': 'scsi_host0', 'bus': 0, 'target': 0, 'unit': number}
            self.driver.attach(guest, requests.hostdev(device, request))
            self.assertEqual([('0', str(unit))], self.places(guest, f'ua-{device}'))
        self.assertEqual(before, self.controllers(guest))

    def test_the_place_is_that_of_the_other_side(self) -> None:
        for side in (Side.LIVE, Side.PERSISTENT):
            guest, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
            path = self.hypervisor.new_file()
            place = "<address type='drive' controller='0' bus='0' target='0' unit='77'/>"
            xml = harness.disk_xml(path, 'sdc', serial=volume, alias=f'ua-{volume}')
            self.host.guest(guest).attach(xml.replace('</disk>', f'{place}</disk>'), side)
            self.driver.attach(guest, requests.volume(volume, harness.file_connection(path)))
            self.assertEqual([('0', '77')] * 2, self.places(guest, f'ua-{volume}'))

    def test_a_guest_without_a_controller_is_told_what_helps(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        self.host.guest(guest).detach_persistent_xml("<controller type='scsi' index='0' model='virtio-scsi'/>")
        before = self.xml(guest)
        error = self.assertRaises(exception.AttachFailed, self.attach, guest)
        for words in ('no SCSI controller with room', 'attach it to bus virtio', 'virtio-scsi'):
            self.assertIn(words, str(error))
        self.assert_untouched(guest, before)

    # Taps

    def tap_port(self, name: str) -> dict[str, Any]:
        return {**cases.read('B02-port-tap-made-before'), 'id': harness.new_id(), 'devname': name}

    def managed(self, guest: str, port: str) -> list[str | None]:
        found = []
        for _side, domain in self.host.guest(guest).definitions().sides():
            (device,) = domain.by_alias(f'ua-{port}')
            found += [target.get('managed') for target in device.element.iterfind('target')]
        return found

    def test_a_tap_that_was_made_before_is_used_and_stays(self) -> None:
        guest, name = self.hypervisor.new_guest(), self.hypervisor.new_tap()
        port = self.tap_port(name)
        self.driver.attach(guest, requests.interface(port))
        self.assertEqual(['no', 'no'], self.managed(guest, port['id']))
        before = self.xml(guest)
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)
        self.detach(guest, port['id'])
        self.assertTrue(self.hypervisor.has_tap(name))

    def test_a_tap_that_is_not_there_is_made_by_libvirt(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        port = self.tap_port(f'tap{harness.new_id()[:11]}')
        self.driver.attach(guest, requests.interface(port))
        self.assertEqual([None, None], self.managed(guest, port['id']))
        before = self.xml(guest)
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)

    # VLANs

    def vlan(self, guest: str, **more: Any) -> list[str | None]:
        """The tags of a new port in the saved definition."""
        port = {**cases.read('B04-port-ovs-without-vlan'), 'id': harness.new_id(), **more}
        self.driver.attach(guest, requests.interface(port))
        (device,) = self.persistent(guest).by_alias(f'ua-{port["id"]}')
        return [tag.get('id') for tag in device.element.iterfind('vlan/tag')]

    def test_a_port_of_open_vswitch_reaches_nothing_until_it_is_tagged(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        self.assertEqual(['4095'], self.vlan(guest))
        self.assertEqual(['4095'], self.vlan(guest, vlan=4095))
        self.assertEqual(['7'], self.vlan(guest, vlan=7))
        self.assertEqual([], self.vlan(guest, vlan=0))
        self.assertEqual([], self.vlan(guest, vif_type='bridge', bridge='br0'))
        self.dead_vlan = False
        self.assertEqual([], self.vlan(guest))
        self.assertEqual(['4095'], self.vlan(guest, vlan=4095))

    def test_a_port_that_was_attached_before_the_option_changed_is_there(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        port = {**cases.read('B04-port-ovs-without-vlan'), 'id': harness.new_id()}
        self.dead_vlan = False
        self.driver.attach(guest, requests.interface(port))
        before = self.xml(guest)
        self.dead_vlan = True
        self.driver.attach(guest, requests.interface(port))
        self.assert_untouched(guest, before)
