# SPDX-License-Identifier: Apache-2.0
"""The contract of reconcile: what can be told gets its alias, what cannot is left alone and says why."""

import re
import threading
from typing import Any

from aliasagent import exception
from aliasagent.reconcile import apply
from aliasagent.reconcile import plan
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.tests.contract import harness
from aliasagent.virt import lookup
from aliasagent.virt.guest import Guest
from aliasagent.virt.guest import Side

BOTH = Side.LIVE | Side.PERSISTENT
PCI = '0000:06:12.6'
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='yes'>"
    "<source><address domain='0x0000' bus='0x06' slot='0x12' function='0x6'/></source></hostdev>"
)


class ReconcileContract(harness.DriverCase):
    def guest(self, instance: str) -> Guest:
        return self.host.guest(instance)

    def outcomes(self, report: apply.Report) -> dict[str, str]:
        """By target, MAC or kind."""
        return {
            step.target or step.device.rpartition(' ')[2]: step.outcome.value for step in report.steps
        }

    def test_each_device_has_its_own_outcome(self) -> None:
        instance = self.hypervisor.new_guest(state='shut off')
        guest, bridge = self.guest(instance), self.hypervisor.bridge()
        known, doubled, named, mdev = (harness.new_id() for _ in range(4))
        mac = harness.new_mac()
        lun = "<disk type='block' device='lun'><source dev='/dev/null'/><target dev='sde' bus='scsi'/></disk>"
        source = f"<source file='/srv/volume-{named}'/>"
        for xml in (
            harness.disk_xml(self.hypervisor.new_file(), 'sda', serial=known),
            harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=doubled),
            harness.disk_xml(self.hypervisor.new_file(), 'sdc', serial=doubled),
            harness.disk_xml(self.hypervisor.new_file(), 'sdd', alias='ua-somebody-elses'),
            lun,
            f"<disk type='file' device='disk'>{source}<target dev='sdf' bus='scsi'/></disk>",
            harness.interface_xml(bridge, mac, target='tapone'),
            harness.interface_xml(bridge, mac, target='taptwo'),
            HOSTDEV,
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
            f"<source><address uuid='{mdev}'/></source></hostdev>",
        ):
            guest.attach(xml, Side.PERSISTENT)
        before = self.persistent(instance).without_aliases()
        report = apply.reconcile(guest)
        self.assertEqual(
            {
                'sda': 'has an alias',
                'sdb': 'conflicts',
                'sdc': 'conflicts',
                'sdd': 'has an alias',
                'sde': 'cannot be identified',
                'sdf': 'cannot be identified',
                'tapone': 'cannot be identified',
                'taptwo': 'cannot be identified',
                'hostdev': 'cannot be identified',
                f'ua-{mdev}': 'has an alias',
            },
            self.outcomes(report),
        )
        self.assertEqual({f'ua-{known}', f'ua-{mdev}'}, set(report.given))
        self.assertEqual((set(), {known, mdev, 'somebody-elses'}), self.ids(instance))
        self.assertEqual(before, self.persistent(instance).without_aliases())
        once = self.xml(instance)
        self.assertEqual([], apply.reconcile(guest).given)
        self.assert_untouched(instance, once)

    def test_a_port_that_nova_has_attached_to_the_running_guest(self) -> None:
        """Nova lists it in the metadata of the running guest only."""
        port, mac = harness.new_id(), harness.new_mac()
        listed = f"<nova:port uuid='{port}'/>"
        metadata = (
            "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
            f'<nova:ports>{listed}</nova:ports></nova:instance>'
        )
        devices = harness.interface_xml(self.hypervisor.bridge(), mac, target=f'tap{port[:11]}')
        instance = self.hypervisor.new_guest(devices, state='started', metadata=metadata)
        guest = self.guest(instance)
        guest.define(re.sub(f'<nova:port uuid=.{port}./>', '', guest.saved_text()))
        for found in lookup.both(guest.definitions(), port):
            self.assertEqual(f'tap{port[:11]}', found and found.device.target)
        self.assertEqual([f'ua-{port}'], apply.reconcile(guest).given)
        self.assertEqual((set(), {port}), self.ids(instance))

    def test_an_inventory_tells_what_the_guest_does_not(self) -> None:
        instance = self.hypervisor.new_guest(state='shut off')
        guest, bridge, path = self.guest(instance), self.hypervisor.bridge(), self.hypervisor.new_file()
        by_target, by_source, by_mac, by_slot, wrong = (harness.new_id() for _ in range(5))
        mac = harness.new_mac()
        for xml in (
            harness.disk_xml(self.hypervisor.new_file(), 'sda'),
            harness.disk_xml(path, 'sdb'),
            harness.disk_xml(self.hypervisor.new_file(), 'sdc', serial=harness.new_id()),
            harness.interface_xml(bridge, mac),
            harness.interface_xml(bridge, harness.new_mac()),
            HOSTDEV,
        ):
            guest.attach(xml, Side.PERSISTENT)
        inventory: dict[str, Any] = {
            'ports': [{'id': by_mac, 'address': mac.upper()}, {'id': by_slot, 'pci_slot': PCI}],
            'volumes': [
                {'id': by_target, 'target': '/dev/sda'},
                {'id': by_source, 'source': path},
                {'id': wrong, 'target': '/dev/sdc'},
            ],
        }
        report = apply.preview(guest, records_of(Inventory.of(inventory)))
        self.assertEqual((set(), set()), self.ids(instance))
        self.assertEqual(4, report.count(plan.Outcome.GETS_ALIAS))
        report = apply.reconcile(guest, records_of(Inventory.of(inventory)))
        # The disk whose serial contradicts the inventory is left alone.
        self.assertEqual(1, report.count(plan.Outcome.CONFLICT))
        self.assertEqual((set(), {by_target, by_source, by_mac, by_slot}), self.ids(instance))

    def assert_refused(self, instance: str, device_id: str, *words: str) -> None:
        """A detach is refused, in these words, and changes nothing."""
        before = self.xml(instance)
        error = self.assertRaises(exception.DeviceConflict, self.driver.detach, instance, device_id)
        for word in (*words, 'inventory'):
            self.assertIn(word, str(error))
        self.assert_untouched(instance, before)

    def test_the_name_of_a_source_is_no_proof(self) -> None:
        """Issue 13, 17: after a volume migration it is another volume's."""
        instance, volume, named = self.hypervisor.new_guest(state='shut off'), harness.new_id(), harness.new_id()
        guest = self.guest(instance)
        guest.attach(harness.disk_xml(f'/srv/volume-{named}', 'sda'), Side.PERSISTENT)
        (step,) = apply.reconcile(guest).steps
        self.assertEqual(plan.Outcome.UNIDENTIFIED, step.outcome)
        self.assertIn(f'named after volume {named}, which is no proof', step.reason)
        self.assert_refused(instance, named, 'no proof')
        self.assertRaises(exception.DeviceNotFound, self.driver.detach, instance, volume)
        told = records_of(Inventory.of({'volumes': [{'id': volume, 'target': 'sda'}]}))
        report = apply.reconcile(guest, told)
        self.assertEqual([f'ua-{volume}'], report.given)
        # What the inventory meant is known by its source from then on, wherever it is.
        (kept,) = report.settled
        self.assertEqual((volume, f'/srv/volume-{named}', None), (kept.device_id, kept.source, kept.target))
        self.assert_refused(instance, volume, volume, named)
        found = lookup.both(guest.definitions(), volume, report.settled)
        self.assertEqual((None, 'sda'), (found[0], found[1].device.target if found[1] else None))

    def test_a_contradiction_is_left_alone_until_an_inventory_decides(self) -> None:
        """Issue 13, 18: a swapped volume has the serial, and a user alias, of the one before."""
        for name in (None, 'alias'):
            instance, old, new = self.hypervisor.new_guest(state='shut off'), harness.new_id(), harness.new_id()
            guest = self.guest(instance)
            alias = f'ua-{old}' if name else ''
            guest.attach(harness.disk_xml(f'/srv/volume-{new}', 'sda', serial=old, alias=alias), Side.PERSISTENT)
            before = self.xml(instance)
            (step,) = apply.reconcile(guest).steps
            self.assertEqual((plan.Outcome.CONFLICT, alias), (step.outcome, step.alias or ''))
            self.assert_untouched(instance, before)
            for device_id in (old, new):
                self.assert_refused(instance, device_id, old, new)
            told = records_of(Inventory.of({'volumes': [{'id': new, 'target': 'sda'}]}))
            report = apply.reconcile(guest, told)
            self.assertEqual([] if name else [f'ua-{new}'], report.given)
            found = lookup.both(guest.definitions(), new, report.settled)
            self.assertEqual('sda', found[1].device.target if found[1] else None)

    def test_an_inventory_names_a_device_that_only_the_running_guest_has(self) -> None:
        instance, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        guest, path = self.guest(instance), self.hypervisor.new_file()
        guest.attach(harness.disk_xml(path, 'sdb'), Side.LIVE)
        self.assertEqual([], apply.preview(guest).steps)
        told = records_of(Inventory.of({'volumes': [{'id': volume, 'source': path}]}))
        for look in (apply.preview, apply.reconcile):
            report = look(guest, told)
            (step,) = report.steps
            self.assertEqual((plan.Outcome.TRANSIENT, f'ua-{volume}'), (step.outcome, step.alias))
            self.assertIn('only the running guest has it', step.reason)
            self.assertEqual(([], [f'ua-{volume}']), (report.given, report.pending))
        live, persistent = lookup.both(guest.definitions(), volume, report.settled)
        self.assertEqual(('sdb', None), (live.device.target if live else None, persistent))

    def test_a_running_guest_goes_on_as_it_is_and_works_meanwhile(self) -> None:
        instance, volume = self.hypervisor.new_guest(state='started'), harness.new_id()
        xml = harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume)
        self.guest(instance).attach(xml, BOTH)
        live = self.xml(instance)[0]
        report = apply.reconcile(self.guest(instance))
        self.assertEqual([f'ua-{volume}'], report.pending)
        self.assertEqual(live, self.xml(instance)[0])
        self.assertEqual((set(), {volume}), self.ids(instance))
        self.detach(instance, volume)
        self.assertEqual(set(), self.live(instance).disk_targets() | self.persistent(instance).disk_targets())

    def test_a_transient_guest_has_nothing_to_write_to(self) -> None:
        instance, volume, told = self.hypervisor.new_guest(state='transient'), harness.new_id(), harness.new_id()
        guest, mac = self.guest(instance), harness.new_mac()
        for xml in (
            harness.disk_xml(self.hypervisor.new_file(), 'sda', alias='ua-known'),
            harness.disk_xml(self.hypervisor.new_file(), 'sdb', serial=volume),
            harness.disk_xml(self.hypervisor.new_file(), 'sdc'),
            harness.interface_xml(self.hypervisor.bridge(), mac),
        ):
            guest.attach(xml, Side.LIVE)
        before = self.xml(instance)
        outcomes = {'sda': 'has an alias', 'sdb': 'has no persistent config', 'sdc': 'cannot be identified'}
        outcomes[mac] = 'cannot be identified'
        for look in (apply.preview, apply.reconcile):
            report = look(guest)
            self.assertEqual(outcomes, self.outcomes(report))
            self.assertEqual(([], [f'ua-{volume}']), (report.given, report.pending))
            self.assertEqual(apply.digest(guest), report.seen)
        (reason,) = [step.reason for step in report.steps if step.outcome is plan.Outcome.TRANSIENT]
        self.assertIn('by its serial; gets its alias by "reconcile --live"', reason)
        (tap,) = [device.target for device in self.live(instance).devices() if device.kind == 'interface']
        known = records_of(Inventory.of(
            {
                'volumes': [{'id': told, 'target': '/dev/sdc'}],
                # Whatever it is called now, it will not be once it was saved and restored.
                'ports': [{'id': harness.new_id(), 'devname': tap}],
            }
        ))
        self.assertEqual({f'ua-{volume}', f'ua-{told}'}, set(apply.reconcile(guest, known).pending))
        self.assert_untouched(instance, before)
        guest.attach(harness.disk_xml(self.hypervisor.new_file(), 'sdd'), Side.LIVE)
        self.assertNotIn(apply.digest(guest), [report.seen])

    def test_the_list_of_guests_tells_what_there_is_to_read(self) -> None:
        for state, is_active, is_persistent in (
            ('shut off', False, True),
            ('started', True, True),
            ('transient', True, False),
        ):
            instance = self.hypervisor.new_guest(state=state)
            (listed,) = [each for each in self.host.listed() if each.guest.uuid == instance]
            self.assertEqual((is_active, is_persistent), (listed.is_active, listed.is_persistent), state)
            seen = apply.digest(listed.guest, persistent=listed.is_persistent, active=listed.is_active)
            self.assertEqual(apply.digest(self.guest(instance)), seen, state)

    def test_a_digest_shows_a_change_that_no_event_reports(self) -> None:
        """libvirt sends no event when another client changes the persistent config of a device."""
        for state in ('shut off', 'started'):
            instance = self.hypervisor.new_guest(state=state)
            guest = self.guest(instance)
            path, serial = self.hypervisor.new_file(), harness.new_id()

            def digest(instance: str = instance) -> bytes:
                (listed,) = [each for each in self.host.listed() if each.guest.uuid == instance]
                return apply.digest(listed.guest, persistent=listed.is_persistent, active=listed.is_active)

            seen = [digest()]
            guest.attach(harness.disk_xml(path, 'sdd'), Side.PERSISTENT)
            seen.append(digest())
            guest.update_persistent(harness.disk_xml(path, 'sdd', serial=serial))
            seen.append(digest())
            self.assertEqual(3, len(set(seen)), state)

    def test_a_graphics_password_survives(self) -> None:
        """Also where the whole definition has to be written."""
        instance = self.hypervisor.new_guest("<graphics type='vnc' passwd='geheim'/>", state='shut off')
        guest, port = self.guest(instance), harness.new_id()
        guest.attach(HOSTDEV, Side.PERSISTENT)
        apply.reconcile(guest, records_of(Inventory.of({'ports': [{'id': port, 'pci_slot': PCI}]})))
        self.assertEqual((set(), {port}), self.ids(instance))
        self.assertIn("passwd='geheim'", (guest.persistent_text() or '').replace('"', "'"))

    def test_a_guest_that_is_gone(self) -> None:
        self.assertRaises(exception.InstanceNotFound, self.host.guest, harness.new_id())

    def test_another_client_attaches_and_detaches_meanwhile(self) -> None:
        """Its devices are there, or gone, at the end, and ours have their aliases: so many rounds."""
        instance = self.hypervisor.new_guest(state='shut off')
        guest = self.guest(instance)
        theirs = self.host.guest(instance)
        failed: list[BaseException] = []
        for _round in range(10):
            volumes = [harness.new_id() for _ in range(5)]
            for number, volume in enumerate(volumes):
                guest.attach(
                    harness.disk_xml(self.hypervisor.new_file(), f'sd{"abcde"[number]}', serial=volume), Side.PERSISTENT
                )
            going = harness.disk_xml(self.hypervisor.new_file(), 'sdx', alias='ua-going')
            guest.attach(going, Side.PERSISTENT)
            coming = [
                harness.disk_xml(self.hypervisor.new_file(), f'sd{letter}', alias=f'ua-new-{letter}')
                for letter in 'lmno'
            ]

            def interfere(coming: list[str] = coming) -> None:
                try:
                    for number, xml in enumerate(coming):
                        theirs.attach(xml, Side.PERSISTENT)
                        if number == 1:
                            theirs.detach('ua-going', Side.PERSISTENT)
                except BaseException as error:  # noqa: BLE001 - told to the test below
                    failed.append(error)

            other = threading.Thread(target=interfere)
            other.start()
            apply.reconcile(guest)
            other.join()
            apply.reconcile(guest)
            self.assertEqual([], failed)
            expected = {*volumes, *(f'new-{letter}' for letter in 'lmno')}
            self.assertEqual((set(), expected), self.ids(instance))
            for device in expected:
                self.detach(instance, device)
