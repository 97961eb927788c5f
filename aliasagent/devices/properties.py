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


class Owner(Protocol):
    """A view of an XML element."""

    element: xml.Element

    def child(self, name: str) -> xml.Element | None:
        """Return the first child of this name."""

    def child_made(self, name: str) -> xml.Element:
        """Return the first child of this name; make the child if there is none."""

    def remove(self, element: xml.Element) -> None:
        """Remove an element beneath this one, and keep the text that follows the element."""


class Property(Generic[T]):
    """A value at a path, converted by two functions."""

    def __init__(self, path: str, read: Callable[[str], T], write: Callable[[T], str]) -> None:
        steps = path.split('/')
        self.path = path
        self._attribute = steps.pop()[1:] if steps[-1].startswith('@') else None
        self._first, self._rest = steps[0] if steps else None, steps[1:]
        self._read = read
        self._write = write

    @overload
    def __get__(self, owner: None, owner_type: type) -> Self: ...

    @overload
    def __get__(self, owner: Owner, owner_type: type) -> T | None: ...

    def __get__(self, owner: Owner | None, owner_type: type) -> Self | T | None:
        if owner is None:
            return self
        found = self._find(owner)
        if found is None:
            return None
        text = found.text if self._attribute is None else found.get(self._attribute)
        if text is None:
            return None
        try:
            return self._read(text)
        except ValueError as error:
            raise exception.InvalidXML(reason=f'{self.path} is {text[:40]!r}') from error

    def __set__(self, owner: Owner, value: T | None) -> None:
        if isinstance(value, str):
            text: str = value
            # This fast check suffices for nearly all texts, and a device has many.
            if not (text.isascii() and text.isprintable()):
                self._check(text)
        elif value is None:
            self._remove(owner)
            return
        else:
            text = self._write(value)
        element = owner.element if self._first is None else owner.child_made(self._first)
        for step in self._rest:
            element = xml.child_made(element, step)
        if self._attribute is None:
            element.text = text
        else:
            element.set(self._attribute, text)

    def _check(self, text: str) -> None:
        """Check that XML can contain a text, before anything is written."""
        try:
            etree.Element('probe').text = text
        except ValueError as error:
            raise exception.InvalidInput(field=self.path, reason=f'{text[:40]!r} cannot be written as XML') from error

    def _find(self, owner: Owner) -> xml.Element | None:
        found = owner.element if self._first is None else owner.child(self._first)
        for step in self._rest:
            if found is None:
                return None
            found = xml.child(found, step)
        return found

    def _remove(self, owner: Owner) -> None:
        found = self._find(owner)
        if found is None:
            return
        if self._attribute is None:
            found.text = None
        else:
            found.attrib.pop(self._attribute, '')
        while found is not owner.element and not found.attrib and not len(found) and not (found.text or '').strip():
            parent = found.getparent()
            if parent is None:
                return
            owner.remove(found)
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
    def __get__(self, owner: Owner, owner_type: type) -> bool: ...

    def __get__(self, owner: Owner | None, owner_type: type) -> Self | bool:
        return self if owner is None else owner.child(self.path) is not None

    def __set__(self, owner: Owner, value: bool) -> None:
        if value:
            owner.child_made(self.path)
        elif (found := owner.child(self.path)) is not None:
            owner.remove(found)
