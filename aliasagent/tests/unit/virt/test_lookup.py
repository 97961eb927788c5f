# SPDX-License-Identifier: Apache-2.0
"""The device of an id in both definitions of a guest, where one of them alone does not prove it."""

from aliasagent import exception
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Found
from aliasagent.devices.identity import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.virt import lookup
from aliasagent.virt.guest import Definitions

A = ids.VOLUME
B = ids.OTHER_VOLUME


def definition(*disks: str) -> Domain:
    return Domain.parse(f'<domain><devices>{"".join(disks)}</devices></domain>')


def disk(target: str, named: str, alias: str = '', serial: str = '') -> str:
    inner = (f'<serial>{serial}</serial>' if serial else '') + (f"<alias name='{alias}'/>" if alias else '')
    return f"<disk><source dev='/dev/vg/volume-{named}'/><target dev='{target}'/>{inner}</disk>"


class LookupTestCase(base.TestCase):
    def assert_found(self, found: tuple[Found | None, Found | None], live: str | None, persistent: str | None) -> None:
        self.assertEqual((live, persistent), tuple(it and it.device.target for it in found))

    def test_a_hint_on_one_side_and_an_alias_on_the_other(self) -> None:
        """A LUN has no serial: its alias in the saved definition, and the same source, say which it is live."""
        live, saved = definition(disk('sdb', A, 'scsi0-0-0-1')), definition(disk('sdb', A, f'ua-{A}'))
        self.assert_found(lookup.both(Definitions(live, saved), A), 'sdb', 'sdb')
        self.assert_found(lookup.both(Definitions(saved, live), A), 'sdb', 'sdb')

    def test_a_hint_on_both_sides(self) -> None:
        domain = definition(disk('sdb', A))
        for definitions in (Definitions(domain, domain), Definitions(None, domain), Definitions(domain, None)):
            error = self.assertRaises(exception.DeviceConflict, lookup.both, definitions, A)
            self.assertIn('no proof', str(error))

    def test_a_hint_that_the_other_side_does_not_settle(self) -> None:
        live, saved = definition(disk('sdb', A)), definition(disk('sdb', B, f'ua-{A}'), disk('sdc', B))
        for definitions in (Definitions(live, saved), Definitions(saved, live)):
            self.assertRaises(exception.DeviceConflict, lookup.both, definitions, A)

    def test_a_contradiction_is_settled_by_a_record_on_both_sides(self) -> None:
        """Issue 13, 18: a volume that Cinder migrated, attached here, before and after it has its alias live."""
        record = Record(A, 'disk', 'record of its attach', source=f'/dev/vg/volume-{B}')
        saved = definition(disk('sdb', B, f'ua-{A}', A))
        for live in (saved, definition(disk('sdb', B, 'scsi0-0-0-1', A)), definition(disk('sdb', B))):
            definitions = Definitions(live, saved)
            error = self.assertRaises(exception.DeviceConflict, lookup.both, definitions, A)
            for device_id in (A, B):
                self.assertIn(device_id, str(error))
            self.assertRaises(exception.DeviceConflict, lookup.both, definitions, B)
            self.assert_found(lookup.both(definitions, A, iter([record])), 'sdb', 'sdb')
            self.assert_found(lookup.both(definitions, B, iter([record])), None, None)
