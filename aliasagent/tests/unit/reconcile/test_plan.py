# SPDX-License-Identifier: Apache-2.0
"""Which devices get which alias."""

import collections
import random as random_module

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.reconcile.plan import Outcome
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.unit.devices import definitions
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies

X = ids.VOLUME
Y = ids.OTHER_VOLUME

#: The outcome for each disk, interface and host device of the definitions as found on hosts.
EXPECTED = {
    'nova': [
        (Outcome.LOCAL, None),
        (Outcome.GETS_ALIAS, 'ua-7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.ALIASED, 'ua-9f5e4db0-76b7-4d30-812b-4c8e3f90bd12'),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.GETS_ALIAS, 'ua-91f04c6a-7c1b-4a6e-b8e5-3d2f1a0b9c20'),
        (Outcome.GETS_ALIAS, 'ua-c7b1e5d0-0f6a-4f0e-8a55-7d9a6b1e4f21'),
        (Outcome.UNIDENTIFIED, None),
    ],
    'sev': [
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
    ],
    'numa-hugepages': [(Outcome.UNIDENTIFIED, None), (Outcome.UNIDENTIFIED, None)],
    'qemu-commandline': [
        (Outcome.UNIDENTIFIED, None),
        (Outcome.CONFLICT, None),
        (Outcome.CONFLICT, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
    ],
    'lun': [
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
    ],
    'passthrough': [
        (Outcome.ALIASED, 'ua-17d0c538-fe3f-45b8-89a3-c405b718351a'),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.GETS_ALIAS, 'ua-28e1d649-0f40-46c9-9ab4-d516c829462b'),
        (Outcome.UNIDENTIFIED, None),
        (Outcome.UNIDENTIFIED, None),
    ],
}


def definition(*devices: str) -> Domain:
    return Domain.parse(f'<domain><devices>{"".join(devices)}</devices></domain>')


def disk(serial: str, *inner: str) -> str:
    return f'<disk><serial>{serial}</serial>{"".join(inner)}</disk>'


def alias(name: str) -> str:
    return f"<alias name='{name}'/>"


def carry_out(domain: Domain) -> int:
    """Do what the plan says, in the tree; how many devices got an alias."""
    given_ = [step for step in plan.plan(domain) if step.outcome is Outcome.GETS_ALIAS]
    for step in given_:
        step.device.alias = step.alias
    return len(given_)


def said(domain: Domain) -> list[tuple[Outcome, str | None]]:
    return [(step.outcome, step.alias) for step in plan.plan(domain)]


class PlanTestCase(base.TestCase):
    def test_real_guests(self) -> None:
        self.assertEqual(set(definitions.NAMES), set(EXPECTED))
        for name, expected in EXPECTED.items():
            self.assertEqual(expected, said(Domain.parse(definitions.text(name))), name)

    def test_real_guests_keep_all_else(self) -> None:
        for name in definitions.NAMES:
            domain = Domain.parse(definitions.text(name))
            before = snapshot.take_all(domain.root)
            carry_out(domain)
            tags = [node.tag for node in snapshot.changed(before)]
            tags += [element.tag for element in snapshot.added(before, domain.root)]
            self.assertEqual({'alias'} if tags else set(), set(tags))
            self.assertEqual(0, carry_out(domain), name)

    def test_duplicates_are_both_left_alone_and_reported(self) -> None:
        for devices in (
            (disk(X), disk(X)),
            (disk(X), disk(X.upper())),
            (disk(X), disk(X), disk(X)),
        ):
            steps = plan.plan(definition(*devices))
            self.assertEqual([Outcome.CONFLICT] * len(devices), [step.outcome for step in steps])
            for step in steps:
                self.assertIsNone(step.alias)
                self.assertIn(X, step.reason)

    def test_an_identity_that_another_device_carries_as_its_alias(self) -> None:
        for other in (
            disk(Y, alias(f'ua-{X}')),
            f'<interface>{alias(f"ua-{X}")}</interface>',
            f'<rng>{alias(f"ua-{X}")}</rng>',
            f'<filesystem>{alias(f"ua-{X}")}</filesystem>',
            # libvirt tells the case of letters apart, but it is the same volume
            disk(Y, alias(f'ua-{X.upper()}')),
        ):
            outcomes = [step.outcome for step in plan.plan(definition(other, disk(X)))]
            self.assertEqual(Outcome.CONFLICT, outcomes[-1], other)
            self.assertEqual([], [outcome for outcome in outcomes if outcome is Outcome.GETS_ALIAS])

    def test_an_existing_alias_stays_whoever_gave_it(self) -> None:
        for serial, name in ((X, f'ua-{X}'), ('', f'ua-{Y}'), (X, 'ua-'), (X, 'ua-None'), (X, 'ua-mine')):
            (step,) = plan.plan(definition(disk(serial, alias(name))))
            self.assertEqual((Outcome.ALIASED, name), (step.outcome, step.alias))

    def test_an_alias_of_libvirts_own_is_none(self) -> None:
        (step,) = plan.plan(definition(disk(X, alias('virtio-disk0'))))
        self.assertEqual((Outcome.GETS_ALIAS, f'ua-{X}'), (step.outcome, step.alias))

    def test_disks_of_nova_that_are_no_volumes(self) -> None:
        def outcome(source: str, *inner: str) -> Outcome:
            device = f"<disk type='block'><source dev='{source}'/>{''.join(inner)}</disk>"
            (step,) = plan.plan(Domain.parse(f'<domain><uuid>{Y}</uuid><devices>{device}</devices></domain>'))
            return step.outcome

        dashed = Y.replace('-', '--')
        for source in (
            *(f'/srv/nova/{Y}/disk{name}' for name in ('', '.local', '.eph0', '.swap', '.config.rescue')),
            *(f'/dev/nova/{Y}_disk', f'/dev/nova/{Y.upper()}_disk.swap', f'/dev/mapper/n--1-{dashed}_disk'),
            *(f'/dev/mapper/{Y}_disk-dmcrypt', f'/dev/mapper/{Y}_disk.eph0-dmcrypt'),
        ):
            self.assertEqual(Outcome.LOCAL, outcome(source), source)
            self.assertEqual(Outcome.GETS_ALIAS, outcome(source, f'<serial>{X}</serial>'), source)
            self.assertEqual(Outcome.ALIASED, outcome(source, alias('ua-x')), source)
        for source in (
            *(f'/srv/nova/{X}/disk', f'/dev/nova/{X}_disk', f'/srv/{Y}/disks', f'/srv/{Y}/disk/x', f'/srv/{Y}-disk'),
            *(f'/dev/mapper/{dashed}_disk', f'/dev/mapper/a-b-{dashed}_disk', f'/srv/x{Y}/disk', f'/srv/{Y}/disk.a b'),
            *(f'/dev/mapper/{X}_disk-dmcrypt', f'/dev/mapper/{Y}_disk', f'/dev/nova/{Y}_disk-dmcrypt'),
        ):
            self.assertEqual(Outcome.UNIDENTIFIED, outcome(source), source)

    def test_a_device_of_the_flavor(self) -> None:
        """A passed-through device is one only if no port of the guest is left that it could be."""
        device = (
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            "<address domain='0x0000' bus='0x81' slot='0x00' function='0x0'/></source></hostdev>"
        )
        nic = f"<interface type='ethernet'><target dev='tap{ids.PORT[:11]}'/></interface>"
        scsi = "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/></source></hostdev>"

        def outcomes(devices: str, *ports: str) -> list[Outcome]:
            listed = ''.join(f"<nova:port uuid='{port}'/>" for port in ports)
            metadata = (
                "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
                f'<nova:ports>{listed}</nova:ports></nova:instance></metadata>'
            )
            text = f'<domain><uuid>{ids.GUEST}</uuid>{metadata}<devices>{devices}</devices></domain>'
            return [step.outcome for step in plan.plan(Domain.parse(text))]

        self.assertEqual([Outcome.GETS_ALIAS, Outcome.LOCAL], outcomes(nic + device, ids.PORT))
        self.assertEqual([Outcome.GETS_ALIAS, Outcome.LOCAL, Outcome.LOCAL], outcomes(nic + device * 2, ids.PORT))
        other = ids.new_id()
        self.assertEqual([Outcome.GETS_ALIAS, Outcome.UNIDENTIFIED], outcomes(nic + device, ids.PORT, other))
        self.assertEqual([Outcome.UNIDENTIFIED, Outcome.UNIDENTIFIED], outcomes(nic + device))
        self.assertEqual([Outcome.UNIDENTIFIED], outcomes(device))
        self.assertEqual([Outcome.GETS_ALIAS, Outcome.UNIDENTIFIED], outcomes(nic + scsi, ids.PORT))

    def test_other_kinds_are_left_alone(self) -> None:
        self.assertEqual([], plan.plan(definition('<rng/>', '<video/>', f'<memory><serial>{X}</serial></memory>')))

    def test_every_step_says_why(self) -> None:
        for name in definitions.NAMES:
            for step in plan.plan(Domain.parse(definitions.text(name))):
                self.assertTrue(step.reason)


class AnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains())
    def test_a_plan_changes_nothing(self, root: etree._Element) -> None:
        before = snapshot.take_all(root)
        plan.plan(Domain(root))
        self.assertEqual([], snapshot.changed(before))
        self.assertEqual([], snapshot.added(before, root))

    @given(strategies.domains())
    def test_carried_out_once_leaves_nothing_to_do(self, root: etree._Element) -> None:
        domain = Domain(root)
        first = plan.plan(domain)
        carry_out(domain)
        second = plan.plan(domain)
        for before, after in zip(first, second, strict=True):
            expected = Outcome.ALIASED if before.outcome is Outcome.GETS_ALIAS else before.outcome
            self.assertEqual((expected, before.alias), (after.outcome, after.alias))

    @given(strategies.domains())
    def test_carried_out_it_changes_aliases_only_and_no_user_alias(self, root: etree._Element) -> None:
        domain = Domain(root)
        plain = domain.without_aliases()
        before = snapshot.take_all(root)
        claimed = [(device.element, device.alias) for device in domain.devices() if device.is_claimed]
        count = carry_out(domain)
        changed, added = snapshot.changed(before), snapshot.added(before, root)
        self.assertEqual(count, len(changed) + len(added))
        for node in changed:
            now = snapshot.take(node.node)
            self.assertEqual(('alias', node.text, node.tail), (node.tag, now.text, now.tail))
        for element in added:
            self.assertEqual('alias', element.tag)
        for element, name in claimed:
            self.assertEqual([name], element.xpath('alias[1]/@name'))
        self.assertEqual(plain, domain.without_aliases())

    @given(strategies.domains())
    def test_it_makes_no_alias_twice(self, root: etree._Element) -> None:
        domain = Domain(root)
        before = collections.Counter(device.alias for device in domain.devices() if device.is_claimed)
        carry_out(domain)
        after = collections.Counter(device.alias for device in domain.devices() if device.is_claimed)
        for name in after - before:
            self.assertEqual(1, after[name])


def _records() -> st.SearchStrategy[list[plan.Record]]:
    """What an inventory may say of random definitions: right, wrong, and about what is not there."""
    optional = st.none() | st.sampled_from(['/dev/sdb', 'vda', 'vdb', 'tap0', '52:54:00:00:00:01', '0000:06:12.5'])
    record = st.builds(
        plan.Record,
        strategies.ids,
        st.sampled_from(sorted(plan.KINDS)),
        st.just('inventory'),
        mac=optional,
        host_address=optional,
        source=optional,
        target=optional,
    )
    return st.lists(record, max_size=6)


class RecordsInAnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains(), _records(), st.randoms(use_true_random=False))
    def test_their_order_does_not_matter(
        self, root: etree._Element, records: list[plan.Record], random: random_module.Random
    ) -> None:
        shuffled = list(records)
        random.shuffle(shuffled)
        first, second = plan.plan(Domain(root), records), plan.plan(Domain(root), shuffled)
        self.assertEqual(
            [(step.outcome, step.reason, step.alias) for step in first],
            [(step.outcome, step.reason, step.alias) for step in second],
        )

    @given(strategies.domains(), _records())
    def test_carried_out_it_changes_aliases_only_and_makes_none_twice(
        self, root: etree._Element, records: list[plan.Record]
    ) -> None:
        domain = Domain(root)
        plain = domain.without_aliases()
        before = collections.Counter(device.alias for device in domain.devices() if device.is_claimed)
        for step in plan.plan(domain, records):
            if step.outcome is Outcome.GETS_ALIAS:
                step.device.alias = step.alias
        after = collections.Counter(device.alias for device in domain.devices() if device.is_claimed)
        self.assertEqual(plain, domain.without_aliases())
        self.assertEqual(before, before & after)
        for name in after - before:
            self.assertEqual(1, after[name])
        left = [step for step in plan.plan(domain, records) if step.outcome is Outcome.GETS_ALIAS]
        self.assertEqual([], left)
