"""The table of a result, which terminals, notebooks and reports show each in their way."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Table"]


class Table(NamedTuple):
    """Headings, rows of as many cells, whose first column is text and whose others are numbers, and a note below."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
