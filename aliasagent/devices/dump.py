# SPDX-License-Identifier: Apache-2.0
"""Find a device by its alias in a definition's text, without a parse of the other devices.

In a guest with 250 devices, nearly all of the time goes into the parse of the others. libvirt writes a definition in
one form only: each child of ``<devices>`` begins a line, indented by four blanks; attributes are in single quotes; and
``<`` is escaped unless it begins a tag. So the text of the device around an alias can be cut out and parsed alone.

Only ``<metadata>`` has text in the form of other clients, and libvirt writes it before the devices. For a text in any
other form these functions return None, and the caller parses the whole text.
"""

import re

from lxml import etree

from aliasagent.devices import xml

_BEGIN, _END = '\n  <devices>\n', '\n  </devices>\n'
_CHILD = '\n    <'
_TAG = re.compile(r'[A-Za-z0-9_-]+')
#: The beginning of a running guest's definition: only those have a runtime id, which is a number.
_RUNNING = re.compile(r"""<domain(?:\s+[\w:.-]+=(?:'[^']*'|"[^"]*"))*?\s+id=(?:'([0-9]+)')?""")


def is_whole(text: str) -> bool:
    """Return whether a text begins and ends like a definition that libvirt writes, with devices in between."""
    return text.startswith('<domain ') and text.endswith('\n</domain>\n') and _BEGIN in text and _END in text


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
        return [] if '&#' not in text else None
    begin = text.find(_BEGIN, max(0, text.rfind('</metadata>')))
    end = text.find(_END, begin)
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
    try:
        element = etree.fromstring(text[start - 1 : stop + len(last)].encode(), xml.parser())
    except etree.XMLSyntaxError:
        return None
    return element if element.tag == tag.group() else None
