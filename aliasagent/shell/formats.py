# SPDX-License-Identifier: Apache-2.0
"""Formats of the output that cliff does not have, or has not as they are wanted here."""

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import TextIO

from cliff import columns
from cliff.formatters import base
from cliff.formatters import commaseparated
from cliff.formatters import table

#: Characters that a table has around the text of each column, and one more at its end.
_AROUND = 3


class CsvShow(commaseparated.CSVLister, base.SingleFormatter):
    """One thing as a table of one line; cliff itself has no CSV for it."""

    def emit_one(
        self, column_names: Sequence[str], data: Sequence[Any], stdout: TextIO, parsed_args: argparse.Namespace
    ) -> None:
        self.emit_list(column_names, [data], stdout, parsed_args)


class Table(table.TableFormatter):
    """A table that is no wider than the terminal.

    cliff's own may be: it takes no account of the titles, and gives no column less than eight characters. One too many
    breaks every line.
    """

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        rows = [[_text(cell) for cell in row] for row in data]
        most = _columns(parsed_args)
        if most is not None:
            titles = [len(name) for name in column_names]
            natural = [
                max(title, *(len(line) for row in rows for line in row[number].splitlines() or ['']))
                if rows else title
                for number, title in enumerate(titles)
            ]
            found = widths(natural, titles, most - 1 - _AROUND * len(titles))
            rows = [[_wrapped(cell, width) for cell, width in zip(row, found, strict=True)] for row in rows]
        super().emit_list(column_names, rows, stdout, parsed_args)


def widths(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """How wide columns are to be so that all have room: the widest give first, but none more than it can.

    :param natural: how wide each would be by itself.
    :param least: how wide each must be, no more than that.
    :param room: how wide they may be in all; it may be too little.
    """
    found = list(natural)
    while sum(found) > room:
        giving = [(width, number) for number, width in enumerate(found) if width > least[number]]
        if not giving:
            break
        found[max(giving)[1]] -= 1
    return found


def _columns(parsed_args: argparse.Namespace) -> int | None:
    """How wide a table may be; None if as wide as it is."""
    if parsed_args.max_width > 0:
        return int(parsed_args.max_width)
    if not sys.stdout.isatty() and not parsed_args.fit_width:
        return None
    try:
        return os.get_terminal_size().columns or None
    except OSError:
        return None


def _text(cell: Any) -> str:
    return str(cell.human_readable() if isinstance(cell, columns.FormattableColumn) else cell)


def _wrapped(text: str, width: int) -> str:
    return '\n'.join(piece for line in text.splitlines() for piece in textwrap.wrap(line, width) or [''])
