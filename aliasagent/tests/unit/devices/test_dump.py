# SPDX-License-Identifier: Apache-2.0
"""One device is cut out of a text just as a parse of all of it finds it, or is left to the parse."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.devices import dump
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.devices import definitions

ONE, OTHER = (f'ua-{uuid.UUID(int=number)}' for number in (1, 2))
TEXT = f"""\
<domain type='kvm' id='7'>
  <name>guest</name>
  <uuid>5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c01</uuid>
{{metadata}}  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <source file='/srv/{{file}}'/>
      <target dev='sda' bus='scsi'/>
      <serial>{{serial}}</serial>
      <alias name='{ONE}'/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <controller type='usb' index='0' model='none'/>
    <interface type='bridge'>
      <mac address='52:54:00:11:22:33'/>
      <source bridge='br0'/>
      <alias name='{OTHER}'/>
    </interface>
  </devices>
</domain>
"""
#: Somebody else's words, as libvirt writes them again, with what looks like a device in it.
METADATA = f"""\
  <metadata>
    <x:app xmlns:x="urn:x"><metadata/><![CDATA[</metadata>]]>
  <devices>
    <disk type='file' device='disk'>
      <source file='/wrong'/>
      <alias name='{ONE}'/>
    </disk>
  </devices>
</x:app>
  </metadata>
"""


def text(metadata: str = '', file: str = 'disk', serial: str = '1') -> str:
    return TEXT.format(metadata=metadata, file=file, serial=serial)


class TestDump(base.TestCase):
    def assert_same(self, written: str, alias: str, *, cut: bool = True) -> None:
        """A text tells the same of an alias when it is read as when it is parsed."""
        self.assertEqual(cut, dump.is_whole(written) and dump.with_alias(written, alias) is not None)
        read, parsed = Domain.read(written), Domain.parse(written)
        self.assertEqual(
            [found.to_xml() for found in parsed.by_alias(alias)], [found.to_xml() for found in read.by_alias(alias)]
        )
        self.assertEqual(parsed.is_live, Domain.read(written).is_live)
        self.assert_same_unclaimed(written)

    def assert_same_unclaimed(self, written: str) -> None:
        def found(definition: Domain) -> tuple[list[str], frozenset[str]]:
            unclaimed = [re.sub(' xmlns:[^ >]*', '', it.to_xml()) for it in definition.unclaimed()]
            return unclaimed, definition.ports()

        self.assertEqual(found(Domain.parse(written)), found(Domain.read(written)))

    def test_device_is_cut_out(self) -> None:
        self.assert_same(text(), ONE)
        self.assert_same(text(), OTHER)
        (found,) = Domain.read(text()).by_alias(OTHER)
        self.assertEqual('interface', found.kind)

    def test_device_is_not_there(self) -> None:
        self.assert_same(text(), f'ua-{uuid.uuid4()}')

    def test_all_of_several_with_one_alias(self) -> None:
        written = text().replace(OTHER, ONE)
        self.assert_same(written, ONE)
        self.assertEqual(2, len(Domain.read(written).by_alias(ONE)))

    def test_one_of_them_in_another_form(self) -> None:
        written = text().replace(f"<alias name='{OTHER}'/>", f'<alias name="{ONE}"/>')
        self.assert_same(written, ONE, cut=False)
        self.assertEqual(2, len(Domain.read(written).by_alias(ONE)))

    def test_part_of_an_alias_is_another(self) -> None:
        self.assert_same(text(), ONE[:-1], cut=False)

    def test_name_that_is_elsewhere_is_no_alias(self) -> None:
        self.assert_same(text(serial=f'ua-{uuid.UUID(int=3)}'), f'ua-{uuid.UUID(int=3)}', cut=False)

    def test_metadata_is_nobodys_device(self) -> None:
        self.assert_same(text(METADATA), ONE)
        (found,) = Domain.read(text(METADATA)).by_alias(ONE)
        self.assertEqual('/srv/disk', found.source)
        (without,) = Domain.read(text(METADATA).replace('sda', 'sdb')).by_alias(OTHER)
        self.assertEqual('interface', without.kind)

    def test_metadata_alone_names_it(self) -> None:
        unnamed = TEXT.replace(f"      <alias name='{ONE}'/>\n", '').format(metadata=METADATA, file='x', serial='1')
        self.assert_same(unnamed, ONE, cut=False)
        self.assertEqual([], Domain.read(unnamed).by_alias(ONE))

    def test_other_forms_are_parsed(self) -> None:
        self.assert_same(text().replace("'", '"'), ONE, cut=False)
        self.assert_same(text().replace('\n    ', '\n'), ONE, cut=False)
        self.assert_same(text().replace('\n      ', ''), ONE, cut=False)
        self.assert_same(text().replace('ua-', '&#117;a-'), ONE, cut=False)
        self.assert_same(text().replace('<serial>', '<alias name="x"/><serial>'), ONE, cut=False)
        self.assert_same(f'<?xml version="1.0"?>\n{text()}', ONE, cut=False)

    def test_breaks_in_values(self) -> None:
        for file in ('a&lt;b', 'a\n    &lt;disk', 'a\n    b', 'ü', '&#10;    &lt;/disk&gt;'):
            self.assert_same(text(file=file), ONE)

    def test_comment_that_looks_like_the_device(self) -> None:
        # libvirt writes no comments among the devices, for it keeps none.
        comment = f"    <!--\n    <disk>\n      <alias name='{ONE}'/>\n    </disk>\n-->\n"
        written = text().replace('    <controller', f'{comment}    <controller')
        self.assertEqual([ONE], [found.alias for found in Domain.parse(written).by_alias(ONE)])

    def test_devices_without_user_alias_need_no_parse(self) -> None:
        broken = Domain.read(text(METADATA).replace('<name>', '<other>'))
        self.assertEqual(['controller'], [found.kind for found in broken.unclaimed()])
        self.assertEqual(frozenset(), broken.ports())
        for alias in (ONE, OTHER):
            written = text().replace(f"      <alias name='{alias}'/>\n", "      <alias name='net0'/>\n")
            self.assert_same_unclaimed(written)
            self.assertEqual(2, len(Domain.read(written).unclaimed()))

    def test_user_alias_in_another_form(self) -> None:
        for form in (
            f'\n      <alias name="{ONE}"/>\n',
            f"\n<alias name='{ONE}'/>\n",
            f"\n      <alias  name='{ONE}'/>\n",
            f"\n      <alias name='{ONE}' x='y'/>\n",
            f"\n      <alias name='{ONE.replace('u', '&#117;')}'/>\n",
            "\n      <alias name='scsi0'/>\n      <alias name='ua-x'/>\n",
            "\n      <x>\n        <alias name='ua-x'/>\n      </x>\n",
            "\n    <disk>\n      <alias name='ua-x'/>\n    </disk>\n",
            "\n    <!--\n    <disk>\n      <alias name='ua-x'/>\n    </disk>\n-->\n",
        ):
            self.assert_same_unclaimed(text().replace(f"\n      <alias name='{ONE}'/>\n", form))

    def test_runtime_id(self) -> None:
        for head, number, cut in (
            ("<domain type='kvm' id='7'>", '7', True),
            ("<domain id='12' type='kvm'>", '12', True),
            ("<domain type='kvm' xmlns:qemu='urn:q' id='7'>", '7', True),
            ("<domain type='kvm' x=\" id='1'\" id='7'>", '7', True),
            ("<domain type='kvm'>", None, False),
            ("<domain type='kvm' xmlns:id='urn:x:id=1'>", None, False),
            # libvirt writes none of these
            ("<domain type='kvm' id=\"7\">", '7', False),
            ("<domain type='kvm' id='&#55;'>", '7', False),
            ("<domain type='kvm' id='7a'>", '7a', False),
            ("<domain type='kvm' id=''>", '', False),
            ("<domain type='kvm' id = '7'>", '7', False),
        ):
            written = text().replace("<domain type='kvm' id='7'>", head)
            self.assertEqual(number if cut else None, dump.runtime_id(written), head)
            for definition in (Domain.read(written), Domain.parse(written)):
                self.assertEqual(number, definition.runtime_id, head)
            if ' = ' not in head:
                for definition in (Domain.read(written), Domain.parse(written)):
                    self.assertEqual(number is not None, definition.is_live, head)

    def test_runtime_id_needs_no_parse(self) -> None:
        broken = Domain.read(text().replace('<name>', '<other>'))
        self.assertEqual('7', broken.runtime_id)
        self.assertEqual([], broken.by_alias(f'ua-{uuid.uuid4()}'))

    def test_what_makes_no_sense_is_told(self) -> None:
        self.assertRaises(exception.InvalidXML, Domain.read, text()[:-20])
        broken = Domain.read(text().replace('<name>', '<other>'))
        self.assertRaises(exception.InvalidXML, lambda: broken.root)

    def test_real_definitions(self) -> None:
        for name in definitions.NAMES:
            written = definitions.text(name).decode()
            self.assert_same_unclaimed(written)
            for found in Domain.parse(written).devices():
                if found.is_claimed:
                    assert found.alias is not None
                    read = Domain.read(written).by_alias(found.alias)
                    # Of a definition with namespaces, a device that is cut out does not repeat them.
                    self.assertEqual(
                        [re.sub(' xmlns:[^ >]*', '', found.to_xml())],
                        [re.sub(' xmlns:[^ >]*', '', one.to_xml()) for one in read],
                    )

    @given(st.text(st.characters(codec='utf-8', exclude_categories=('Cs', 'Cc')), max_size=30))
    def test_any_path(self, path: str) -> None:
        escaped = path.replace('&', '&amp;').replace('<', '&lt;').replace("'", '&apos;').replace('>', '&gt;')
        self.assert_same(text(file=escaped), ONE)
