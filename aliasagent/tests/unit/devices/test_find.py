# SPDX-License-Identifier: Apache-2.0
"""Finding the one device that is meant, and never another."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Claim
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Found
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import MAC
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies

X = ids.VOLUME
Y = ids.OTHER_VOLUME

claims = st.none() | st.builds(
    Claim,
    kind=st.sampled_from(['disk', 'interface', 'hostdev']),
    source=st.sampled_from([None, '/dev/sdb', '/dev/sdc']),
    mac=st.sampled_from([None, *strategies.MACS]),
    host_address=st.sampled_from([None, '0000:01:00.0']),
)


def definition(*devices: str, metadata: str = '') -> Domain:
    return Domain.parse(
        f'<domain><uuid>{Y}</uuid><metadata>{metadata}</metadata><devices>{"".join(devices)}</devices></domain>'
    )


def disk(target: str, *inner: str, source: str = '/dev/sdb') -> str:
    return f"<disk type='block' device='disk'><source dev='{source}'/><target dev='{target}'/>{''.join(inner)}</disk>"


def interface(*inner: str, mac: str = MAC) -> str:
    return f"<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/>{''.join(inner)}</interface>"


def alias(name: str) -> str:
    return f"<alias name='{name}'/>"


def serial(text: str) -> str:
    return f'<serial>{text}</serial>'


class FindTestCase(base.TestCase):
    def assert_found(self, domain: Domain, device_id: str, index: int, evidence: Evidence, **known: Any) -> None:
        found = identity.find(domain, device_id, Claim(**known) if known else None)
        assert found is not None
        self.assertEqual(evidence, found.evidence)
        self.assertIs(list(domain.devices())[index].element, found.device.element)

    def assert_ambiguous(self, domain: Domain, device_id: str, *words: str, **known: Any) -> None:
        claim = Claim(**known) if known else None
        error = self.assertRaises(exception.AmbiguousDevice, identity.find, domain, device_id, claim)
        for word in (device_id, *words):
            self.assertIn(word, str(error))

    def test_by_alias(self) -> None:
        self.assert_found(definition(disk('vda'), disk('vdb', alias(f'ua-{X}'))), X, 1, Evidence.ALIAS)

    def test_any_kind_by_alias(self) -> None:
        for kind in ('rng', 'memory', 'filesystem', 'whatever'):
            self.assert_found(definition(f'<{kind}>{alias("ua-my_1")}</{kind}>'), 'my_1', 0, Evidence.ALIAS)

    def test_an_alias_beats_an_identity(self) -> None:
        domain = definition(disk('vda', serial(X)), disk('vdb', serial('WD-1'), alias(f'ua-{X}')))
        self.assert_found(domain, X, 1, Evidence.ALIAS)

    def test_by_identity(self) -> None:
        domain = definition(disk('vda'), disk('vdb', serial(X), alias('virtio-disk1')))
        self.assert_found(domain, X, 1, Evidence.SERIAL)

    def test_nothing(self) -> None:
        self.assertIsNone(identity.find(definition(), X))
        self.assertIsNone(identity.find(definition(disk('vda'), interface()), X))

    def test_another_volume_at_the_place_of_the_old_one_is_not_it(self) -> None:
        before = definition(disk('vdb', serial(X), source='/dev/sdb'))
        self.assert_found(before, X, 0, Evidence.SERIAL)
        for other in (disk('vdb', serial(Y)), disk('vdb', alias(f'ua-{Y}')), disk('vdb', source='/dev/sdz')):
            self.assertIsNone(identity.find(definition(other), X))
            known = Claim(kind='disk', serial=X, source='/dev/sdb')
            self.assertIsNone(identity.find(definition(other), X, known), other)

    def test_what_carries_anothers_alias_is_not_it_whatever_else_it_carries(self) -> None:
        for name in ('ua-', 'ua-None', f'ua-{X}x', f'ua-{X.upper()}'):
            domain = definition(disk('vdb', serial(X), alias(name), source=f'/dev/volume-{X}'))
            self.assertIsNone(identity.find(domain, X, Claim(kind='disk', source=f'/dev/volume-{X}')), name)

    def test_two_of_one_identity(self) -> None:
        domain = definition(disk('vda', serial(X)), disk('vdb', source=f'/dev/volume-{X}'))
        self.assert_ambiguous(domain, X, 'vda', 'vdb', 'serial', 'source name', Y)

    def test_two_of_one_alias(self) -> None:
        domain = definition(disk('vda', alias(f'ua-{X}')), f'<rng>{alias(f"ua-{X}")}</rng>')
        self.assert_ambiguous(domain, X, 'disk vda', 'rng')

    def test_by_what_is_known_of_it(self) -> None:
        self.assert_found(definition(disk('vda')), X, 0, Evidence.SOURCE, kind='disk', source='/dev/sdb')
        self.assert_found(definition(interface()), X, 0, Evidence.MAC, kind='interface', mac=MAC)
        hostdev = "<hostdev type='pci'><source><address bus='0x06' slot='0x12' function='0x5'/></source></hostdev>"
        self.assert_found(
            definition(hostdev), X, 0, Evidence.HOST_ADDRESS, kind='hostdev', host_address='0000:06:12.5'
        )

    def test_what_is_known_is_compared_with_its_own_kind_only(self) -> None:
        self.assertIsNone(identity.find(definition(disk('vda')), X, Claim(kind='interface', source='/dev/sdb')))
        self.assertIsNone(identity.find(definition(disk('vda', source='')), X, Claim(kind='disk')))
        self.assertIsNone(identity.find(definition('<interface/>', '<rng/>'), X, Claim(kind='interface')))

    def test_two_that_fit_what_is_known(self) -> None:
        self.assert_ambiguous(definition(interface(), interface()), X, MAC, kind='interface', mac=MAC)
        self.assert_ambiguous(definition(disk('vda'), disk('vdb')), X, 'vda', 'vdb', kind='disk', source='/dev/sdb')

    def test_identity_beats_what_is_known(self) -> None:
        domain = definition(disk('vda'), disk('vdb', serial(X), source='/dev/sdz'))
        self.assert_found(domain, X, 1, Evidence.SERIAL, kind='disk', source='/dev/sdb')

    def test_what_is_identified_as_anothers_does_not_fit(self) -> None:
        self.assertIsNone(identity.find(definition(disk('vda', serial(Y))), X, Claim(kind='disk', source='/dev/sdb')))

    def test_a_source_that_is_called_after_another_volume_may_be_this_ones_all_the_same(self) -> None:
        """After a volume migration: the volume has kept its id, and lies where the other one's name stands."""
        source = f'/dev/mapper/volume-{Y}'
        moved = definition(disk('vda', source=source))
        self.assert_found(moved, X, 0, Evidence.SOURCE, kind='disk', source=source)
        self.assertIsNone(identity.find(moved, X, Claim(kind='disk', source='/dev/sdb')))
        for other in (disk('vda', serial(Y), source=source), disk('vda', alias(f'ua-{Y}'), source=source)):
            self.assertIsNone(identity.find(definition(other), X, Claim(kind='disk', source=source)))

    def test_a_mediated_device_is_who_it_is_whatever_id_it_goes_by(self) -> None:
        mdev = "<hostdev type='mdev'><source><address uuid='{}'/></source></hostdev>"
        for uuid in (X, X.upper()):
            domain = definition(mdev.format(Y), mdev.format(uuid))
            self.assert_found(domain, 'gpu', 1, Evidence.MDEV_UUID, kind='hostdev', mdev_uuid=X)
        self.assertIsNone(identity.find(definition(mdev.format(Y)), 'gpu', Claim(kind='hostdev', mdev_uuid=X)))
        claimed = definition(mdev.format(X).replace('</hostdev>', f'{alias("ua-other")}</hostdev>'))
        self.assertIsNone(identity.find(claimed, 'gpu', Claim(kind='hostdev', mdev_uuid=X)))

    def test_a_mac_that_another_device_has_too_decides_nothing(self) -> None:
        """Four interfaces of one MAC are allowed: the one that nobody named yet may be this one, or not."""
        port = f"<virtualport type='openvswitch'><parameters interfaceid='{Y}'/></virtualport>"
        for other in (interface(alias(f'ua-{Y}')), interface(alias('ua-')), interface(port)):
            domain = definition(other, interface())
            self.assert_ambiguous(domain, X, MAC, kind='interface', mac=MAC)

    def test_a_source_that_another_device_has_too_decides_nothing(self) -> None:
        for other in (disk('vda', alias(f'ua-{Y}')), disk('vda', serial(Y))):
            domain = definition(other, disk('vdb'))
            self.assert_ambiguous(domain, X, 'vda', 'vdb', kind='disk', source='/dev/sdb')

    def test_a_double_is_seen(self) -> None:
        for first, second, is_double in (
            (interface(), interface(alias(f'ua-{X}')), True),
            (interface(), disk('vda'), False),
            (disk('vda'), disk('vdb'), True),
            (disk('vda'), disk('vdb', source='/dev/sdz'), False),
        ):
            domain = definition(first, second)
            self.assertEqual([is_double] * 2, [identity.has_double(domain, device) for device in domain.devices()])

    def test_an_id_that_cannot_be_one(self) -> None:
        domain = definition(disk('vda', alias('ua-'), serial('')))
        for device_id in ('', '../x', 'a b', 'None', '\n', "'", '<', 'x' * 1000):
            self.assertRaises(exception.InvalidInput, identity.find, domain, device_id)

    def test_the_case_of_an_id(self) -> None:
        self.assert_found(definition(disk('vda', serial(X.upper()))), X, 0, Evidence.SERIAL)
        self.assert_found(definition(disk('vda', serial(X))), X.upper(), 0, Evidence.SERIAL)


class FindInAnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains(), strategies.ids, claims)
    def test_never_a_device_with_somebody_elses_alias(
        self, root: etree._Element, device_id: str, known: Claim | None
    ) -> None:
        domain = Domain(root)
        before = snapshot.take_all(root)
        named = [device for device in domain.devices() if device.alias == f'ua-{device_id}']
        try:
            found = identity.find(domain, device_id, known)
        except exception.AmbiguousDevice as error:
            self.assertNotEqual(1, len(named))
            self.assertTrue(error.kwargs['candidates'])
        except exception.DeviceConflict as error:
            self.assertIn('nothing was changed', str(error))
        else:
            self._check(found, [device.element for device in named], device_id)
        self.assertEqual([], snapshot.changed(before))

    def _check(self, found: Found | None, named: list[etree._Element], device_id: str) -> None:
        if named:
            self.assertEqual(1, len(named))
            assert found is not None
            self.assertIs(named[0], found.device.element)
            self.assertEqual(Evidence.ALIAS, found.evidence)
        elif found is not None:
            self.assertNotEqual(Evidence.ALIAS, found.evidence)
            self.assertFalse((found.device.alias or '').startswith('ua-'))
            # Whatever the evidence, it is not that of another id.
            texts = [str(found.device.element.findtext('serial')), found.device.to_xml()]
            others = [other for other in strategies.IDS if other != device_id and texts[0] == other]
            self.assertEqual([], others)

    @given(strategies.domains(), strategies.ids, claims, st.randoms(use_true_random=False))
    def test_position_does_not_matter(
        self, root: etree._Element, device_id: str, known: Claim | None, random: Any
    ) -> None:
        """Target names, addresses in the guest and the order may be any."""
        for index, element in enumerate(root.iterfind('devices/*')):
            element.set('number', str(index))
        moved = copy.deepcopy(root)
        targets = moved.findall('devices/disk/target')
        names = [target.get('dev', '') for target in targets]
        random.shuffle(names)
        for target, name in zip(targets, names, strict=True):
            target.set('dev', name)
        for element in moved.iterfind('devices/disk'):
            etree.SubElement(element, 'address', type='pci', slot=str(random.randint(0, 9)))
        for parent in moved.findall('devices'):
            children = list(parent)
            random.shuffle(children)
            parent[:] = children
        self.assertEqual(_answer(Domain(root), device_id, known), _answer(Domain(moved), device_id, known))


def _answer(domain: Domain, device_id: str, known: Claim | None) -> str:
    try:
        found = identity.find(domain, device_id, known)
    except exception.AmbiguousDevice:
        return 'ambiguous'
    except exception.DeviceConflict:
        return 'conflict'
    return 'none' if found is None else f'{found.device.element.get("number")} by {found.evidence}'
