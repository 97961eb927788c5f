# SPDX-License-Identifier: Apache-2.0
"""Find devices in a definition's text, without a parse of all devices.

In a guest with 250 devices, nearly all of the time goes into the parse of the others. libvirt writes a definition in
one form only: each child of ``<devices>`` begins a line, indented by four blanks; attributes are in single quotes; and
``<`` is escaped unless it begins a tag. So the text of the device around an alias can be cut out and parsed alone.

Only ``<metadata>`` has text in the form of other clients, and libvirt writes it before the devices. For a text in any
other form these functions return None, and the caller parses the whole text.
"""

import re

from lxml import etree

from aliasagent.devices import alias as aliases
from aliasagent.devices import xml

_BEGIN, _END = '\n  <devices>\n', '\n  </devices>\n'
_CHILD = '\n    <'
_TAG = re.compile(r'[A-Za-z0-9_-]+')
_ALIAS, _USER_ALIAS = '<alias ', f"\n      <alias name='{aliases.PREFIX}"
#: The beginning of a running guest's definition: only those have a runtime id, which is a number.
_RUNNING = re.compile(r"""<domain(?:\s+[\w:.-]+=(?:'[^']*'|"[^"]*"))*?\s+id=(?:'([0-9]+)')?""")


def is_whole(text: str) -> bool:
    """Return whether a text begins and ends like a definition that libvirt writes, with devices in between."""
    begin, end = _devices(text)
    return text.startswith('<domain ') and text.endswith('\n</domain>\n') and 0 <= begin < end


def is_live(text: str) -> bool:
    """Return whether a whole text is the definition of a running guest."""
    return _RUNNING.match(text) is not None


def runtime_id(text: str) -> str | None:
    """Return the runtime id in a whole text; None if only a parse finds it, or the guest is not running."""
    found = _RUNNING.match(text)
    return None if found is None else found[1]


def with_alias(text: str, alias: str) -> list[xml.Element] | None:
    """Return the devices in a whole text that have this alias; None if only a parse of the whole text finds them.

    :param alias: an alias of characters that libvirt keeps in a user alias, and so never escapes.
    """
    if alias not in text:
        # A reference (``&#x75;``) can be any character, although libvirt writes none for the characters of an alias.
        return None if has_references(text) else []
    begin, end = _devices(text)
    mark = f"\n      <alias name='{alias}'/>\n"
    found: list[xml.Element] = []
    if begin < 0 or end < 0:
        return None
    at = text.find(mark, begin, end)
    while at >= 0:
        device = _around(text, begin, at, end + 1)
        if device is None or [child.get('name') for child in device.iterchildren('alias')] != [alias]:
            return None
        found.append(device)
        at = text.find(mark, at + 1, end)
    # If the alias also occurs in any other way, the caller must parse the whole text.
    return found if found and text.count(alias, begin, end) == len(found) else None


def unclaimed(text: str) -> list[xml.Element] | None:
    """Return the devices in a whole text that have no user alias; None if only a parse of the whole text finds them.

    Elements of devices that have one in another form than libvirt's may be among the returned.
    """
    begin, end = _devices(text)
    if begin < 0 or end < 0 or has_references(text):
        return None
    before, *parts = text[begin + len(_BEGIN) - 1 : end].split(_CHILD)
    if before:
        return None
    # A device's end has the same indentation as its beginning, and so is a part of its own.
    kept: list[str] = []
    rest = iter(parts)
    for part in rest:
        if _USER_ALIAS not in part:
            kept.append(part)
        elif part.count(_ALIAS) > 1 or next(rest, '') != f'/{part.partition(" ")[0]}>':
            return None
    elements = _parsed('<devices>' + ''.join(f'{_CHILD}{part}' for part in kept) + '\n  </devices>')
    return elements if [it.tag for it in elements] == [_name(part) for part in kept if part[0] != '/'] else None


def metadata(text: str) -> xml.Element | None:
    """Return the metadata in a whole text; None if there is none, or only a parse of the whole text finds it."""
    begin, end = text.find('<metadata>'), text.rfind('</metadata>')
    parsed = _parsed(f'<domain>{text[begin:end]}</metadata></domain>') if 0 <= begin < end else []
    return parsed[0] if parsed else None


def has_references(text: str) -> bool:
    """Return whether a text may have characters that are written as numbers."""
    return '&' in text and '&#' in text  # the first alone is a tenth of the time


def _name(part: str) -> str | None:
    """Return the name that a part of a text begins with."""
    found = _TAG.match(part)
    return None if found is None else found.group()


def _devices(text: str) -> tuple[int, int]:
    """Return where the devices begin and end in a text; -1 if that is not found."""
    # The end from behind, because little follows the devices.
    return text.find(_BEGIN, max(0, text.rfind('</metadata>'))), text.rfind(_END)


def _parsed(text: str) -> list[xml.Element]:
    """Return the children of the root of a part of a text; none if the part cannot be parsed alone."""
    try:
        return xml.child_elements(etree.fromstring(text.encode(), xml.parser()))
    except etree.XMLSyntaxError:
        return []


def _around(text: str, begin: int, at: int, end: int) -> xml.Element | None:
    """Return the child of ``<devices>`` around a position; None if its lines are not in libvirt's form."""
    start = text.rfind(_CHILD, begin, at) + len(_CHILD)
    tag = _TAG.match(text, start)
    if tag is None:
        return None
    last = f'{_CHILD}/{tag.group()}>\n'
    stop = text.find(last, at, end)
    if stop < 0:
        return None
    parsed = _parsed(f'<devices>{text[start - 1 : stop + len(last)]}</devices>')
    return parsed[0] if [it.tag for it in parsed] == [tag.group()] else None
