# SPDX-License-Identifier: Apache-2.0
"""Output formats that cliff lacks, and a table that fits the terminal."""

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
    """One object as CSV, a header and one line; cliff has no CSV for commands that show one object."""

    def emit_one(
        self, column_names: Sequence[str], data: Sequence[Any], stdout: TextIO, parsed_args: argparse.Namespace
    ) -> None:
        self.emit_list(column_names, [data], stdout, parsed_args)


class Table(table.TableFormatter):
    """A table that is no wider than the terminal.

    cliff's own table may be wider: it ignores the titles, and gives each column at least eight characters. One
    character too many breaks every line.
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
    """Narrow columns until they fit, the widest first.

    :param natural: the width of each column's text.
    :param least: the least width of each column, at most its natural width.
    :param room: the width for all columns together; it may be less than the sum of the least widths.
    """
    found = list(natural)
    while sum(found) > room:
        giving = [(width, number) for number, width in enumerate(found) if width > least[number]]
        if not giving:
            break
        found[max(giving)[1]] -= 1
    return found


def _columns(parsed_args: argparse.Namespace) -> int | None:
    """Return how wide a table may be; None if there is no limit."""
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
