"""What commands print: tables that fit the terminal, what the work has cost, or JSON for scripts."""

import json
import os
import resource
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fastent.printable import printable, shortened
from fastent.runtime.terminal import cell, shown, text_table

__all__ = ["command_line", "fitting_table", "print_cost", "print_json", "readable_seconds", "say", "show"]

# Where no terminal says how wide it is, as in a pipe.
_PIPED = 120
# Longer names leave no room for numbers.
_LONGEST_NAME = 28


def show(*results: Any) -> None:
    """Print tables and results on stdout; without colours and control characters where that is no terminal."""
    console = _console()
    for result in results:
        console.print(result)


def say(text: Any, *, error: bool = False) -> None:
    """Print a line, on stderr if it is no result; what cannot be seen in names and paths as escapes."""
    print(printable(text), file=sys.stderr if error else sys.stdout)


def print_json(value: Any) -> None:
    """Print a result for scripts; nothing else may be on stdout."""
    from fastent.runtime.formatting import as_plain

    print(json.dumps(as_plain(value), indent=2, allow_nan=False))


def command_line() -> str:
    """The command as it was typed, for reports."""
    return shlex.join(["fastent", *sys.argv[1:]])


def print_cost(seconds: float, what: str, threads: int) -> None:
    from fastent.runtime.memory import readable_bytes

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    say(f"{seconds:.1f} s {what} on {threads} thread{'s' * (threads > 1)}, peak memory {readable_bytes(peak)}")


def readable_seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def fitting_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str, *, dispensable: Sequence[str]
) -> Table:
    """A table no wider than the terminal: as it is, with headings of two lines, on its side, or without some columns.

    Columns go in the order of `dispensable`.
    """
    console = _console()
    unlimited = console.options.update(width=1000)

    def fits(table: Table) -> bool:
        return Measurement.get(console, unlimited, table).maximum <= console.width

    columns = [_shorter(column) for column in zip(*rows, strict=True)]
    cells = [[cell(text) for text in row] for row in zip(*columns, strict=True)]
    whole = [shown(heading) for heading in headings]
    folded = [shown("\n".join(heading.rsplit(" ", 1))) for heading in headings]
    for upright, named in ((True, whole), (True, folded), (False, whole), (False, folded)):
        lines = [named, *cells] if upright else list(zip(named, *cells, strict=True))
        table = text_table(title, lines[0], lines[1:], caption)
        if fits(table):
            return table
    for i in range(len(dispensable)):
        kept = [place for place, heading in enumerate(headings) if heading not in dispensable[: i + 1]]
        left_out = f"{caption} Columns hidden to fit the terminal: {', '.join(dispensable[: i + 1])}."
        table = text_table(
            title, [folded[place] for place in kept], [[row[place] for place in kept] for row in cells], left_out
        )
        if fits(table):
            break
    return table


def _shorter(texts: Sequence[str]) -> Sequence[str]:
    """Long names of classes and layers shortened, if all that differ still do."""
    short = [shortened(text, _LONGEST_NAME) for text in texts]
    return short if len(set(short)) == len(set(texts)) else texts


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED)
