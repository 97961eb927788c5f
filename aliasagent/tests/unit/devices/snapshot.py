# SPDX-License-Identifier: Apache-2.0
"""What a tree was before something was done to it, node by node."""

import dataclasses

from aliasagent.devices import xml


@dataclasses.dataclass(frozen=True)
class Node:
    """One element, comment or processing instruction, as it stood."""

    node: xml.Element
    parent: xml.Element | None
    tag: object
    attributes: dict[str, str]
    text: str | None
    tail: str | None

    def is_unchanged(self) -> bool:
        return self == take(self.node)


def take(node: xml.Element) -> Node:
    # A comment and a processing instruction have no attributes that could be changed.
    attributes = {str(name): str(value) for name, value in node.attrib.items()} if isinstance(node.tag, str) else {}
    return Node(node, node.getparent(), node.tag, attributes, node.text, node.tail)


def take_all(root: xml.Element) -> list[Node]:
    return [take(node) for node in root.iter()]


def changed(before: list[Node]) -> list[Node]:
    return [node for node in before if not node.is_unchanged()]


def added(before: list[Node], root: xml.Element) -> list[xml.Element]:
    known = {id(node.node) for node in before}
    return [node for node in root.iter() if id(node) not in known]
