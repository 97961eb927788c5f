# SPDX-License-Identifier: Apache-2.0
"""Whose the devices of real guests are."""

from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.devices import definitions

A, S, I, T, M = (  # noqa: E741
    identity.Evidence.ALIAS,
    identity.Evidence.SERIAL,
    identity.Evidence.INTERFACEID,
    identity.Evidence.TAP_NAME,
    identity.Evidence.MDEV_UUID,
)

#: Each device of a definition that stands for something outside the guest: kind, target, whose, on what evidence.
EXPECTED: dict[str, list[tuple[str, str | None, str | None, identity.Evidence | None]]] = {
    'nova': [
        ('disk', 'vda', None, None),
        ('disk', 'vdb', '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10', S),
        ('disk', 'vdc', None, None),
        ('disk', 'vdd', '9f5e4db0-76b7-4d30-812b-4c8e3f90bd12', A),
        ('disk', 'sda', None, None),
        ('interface', 'tap91f04c6a-7c', '91f04c6a-7c1b-4a6e-b8e5-3d2f1a0b9c20', I),
        ('interface', 'tapc7b1e5d0-0f', 'c7b1e5d0-0f6a-4f0e-8a55-7d9a6b1e4f21', T),
        ('interface', 'tape1111111-22', None, None),
    ],
    'sev': [
        ('disk', 'vda', None, None),
        ('disk', 'vdb', None, None),
        ('interface', None, None, None),
    ],
    'numa-hugepages': [
        ('disk', 'sda', None, None),
        ('interface', 'vhu0b1c2d3e-4f', None, None),
    ],
    'qemu-commandline': [
        ('disk', 'vda', None, None),
        ('disk', 'vdb', 'c28b70e3-a9ea-4063-b45e-7fb062c3e015', S),
        ('disk', 'vdc', 'c28b70e3-a9ea-4063-b45e-7fb062c3e015', S),
        ('disk', 'vdd', None, None),
        ('interface', None, None, None),
    ],
    'lun': [
        ('disk', 'sda', None, None),
        ('disk', 'sdb', None, None),
        ('disk', 'sdc', None, None),
        ('interface', None, None, None),
        ('interface', None, None, None),
    ],
    'passthrough': [
        ('interface', None, '17d0c538-fe3f-45b8-89a3-c405b718351a', A),
        ('interface', None, None, None),
        ('hostdev', None, None, None),
        ('hostdev', None, '28e1d649-0f40-46c9-9ab4-d516c829462b', M),
        ('hostdev', None, None, None),
        ('hostdev', None, None, None),
    ],
}


class DefinitionsTestCase(base.TestCase):
    def test_each_is_looked_at(self) -> None:
        self.assertEqual(set(definitions.NAMES), set(EXPECTED))

    def test_whose_the_devices_are(self) -> None:
        for name, expected in EXPECTED.items():
            domain = Domain.parse(definitions.text(name))
            ports = domain.ports()
            seen = []
            for device in domain.devices():
                if device.kind in ('disk', 'interface', 'hostdev'):
                    whose = identity.identify(device, ports)
                    said = (None, None) if whose is None else (whose.device_id, whose.evidence)
                    seen.append((device.kind, device.target, *said))
            self.assertEqual(expected, seen, name)

    def test_each_that_is_somebodys_alone_is_found_by_its_id(self) -> None:
        for name, expected in EXPECTED.items():
            domain = Domain.parse(definitions.text(name))
            ids = [device_id for _kind, _target, device_id, _evidence in expected]
            for kind, target, device_id, evidence in expected:
                if device_id is not None and ids.count(device_id) == 1:
                    found = identity.find(domain, device_id)
                    assert found is not None
                    self.assertEqual((kind, target, evidence), (found.device.kind, found.device.target, found.evidence))

    def test_all_kinds_are_told(self) -> None:
        kinds = {device.kind for name in definitions.NAMES for device in Domain.parse(definitions.text(name)).devices()}
        self.assertGreater(len(kinds), 15)
        self.assertNotIn('emulator', kinds)

    def test_a_user_alias_of_any_kind_is_found(self) -> None:
        found = identity.find(Domain.parse(definitions.text('numa-hugepages')), 'share_1')
        assert found is not None
        self.assertEqual('filesystem', found.device.kind)
