# SPDX-License-Identifier: Apache-2.0
"""What is found in a definition's text is what a parse of all of it finds, or fails as it does."""

import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import dump
from aliasagent.devices import identity
from aliasagent.devices import xml
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.unit.devices import strategies
from aliasagent.tests.unit.devices import test_find

X = ids.VOLUME
DASHED = X.replace('-', '--')
#: One device each, with evidence of :data:`X` in one of its forms.
DEVICES = (
    f"<disk type='file'>\n      <serial>{X.upper()}</serial>\n    </disk>",
    f"<disk type='block'>\n      <source dev='/dev/mapper/vg-volume--{DASHED}'/>\n    </disk>",
    f"<disk type='file'>\n      <source file='/srv/volume-{X.upper()}.raw'/>\n    </disk>",
    f"<disk type='network'>\n      <source protocol='iscsi' name='iqn.x:volume-{X}/1'/>\n    </disk>",
    f"<disk type='file'>\n      <serial>{ids.OTHER_VOLUME}</serial>\n      <alias name='ua-{X.upper()}'/>\n    </disk>",
    f"<disk type='file'>\n      <serial>{X}</serial>\n      <alias name='ua-{ids.OTHER_VOLUME}'/>\n    </disk>",
    f"<disk type='file'>\n      <serial>&#{ord(X[0])};{X[1:]}</serial>\n    </disk>",
    f"<hostdev type='mdev'>\n      <source>\n        <address uuid='{X}'/>\n      </source>\n    </hostdev>",
    f"<interface type='ethernet'>\n      <target dev='tap{X[:11]}'/>\n    </interface>",
    f"<interface type='vhostuser'>\n      <source path='/run/vhu{X[:11].upper()}'/>\n    </interface>",
    f"<interface type='bridge'>\n      <virtualport>\n        <parameters interfaceid='{X}'/>\n      </virtualport>\n"
    '    </interface>',
)
TEXT = f"""\
<domain type='kvm'>
  <metadata>
    <nova:ports xmlns:nova='{strategies.NOVA}'><nova:port uuid='{X}'/></nova:ports>
  </metadata>
  <devices>
    <controller type='usb'/>
    {{device}}
  </devices>
</domain>
"""

records = st.lists(
    st.builds(
        Record,
        device_id=strategies.ids,
        kind=st.sampled_from(['disk', 'interface', 'hostdev']),
        told_by=st.sampled_from([Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.ATTACH]),
        source=st.sampled_from([None, '/dev/sdb', '/dev/sdc']),
        mac=st.sampled_from([None, *strategies.MACS]),
    ),
    max_size=2,
)


def whole(root: xml.Element) -> str:
    """A definition's text in libvirt's form, as far as a tree of anything allows."""
    xml.strip_blanks(root)
    etree.indent(root)
    return xml.to_text(root).replace("'", '&apos;').replace('"', "'") + '\n'


def outcome(find: Callable[[], Any]) -> Any:
    """What is found, or how the search fails."""
    try:
        found = find()
    except exception.AliasAgentError as error:
        return type(error), str(error)
    return [None if it is None else (xml.to_text(it.device.element).split('>')[1:], it.evidence) for it in found]


class TextTestCase(base.TestCase):
    def assert_same(self, written: str, ask: Callable[[Domain], Any]) -> None:
        read, parsed = Domain.read(written), Domain.parse(written)
        self.assertEqual(outcome(lambda: ask(parsed)), outcome(lambda: ask(read)), written)

    def test_evidence_of_every_form(self) -> None:
        for device in DEVICES:
            written = TEXT.format(device=device)
            self.assertTrue(dump.is_whole(written))
            for device_id in (X, X.upper(), ids.OTHER_VOLUME, str(uuid.uuid4()), 'x'):
                self.assert_same(written, lambda domain: [identity.find(domain, device_id)])  # noqa: B023
            self.assertNotEqual([None], outcome(lambda: [identity.find(Domain.read(written), X)]), device)  # noqa: B023

    @given(strategies.domains(), strategies.ids, test_find.claims, records)
    def test_any_definition(
        self, root: xml.Element, device_id: str, claim: identity.Claim | None, records: list[Record]
    ) -> None:
        written = whole(root)
        assume(dump.is_whole(written))
        self.assert_same(written, lambda domain: [identity.find(domain, device_id, claim, records)])

    @given(strategies.domains(), strategies.metadata())
    def test_whose_the_guest_is(self, root: xml.Element, metadata: tuple[xml.Element, bool]) -> None:
        element, is_novas = metadata
        old = root.find('metadata')
        assert old is not None
        root.replace(old, element)
        self.assertIs(is_novas, Domain(root).is_novas)
        written = whole(root)
        assume(dump.is_whole(written))
        self.assertIs(is_novas, Domain.read(written).is_novas, written)

    @given(strategies.domains())
    def test_devices_without_user_alias(self, root: xml.Element) -> None:
        written = whole(root)
        assume(dump.is_whole(written))
        read, parsed = (
            [(it.kind, it.alias, len(it.element)) for it in domain.unclaimed()]
            for domain in (Domain.read(written), Domain.parse(written))
        )
        self.assertEqual(parsed, read)
        self.assertEqual(Domain.parse(written).ports(), Domain.read(written).ports())
