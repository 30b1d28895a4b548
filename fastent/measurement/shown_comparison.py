"""A comparison as tables: text, in a terminal, and HTML."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastent.io.tabular import Tabular
from fastent.measurement.common_neighbors import overlap_cells, overlap_title
from fastent.measurement.differences import Differences
from fastent.printable import printable
from fastent.runtime.formatting import NOTHING, html_table, readable
from fastent.statistics.intervals import Estimate
from fastent.statistics.neighbor_overlap import OverlapMatrix

if TYPE_CHECKING:
    import rich.console

__all__ = ["UNKNOWN", "ShownComparison"]

# What a table takes with standard errors: the names of statistics, and each measurement.
_ROOM_FOR_NAMES, _ROOM_FOR_ERRORS = 40, 18
UNKNOWN = Estimate(math.nan, math.nan, math.nan, math.nan)


class ShownComparison(Tabular):
    """What is shown of `Comparison`, whose attributes these are."""

    names: tuple[str, ...]
    statistics: tuple[str, ...]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    reference: str
    differences: dict[str, Differences]
    about_differences: tuple[str, ...]
    neighbor_overlap: OverlapMatrix | None

    def _repr_html_(self) -> str:
        rows = [(statistic, *cells) for statistic, cells in self._cells()]
        values = html_table("Measurements side by side", ("statistic", *self.names), rows, (*self.notes, *self.missing))
        if self.neighbor_overlap is not None:
            rows = [(name, *cells) for name, cells in overlap_cells(self.neighbor_overlap)]
            values += html_table(overlap_title(self.neighbor_overlap), ("", *self.names), rows, ())
        if not self.differences:
            return values
        rows = [(statistic, *cells) for statistic, cells in self.difference_cells()]
        return values + html_table(self._apart_from, ("statistic", *self.differences), rows, self.about_differences)

    @property
    def _apart_from(self) -> str:
        return f"Differences from {self.reference}, with 95 % intervals"

    def difference_cells(self) -> Iterator[tuple[str, list[str]]]:
        """For each statistic with an interval, the differences as text, those whose interval is without 0 with a star."""
        for statistic in self.statistics:
            found = [each.get(statistic, UNKNOWN) for each in self.differences.values()]
            if any(math.isfinite(each.low) for each in found):
                yield statistic, [_difference_text(each) for each in found]

    def _cells(self, with_errors: bool = True) -> Iterator[tuple[str, list[str]]]:
        """For each statistic what is shown of each measurement."""
        for statistic, row, errors in zip(self.statistics, self.values, self.standard_errors, strict=True):
            yield (
                statistic,
                [
                    readable(value) + (f" ± {readable(error)}" if error > 0 and with_errors else "")
                    for value, error in zip(row, errors, strict=True)
                ],
            )

    def __repr__(self) -> str:
        width = max(map(len, self.statistics))
        lines = ["  ".join([" " * width, *(f"{printable(name):>12.12}" for name in self.names)])]
        for statistic, row in zip(self.statistics, self.values, strict=True):
            lines.append("  ".join([f"{statistic:{width}}", *(f"{readable(value):>12}" for value in row)]))
        lines += map(printable, (*self.notes, *self.missing))
        if self.neighbor_overlap is not None:
            lines += ["", repr(self.neighbor_overlap)]
        if not self.differences:
            return "\n".join(lines)
        lines += ["", printable(self._apart_from)]
        for name, found in self.differences.items():
            known = [(statistic, each) for statistic, each in found.items() if math.isfinite(each.low)]
            lines += [f"{printable(name)}: {statistic} {_difference_text(each)}" for statistic, each in known]
        return "\n".join([*lines, *map(printable, self.about_differences)])

    def __rich_console__(
        self, console: "rich.console.Console", options: "rich.console.ConsoleOptions"
    ) -> "rich.console.RenderResult":
        from rich.table import Table

        from fastent.runtime.terminal import cell, shown

        said = "\n".join((*self.notes, *self.missing))
        table = Table(caption=shown(said, "table.caption") if said else None, caption_justify="left")
        table.add_column("statistic", no_wrap=True)
        with_errors = options.max_width >= _ROOM_FOR_NAMES + _ROOM_FOR_ERRORS * len(self.names)
        for name in self.names:
            table.add_column(cell(name), justify="right", overflow="fold")  # a number that is cut is another number
        before = None
        for statistic, cells in self._cells(with_errors):
            if before not in (None, statistic.split("/")[0]):
                table.add_section()
            before = statistic.split("/")[0]
            table.add_row(statistic, *cells)
        yield table
        if self.neighbor_overlap is not None:
            table = Table(title=shown(overlap_title(self.neighbor_overlap)), title_justify="left")
            for name in ("", *self.names):
                table.add_column(cell(name), justify="right" if name else "left", overflow="fold")
            for name, cells in overlap_cells(self.neighbor_overlap):
                table.add_row(cell(name), *cells)
            yield table
        if not self.differences:
            return
        said = "\n".join(self.about_differences)
        table = Table(title=shown(self._apart_from), caption=shown(said, "table.caption"), caption_justify="left")
        table.add_column("statistic", no_wrap=True)
        for name in self.differences:
            table.add_column(cell(name), justify="right", overflow="fold")
        for statistic, cells in self.difference_cells():
            table.add_row(statistic, *cells)
        yield table


def _difference_text(found: Estimate) -> str:
    if math.isnan(found.value):
        return NOTHING
    interval = f" ({readable(found.low)} to {readable(found.high)})" if math.isfinite(found.low) else ""
    star = " *" if found.low > 0 or found.high < 0 else ""
    return f"{'+' * (found.value > 0)}{readable(found.value)}{star}{interval}"
