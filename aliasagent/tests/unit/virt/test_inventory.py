# SPDX-License-Identifier: Apache-2.0
"""A guest's devices as one list."""

import collections

from hypothesis import given
from lxml import etree

from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.unit.devices import definitions
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies
from aliasagent.virt import inventory
from aliasagent.virt.guest import Definitions
from aliasagent.virt.inventory import Entry

X = ids.VOLUME
Y = ids.OTHER_VOLUME


def definition(*devices: str) -> Domain:
    return Domain.parse(f'<domain><devices>{"".join(devices)}</devices></domain>')


def disk(target: str, *inner: str) -> str:
    return f"<disk><target dev='{target}'/>{''.join(inner)}</disk>"


def alias(name: str) -> str:
    return f"<alias name='{name}'/>"


def entries(live: Domain | None, persistent: Domain | None) -> list[Entry]:
    return inventory.entries(Definitions(live=live, persistent=persistent))


class EntriesTestCase(base.TestCase):
    def test_on_both_sides_it_is_one(self) -> None:
        both = definition(disk('vdb', alias(f'ua-{X}')))
        self.assertEqual([Entry(X, 'disk', f'ua-{X}', 'vdb', live=True, persistent=True)], entries(both, both))

    def test_on_one_side(self) -> None:
        one, none = definition(disk('vdb', alias(f'ua-{X}'))), definition()
        expected = Entry(X, 'disk', f'ua-{X}', 'vdb')
        for live in (True, False):
            expected.live, expected.persistent = live, not live
            self.assertEqual([expected], entries(one if live else none, none if live else one))
            self.assertEqual([expected], entries(one if live else None, None if live else one))

    def test_neither_running_nor_persistent(self) -> None:
        self.assertEqual([], entries(None, None))

    def test_the_alias_on_one_side_and_the_identity_on_the_other(self) -> None:
        live = definition(disk('vdb', f'<serial>{X}</serial>', alias('virtio-disk1')))
        persistent = definition(disk('vdb', f'<serial>{X}</serial>', alias(f'ua-{X}')))
        self.assertEqual([Entry(X, 'disk', f'ua-{X}', 'vdb', live=True, persistent=True)], entries(live, persistent))

    def test_an_alias_of_libvirts_own_is_not_shown(self) -> None:
        live = definition(disk('vda', alias('virtio-disk0')))
        self.assertEqual([Entry(None, 'disk', None, 'vda', live=True)], entries(live, None))

    def test_a_tap_has_its_name_only_while_the_guest_runs(self) -> None:
        live = definition(f"<interface><target dev='vnet3'/>{alias(f'ua-{X}')}</interface>")
        persistent = definition(f'<interface>{alias(f"ua-{X}")}</interface>')
        (entry,) = entries(live, persistent)
        self.assertEqual(('vnet3', True, True), (entry.target, entry.live, entry.persistent))

    def test_two_volumes_at_one_place_are_two(self) -> None:
        live, persistent = definition(disk('vdb', alias('ua-x'))), definition(disk('vdb', alias('ua-y')))
        self.assertEqual({'x', 'y'}, {entry.id for entry in entries(live, persistent)})

    def test_duplicates_are_each_shown(self) -> None:
        both = definition(disk('vda', alias('ua-x')), disk('vdb', alias('ua-x')), '<rng/>', '<rng/>')
        self.assertEqual(4, len(entries(both, both)))
        self.assertTrue(all(entry.live and entry.persistent for entry in entries(both, both)))

    def test_a_disputed_device_goes_by_no_id_until_somebody_says_whose_it_is(self) -> None:
        both = definition(disk('vdb', alias(f'ua-{X}'), f'<serial>{X}</serial>', f"<source file='/srv/volume-{Y}'/>"))
        self.assertEqual([Entry(None, 'disk', f'ua-{X}', 'vdb', live=True, persistent=True)], entries(both, both))
        told = Record(Y, 'disk', 'earlier inventory', source=f'/srv/volume-{Y}')
        (entry,) = inventory.entries(Definitions(live=both, persistent=both), [told])
        self.assertEqual(Y, entry.id)

    def test_a_bare_prefix_is_shown_as_it_is(self) -> None:
        (entry,) = entries(definition(disk('vda', alias('ua-'))), None)
        self.assertEqual((None, 'ua-'), (entry.id, entry.alias))

    def test_real_guests(self) -> None:
        for name in definitions.NAMES:
            domain = Domain.parse(definitions.text(name))
            shown = entries(domain, domain)
            self.assertEqual([device.kind for device in domain.devices()], [entry.kind for entry in shown], name)


class AnyDefinitionTestCase(base.TestCase):
    @given(strategies.domains(), strategies.domains())
    def test_listing_never_raises_and_shows_each_device(self, live: etree._Element, persistent: etree._Element) -> None:
        before = snapshot.take_all(live) + snapshot.take_all(persistent)
        for sides in ((live, persistent), (live, None), (None, persistent)):
            domains = [None if root is None else Domain(root) for root in sides]
            shown = entries(*domains)
            counts = [
                collections.Counter() if domain is None else collections.Counter(d.kind for d in domain.devices())
                for domain in domains
            ]
            self.assertEqual(counts[0], collections.Counter(entry.kind for entry in shown if entry.live))
            self.assertEqual(counts[1], collections.Counter(entry.kind for entry in shown if entry.persistent))
        self.assertEqual([], snapshot.changed(before))

    @given(strategies.domains())
    def test_the_same_on_both_sides_is_shown_once(self, root: etree._Element) -> None:
        domain = Domain(root)
        shown = entries(domain, domain)
        self.assertEqual(len(list(domain.devices())), len(shown))
        self.assertTrue(all(entry.live and entry.persistent for entry in shown))
