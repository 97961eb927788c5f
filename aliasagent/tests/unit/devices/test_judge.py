# SPDX-License-Identifier: Apache-2.0
"""What each evidence is worth, alone and against another: the table of aliasagent.devices.identity."""

import dataclasses
import itertools
import json
import random as random_module

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.devices import domain
from aliasagent.devices import identity
from aliasagent.devices import names
from aliasagent.devices import xml
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.unit.devices import strategies

A = ids.VOLUME
B = ids.OTHER_VOLUME
C = ids.THIRD_VOLUME
WORDS = ('inventory', 'earlier inventory', 'record of its attach')
optional = st.sampled_from([None, A, B, C])
told = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([A, B, C])), max_size=4)


def judge(
    alias: str | None = None, serial: str | None = None, named: str | None = None, *words: tuple[str, str]
) -> identity.Judgement:
    """Judge a disk by what it says, and by what others say of it."""
    source = f'/srv/volume-{named}' if named else '/srv/disk.raw'
    inner = f'<serial>{serial}</serial>' if serial else ''
    inner += f"<alias name='ua-{alias}'/>" if alias else ''
    device = domain.device(xml.parse(f"<disk><source file='{source}'/><target dev='vdb'/>{inner}</disk>"))
    records = [Record(device_id, 'disk', told_by, source=source) for told_by, device_id in words]
    return identity.judge(device, frozenset(), records)


def whose(alias: str | None, serial: str | None, named: str | None) -> str | None:
    found = judge(alias, serial, named).identity
    return None if found is None else found.device_id


class TableTestCase(base.TestCase):
    def test_without_a_word_from_elsewhere(self) -> None:
        for alias, serial, named, expected in (
            (None, None, None, None),
            (None, A, None, A),
            (None, A, A, A),
            (None, None, A, None),
            (None, A, B, None),
            (A, None, None, A),
            (A, A, None, A),
            (A, A, A, A),
            (A, None, A, A),
            # what a swapped volume leaves behind, once the alias is that of the new one
            (A, B, A, A),
            (A, B, None, None),
            (A, A, B, None),
            (A, None, B, None),
            (A, B, B, None),
            (A, B, C, None),
            ('mine', A, B, 'mine'),
        ):
            self.assertEqual(expected, whose(alias, serial, named), str((alias, serial, named)))

    def test_only_a_hint_is_not_disputed(self) -> None:
        for evidence in itertools.product((None, A), (None, A, B), (None, A, B)):
            found = judge(*evidence)
            ids = {it for it in evidence if it is not None}
            alone = evidence[:2] == (None, None)
            self.assertEqual(found.identity is None and bool(ids) and not alone, found.is_disputed, str(evidence))
            self.assertEqual(evidence[2] if alone else None, found.unproven_id, str(evidence))
            for each in ids if found.is_disputed else ():
                self.assertIn(each, found.words())

    def test_an_inventory_decides_between_what_a_device_says(self) -> None:
        for word, alias in itertools.product(WORDS[:2], (None, A)):
            for owner in (A, B):
                found = judge(alias, A, B, (word, owner))
                self.assertEqual(owner, found.identity.device_id if found.identity else None)
            self.assertTrue(judge(alias, A, B, (word, C)).is_disputed)

    def test_the_record_of_an_attach_agrees_with_a_proof_and_never_overrules_one(self) -> None:
        word = WORDS[2]
        for alias in (None, A):
            found = judge(alias, A, B, (word, A))
            self.assertEqual(A, found.identity.device_id if found.identity else None)
            self.assertTrue(judge(alias, A, B, (word, B)).is_disputed)

    def test_a_word_and_a_hint(self) -> None:
        for word, owner in itertools.product(WORDS, (A, B)):
            found = judge(None, None, A, (word, owner))
            self.assertEqual(identity.Identity(owner, Evidence(word)), found.identity)

    def test_a_word_against_a_proof_that_no_hint_doubts(self) -> None:
        for word, named in itertools.product(WORDS, (None, A)):
            self.assertTrue(judge(None, A, named, (word, B)).is_disputed)
            self.assertEqual(A, getattr(judge(A, A, named, (word, B)).identity, 'device_id', None))

    def test_the_last_word_counts(self) -> None:
        for first, second in itertools.combinations(WORDS, 2):
            found = judge(None, None, None, (second, B), (first, A))
            self.assertEqual(identity.Identity(A, Evidence(first)), found.identity)
            self.assertTrue(judge(None, None, None, (first, A), (first, B)).is_disputed)

    @given(optional, optional, optional, told, st.randoms(use_true_random=False))
    def test_the_order_and_the_case_do_not_matter(
        self,
        alias: str | None,
        serial: str | None,
        named: str | None,
        words: list[tuple[str, str]],
        random: random_module.Random,
    ) -> None:
        found = judge(alias, serial, named, *words)
        shuffled = [(told_by, device_id.upper()) for told_by, device_id in words]
        random.shuffle(shuffled)
        capitals = serial.upper() if serial else None, named.upper() if named else None
        self.assertEqual(found, judge(alias, *capitals, *shuffled))

    @given(optional, optional, optional, told)
    def test_no_id_comes_from_nowhere(
        self, alias: str | None, serial: str | None, named: str | None, words: list[tuple[str, str]]
    ) -> None:
        found = judge(alias, serial, named, *words)
        self.assertLessEqual(found.ids, {alias, serial, named, *(device_id for _told_by, device_id in words)})
        if found.identity is not None and not words:
            self.assertNotEqual(Evidence.SOURCE_NAME, found.identity.evidence)
            # Nothing that proves an id is overruled without a word, but for a stale serial under an alias.
            self.assertIn(found.identity.device_id, {alias, serial})


class ClaimTestCase(base.TestCase):
    @given(strategies.devices)
    def test_it_goes_through_json(self, element: xml.Element) -> None:
        claim = identity.claim(domain.device(element))
        self.assertEqual(claim, identity.Claim(**json.loads(json.dumps(dataclasses.asdict(claim)))))

    @given(strategies.devices, strategies.ids)
    def test_what_is_kept_of_a_device_fits_it_and_holds_no_place(self, element: xml.Element, device_id: str) -> None:
        device = domain.device(element)
        kept = identity.lasting(device, device_id)
        if kept is not None:
            self.assertTrue(kept.fits(device))
            self.assertIsNone(kept.address)
            if kept.target is not None:
                self.assertEqual('interface', kept.kind)
                self.assertFalse(names.is_made_up(kept.target))

    def test_what_the_next_device_has_is_not_kept(self) -> None:
        for source in (
            "dev='/dev/sdb'",
            "dev='/dev//sdb'",
            "dev='/dev/block/8:16'",
            "dev='/dev/disk/by-label/DATA'",
            f"dev='/dev/disk/by-label/volume-{A}'",
            "dev='/dev/disk/by-path/pci-0000:01:00.0-fc-0x5000-lun-1'",
            "dev='/dev/./disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-01.com.array:one-lun-1'",
            "protocol='nbd' name='x'",
            f"protocol='nbd' name='volume-{A}'",
            "protocol='iscsi' name='iqn.2010-01.com.array:one/1'",
            "protocol='iscsi' name='iqn.2010-01.com.array:one'",
            "pool='array' volume='unit:0:0:1'",
        ):
            for serial in ('', 'DATA'):
                device = domain.device(xml.parse(f'<disk><source {source}/><serial>{serial}</serial></disk>'))
                self.assertIsNone(identity.lasting(device, A), source)

    def test_what_stays_with_the_device_is_kept(self) -> None:
        for source in (
            "file='/srv/disk.img'",
            "dev='/dev/disk/by-id/wwn-0x5000'",
            "dev='/dev/mapper/vg-lv'",
            f"dev='/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-10.org.openstack:volume-{A}-lun-1'",
            f"protocol='iscsi' name='iqn.2010-10.org.openstack:volume-{A}/1'",
            "protocol='rbd' name='volumes/disk'",
            "pool='local' volume='disk.img'",
        ):
            device = domain.device(xml.parse(f'<disk><source {source}/><serial>DATA</serial></disk>'))
            kept = identity.lasting(device, A)
            self.assertEqual((device.source, 'DATA'), (getattr(kept, 'source', None), getattr(kept, 'serial', None)))

    def test_a_serial_that_is_an_id_tells_a_disk_from_the_next(self) -> None:
        device = domain.device(xml.parse(f"<disk><source dev='/dev/sdb'/><serial>{A}</serial></disk>"))
        self.assertEqual(A, getattr(identity.lasting(device, A), 'serial', None))
