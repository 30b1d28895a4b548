"""What `fe.measure` finds: its parts, what they come to, and how two measurements compare."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import which_rows
from fastent.errors import FastentError
from fastent.io.files import output_folder, write_parquet, write_text
from fastent.options import choice, short_repr
from fastent.printable import printable, storable
from fastent.search.neighbors import Neighbors
from fastent.statistics.class_geometry import ClassGeometry
from fastent.statistics.complexity import Complexity
from fastent.statistics.intervals import Estimate
from fastent.statistics.intrinsic_dimension import IntrinsicDimension, plot_dimensions
from fastent.statistics.margins import Margins
from fastent.statistics.mixing import Mixing
from fastent.statistics.silhouette import Silhouettes
from fastent.statistics.soft_nearest_neighbor import SoftNearestNeighbor

if TYPE_CHECKING:
    import pyarrow
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MEANINGS", "Comparison", "Lisi", "Measurement", "Stage", "compare"]

# What each statistic says, in the order in which they are shown.
MEANINGS = {
    "mixing/overlap": "neighbours with the same label",
    "mixing/balanced_overlap": "the same, classes weighing equally",
    "mixing/chance": "overlap if labels were random",
    "mixing/balanced_chance": "balanced overlap if they were",
    "mixing/entropy": "of the neighbours' labels, nats",
    "mixing/error": "of the neighbours' majority vote",
    "mixing/hubness": "skewness of neighbour counts",
    "lisi/mean": "effective classes around a point",
    "margins/margin": "(miss - hit) / 2, in units of X",
    "margins/relative": "(miss - hit) / (miss + hit), -1 to 1",
    "margins/n2": "0 separate, 0.5 tangled",
    "margins/n3": "nearest neighbour's error",
    "silhouette/exact": "1 separate, -1 in another class",
    "silhouette/simplified": "the same, to class means",
    "silhouette/squared": "the same, squared distances",
    "soft_nearest_neighbor/loss": "-log own class's share, at this T",
    "soft_nearest_neighbor/temperature": "in squared units of X",
    "geometry/radius": "mean gyration radius of classes",
    "geometry/distance": "mean distance of class means",
    "geometry/fisher": "between over within scatter",
    "geometry/calinski_harabasz": "the same per degree of freedom",
    "geometry/davies_bouldin": "0 separate",
    "geometry/cdnv": "0 collapsed; mean over pairs",
    "geometry/nc1": "0 collapsed",
    "geometry/nc2_norm_spread": "0 for a simplex: norms of means",
    "geometry/nc2_angle_deviation": "0 for a simplex: angles of means",
    "geometry/participation_ratio": "directions that points vary in",
    "dimension/twonn": "from two neighbours, a fit",
    "dimension/twonn-ml": "from two, maximum likelihood",
    "dimension/mle": "from k neighbours",
    "dimension/gride": "from neighbours k / 2 and k",
    "complexity/n1": "points on the border",
    "complexity/n2": "0 separate, 0.5 tangled",
    "complexity/n3": "nearest neighbour's error",
    "complexity/n4": "the same, between pairs of a class",
    "complexity/t1": "spheres that cover the classes / n",
    "complexity/lsc": "1 - mean share in a local set",
    "complexity/f1": "0: one feature tells all classes apart",
}

# In narrower terminals, nothing would be left of what a statistic says.
_ROOM_TO_EXPLAIN = 70
# What a comparison takes with standard errors: the names of statistics, and each measurement.
_ROOM_FOR_NAMES, _ROOM_FOR_ERRORS = 40, 18
# Statistics without a unit, in [-1, 1], so that they share an axis.
_SHARE_A_SCALE = ("mixing/overlap", "margins/relative", "silhouette/exact")
# The part that each kind of picture shows.
_DRAWN = {
    "matrix": "mixing", "margins": "margins", "distance": "geometry", "collapse": "geometry", "dimension": "dimension",
}  # fmt: skip


class Stage(NamedTuple):
    """A part of the work: what it did, seconds, and how often it read all of X."""

    name: str
    seconds: float
    passes: int


@dataclass(frozen=True, eq=False)
class Lisi:
    """Local inverse Simpson index of each query, (q,) in [1, C]; its mean with the interval over all rows."""

    per_point: NDArray[np.float64]
    interval: Estimate

    @property
    def mean(self) -> float:
        return self.interval.value


@dataclass(frozen=True, eq=False)
class Measurement:
    """How tangled the classes are, in every accepted view. Parts that were not asked for, or cannot be, are None.

    Attributes
    ----------
    classes : (C,)
        The sorted classes.
    labels : (n,)
    shape : (n, d)
    queries : (q,) int64
        The rows whose neighbours were found.
    sampled : (s,) int64
        Those of the queries that met all rows, for silhouettes, soft nearest neighbours and local sets.
    k : int
    normalize : bool
        Whether rows were scaled to unit length first, for every statistic.
    neighbors : Neighbors or None
    mixing : Mixing or None
    lisi : Lisi or None
    margins : Margins or None
    geometry : ClassGeometry or None
    participation_ratio : float or None
    silhouette : Silhouettes or None
    soft_nearest_neighbor : SoftNearestNeighbor or None
    dimension : dict of IntrinsicDimension or None
        For "twonn", "twonn-ml", "mle" and "gride".
    complexity : Complexity or None
    notes : tuple of str
        What was sampled, left out or slow, and why; which classes or rows make a statistic less than it seems; why one is NaN
        or infinite.
    stages : tuple of Stage
        Where the time went.
    fingerprint : str
        Of X, the labels and the queries, 32 hexadecimal digits, where all rows were read for it because parts were kept
        (`checkpoint`); else empty.
    """

    classes: NDArray[Any]
    labels: NDArray[Any]
    shape: tuple[int, int]
    queries: NDArray[np.int64]
    sampled: NDArray[np.int64]
    k: int
    normalize: bool
    neighbors: Neighbors | None = None
    mixing: Mixing | None = None
    lisi: Lisi | None = None
    margins: Margins | None = None
    geometry: ClassGeometry | None = None
    participation_ratio: float | None = None
    silhouette: Silhouettes | None = None
    soft_nearest_neighbor: SoftNearestNeighbor | None = None
    dimension: dict[str, IntrinsicDimension] | None = None
    complexity: Complexity | None = None
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    fingerprint: str = ""

    def summary(self) -> dict[str, float]:
        """Every statistic as one float, by names such as "mixing/overlap"; NaN where it could not be measured."""
        found = dict(self._scalars())
        return {name: found[name] for name in MEANINGS if name in found}

    def intervals(self) -> dict[str, Estimate]:
        """Value, standard error and 95 % interval of those that a sample estimates; an error of 0 where every row was asked."""
        found: dict[str, Estimate] = {}
        for name in ("mixing", "margins", "silhouette", "complexity"):
            part = getattr(self, name)
            if part is not None:
                found |= {f"{name}/{statistic}": estimate for statistic, estimate in part.intervals.items()}
        if self.lisi is not None:
            found["lisi/mean"] = self.lisi.interval
        if self.soft_nearest_neighbor is not None:
            found["soft_nearest_neighbor/loss"] = self.soft_nearest_neighbor.interval
        for method, part in (self.dimension or {}).items():
            value, error = part.value, part.standard_error
            found[f"dimension/{method}"] = Estimate(value, error, max(value - 1.96 * error, 0.0), value + 1.96 * error)
        return {name: found[name] for name in MEANINGS if name in found}

    def per_point(self) -> "pyarrow.Table":
        """A row for each query: its row number, label, and what was measured of it; null where a query is not in the sample."""
        import pyarrow

        rows = self.queries
        columns: dict[str, Any] = {"row": rows, "label": storable(self.labels[rows])}
        if self.mixing is not None:
            columns |= {
                "purity": self.mixing.purity,
                "entropy": self.mixing.entropy,
                "vote": storable(self.mixing.vote),
                "occurrence": self.mixing.occurrence[rows],
                "bad_occurrence": self.mixing.bad_occurrence[rows],
            }
        if self.lisi is not None:
            columns["lisi"] = self.lisi.per_point
        if self.margins is not None:
            names = ("hit", "miss", "hit_index", "miss_index", "margin", "relative")
            columns |= {name: getattr(self.margins, name) for name in names}
        whole = dict(self._of_all_rows())
        columns |= {name: values[rows] for name, values in whole.items()}
        order = np.argsort(self.sampled)
        place = np.searchsorted(self.sampled, rows, sorter=order)
        place = order[np.minimum(place, max(len(order) - 1, 0))] if len(order) else np.zeros(len(rows), np.int64)
        for name, values in self._of_sample():
            absent = self.sampled[place] != rows
            columns[name] = pyarrow.array(values[place], mask=absent) if absent.any() else values[place]
        if self.margins is not None:  # a point alone in its class has no hit
            none = np.isnan(self.margins.hit)
            columns["hit_index"] = pyarrow.array(self.margins.hit_index, mask=none)
        return pyarrow.table(columns)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write `per_point()`, whole or not at all; the summary is in the schema's metadata, as JSON under "fastent"."""
        table = self.per_point().replace_schema_metadata({"fastent": json.dumps(self.as_json(), allow_nan=False)})
        write_parquet(path, table)

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write `summary.json` and `per_point.parquet` into a folder, which is made if it is missing.

        `asked`, where the points come from and with which options they were measured, is kept in the summary.
        """
        place = output_folder(folder)
        summary = self.as_json() | ({} if asked is None else {"asked": asked})
        write_text(place / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        self.to_parquet(place / "per_point.parquet")

    def as_json(self) -> dict[str, Any]:
        """The summary with intervals, and how it was measured: plain types, null for what is NaN or infinite."""
        intervals = self.intervals()
        statistics = {}
        for name, value in self.summary().items():
            statistics[name] = {"value": value}
            if name in intervals and intervals[name].low < intervals[name].high:
                statistics[name] |= dict(zip(("standard_error", "low", "high"), intervals[name][1:], strict=True))
        return {
            "points": self.shape[0],
            "features": self.shape[1],
            "classes": [str(c) for c in self.classes],
            "queries": len(self.queries),
            "sampled": len(self.sampled),
            "k": self.k,
            "normalize": self.normalize,
            "fingerprint": self.fingerprint or None,
            "statistics": {
                name: {key: value if math.isfinite(value) else None for key, value in numbers.items()}
                for name, numbers in statistics.items()
            },
            "notes": list(self.notes),
            "stages": [stage._asdict() for stage in self.stages],
        }

    def plot(
        self,
        kind: Literal["matrix", "margins", "distance", "collapse", "dimension"] = "matrix",
        *,
        ax: "Axes | None" = None,
    ) -> "tuple[Figure, Axes]":
        """Draw one view of the classes with matplotlib.

        Parameters
        ----------
        kind : str
            "matrix": who lies among whose neighbours. "margins": distribution of relative margins by class. "distance": between
            class means. "collapse": class-distance normalised variance. "dimension": of each class, by each method.
        ax : matplotlib Axes, optional
            What to draw on; a new figure unless said.

        Raises
        ------
        FastentError
            An unknown kind; one that was not measured.
        """
        choice("kind", kind, tuple(_DRAWN))
        if getattr(self, _DRAWN[kind]) is None:
            raise FastentError(f"kind={kind!r} was not measured: call fe.measure with {_DRAWN[kind]!r} among the metrics")
        if self.mixing is not None and kind == "matrix":
            return self.mixing.plot(ax=ax)
        if self.margins is not None and kind == "margins":
            return self.margins.plot(self.labels, ax=ax)
        if self.geometry is not None and kind in ("distance", "collapse"):
            return self.geometry.plot(kind, ax=ax)
        return plot_dimensions(self.dimension or {}, ax)

    def _repr_html_(self) -> str:
        from fastent.runtime.notebook import html_table

        intervals = self.intervals()
        rows = [
            (name, readable(value), readable_interval(intervals.get(name)), MEANINGS[name])
            for name, value in self.summary().items()
        ]
        return html_table(self._title, ("statistic", "value", "95 % interval", "what it says"), rows, self._said_notes)

    @property
    def _title(self) -> str:
        n, d = self.shape
        return f"{n:,} points x {d} features, {len(self.classes)} classes, {which_rows(self.normalize)}"

    @property
    def _said_notes(self) -> list[str]:
        return [f"{note[0].upper()}{note[1:]}." for note in self.notes]

    def __repr__(self) -> str:
        shown = ("mixing/overlap", "margins/n3", "silhouette/exact", "geometry/fisher", "dimension/twonn")
        found = self.summary()
        values = ", ".join(f"{name.split('/')[1]} {found[name]:.4f}" for name in shown if name in found)
        n, d = self.shape
        asked = "" if len(self.queries) == n else f", {len(self.queries):,} queries"
        return f"Measurement({n:,} x {d}, {len(self.classes)} classes, {which_rows(self.normalize)}{asked}: {values})"

    def __rich_console__(
        self, console: "rich.console.Console", options: "rich.console.ConsoleOptions"
    ) -> "rich.console.RenderResult":
        from rich.table import Table

        from fastent.runtime.terminal import shown

        explained = options.max_width >= _ROOM_TO_EXPLAIN
        table = Table(
            title=self._title,
            title_justify="left",
            caption=shown("\n".join(self._said_notes), "table.caption") if self.notes else None,
            caption_justify="left",
            box=None,
        )
        summary, intervals = self.summary(), self.intervals()
        uncertain = any(readable_interval(estimate) for estimate in intervals.values())
        table.add_column("", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        if uncertain:
            table.add_column("95 % interval", justify="right", no_wrap=True)
        if explained:
            table.add_column("")
        before = ""
        for name, value in summary.items():
            group, statistic = name.split("/")
            if group != before:
                table.add_row(f"[bold]{group}[/bold]")
                before = group
            interval = [readable_interval(intervals.get(name))] if uncertain else []
            meaning = [f"[dim]{MEANINGS[name]}[/dim]"] if explained else []
            table.add_row(f"  {statistic}", readable(value), *interval, *meaning)
        yield table

    def _scalars(self) -> Iterator[tuple[str, float]]:
        """Floats that parts hold under the names of `MEANINGS`; means of what they hold for points, classes or pairs."""
        for name in MEANINGS:
            part, statistic = name.split("/")
            found = getattr(self, part)
            if isinstance(found, dict):
                found = {key: each.value for key, each in found.items()}.get(statistic)
            elif found is not None:
                found = getattr(found, "intervals", {}).get(statistic) or getattr(found, statistic, None)
            if isinstance(found, Estimate):
                found = found.value
            if isinstance(found, float):
                yield name, found
        if self.geometry is not None:
            pairs = ~np.eye(len(self.classes), dtype=bool)
            yield "geometry/radius", float(self.geometry.radius.mean())
            yield "geometry/distance", float(self.geometry.distance[pairs].mean())
            yield "geometry/cdnv", float(self.geometry.cdnv[pairs].mean())
            yield "geometry/nc2_norm_spread", self.geometry.nc2.norm_spread
            yield "geometry/nc2_angle_deviation", self.geometry.nc2.angle_deviation
        if self.participation_ratio is not None:
            yield "geometry/participation_ratio", self.participation_ratio

    def _of_all_rows(self) -> Iterator[tuple[str, NDArray[Any]]]:
        if self.silhouette is not None:
            yield "silhouette_simplified", self.silhouette.simplified
            yield "silhouette_squared", self.silhouette.squared
        if self.complexity is not None and self.complexity.border is not None:
            yield "border", self.complexity.border
        if self.complexity is not None and self.complexity.radius is not None:
            yield "sphere_radius", self.complexity.radius

    def _of_sample(self) -> Iterator[tuple[str, NDArray[Any]]]:
        if self.silhouette is not None:
            yield "silhouette", self.silhouette.exact
        if self.soft_nearest_neighbor is not None:
            yield "soft_nearest_neighbor", self.soft_nearest_neighbor.per_point
        if self.complexity is not None:
            yield "local_set", self.complexity.local_set


def readable(value: float) -> str:
    if math.isnan(value):
        return "\u2013"
    size = abs(value)
    if 1e7 <= size < math.inf or 0 < size < 5e-5:
        return f"{value:.3e}"
    return f"{value:,.0f}" if 10_000 <= size < math.inf else f"{value:.4g}" if size >= 100 else f"{value:.4f}"


def readable_interval(estimate: Estimate | None) -> str:
    if estimate is None or not estimate.low < estimate.high:
        return ""
    return f"{readable(estimate.low)} to {readable(estimate.high)}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measurements side by side.

    Attributes
    ----------
    names : tuple of str
        Of the measurements, m.
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

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        write_parquet(path, self.table())

    def plot(self, statistics: str | Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw statistics of the measurements side by side, with matplotlib.

        Parameters
        ----------
        statistics : str or sequence of str, optional
            Names such as "mixing/overlap"; unless said, overlap, relative margin and silhouette, which share a scale.
        ax : matplotlib Axes, optional
            What to draw on; a new figure unless said.

        Raises
        ------
        FastentError
            A statistic that was not measured.
        """
        from fastent.plots.figure import axes_of
        from fastent.plots.intervals import draw_error_bars
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
        from fastent.runtime.notebook import html_table

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
        One for each, all different; "0", "1", ... unless said.

    Raises
    ------
    FastentError
        Nothing to compare; as many names are needed as measurements, all different.
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
