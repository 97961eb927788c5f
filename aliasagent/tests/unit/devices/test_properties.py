# SPDX-License-Identifier: Apache-2.0
"""Declared properties: each writes its own place and nothing else."""

import copy
from typing import Any

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from aliasagent import exception
from aliasagent.devices import base as devices
from aliasagent.devices import properties
from aliasagent.devices import xml
from aliasagent.tests import base
from aliasagent.tests.unit.devices import snapshot
from aliasagent.tests.unit.devices import strategies


class Sample(devices.Device):
    """Properties of every kind, on the names that the random trees have, too."""

    tag = 'sample'

    own = properties.text('@own')
    attribute = properties.text('source/@dev')
    deep = properties.text('source/driver/@name')
    word = properties.text('serial')
    deep_word = properties.text('target/serial')
    number = properties.integer('address/@bus')
    yes = properties.yes_no('driver/@yes')
    on = properties.on_off('driver/@on')
    there = properties.Presence('readonly')


def sample(text: str) -> Sample:
    return Sample(xml.parse(text))


_PLACES = ('own', 'attribute', 'deep', 'word', 'deep_word', 'alias')
samples = strategies.elements(depth=2, name=st.just('sample')).map(Sample)


class ReadTestCase(base.TestCase):
    def test_what_is_not_there_is_none(self) -> None:
        empty = Sample.new()
        for name in (*_PLACES, 'number', 'yes', 'on'):
            self.assertIsNone(getattr(empty, name), name)
        self.assertFalse(empty.there)
        self.assertEqual('<sample/>', empty.to_xml())

    def test_every_kind(self) -> None:
        full = sample(
            "<sample own='o'><source dev='d'><driver name='n'/></source><serial>s</serial><target><serial>t</serial>"
            "</target><address bus='0x1F'/><driver yes='no' on='on'/><readonly/></sample>"
        )
        self.assertEqual(('o', 'd', 'n', 's', 't'), (full.own, full.attribute, full.deep, full.word, full.deep_word))
        self.assertEqual((31, False, True, True), (full.number, full.yes, full.on, full.there))

    def test_numbers(self) -> None:
        for text, number in (('0', 0), ('17', 17), ('010', 10), ('0x10', 16), ('0X0a', 10), ('-1', -1)):
            self.assertEqual(number, sample(f"<sample><address bus='{text}'/></sample>").number)

    def test_what_makes_no_sense_is_invalid(self) -> None:
        for text in ('', 'x', '0x', '1.5', '1' * 5000):
            broken = sample(f"<sample><address bus='{text}'/><driver yes='{text}' on='yes'/></sample>")
            for name in ('number', 'yes', 'on'):
                error = self.assertRaises(exception.InvalidXML, getattr, broken, name)
                self.assertLess(len(str(error)), 200)

    @given(samples)
    def test_reading_changes_nothing(self, device: Sample) -> None:
        before = snapshot.take_all(device.element)
        for name in (*_PLACES, 'there'):
            getattr(device, name)
        for name in ('number', 'yes', 'on'):
            try:
                getattr(device, name)
            except exception.InvalidXML as error:
                self.assertTrue(str(error))
        self.assertEqual([], snapshot.changed(before))
        self.assertEqual([], snapshot.added(before, device.element))

    def test_the_class_gives_the_property_itself(self) -> None:
        self.assertEqual('source/@dev', Sample.attribute.path)
        self.assertEqual('readonly', Sample.there.path)


class WriteTestCase(base.TestCase):
    def test_what_was_taken_away_meanwhile_is_made_anew(self) -> None:
        device = Sample.new()
        device.attribute, device.deep = 'a', 'b'
        properties.remove(device.element[0])
        device.deep = 'c'
        self.assertEqual("<sample><source><driver name='c'/></source></sample>".replace("'", '"'), device.to_xml())
        device.deep = None
        device.attribute = 'd'
        self.assertEqual('<sample><source dev="d"/></sample>', device.to_xml())

    @given(samples, st.sampled_from(_PLACES), strategies.texts)
    @example(sample('<sample><alias/>tail<!-- c --></sample>'), 'alias', 'x')
    def test_writing_leaves_all_else_intact(self, device: Sample, name: str, value: str) -> None:
        before = snapshot.take_all(device.element)
        setattr(device, name, value)
        # An empty text and none are the same in XML.
        self.assertEqual(value, getattr(device, name) or '')
        changed = snapshot.changed(before)
        self.assertLessEqual(len(changed), 1)
        steps, attribute = _place(name)
        for node in changed:
            self.assertEqual(steps, _steps(node.node, device.element))
            now = snapshot.take(node.node)
            self.assertEqual((node.tail, node.parent), (now.tail, now.parent))
            others = {key: text for key, text in node.attributes.items() if key != attribute}
            self.assertEqual(others, {key: text for key, text in now.attributes.items() if key != attribute})
            if attribute is not None:
                self.assertEqual(node.text, now.text)
        for new in snapshot.added(before, device.element):
            self.assertEqual(_steps(new, device.element), steps[: len(_steps(new, device.element))])

    @given(samples, st.sampled_from(_PLACES))
    def test_removing_leaves_all_else_intact(self, device: Sample, name: str) -> None:
        before = snapshot.take_all(device.element)
        steps, attribute = _place(name)
        setattr(device, name, None)
        self.assertIsNone(getattr(device, name))
        self.assertEqual([], snapshot.added(before, device.element))
        left = {id(node) for node in device.element.iter()}
        for node in before:
            if id(node.node) not in left:
                # Only what held the value, and held nothing else.
                self.assertEqual(node.tag, steps[-1] if node.tag == steps[-1] else steps[0])
                self.assertLessEqual(set(node.attributes), {attribute})
                if attribute is not None:
                    self.assertEqual('', (node.text or '').strip())
            else:
                kept = {key: text for key, text in node.attributes.items() if key != attribute}
                now = snapshot.take(node.node)
                self.assertLessEqual(kept.items(), now.attributes.items())

    @given(samples, st.sampled_from(['own', 'attribute', 'deep', 'alias']), strategies.texts)
    def test_writing_and_removing_again_changes_no_word(self, device: Sample, name: str, value: str) -> None:
        words = _words(device.element)
        setattr(device, name, value)
        setattr(device, name, None)
        self.assertEqual(words, _words(device.element))

    @given(st.integers())
    def test_numbers(self, number: int) -> None:
        device = Sample.new()
        device.number = number
        self.assertEqual(number, device.number)

    def test_switches(self) -> None:
        device = Sample.new()
        device.yes, device.on, device.there = True, False, True
        self.assertEqual('<sample><driver yes="yes" on="off"/><readonly/></sample>', device.to_xml())
        device.yes, device.on, device.there = None, None, False
        self.assertEqual('<sample/>', device.to_xml())

    def test_presence_is_written_once(self) -> None:
        device = sample('<sample><readonly why="x"/>tail</sample>')
        device.there = True
        self.assertEqual('<sample><readonly why="x"/>tail</sample>', device.to_xml())
        device.there = False
        device.there = False
        self.assertEqual('<sample>tail</sample>', device.to_xml())

    def test_what_is_then_empty_goes_and_what_is_not_stays(self) -> None:
        device = sample("<sample><source dev='d'><driver name='n'/></source></sample>")
        device.deep = None
        self.assertEqual('<sample><source dev="d"/></sample>', device.to_xml())
        device.attribute = None
        self.assertEqual('<sample/>', device.to_xml())
        kept = sample("<sample><source dev='d'><!-- why --></source></sample>")
        kept.attribute = None
        self.assertEqual('<sample><source><!-- why --></source></sample>', kept.to_xml())

    def test_markup_in_a_value_is_text(self) -> None:
        for value in ('<alias name="ua-x"/>', '"\'><&', ']]>', '&amp;', '<!-- -->', 'ä🦉'):
            device = Sample.new()
            device.word = device.attribute = value
            again = sample(device.to_xml())
            self.assertEqual((value, value), (again.word, again.attribute))

    def test_what_xml_cannot_hold_is_refused_and_nothing_is_written(self) -> None:
        for value in ('\x00', 'a\x1b', '\ud800', '\uffff'):
            for name in _PLACES:
                device = Sample.new()
                error = self.assertRaises(exception.InvalidInput, setattr, device, name, value)
                self.assertEqual(getattr(Sample, name).path, error.kwargs['field'])
                self.assertEqual('<sample/>', device.to_xml())


#: Values of properties, with None to remove one.
_CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(_PLACES), st.one_of(st.none(), strategies.texts)),
        st.tuples(st.just('number'), st.one_of(st.none(), st.integers(0, 9))),
        st.tuples(st.sampled_from(['yes', 'on']), st.sampled_from([True, False, None])),
        st.tuples(st.just('there'), st.booleans()),
    ),
    max_size=12,
)


class ViewTestCase(base.TestCase):
    """A view remembers elements; it must write and read as if it were new."""

    @given(samples, _CHANGES)
    @example(
        sample("<sample><source dev='d'/><serial>s</serial><alias name='a'/></sample>"),
        [('word', 't'), ('attribute', None), ('alias', 'x')],
    )
    def test_a_view_writes_as_a_new_one_does(self, device: Sample, changes: list[tuple[str, Any]]) -> None:
        other = copy.deepcopy(device.element)
        for name, value in changes:
            setattr(device, name, value)
            setattr(Sample(other), name, value)
            self.assertEqual(xml.to_text(other), device.to_xml())
        self.assertEqual(_values(Sample(other)), _values(device))

    @given(samples, _CHANGES)
    @example(sample('<sample/>'), [('alias', 'x'), ('alias', None), ('alias', 'y'), ('attribute', 'd')])
    def test_a_view_reads_what_another_view_wrote(self, device: Sample, changes: list[tuple[str, Any]]) -> None:
        other = Sample(device.element)
        for name, value in changes:
            _values(device)
            setattr(other, name, value)
            self.assertEqual(_values(Sample(device.element)), _values(device))

    def test_of_two_children_the_first_is_the_one(self) -> None:
        device = sample("<sample><source dev='a'/><source dev='b'/></sample>")
        self.assertEqual('a', device.attribute)
        device.attribute = None
        self.assertEqual('b', device.attribute)
        device.attribute = 'c'
        self.assertEqual('<sample><source dev="c"/></sample>', device.to_xml())


class RemoveTestCase(base.TestCase):
    @given(strategies.elements(depth=2), st.data())
    def test_it_takes_the_element_and_keeps_its_tail(self, root: etree._Element, data: st.DataObject) -> None:
        inner = [node for node in root.iter() if node is not root]
        if not inner:
            return
        gone = data.draw(st.sampled_from(inner))
        inside = {id(node) for node in gone.iter()}
        others = [node for node in snapshot.take_all(root) if id(node.node) not in inside]
        words = _words(root, without=gone)
        properties.remove(gone)
        self.assertEqual(words, _words(root))
        self.assertEqual([id(node.node) for node in others], [id(node) for node in root.iter()])
        for node in others:
            now = snapshot.take(node.node)
            self.assertEqual((node.tag, node.attributes), (now.tag, now.attributes))

    def test_a_root_stays(self) -> None:
        root = etree.Element('root')
        properties.remove(root)
        self.assertEqual('<root/>', xml.to_text(root))


def _values(device: Sample) -> list[str]:
    """What the device's properties have, or the error of those that cannot be read."""
    values = []
    for name in (*_PLACES, 'number', 'yes', 'on', 'there'):
        try:
            values.append(repr(getattr(device, name)))
        except exception.InvalidXML as error:
            values.append(str(error))
    return values


def _place(name: str) -> tuple[list[str], str | None]:
    *steps, last = getattr(Sample, name).path.split('/')
    return (steps, last[1:]) if last.startswith('@') else ([*steps, last], None)


def _steps(node: etree._Element, root: etree._Element) -> list[str]:
    steps: list[str] = []
    while node is not root:
        steps.insert(0, str(node.tag))
        parent = node.getparent()
        assert parent is not None
        node = parent
    return steps


def _words(node: etree._Element, without: etree._Element | None = None) -> str:
    """All text in a tree, comments apart, in order, with the tails."""
    parts = [node.text or ''] if isinstance(node.tag, str) else []
    for child in node:
        if child is not without:
            parts.append(_words(child, without))
        parts.append(child.tail or '')
    return ''.join(parts)
