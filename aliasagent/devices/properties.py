# SPDX-License-Identifier: Apache-2.0
"""Declare properties of XML elements: one line with a path, for reading and writing.

A path is ``a/b`` for the text of an element, ``a/b/@c`` for an attribute. A read changes nothing. A write makes missing
elements of the path and leaves everything else unchanged. A write of None removes the value, and the elements of the
path that are then empty.
"""

from collections.abc import Callable
from typing import Generic
from typing import Protocol
from typing import Self
from typing import TypeVar
from typing import overload

from lxml import etree

from aliasagent import exception
from aliasagent.devices import xml

T = TypeVar('T')


class HasElement(Protocol):
    """A view of an XML element."""

    element: xml.Element
    #: Children of earlier writes, by name: a lookup costs less than a search among all children.
    written: dict[str, xml.Element]


class Property(Generic[T]):
    """A value at a path, converted by two functions."""

    def __init__(self, path: str, read: Callable[[str], T], write: Callable[[T], str]) -> None:
        steps = path.split('/')
        self.path = path
        self._attribute = steps.pop()[1:] if steps[-1].startswith('@') else None
        self._steps = steps
        self._first, self._rest = steps[0] if steps else None, steps[1:]
        self._read = read
        self._write = write

    @overload
    def __get__(self, owner: None, owner_type: type) -> Self: ...

    @overload
    def __get__(self, owner: HasElement, owner_type: type) -> T | None: ...

    def __get__(self, owner: HasElement | None, owner_type: type) -> Self | T | None:
        if owner is None:
            return self
        text = self._text(owner.element)
        if text is None:
            return None
        try:
            return self._read(text)
        except ValueError as error:
            raise exception.InvalidXML(reason=f'{self.path} is {text[:40]!r}') from error

    def __set__(self, owner: HasElement, value: T | None) -> None:
        if value is None:
            self._remove(owner.element)
            return
        if not isinstance(value, str):
            text = self._write(value)
        else:
            text = value
            # This fast check suffices for nearly all texts, and a device has many.
            if not (text.isascii() and text.isprintable()):
                self._check(text)
        element = owner.element if self._first is None else self._made(owner, self._first)
        if self._attribute is None:
            element.text = text
        else:
            element.set(self._attribute, text)

    def _made(self, owner: HasElement, first: str) -> xml.Element:
        """Return the element at the path; make it and its parents if they are missing."""
        found = owner.written.get(first)
        if found is None or found.getparent() is not owner.element:
            found = owner.written[first] = xml.child_made(owner.element, first)
        for step in self._rest:
            found = xml.child_made(found, step)
        return found

    def _check(self, text: str) -> None:
        """Check that XML can contain a text, before anything is written."""
        try:
            etree.Element('probe').text = text
        except ValueError as error:
            raise exception.InvalidInput(field=self.path, reason=f'{text[:40]!r} cannot be written as XML') from error

    def _find(self, element: xml.Element) -> xml.Element | None:
        for step in self._steps:
            found = xml.child(element, step)
            if found is None:
                return None
            element = found
        return element

    def _text(self, element: xml.Element) -> str | None:
        found = self._find(element)
        if found is None:
            return None
        return found.text if self._attribute is None else found.get(self._attribute)

    def _remove(self, element: xml.Element) -> None:
        found = self._find(element)
        if found is None:
            return
        if self._attribute is None:
            found.text = None
        else:
            found.attrib.pop(self._attribute, '')
        while found is not element and not found.attrib and not len(found) and not (found.text or '').strip():
            parent = found.getparent()
            if parent is None:
                return
            remove(found)
            found = parent


def remove(element: xml.Element) -> None:
    """Remove an element from its parent, and keep the text that follows the element."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail:
        before = element.getprevious()
        if before is None:
            parent.text = (parent.text or '') + element.tail
        else:
            before.tail = (before.tail or '') + element.tail
    parent.remove(element)


def text(path: str) -> Property[str]:
    """Declare a text."""
    return Property(path, str, str)


def integer(path: str) -> Property[int]:
    """Declare a whole number; libvirt writes addresses in hexadecimal with ``0x``."""
    return Property(path, lambda value: int(value, 16 if value.lower().startswith('0x') else 10), str)


def _reader(words: dict[str, bool]) -> Callable[[str], bool]:
    def read(value: str) -> bool:
        if value not in words:
            raise ValueError(value)
        return words[value]

    return read


def yes_no(path: str) -> Property[bool]:
    """Declare a ``yes`` or ``no``."""
    return Property(path, _reader({'yes': True, 'no': False}), lambda value: 'yes' if value else 'no')


def on_off(path: str) -> Property[bool]:
    """Declare an ``on`` or ``off``."""
    return Property(path, _reader({'on': True, 'off': False}), lambda value: 'on' if value else 'off')


class Presence:
    """An empty element whose presence means true, such as ``<readonly/>``."""

    def __init__(self, name: str) -> None:
        self.path = name

    @overload
    def __get__(self, owner: None, owner_type: type) -> Self: ...

    @overload
    def __get__(self, owner: HasElement, owner_type: type) -> bool: ...

    def __get__(self, owner: HasElement | None, owner_type: type) -> Self | bool:
        return self if owner is None else xml.child(owner.element, self.path) is not None

    def __set__(self, owner: HasElement, value: bool) -> None:
        if value:
            xml.child_made(owner.element, self.path)
        elif (found := xml.child(owner.element, self.path)) is not None:
            remove(found)
