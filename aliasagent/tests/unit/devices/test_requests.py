# SPDX-License-Identifier: Apache-2.0
"""Whatever the contract accepts is built, and read back as it was built, or refused in words."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.compute import contract
from aliasagent.devices import base as devices_base
from aliasagent.devices import disk
from aliasagent.devices import domain
from aliasagent.devices import xml
from aliasagent.operations.model import ATTACHES
from aliasagent.operations.model import MOVES
from aliasagent.requests import base as requests_base
from aliasagent.requests import catalog
from aliasagent.requests import sources
from aliasagent.requests.hostdev import AttachHostdev
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden
from aliasagent.tests.unit.devices import requests
from aliasagent.tests.unit.devices import test_golden

Json = dict[str, Any]


def ask_for_volume(request: Json) -> devices_base.Device:
    arguments = {
        'instance_uuid': golden.DEVICE,
        'volume_id': golden.VOLUME,
        'connection_info': request['connection_info'],
        'device_name': request['target'],
        'disk_bus': request['bus'],
        'device_type': request['device_type'],
    }
    contract.validate('attach_volume', arguments)
    # As the driver calls it.
    asked = AttachVolume.from_dict(arguments)
    return asked.disk(target=asked.target or 'vda', bus=asked.bus)


def ask_for_interface(request: Json) -> devices_base.Device:
    contract.validate('attach_interface', {'instance_uuid': golden.DEVICE, 'port': request})
    return AttachInterface.from_dict({'port': request}).device()


def ask_for_hostdev(request: Json) -> devices_base.Device:
    contract.validate(
        'attach_hostdev', {'instance_uuid': golden.DEVICE, 'device_id': golden.DEVICE, 'hostdev': request}
    )
    return AttachHostdev.from_dict({'device_id': golden.DEVICE, 'hostdev': request}).device()


class KeptTestCase(base.TestCase):
    """What the journal keeps of a request is that request, and valid."""

    def check(self, action: Action, arguments: Json) -> None:
        arguments = {'volume_id': golden.VOLUME, 'device_id': golden.DEVICE, **arguments}
        schema = catalog.TYPES[action].schema
        message = {name: value for name, value in arguments.items() if name in schema['properties']}
        request = catalog.parse(action, message)
        kept = request.to_dict()
        contract.validate(action, {'instance_uuid': golden.DEVICE, **kept})
        self.assertEqual(request, catalog.parse(action, json.loads(json.dumps(kept))))
        self.assertNotIn(golden.PLAINTEXT, json.dumps(kept))
        # Earlier releases kept what says nothing, and members that are of no use, too.
        self.assertEqual(request, catalog.parse(action, {**message, 'something_else': None}))
        if issubclass(catalog.TYPES[action], requests_base.Management):
            self.check_force(action, message)

    def check_force(self, action: Action, message: Json) -> None:
        """It is kept if it is true, and otherwise not sent to agents that do not know it."""
        plain, refused = (catalog.parse(action, {**message, **force}) for force in ({}, {'force': False}))
        self.assertEqual(plain, refused)
        self.assertNotIn('force', plain.to_dict())
        forced = catalog.parse(action, {**message, 'force': True})
        contract.validate(action, {'instance_uuid': golden.DEVICE, **forced.to_dict()})
        self.assertEqual({**plain.to_dict(), 'force': True}, forced.to_dict())
        self.assertNotEqual(plain, forced)
        self.assertEqual(forced, catalog.parse(action, forced.to_dict()))

    def test_what_nova_would_not_know_of_can_be_forced(self) -> None:
        for action, kind in catalog.TYPES.items():
            is_left = issubclass(kind, requests_base.Management)
            self.assertEqual(action in ATTACHES | MOVES, is_left)
            self.assertEqual(is_left, 'force' in kind.schema['properties'])
            if issubclass(kind, requests_base.Management):
                self.assertIn('Nova', kind.cost)

    def test_moves(self) -> None:
        self.check_force(Action.RECONCILE_LIVE, {})
        self.check_force(Action.LIVE_MIGRATE, {'dest_uri': 'qemu+tls://there/system'})

    @given(requests.volumes())
    def test_volumes(self, request: Json) -> None:
        self.check(Action.ATTACH_VOLUME, {name: request[name] for name in ('connection_info', 'device_type')})

    @given(requests.ports())
    def test_ports(self, port: Json) -> None:
        self.check(Action.ATTACH_INTERFACE, {'port': port})

    @given(requests.hostdevs)
    def test_hostdevs(self, hostdev: Json) -> None:
        self.check(Action.ATTACH_HOSTDEV, {'hostdev': hostdev})
        (need,) = catalog.parse(Action.ATTACH_HOSTDEV, {'device_id': 'x', 'hostdev': hostdev}).needs()
        source = ask_for_hostdev(hostdev).source
        assert source is not None
        # The words of USB and SCSI devices begin with their kind, which the option's name says.
        self.assertEqual(source.removeprefix(f'{hostdev["type"]}:'), need.name)

    @given(requests.hostdevs)
    def test_inventories(self, hostdev: Json) -> None:
        inventory = {
            'ports': [{'id': golden.PORT, 'address': None, 'bridge': 'br0'}],
            'volumes': [{'id': golden.VOLUME, 'target': '/dev/vdb'}],
            'hostdevs': [{'id': golden.DEVICE, 'hostdev': hostdev, 'guest_pci_slot': '0000:00:05.0'}],
        }
        for action in (Action.RECONCILE_INSTANCE, Action.RECONCILE_LIVE):
            self.check(action, {'inventory': inventory})
        self.check(Action.LIVE_MIGRATE, {'dest_uri': 'qemu+tls://there/system', 'inventory': inventory})


class RequestsTestCase(base.TestCase):
    def check(self, ask: Callable[[Json], devices_base.Device], request: Json) -> None:
        """The contract accepts the request; what it asks for is refused, or read as it was written."""
        try:
            device = ask(request)
        except exception.InvalidInput as refused:
            self.assertNotIn('schema', str(refused))  # the contract did not
            self.assertIn(refused.kwargs['field'].split('.')[0], ('connection_info', 'device_type', 'disk_bus', 'port'))
            return
        read = domain.device(xml.parse(device.to_xml()))
        self.assertIs(type(device), type(read))
        self.assertEqual(test_golden.declared(device), test_golden.declared(read))
        self.assertEqual(device.source, read.source)
        self.assertIsNotNone(device.source)
        self.assertIsNotNone(device.device_id)
        self.assertNotIn(golden.PLAINTEXT, device.to_xml())

    @given(requests.volumes())
    def test_volumes(self, request: Json) -> None:
        self.check(ask_for_volume, request)

    @given(requests.volumes(), st.sampled_from(['raw', 'qcow2', 'vmdk', 'qed', 'qcow', 'vhdx', 'QCOW2']) | st.text())
    def test_a_format_that_can_name_other_files_is_refused_or_looked_at(self, request: Json, name: str) -> None:
        request['connection_info']['data']['format'] = name
        try:
            device = ask_for_volume(request)
        except exception.InvalidInput:
            return
        assert isinstance(device, disk.Disk)
        self.assertIn(device.driver_type, ('raw', 'qcow2'))
        if device.driver_type == 'qcow2':
            self.assertTrue(all(need.is_image for need in sources.of(request['connection_info']).needs()))

    @given(requests.ports())
    def test_ports(self, request: Json) -> None:
        self.check(ask_for_interface, request)

    @given(requests.hostdevs)
    def test_hostdevs(self, request: Json) -> None:
        self.check(ask_for_hostdev, request)

    def check_broken(self, ask: Callable[[Json], devices_base.Device], request: Json) -> None:
        """A request in which anything may be wrong ends in our error, or in XML that libvirt can read."""
        try:
            device = ask(request)
        except exception.InvalidInput as refused:
            self.assertNotIn(golden.PLAINTEXT, str(refused))
            self.assertLess(len(str(refused)), 2000)
            return
        self.assertEqual(device.source, domain.device(xml.parse(device.to_xml())).source)

    @given(requests.broken(requests.volumes()))
    def test_broken_volumes(self, request: Json) -> None:
        self.check_broken(ask_for_volume, request)

    @given(requests.broken(requests.ports()))
    def test_broken_ports(self, request: Json) -> None:
        self.check_broken(ask_for_interface, request)

    @given(requests.broken(requests.hostdevs))
    def test_broken_hostdevs(self, request: Json) -> None:
        self.check_broken(ask_for_hostdev, request)
