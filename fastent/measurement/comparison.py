"""Measurements side by side: layers, epochs, networks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.tabular import Tabular
from fastent.measurement.metrics import MEANINGS
from fastent.measurement.result import Measurement
from fastent.options import short_repr
from fastent.printable import printable, storable
from fastent.runtime.formatting import html_table, readable

if TYPE_CHECKING:
    import pyarrow
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "compare"]

# What a table takes with standard errors: the names of statistics, and each measurement.
_ROOM_FOR_NAMES, _ROOM_FOR_ERRORS = 40, 18
# Statistics without a unit, in [-1, 1], so that they share an axis.
_SHARE_A_SCALE = ("mixing/overlap", "margins/relative", "silhouette/exact")


@dataclass(frozen=True, eq=False)
class Comparison(Tabular):
    """Measurements side by side.

    Attributes
    ----------
    names : tuple of str
        Names of the m measurements.
    statistics : tuple of str
        Names such as "mixing/overlap", s.
    values : (s, m) float64
        NaN where a measurement has none.
    standard_errors : (s, m) float64
        0 where every row was asked, NaN where no error is known.
    notes : tuple of str
        In what the measurements differ, other than X: then their statistics are not all comparable.
    missing : tuple of str
        Why a statistic of one of them is NaN or infinite.
    """

    names: tuple[str, ...]
    statistics: tuple[str, ...]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def table(self) -> "pyarrow.Table":
        """Columns: statistic, then the value and the standard error of each measurement."""
        import pyarrow

        columns: dict[str, Any] = {"statistic": self.statistics}
        for m, name in enumerate(storable(np.array(self.names)).tolist()):
            columns |= {name: self.values[:, m], f"{name} standard error": self.standard_errors[:, m]}
        return pyarrow.table(columns)

    def plot(self, statistics: str | Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw statistics of the measurements side by side, with matplotlib.

        Parameters
        ----------
        statistics : str or sequence of str, optional
            Names such as "mixing/overlap"; default overlap, relative margin and silhouette, which share a scale.
        ax : matplotlib Axes, optional
            Where to draw; default a new figure.

        Raises
        ------
        FastentError
            A statistic that was not measured.
        """
        from fastent.plots.by_name import draw_error_bars
        from fastent.plots.figure import axes_of
        from fastent.plots.style import plain

        if statistics is None:
            usual = [name for name in _SHARE_A_SCALE if name in self.statistics]
            shown = usual or list(self.statistics[:1])
        else:
            shown = [statistics] if isinstance(statistics, str) else list(statistics)
        if not shown or any(name not in self.statistics for name in shown):
            raise FastentError(f"statistics={statistics!r}: choose some of {', '.join(map(repr, self.statistics))}")
        rows = {name: self.statistics.index(name) for name in shown}
        figure, axes = axes_of(ax)
        draw_error_bars(axes, self.names, {name: (self.values[row], self.standard_errors[row]) for name, row in rows.items()})
        if self.notes:
            axes.set_title(plain(f"differ in {'; '.join(self.notes)}"), fontsize="small")
        return figure, axes

    def _repr_html_(self) -> str:
        rows = [(statistic, *cells) for statistic, cells in self._cells()]
        return html_table("Measurements side by side", ("statistic", *self.names), rows, (*self.notes, *self.missing))

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
        return "\n".join([*lines, *map(printable, (*self.notes, *self.missing))])

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


def compare(measurements: Sequence[Measurement], names: Sequence[str] | None = None) -> Comparison:
    """Set measurements side by side: layers, epochs, networks.

    Parameters
    ----------
    measurements : sequence of Measurement
    names : sequence of str, optional
        A different name for each; default "0", "1", ...

    Returns
    -------
    Comparison

    Raises
    ------
    FastentError
        Nothing to compare; names that are not all different, or not one for each measurement.
    """
    if not isinstance(measurements, Iterable) or getattr(measurements, "ndim", 1) == 0:
        raise FastentError(f"measurements is a {type(measurements).__name__}: pass those to be compared in a list")
    measurements = list(measurements)
    wrong = [type(each).__name__ for each in measurements if not isinstance(each, Measurement)]
    if not measurements or wrong:
        what = f"a {wrong[0]}" if wrong else "nothing"
        raise FastentError(f"measurements hold {what}: pass what fe.measure returned, in a list")
    if names is not None and (not isinstance(names, Iterable) or getattr(names, "ndim", 1) == 0):
        raise FastentError(f"names={short_repr(names)}: {len(measurements)} different ones are needed, in a list")
    labels = [str(i) for i in range(len(measurements))] if names is None else [str(name) for name in names]
    if len(labels) != len(measurements) or len(set(labels)) < len(labels):
        raise FastentError(
            f"names={short_repr(labels)}: {len(measurements)} different ones are needed, one for each measurement"
        )
    found = [each.summary() for each in measurements]
    errors = [{name: estimate.standard_error for name, estimate in each.intervals().items()} for each in measurements]
    statistics = tuple(name for name in MEANINGS if any(name in values for values in found))
    return Comparison(
        tuple(labels),
        statistics,
        np.array([[values.get(name, math.nan) for values in found] for name in statistics]).reshape(len(statistics), -1),
        np.array([[values.get(name, math.nan) for values in errors] for name in statistics]).reshape(len(statistics), -1),
        tuple(_differences(measurements)),
        tuple(_not_finite(measurements, labels)),
    )


def _not_finite(measurements: Sequence[Measurement], names: Sequence[str]) -> Iterator[str]:
    """Notes of each measurement that name a statistic which is not finite there."""
    for name, each in zip(names, measurements, strict=True):
        wrong = [statistic.split("/")[1] for statistic, value in each.summary().items() if not math.isfinite(value)]
        yield from (f"{name}: {note}" for note in each.notes if any(statistic in note for statistic in wrong))


def _differences(measurements: Sequence[Measurement]) -> Iterator[str]:
    for what, values in (
        ("k", [each.k for each in measurements]),
        ("normalize", [each.normalize for each in measurements]),
        ("points", [each.shape[0] for each in measurements]),
        ("queries", [len(each.queries) for each in measurements]),
        ("classes", [len(each.classes) for each in measurements]),
    ):
        if len(set(values)) > 1:
            yield f"{what}: {', '.join(map(str, values))}"
