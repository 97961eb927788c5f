# SPDX-License-Identifier: Apache-2.0
"""One device out of a definition's text as libvirt itself writes it, without a parse of the rest.

To find one device among 250, nearly all of the time goes into the parse of the others. What libvirt writes has one form
only: children of ``<devices>`` stand in lines of their own, indented by four blanks; attributes are in single quotes;
and ``<`` is escaped wherever it begins no tag. So the device around an alias can be cut out, and be parsed alone.

The one place in which a definition holds what others have written as they wrote it is ``<metadata>``, and libvirt puts
it before the devices. What has not this form is for the caller to parse as a whole: nothing is ever guessed.
"""

import re

from lxml import etree

from aliasagent.devices import xml

_BEGIN, _END = '\n  <devices>\n', '\n  </devices>\n'
_CHILD = '\n    <'
_TAG = re.compile(r'[A-Za-z0-9_-]+')
#: How the definition of a running guest begins: only those have a runtime id.
_RUNNING = re.compile(r"""<domain(?:\s+[\w:.-]+=(?:'[^']*'|"[^"]*"))*?\s+id=""")


def is_whole(text: str) -> bool:
    """Whether a text begins and ends as a definition that libvirt writes, with its devices in between."""
    return text.startswith('<domain ') and text.endswith('\n</domain>\n') and _BEGIN in text and _END in text


def is_live(text: str) -> bool:
    """Whether a whole text is the definition of a running guest."""
    return _RUNNING.match(text) is not None


def with_alias(text: str, alias: str) -> list[xml.Element] | None:
    """The devices in a whole text that have this alias; None if that can only be told by a parse of it all.

    :param alias: of the characters that libvirt keeps in a user alias, so that it is never written in another way.
    """
    if alias not in text:
        # A reference (``&#x75;``) could stand for any character, though libvirt writes none for those of an alias.
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
    # If it is there in any other way, too, as in a definition of another form, only a parse tells what that is.
    return found if found and text.count(alias, begin, end) == len(found) else None


def _around(text: str, begin: int, at: int, end: int) -> xml.Element | None:
    """The child of ``<devices>`` that holds a place; None if its lines are not as expected."""
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
