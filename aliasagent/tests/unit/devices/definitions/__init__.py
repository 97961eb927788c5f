# SPDX-License-Identifier: Apache-2.0
"""Definitions as they are found on hosts."""

import pathlib

_DIRECTORY = pathlib.Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _DIRECTORY.glob('*.xml')))


def text(name: str) -> bytes:
    return (_DIRECTORY / f'{name}.xml').read_bytes()
