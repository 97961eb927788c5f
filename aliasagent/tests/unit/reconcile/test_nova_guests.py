# SPDX-License-Identifier: Apache-2.0
"""Definitions that Nova's releases wrote: each device gets its own alias or none, and nothing else changes.

``RELEASE/written`` has them as Nova's libvirt driver wrote them, ``defined`` what libvirt 9.0 made of some of them
(``virsh dumpxml --inactive --security-info``), ``live`` those of guests that ran. ``whose.json`` names the owner of
each disk, interface and host device in the order of the definition, and the evidence that agrees with the owner
(``documented``) or names another one (``contradicted``).
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.tests import base

GUESTS = pathlib.Path(__file__).parent / 'nova_guests'


def definitions() -> Iterator[tuple[pathlib.Path, list[dict[str, Any]]]]:
    """Each definition, with whose its disks, interfaces and host devices are, in their order."""
    for whose in sorted(GUESTS.rglob('whose.json')):
        for name, devices in sorted(json.loads(whose.read_text()).items()):
            yield whose.parent / name, devices


class NovaGuestsTestCase(base.TestCase):
    def test_each_has_its_own_alias_or_none(self) -> None:
        """One whose evidence is documented and does not contradict itself has one."""
        given, count = 0, 0
        for path, truth in definitions():
            count += 1
            domain = Domain.parse(path.read_bytes())
            plain = domain.without_aliases()
            rewrite.give(domain, None)
            self.assertEqual(plain, domain.without_aliases(), str(path))
            devices = [device for device in domain.devices() if device.kind in plan.KINDS]
            for device, one in zip(devices, truth, strict=True):
                words = f'{path}: {one}'
                self.assertEqual(one['kind'], device.kind, words)
                if one['user_alias'] is not None:
                    self.assertEqual(one['user_alias'], device.alias, words)
                elif device.is_claimed:
                    self.assertEqual(f'ua-{one["id"]}'.lower(), device.alias, words)
                    given += 1
                else:
                    self.assertTrue(one['contradicted'] or not one['documented'], words)
        self.assertEqual((105, 529), (count, given))

    def test_each_is_novas(self) -> None:
        for path, _truth in definitions():
            self.assertTrue(Domain.read(path.read_text()).is_novas, str(path))

    def test_what_contradicts_itself_is_a_conflict(self) -> None:
        conflicts = 0
        for path, truth in definitions():
            steps = plan.plan(Domain.parse(path.read_bytes()))
            for step, one in zip(steps, truth, strict=True):
                is_split = bool(one['documented'] and one['contradicted'])
                self.assertEqual(is_split, step.outcome is plan.Outcome.CONFLICT, f'{path}: {one}')
                conflicts += is_split
        self.assertEqual(44, conflicts)

    def test_disks_that_are_no_volumes(self) -> None:
        count = 0
        for path, truth in definitions():
            steps = plan.plan(Domain.parse(path.read_bytes()))
            for step, one in zip(steps, truth, strict=True):
                is_local = one['kind'] == 'disk' and one['id'] is None
                self.assertEqual(is_local, step.outcome is plan.Outcome.LOCAL, f'{path}: {one}')
                count += is_local
        self.assertEqual(165, count)
