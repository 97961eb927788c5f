# SPDX-License-Identifier: Apache-2.0
"""Definitions from the field: what each device gets by itself, and with an inventory."""

import pathlib
from typing import Any

from aliasagent import exception
from aliasagent.compute import contract
from aliasagent.devices import identity
from aliasagent.devices.base import Device
from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.reconcile.plan import Outcome
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import records_of
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import PORT

CASES = pathlib.Path(__file__).parent / 'cases'
GUEST = ids.OTHER_GUEST
A, B = 'aaaaaaaa-1111-4111-8111-111111111111', 'bbbbbbbb-2222-4222-8222-222222222222'
RBD = (
    "<domain><devices><disk type='network' device='disk'><source protocol='rbd' name='vms/image-7'>"
    "<host name='192.0.2.1' port='6789'/></source><target dev='vda' bus='virtio'/></disk></devices></domain>"
)


def case(name: str) -> Domain:
    return Domain.parse((CASES / f'{name}.xml').read_bytes())


def remove(device: Device) -> None:
    parent = device.element.getparent()
    assert parent is not None
    parent.remove(device.element)


def read(inventory: dict[str, Any]) -> list[plan.Record]:
    """An inventory as a request brings it."""
    contract.validate('reconcile_plan', {'instance_uuid': GUEST, 'inventory': inventory})
    return records_of(Inventory.of(inventory))


class CasesTestCase(base.TestCase):
    def outcomes(self, domain: Domain, **inventory: Any) -> list[tuple[Outcome, str | None]]:
        return [(step.outcome, step.alias) for step in plan.plan(domain, read(inventory))]

    def assert_given(self, domain: Domain, *aliases: str | None, **inventory: Any) -> None:
        """What each device gets; None for one that gets nothing."""
        expected = [(Outcome.GETS_ALIAS, f'ua-{name}') if name else (Outcome.UNIDENTIFIED, None) for name in aliases]
        self.assertEqual(expected, self.outcomes(domain, **inventory))

    def reason(self, domain: Domain) -> str:
        return plan.plan(domain)[0].reason

    def assert_not_found(self, domain: Domain, device_id: str, *words: str) -> None:
        error = self.assertRaises(exception.DeviceConflict, identity.find, domain, device_id)
        for word in (*words, 'reconcile GUEST --inventory'):
            self.assertIn(word, str(error))

    def test_a_migrated_lun(self) -> None:
        """Issue 13, 17: the source is named after a volume, and it is another one."""
        lun = case('migrated-lun')
        self.assert_given(lun, None)
        self.assertIn(f'its source is named after volume {B}, which is no proof', self.reason(lun))
        self.assert_given(lun, A, volumes=[{'id': A, 'target': 'sdb'}])
        self.assert_given(lun, B, volumes=[{'id': B, 'target': 'sdb'}])
        self.assert_not_found(lun, B, 'named after this id', 'no proof')
        self.assertIsNone(identity.find(lun, A))
        told = read({'volumes': [{'id': A, 'target': 'sdb'}]})
        self.assertEqual('inventory', getattr(identity.find(lun, A, records=told), 'evidence', None))
        self.assertIsNone(identity.find(lun, B, records=told))

    def test_a_swapped_volume(self) -> None:
        """Issue 13, 18: serial and source name contradict each other."""
        swapped = case('swapped')
        self.assertEqual([(Outcome.CONFLICT, None)], self.outcomes(swapped))
        for device_id in (A, B):
            self.assertIn(device_id, self.reason(swapped))
            self.assert_not_found(swapped, device_id, A, B, 'serial', 'source name')
            self.assert_given(swapped, device_id, volumes=[{'id': device_id, 'target': 'vdb'}])
            self.assert_given(swapped, device_id, volumes=[{'id': device_id, 'source': f'volumes/volume-{B}'}])
        self.assertEqual([(Outcome.CONFLICT, None)], self.outcomes(swapped, volumes=[{'id': PORT, 'target': 'vdb'}]))

    def test_an_alias_that_is_contradicted(self) -> None:
        """Issue 13, 18: after Nova's swap even a user alias is another volume's."""
        swapped = case('swapped')
        (disk,) = swapped.devices()
        disk.alias = f'ua-{A}'
        self.assertEqual([(Outcome.CONFLICT, f'ua-{A}')], self.outcomes(swapped))
        for device_id in (A, B):
            self.assert_not_found(swapped, device_id, A, B, 'alias')
        for owner, other in ((A, B), (B, A)):
            told = read({'volumes': [{'id': owner, 'source': f'volumes/volume-{B}'}]})
            found = identity.find(swapped, owner, records=told)
            self.assertIs(disk.element, None if found is None else found.device.element)
            if owner == A:
                self.assertIsNone(identity.find(swapped, other, records=told))
            else:
                self.assertRaises(exception.DeviceConflict, identity.find, swapped, other, records=told)
        self.assertEqual(
            [(Outcome.ALIASED, f'ua-{A}')], self.outcomes(swapped, volumes=[{'id': A, 'target': 'vdb'}])
        )
        self.assertEqual(
            [(Outcome.CONFLICT, f'ua-{A}')], self.outcomes(swapped, volumes=[{'id': B, 'target': 'vdb'}])
        )

    def test_the_record_of_its_attach_settles_a_contradiction(self) -> None:
        """A volume that Cinder migrated, and that this agent attached: its source has another's name."""
        swapped = case('swapped')
        (disk,) = swapped.devices()
        told = [plan.Record(A, 'disk', 'record of its attach', source=f'rbd:volumes/volume-{B}@10.0.0.9:6789')]
        for name in (None, f'ua-{A}'):
            disk.alias = name
            found = identity.find(swapped, A, records=told)
            self.assertIs(disk.element, None if found is None else found.device.element)
            self.assertIsNone(identity.find(swapped, B, records=told))

    def test_names_of_copies(self) -> None:
        """Issue 13, 17: the name must be the whole last part of the source."""
        for name in ('copy-of-volume', 'backup-dir', 'rbd-snap'):
            self.assert_given(case(name), None)
            self.assertEqual('no evidence names its id', self.reason(case(name)))
            self.assertIsNone(identity.find(case(name), A))

    def test_device_mapper_doubles_dashes(self) -> None:
        self.assertIn(f'named after volume {A}', self.reason(case('lvm-dm')))
        self.assert_given(case('lvm-dm'), None)

    def test_names_of_vhost_user_and_other_ports(self) -> None:
        for index in (0, 1):
            domain = case('vhu')
            devices = list(domain.devices())
            remove(devices[1 - index])
            self.assert_given(domain, PORT)
        self.assertEqual([(Outcome.CONFLICT, None)] * 2, self.outcomes(case('vhu')))

    def test_two_interfaces_with_one_mac_on_one_network(self) -> None:
        mac = '52:54:00:41:7b:bd'
        ports = [
            {'id': f'nic-{slot}', 'address': mac, 'guest_pci_slot': f'0000:{slot}:00.0', 'network': 'default'}
            for slot in ('03', '07')
        ]
        self.assert_given(case('x01-cockpit-two-nics-one-mac'), 'nic-03', 'nic-07', ports=ports)
        for told in ([{'id': 'nic-03', 'address': mac}], [{**ports[0], 'network': 'other'}]):
            outcomes = self.outcomes(case('x01-cockpit-two-nics-one-mac'), ports=told)
            self.assertNotIn(Outcome.GETS_ALIAS, [outcome for outcome, _alias in outcomes])

    def test_two_interfaces_with_one_mac_on_two_bridges(self) -> None:
        mac = '02:00:c0:a8:00:19'
        ports = [{'id': f'on-{name}', 'address': mac, 'bridge': name} for name in ('br0', 'br1')]
        volumes = [{'id': 'disk-2', 'source': '/var/lib/one/datastores/0/12/disk.2'}]
        self.assert_given(
            case('x05-opennebula-no-serial'), None, 'disk-2', 'on-br0', 'on-br1', ports=ports, volumes=volumes
        )

    def test_a_serial_of_another_kind(self) -> None:
        volumes = [{'id': 'root', 'serial': 'bd33ea5adf9644499b12'}, {'id': 'data', 'target': 'sdb'}]
        self.assert_given(case('x02-cloudstack-serial-of-20-digits'), None, None)
        self.assert_given(case('x02-cloudstack-serial-of-20-digits'), 'root', 'data', volumes=volumes)

    def test_names_that_are_no_uuids(self) -> None:
        domain = case('x03-kubevirt-names')
        self.assertEqual([Outcome.ALIASED] * 3, [outcome for outcome, _alias in self.outcomes(domain)])
        for device_id in ('rootdisk', 'pvc-0a8f7a7e-2d5d-4f7b-8b7e-5f2d7f1b2c11', 'default'):
            self.assertEqual('alias', getattr(identity.find(domain, device_id), 'evidence', None))
        for device in domain.devices():
            device.alias = None
        self.assert_given(
            domain, 'Root_Disk', None, 'default', volumes=[{'id': 'Root_Disk', 'target': 'vda'}],
            ports=[{'id': 'default', 'devname': 'tap0'}],
        )  # fmt: skip

    def test_one_alias_twice(self) -> None:
        domain = case('x10-one-alias-twice')
        steps = plan.plan(domain)
        self.assertEqual([Outcome.CONFLICT] * 2, [step.outcome for step in steps])
        for step in steps:
            self.assertEqual(2, step.reason.count('0000:e2:00.0'))

    def test_a_volume_of_a_storage_pool(self) -> None:
        volumes = [{'id': 'root', 'source': 'default/example-1.qcow2'}, {'id': 'data', 'wwn': '05ABCDD21E9B9C56'}]
        self.assert_given(case('x11-terraform-wwn-and-pool'), 'root', 'data', volumes=volumes)

    def test_a_ceph_image_by_its_pool_and_name(self) -> None:
        hosts = ('', '@192.0.2.1:6789', '@192.0.2.9:1,[fc00::1]:6789')
        for source in ('vms/image-7', *(f'rbd:vms/image-7{name}' for name in hosts)):
            self.assert_given(Domain.parse(RBD), A, volumes=[{'id': A, 'source': source}])
        for source in ('image-7', 'vms/image-77', 'vms', 'nbd:vms/image-7', 'rbd:vms/image-7@snapshot', '/vms/image-7'):
            self.assert_given(Domain.parse(RBD), None, volumes=[{'id': A, 'source': source}])

    def test_two_identical_usb_devices(self) -> None:
        usb = [
            {'id': f'port-{number}', 'hostdev': {'type': 'usb', 'bus': 1, 'device': number}} for number in (40, 41)
        ]
        self.assert_given(case('x17-two-identical-usb-devices'), 'port-40', 'port-41', hostdevs=usb)
        kind = [{'id': 'ftdi', 'hostdev': {'type': 'usb', 'vendor': '0x0403', 'product': '0x6001'}}]
        outcomes = self.outcomes(case('x17-two-identical-usb-devices'), hostdevs=kind)
        self.assertEqual([(Outcome.CONFLICT, None)] * 2, outcomes)

    def test_other_host_devices(self) -> None:
        domain = case('x10-one-alias-twice')
        first, second = domain.devices()
        first.alias = None
        remove(second)
        pci = [{'id': 'gpu', 'hostdev': {'type': 'pci', 'address': '0000:E2:00.0'}}]
        self.assert_given(domain, 'gpu', hostdevs=pci)
        self.assert_given(domain, None, hostdevs=[{'id': 'gpu', 'hostdev': {'type': 'pci', 'address': '0000:e3:00.0'}}])
