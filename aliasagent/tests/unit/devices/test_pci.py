# SPDX-License-Identifier: Apache-2.0

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent.devices import pci
from aliasagent.tests import base

addresses = st.from_regex(r'([0-9a-f]{4}|[1-9a-f][0-9a-f]{7}):[0-9a-f]{2}:[01][0-9a-f]\.[0-7]', fullmatch=True)


class PciTestCase(base.TestCase):
    def test_one_address_however_it_is_written(self) -> None:
        for text in (
            "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>",
            "<address type='pci' domain='0' bus='6' slot='18' function='5'/>",
            "<address bus='0X6' slot='022' function='05'/>",
            "<address domain='0x0' bus=' 0x06 ' slot='0x12' function='0x5' multifunction='on'/>",
        ):
            self.assertEqual('0000:06:12.5', pci.read(etree.fromstring(text)), text)

    def test_what_is_no_address(self) -> None:
        self.assertIsNone(pci.read(None))
        for text in ("<address type='drive' bus='0'/>", "<address bus='six'/>", "<address bus='09'/>"):
            self.assertIsNone(pci.read(etree.fromstring(text)), text)

    def test_valid(self) -> None:
        for address in ('0000:06:12.5', 'ABCD:ff:1F.7', '00010000:00:00.0'):
            self.assertTrue(pci.is_valid(address), address)
        for address in ('', '06:12.5', '0000:06:20.0', '0000:06:12.8', '0000:06:12.5 ', '0000:6:12.5', 'g000:06:12.5'):
            self.assertFalse(pci.is_valid(address), address)

    @given(addresses)
    def test_what_is_written_is_read(self, address: str) -> None:
        source = etree.Element('source')
        pci.write(source, address.upper())
        pci.write(source, address)  # again: still one
        self.assertEqual(1, len(source))
        self.assertEqual(address, pci.read(source.find('address')))
        self.assertTrue(pci.is_valid(address))
