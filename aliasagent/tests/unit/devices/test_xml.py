# SPDX-License-Identifier: Apache-2.0
"""Reading XML that may have been written to do harm."""

import http.server
import pathlib
import threading

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import xml
from aliasagent.devices.domain import Domain
from aliasagent.tests import base
from aliasagent.tests.unit.devices import strategies


def _bomb(expansions: int) -> str:
    entities = ''.join(
        f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, expansions)
    )
    return f'<!DOCTYPE domain [<!ENTITY e0 "boom">{entities}]><domain><name>&e{expansions - 1};</name></domain>'


class HostileTextTestCase(base.TestCase):
    def _refused(self, text: str | bytes) -> str:
        error = self.assertRaises(exception.InvalidXML, xml.parse, text)
        self.assertRaises(exception.InvalidXML, Domain.parse, text)
        return str(error)

    def test_a_bomb_does_not_go_off(self) -> None:
        self._refused(_bomb(12))

    def test_a_bomb_in_an_attribute_does_not_go_off(self) -> None:
        self._refused(_bomb(12).replace('<name>', '<name a="&e11;">'))

    def test_entities_that_are_each_other(self) -> None:
        self._refused('<!DOCTYPE d [<!ENTITY a "&b;"><!ENTITY b "&a;">]><domain>&a;</domain>')

    def test_an_external_entity_is_not_read(self) -> None:
        secret = pathlib.Path(self.make_directory(), 'secret')
        secret.write_text('TOP-SECRET')
        for declared in (f'SYSTEM "file://{secret}"', f'SYSTEM "{secret}"', f'PUBLIC "x" "file://{secret}"'):
            words = self._refused(f'<!DOCTYPE d [<!ENTITY x {declared}>]><domain><name>&x;</name></domain>')
            self.assertNotIn('TOP-SECRET', words)

    def test_nothing_is_fetched(self) -> None:
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f'http://127.0.0.1:{server.server_port}'
        self._refused(f'<!DOCTYPE d SYSTEM "{url}/dtd"><domain/>')
        self._refused(f'<!DOCTYPE d [<!ENTITY % p SYSTEM "{url}/parameter"> %p;]><domain/>')
        self._refused(f'<!DOCTYPE d [<!ENTITY x SYSTEM "{url}/entity">]><domain>&x;</domain>')
        # XInclude is no part of parsing.
        xml.parse(f'<domain xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="{url}/x"/></domain>')
        self.assertEqual([], asked)

    def test_any_document_type_is_refused(self) -> None:
        for text in ('<!DOCTYPE domain><domain/>', '<!DOCTYPE domain []><domain/>', '<!DOCTYPE d SYSTEM "x"><domain/>'):
            self._refused(text)
            self._refused(text.encode())
            self._refused(text.encode('utf-16'))

    def test_an_unknown_entity(self) -> None:
        self._refused('<domain>&nbsp;</domain>')

    def test_nested_too_deeply(self) -> None:
        self._refused('<domain>' + '<a>' * 100_000 + '</a>' * 100_000 + '</domain>')

    def test_a_name_of_a_megabyte(self) -> None:
        name = 'x' * (1 << 20)
        words = self._refused(f'<{name}/>')
        self.assertLess(len(words), 1000)
        definition = Domain.parse(f'<domain><name>{name}</name></domain>')
        self.assertEqual(name, definition.name)

    def test_an_attribute_of_a_megabyte(self) -> None:
        value = 'ua-' + 'x' * (1 << 20)
        definition = Domain.parse(f"<domain><devices><rng><alias name='{value}'/></rng></devices></domain>")
        (device,) = definition.devices()
        self.assertEqual(value, device.alias)

    def test_nothing_at_all(self) -> None:
        for text in ('', ' ', b'', '\x00', '\ufeff', '<!-- only -->', '<?xml version="1.0"?>'):
            self._refused(text)

    def test_text_that_is_no_unicode(self) -> None:
        self._refused('<domain>\ud800</domain>')
        self._refused(b'<domain>\xff\xfe</domain>')

    def test_another_root(self) -> None:
        for text in ('<domainsnapshot/>', '<x:domain xmlns:x="urn:x"/>', '<Domain/>'):
            xml.parse(text)
            self.assertRaises(exception.InvalidXML, Domain.parse, text)

    @given(st.text() | st.binary())
    @example(b"<?xml version='1.0' encoding='bogus'?><domain/>")
    @example("<?xml version='1.0' encoding='bogus'?><domain/>")
    @example("<?xml version='9.9'?><domain/>")
    @example(b'\xff\xfe<\x00')
    def test_junk_is_only_ever_refused(self, text: str | bytes) -> None:
        try:
            xml.parse(text)
        except exception.InvalidXML as error:
            self.assertTrue(str(error))

    @given(strategies.domains(), st.data())
    def test_a_changed_text_is_only_ever_refused(self, root: etree._Element, data: st.DataObject) -> None:
        text = xml.to_text(root)
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 5))
        put = data.draw(st.text(st.sampled_from('<>&;"\'/!-?[]x'), max_size=4))
        changed = text[:place] + put + text[place + length :]
        try:
            Domain.parse(changed)
        except exception.InvalidXML as error:
            self.assertTrue(str(error))


class EncodingTestCase(base.TestCase):
    def test_bytes_say_their_encoding(self) -> None:
        for encoding in ('utf-8', 'utf-16', 'iso-8859-1'):
            text = f"<?xml version='1.0' encoding='{encoding}'?><domain><name>Tür</name></domain>"
            self.assertEqual('Tür', Domain.parse(text.encode(encoding)).name)

    def test_a_text_is_what_it_is_whatever_it_says(self) -> None:
        for encoding in ('utf-8', 'latin-1', 'utf-16', 'ascii'):
            text = f"<?xml version='1.0' encoding='{encoding}'?><domain><name>Tür 🦉</name></domain>"
            self.assertEqual('Tür 🦉', Domain.parse(text).name)


class RoundTripTestCase(base.TestCase):
    @given(strategies.domains())
    def test_reading_what_was_written_gives_the_same(self, root: etree._Element) -> None:
        again = xml.parse(xml.to_text(root))
        self.assertEqual(_canonical(root), _canonical(again))

    @given(strategies.elements())
    def test_the_text_of_an_element_is_without_what_follows(self, element: etree._Element) -> None:
        parent = etree.Element('parent')
        before = _canonical(element)
        parent.append(element)
        element.tail = 'what follows'
        self.assertNotIn('what follows', xml.to_text(element))
        self.assertEqual(before, _canonical(xml.parse(xml.to_text(element))))

    def test_child_elements_are_elements(self) -> None:
        parent = xml.parse('<a>text<!-- c --><b/><?p i?><x:c xmlns:x="urn:x"/>tail</a>')
        self.assertEqual(['b', '{urn:x}c'], [str(child.tag) for child in xml.child_elements(parent)])


def _canonical(root: etree._Element) -> bytes:
    text: bytes = etree.tostring(root, method='c14n', with_comments=True, with_tail=False)
    return text
