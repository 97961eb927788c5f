# SPDX-License-Identifier: Apache-2.0
"""The documents as text: what is quoted, run and named in them."""

import pathlib
import re
import textwrap
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = ROOT / 'doc' / 'source'

_BLOCK = re.compile(
    r'^(?P<indent> *)(?:#\. )?\.\. code-block:: (?P<language>\w+)\n(?P<options>(?: +:.*\n)*)\n'
    r'(?P<text>(?:(?P=indent) +.*\n|\n)+)',
    re.MULTILINE,
)


def pages() -> Iterator[tuple[str, str]]:
    """Each page: its name and its text."""
    for path in sorted(SOURCE.rglob('*.rst')):
        yield str(path.relative_to(SOURCE)), path.read_text()


def blocks(text: str, language: str, kind: str | None = None) -> list[str]:
    """The blocks of code on a page.

    :param kind: of this ``:class:`` only.
    """
    return [
        textwrap.dedent(found['text']).strip() + '\n'
        for found in _BLOCK.finditer(text)
        if found['language'] == language and (kind is None or f':class: {kind}\n' in found['options'])
    ]


def lines(language: str, kind: str | None = None) -> list[tuple[str, str]]:
    """Each line of such blocks on all pages, with the page's name."""
    return [
        (name, line)
        for name, text in pages()
        for block in blocks(text, language, kind)
        for line in block.splitlines()
        if line
    ]
