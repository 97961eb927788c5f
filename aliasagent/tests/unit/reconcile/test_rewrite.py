# SPDX-License-Identifier: Apache-2.0
"""Aliases into the definition with which a running guest goes on."""

import collections
import copy

from hypothesis import given
from lxml import etree

from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.reconcile import rewrite
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import MAC
from aliasagent.tests.unit.devices import definitions
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies

X = ids.VOLUME
Y = ids.OTHER_VOLUME


def definition(*devices: str) -> Domain:
    return Domain.parse(f'<domain><devices>{"".join(devices)}</devices></domain>')


def disk(source: str, *, serial: str = '', alias: str = '', target: str = 'vda') -> str:
    return (
        f"<disk type='file'><source file='{source}'/><target dev='{target}'/>"
        f'{f"<serial>{serial}</serial>" if serial else ""}{_alias(alias)}</disk>'
    )


def nic(mac: str, *, interfaceid: str = '', alias: str = '') -> str:
    port = f"<virtualport><parameters interfaceid='{interfaceid}'/></virtualport>" if interfaceid else ''
    return f"<interface type='bridge'><mac address='{mac}'/>{port}{_alias(alias)}</interface>"


def _alias(name: str) -> str:
    return f"<alias name='{name}'/>" if name else ''


class RewriteTestCase(base.TestCase):
    def aliases(self, live: Domain, other: Domain | None = None) -> list[str | None]:
        """What the devices are called afterwards; and the function says so itself."""
        before = [device.alias for device in live.devices()]
        set_ = rewrite.give(live, other)
        after = [device.alias for device in live.devices()]
        self.assertEqual(set(set_), {now for was, now in zip(before, after, strict=True) if was != now})
        self.assertEqual({}, rewrite.give(live, other))
        return after

    def test_by_what_the_device_itself_says(self) -> None:
        for other in (None, definition(), definition(disk('/a', serial=X))):
            live = definition(disk('/a', serial=X), disk('/b'), nic(MAC, interfaceid=Y))
            self.assertEqual([f'ua-{X}', None, f'ua-{Y}'], self.aliases(live, other))

    def test_by_the_other_side(self) -> None:
        live = definition(disk('/a'), nic(MAC), disk('/c', alias='virtio-disk7'))
        other = definition(nic(MAC, alias='ua-port'), disk('/a', alias='ua-volume'), disk('/c', alias='ua-c'))
        self.assertEqual(['ua-volume', 'ua-port', 'ua-c'], self.aliases(live, other))

    def test_never_by_position(self) -> None:
        live = definition(disk('/new', target='vda'))
        self.assertEqual([None], self.aliases(live, definition(disk('/old', target='vda', alias='ua-old'))))

    def test_never_by_what_two_devices_have_in_common(self) -> None:
        one = definition(nic(MAC, alias='ua-1'), nic(MAC))
        two = definition(nic(MAC, alias='ua-1'), nic(MAC, alias='ua-2'))
        for interfaces in ([nic(MAC)], [nic(MAC), nic(MAC)], [nic(MAC, alias='ua-1'), nic(MAC)]):
            live = definition(*interfaces)
            before = [device.alias for device in live.devices()]
            for other in (one, two):
                self.assertEqual(before, self.aliases(live, other))

    def test_two_interfaces_with_one_mac_by_their_ports(self) -> None:
        live = definition(nic(MAC, interfaceid=X), nic(MAC, interfaceid=Y))
        other = definition(nic(MAC, interfaceid=Y, alias=f'ua-{Y}'), nic(MAC, interfaceid=X, alias=f'ua-{X}'))
        self.assertEqual([f'ua-{X}', f'ua-{Y}'], self.aliases(live, other))

    def test_where_the_sides_contradict_each_other_nothing_is_done(self) -> None:
        for live, other in (
            # the other side calls the disk something else
            (disk('/a', serial=X), disk('/a', serial=X, alias='ua-else')),
            # the other side has another thing by this name
            (disk(f'/volume-{X}'), nic(MAC, alias=f'ua-{X}')),
        ):
            self.assertEqual([None], self.aliases(definition(live), definition(other)))

    def test_a_device_that_two_of_the_other_side_could_be(self) -> None:
        other = definition(disk('/a', alias='ua-1'), disk('/a', alias='ua-2'))
        self.assertEqual([None], self.aliases(definition(disk('/a')), other))

    def test_an_alias_that_is_there_stays(self) -> None:
        live = definition(disk('/a', serial=X, alias='ua-mine'), disk('/b', serial=Y, alias='ua-'))
        other = definition(disk('/a', serial=X, alias=f'ua-{X}'), disk('/b', serial=Y, alias=f'ua-{Y}'))
        self.assertEqual(['ua-mine', 'ua-'], self.aliases(live, other))

    def test_memory_and_what_else_is_no_device_of_ours_is_left_alone(self) -> None:
        devices = ("<memory model='dimm'><target><node>0</node></target></memory>", '<rng/>', '<video/>')
        named = tuple(text.replace('</memory>', "<alias name='ua-dimm'/></memory>") for text in devices)
        named = (named[0], "<rng><alias name='ua-rng'/></rng>", named[2])
        self.assertEqual([None] * 3, self.aliases(definition(*devices), definition(*named)))
        self.assertEqual(['ua-dimm', 'ua-rng', None], self.aliases(definition(*named), definition(*devices)))

    def test_an_alias_that_libvirt_would_drop(self) -> None:
        other = definition(disk('/a', alias='ua-None'), disk('/b', alias='ua-a b'))
        self.assertEqual([None, None], self.aliases(definition(disk('/a'), disk('/b')), other))

    def test_by_what_is_known_from_elsewhere(self) -> None:
        live = definition(nic(MAC))
        record = plan.Record(X, 'interface', 'inventory', mac=MAC)
        self.assertEqual([f'ua-{X}'], list(rewrite.give(live, definition(nic(MAC)), [record])))

    def test_real_guests(self) -> None:
        for name in definitions.NAMES:
            live, other = Domain.parse(definitions.text(name)), Domain.parse(definitions.text(name))
            expected = [step.alias for step in plan.plan(live) if step.outcome is plan.Outcome.GETS_ALIAS]
            before = live.without_aliases()
            self.assertEqual(expected, list(rewrite.give(live, other)), name)
            self.assertEqual(before, live.without_aliases())


class AnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains(), strategies.domains())
    def test_it_sets_aliases_and_changes_nothing_else(self, root: etree._Element, other: etree._Element) -> None:
        live = Domain(root)
        plain, abroad = live.without_aliases(), etree.tostring(other)
        before = snapshot.take_all(root)
        claimed = [(device.element, device.alias) for device in live.devices() if device.is_claimed]
        names = rewrite.give(live, Domain(other))
        changed, added = snapshot.changed(before), snapshot.added(before, root)
        self.assertEqual(len(names), len(changed) + len(added))
        self.assertEqual(set(), ({node.tag for node in changed} | {element.tag for element in added}) - {'alias'})
        self.assertEqual(plain, live.without_aliases())
        self.assertEqual(abroad, etree.tostring(other))
        for element, name in claimed:
            self.assertEqual([name], element.xpath('alias[1]/@name'))

    @given(strategies.domains(), strategies.domains())
    def test_each_is_given_once_and_nothing_is_left_to_do(self, root: etree._Element, other: etree._Element) -> None:
        live = Domain(root)
        names = rewrite.give(live, Domain(other))
        held = collections.Counter(device.alias for device in live.devices())
        for name in names:
            self.assertEqual(1, held[name])
        self.assertEqual({}, rewrite.give(live, Domain(other)))

    @given(strategies.domains())
    def test_of_a_definition_that_is_its_own_other_side_it_is_the_plan(self, root: etree._Element) -> None:
        live, same = Domain(copy.deepcopy(root)), Domain(copy.deepcopy(root))
        planned = {step.alias for step in plan.plan(live) if step.outcome is plan.Outcome.GETS_ALIAS}
        self.assertLessEqual(set(rewrite.give(live, same)), planned)
