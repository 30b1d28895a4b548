"""Results as tables for terminals; the user's text is shown as it is, and invisible characters as escapes."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fastent.printable import printable, shortened

__all__ = ["cell", "shown", "stacked_table", "text_table"]

# Longer names fill a screen.
_LONGEST_CELL = 200


def shown(text: str, style: str = "") -> Text:
    """Text of several lines, in which rich finds no markup and no emoji to replace."""
    return Text(printable(text, keep="\n"), style=style)


def cell(text: str | Text) -> Text:
    """The same in one line, short enough for a table; a Text is returned as it is."""
    return text if isinstance(text, Text) else Text(shortened(printable(text), _LONGEST_CELL))


def text_table(title: str, headings: Sequence[str | Text], rows: Sequence[Sequence[str | Text]], note: str = "") -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = _titled(title, note)
    for i, heading in enumerate(headings):
        table.add_column(cell(heading), justify="right" if i else "left", overflow="fold")  # a number cut is another number
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def stacked_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> Table:
    """The same with a line for each heading and cell, if the cells do not fit side by side."""
    table = _titled(title, note, show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for row in rows:
        for heading, value in zip(headings, row, strict=True):
            if value:
                table.add_row(cell(heading), cell(value))
        table.add_section()
    return table


def _titled(title: str, note: str, *, show_header: bool = True) -> Table:
    caption = shown(note, "table.caption") if note else None
    return Table(title=shown(title, "table.title"), caption=caption, show_header=show_header)
