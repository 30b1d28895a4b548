"""Results as tables for terminals; text of the user's is shown as it is."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

__all__ = ["stacked_table", "text_table"]


def text_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=escape(title), caption=escape(note) or None)
    for i, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def stacked_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> Table:
    """The same with a line for each heading and cell, where there is no room for cells beside each other."""
    table = Table(title=escape(title), caption=escape(note) or None, show_header=False)
    for row in rows:
        for heading, cell in zip(headings, row, strict=True):
            if cell:
                table.add_row(escape(heading), escape(cell))
        table.add_section()
    return table
