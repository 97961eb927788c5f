#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that texts for users name the actor and use the field's words.

    tools/words.py [FILE]...

By default it checks README.rst, the documents, the alerts, and all texts in the package and the sandbox. It prints each
phrase that a reader would have to read twice, with words to use instead. codespell cannot check phrases of several
words. The check ignores code blocks, ``literals`` and quotes. The exit code is 1 if a phrase was found.
"""

import ast
import os
import pathlib
import re
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
FILES = (
    *('README.rst', 'doc/source/**/*.rst', 'etc/prometheus/*.yml', 'sandbox/*.py'),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'aliasagent').rglob('*.py')) if 'tests' not in path.parts),
)

#: Phrases, as regular expressions in lower case, with the words to use instead.
PHRASES = {
    '(no|some|any)body|whoever': 'the agent, a guest, the broker, libvirt, the operator, a client',
    'nevertheless|all the same': 'anyway',
    'shall': 'must',
    'abroad|at home': 'other host, definition',
    r'(?<!\.)relive[sd]?': 'save and restore',
    'let(s|ting)? go( of)?': 'release',
    'a defect of ours|defect': 'internal error',
    '(from|made) before aliases|guests from before': 'legacy guests',
    'tak(e|es|en) (nothing |none )?in( any more)?(?! (a|the) )': 'accept',
    '(left|leaves requests) with the (message )?broker': 'not acknowledged, the broker redelivers',
    '(all|is|be|are) well|not well(?!-formed)': 'healthy',
    '(in|on) (its|their) way( out)?': 'blocking, unplug in progress, migrating',
    'have it (stay|ended)|have that ended': 'abort',
    '(stand|stands|stood) still': 'is paused',
    '(connection|it) stands': 'is up',
    '(go|goes|went) on(?! (a|the|its|their|which) )': 'continue',
    '(ask|asks|asked) (for it |for them )?(once more|anew)': 'retry',
    'look(s|ed|ing)? (at|whether|into)': 'read, check',
    '(a|the|each|next|first|last|idle|good|two) pass(es)?': 'reconcile run',
    '(is|are|was|were|been) (told|said|heard|looked for)': 'logged, reported, returned, read, received',
    '(could|can|did) not tell|cannot be told': 'unknown',
    '(became|become|becomes) of|what was asked': 'operation, outcome',
    'whose (it is|they are|a device is|each)': 'the id of the device',
    'as a rule': 'usually',
    '(cannot|not) be understood': 'is not valid',
    'out of bounds': 'not allowed',
    'side by side': 'at the same time',
}
_BLOCK = re.compile(r'^( *)\S.*::$|^( *)\.\. (?:code-block|literalinclude|image|generated|include|show-options)::.*$')
_LITERAL = re.compile(r'``.+?``|:\w+:`[^`]*`', re.DOTALL)
#: Within a paragraph.
_QUOTE = re.compile(r'"(?:[^"\n]|\n(?!\s*\n))*"')
_PHRASES = {
    re.compile(r'\b(?:' + phrase.replace(' ', r'\s+') + r')\b', re.IGNORECASE): instead
    for phrase, instead in PHRASES.items()
}


def found(name: str, text: str) -> list[str]:
    """Return what is to be changed in a file, one line for each place.

    :param name: its suffix says what the text is.
    """
    texts = _strings(text) if name.endswith('.py') else [(1, _prose(text))]
    return [
        f'{name}:{line + part.count(chr(10), 0, match.start())}: "{" ".join(match[0].split())}": write {instead}'
        for line, part in texts
        for phrase, instead in _PHRASES.items()
        for match in phrase.finditer(part)
    ]


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the strings of a Python module, the documentation included, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _prose(text: str) -> str:
    """Blank out code blocks, literals and quotes; the lines stay."""
    lines, indent = [], -1
    for line in text.split('\n'):
        depth = len(line) - len(line.lstrip())
        if indent >= 0 and (not line.strip() or depth > indent):
            lines.append('')
            continue
        start = _BLOCK.match(line)
        indent = depth if start else -1
        lines.append('' if start else line)
    prose = '\n'.join(lines)
    for pattern in (_LITERAL, _QUOTE):
        prose = pattern.sub(lambda match: '\n' * match[0].count('\n'), prose)
    return prose


def main(arguments: list[str]) -> int:
    """Check the files; the exit code is 1 if a phrase was found."""
    paths = [pathlib.Path(name) for name in arguments] or [path for name in FILES for path in sorted(ROOT.glob(name))]
    wrong = [line for path in paths for line in found(os.path.relpath(path, ROOT), path.read_text())]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
