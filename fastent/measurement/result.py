"""What `fe.measure` finds: its parts, and what they come to."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import which_rows
from fastent.errors import FastentError
from fastent.io.files import output_folder, write_text
from fastent.io.tabular import Tabular
from fastent.measurement.metrics import MEANINGS, METRICS, Metric
from fastent.measurement.point_values import PointValues
from fastent.measurement.task import Stage
from fastent.options import choice
from fastent.printable import in_queries, storable
from fastent.runtime.formatting import html_table, readable, readable_interval, rounded
from fastent.search.found_neighbors import Neighbors
from fastent.statistics.class_geometry import ClassGeometry
from fastent.statistics.complexity import Complexity
from fastent.statistics.intervals import Estimate, Population
from fastent.statistics.intrinsic_dimension import IntrinsicDimension, plot_dimensions
from fastent.statistics.manifold_capacity import ManifoldCapacity
from fastent.statistics.margins import Margins
from fastent.statistics.mixing import Lisi, Mixing
from fastent.statistics.point_map import PointMap
from fastent.statistics.silhouette import Silhouettes
from fastent.statistics.soft_nearest_neighbor import SoftNearestNeighbor, Temperature

if TYPE_CHECKING:
    import pyarrow
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Measurement"]

# In narrower terminals, nothing would be left of what a statistic says.
_ROOM_TO_EXPLAIN = 70
# In narrower ones, intervals lie below their values.
_ROOM_FOR_INTERVALS = 50
# The part that each kind of picture shows.
_DRAWN = {
    "matrix": "mixing", "margins": "margins", "distance": "geometry", "collapse": "geometry", "dimension": "dimension",
    "capacity": "capacity", "map": "maps",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measurement(Tabular):
    """How tangled the classes are, in every accepted view. Parts that were not asked for, or cannot be, are None.

    Attributes
    ----------
    classes : (C,)
        The sorted classes.
    class_names : list of str
        What tables, plots and reports call them: `given_names`, or else their values.
    labels : (n,)
    shape : (n, d)
    queries : (q,) int64
        Rows whose neighbours were found.
    sampled : (s,) int64
        Queries that were compared with all rows, for LISI, silhouettes, soft nearest neighbours and local sets. Where
        `fe.measure` drew them of its own accord, each class has its share and ten rows at least; means weigh classes by their
        shares of all rows, so that a plain mean of `per_point` values may differ from them.
    k : int
    normalize : bool
        Whether rows were scaled to unit length first, for every statistic.
    standardize : bool
        Whether features were standardised before that.
    temperature : float or str
        As asked for; what it came to is in `soft_nearest_neighbor`.
    seed : int
    neighbors : Neighbors or None
    mixing : Mixing or None
    lisi : Lisi or None
    margins : Margins or None
    geometry : ClassGeometry or None
    participation_ratio : float or None
    silhouette : Silhouettes or None
    soft_nearest_neighbor : SoftNearestNeighbor or None
    dimension : dict of IntrinsicDimension or None
        For "twonn", "twonn-ml", "mle" and "gride". Where the queries were drawn of `fe.measure`'s own accord, the values over
        all classes are of those among them in which classes have their shares of all rows.
    complexity : Complexity or None
    capacity : ManifoldCapacity or None
        Of 50 points of each class, drawn from all rows several times. Not part of "all".
    maps : dict of PointMap or None
        By method, the one asked for first: queries in two dimensions.
    notes : tuple of str
        What was sampled, left out or slow, and why; which classes or rows make a statistic less than it seems; why one is NaN
        or infinite.
    stages : tuple of Stage
        What was done, in which time.
    fingerprint : str
        Fingerprint of X, the labels and the queries, 32 hexadecimal digits, if `checkpoint` was given; otherwise empty.
    of_queries, of_sampled : float or Strata
        What `queries` and `sampled` are a sample of: so many rows, or the classes that they were drawn from.
    apart : (n,) float64 or None
        Distance of each row to the mean of its class, if the geometry was measured.
    given_names : tuple of str or None
        The names of the classes, where `fe.measure` was given any.
    """

    classes: NDArray[Any]
    labels: NDArray[Any]
    shape: tuple[int, int]
    queries: NDArray[np.int64]
    sampled: NDArray[np.int64]
    k: int
    normalize: bool
    standardize: bool = False
    temperature: Temperature = "median"
    seed: int = 0
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
    capacity: ManifoldCapacity | None = None
    maps: dict[str, PointMap] | None = None
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    fingerprint: str = ""
    of_queries: Population = math.inf
    of_sampled: Population = math.inf
    apart: NDArray[np.float64] | None = None
    given_names: tuple[str, ...] | None = None

    @property
    def class_names(self) -> list[str]:
        """What tables, plots and reports call the classes."""
        return list(self.given_names or map(str, self.classes.tolist()))

    @property
    def _shown_labels(self) -> NDArray[Any]:
        """(n,) what plots call the class of each row."""
        if self.given_names is None:
            return self.labels
        return np.array(self.class_names)[np.searchsorted(self.classes, self.labels)]

    def _by_name(self, part: Any) -> Any:
        """A part of the result as it is drawn: with names for its classes."""
        return part if self.given_names is None else replace(part, classes=np.array(self.class_names))

    def summary(self) -> dict[str, float]:
        """Every statistic as one float, by names such as "mixing/overlap"; NaN where it could not be measured."""
        return {name: number.value if isinstance(number, Estimate) else number for name, number in self._numbers()}

    def intervals(self) -> dict[str, Estimate]:
        """Value, standard error and 95 % interval of those that a sample estimates; an error of 0 where every row was asked."""
        return {name: number for name, number in self._numbers() if isinstance(number, Estimate)}

    def _numbers(self) -> Iterator[tuple[str, Estimate | float]]:
        """Every statistic that was measured, with its interval where it has one, in the order in which they are shown."""
        for group, metric, part in self._parts():
            computed = getattr(part, "intervals", {}) if metric.numbers is None else metric.numbers(self)
            for statistic in metric.statistics:
                number = computed[statistic] if statistic in computed else getattr(part, statistic, None)
                if number is not None:
                    yield f"{group}/{statistic}", number

    def _parts(self) -> Iterator[tuple[str, Metric, Any]]:
        """The metrics that were measured, by name, and their results."""
        for name, metric in METRICS.items():
            part = getattr(self, name)
            if part is not None:
                yield name, metric, part

    @property
    def outvoted(self) -> NDArray[np.bool_] | None:
        """(n,) bool: rows whose neighbours' vote is for another class or, without mixing, whose nearest neighbour has another.

        False for rows that were no queries; None where neither mixing nor margins were measured.
        """
        if self.mixing is None and self.margins is None:
            return None
        found = np.zeros(len(self.labels), bool)
        if self.mixing is not None:
            found[self.queries] = self.mixing.vote != self.labels[self.queries]
        elif self.margins is not None:
            found[self.queries] = self.margins.missed
        return found

    def per_point(self) -> "pyarrow.Table":
        """A row for each query: its row number, label, and what was measured of it; null where a query is not in the sample.

        Where classes were given names there is a column "class" with them.
        """
        import pyarrow

        rows = self.queries
        columns: dict[str, Any] = {"row": rows, "label": storable(self.labels[rows])}
        if self.given_names is not None:
            columns["class"] = storable(self._shown_labels[rows])
        found = [(column, part) for _, metric, part in self._parts() for column in metric.columns]
        for column, part in sorted(found, key=lambda each: each[0].over == "sampled"):
            values = getattr(part, column.attribute or column.name)
            if values is not None:
                columns[column.name] = self._of_queries(storable(values), column.over)
        if self.margins is not None:  # a point alone in its class has no hit
            none = np.isnan(self.margins.hit)
            columns["hit_index"] = pyarrow.array(self.margins.hit_index, mask=none)
        return pyarrow.table(columns)

    def _of_queries(self, values: NDArray[Any], over: Literal["queries", "rows", "sampled"]) -> Any:
        """Values of the queries, from those of these or those of more or fewer rows; null where there are none."""
        if over != "sampled":
            return values if over == "queries" else values[self.queries]
        import pyarrow

        order = np.argsort(self.sampled)
        place = np.searchsorted(self.sampled, self.queries, sorter=order)
        place = order[np.minimum(place, max(len(order) - 1, 0))] if len(order) else np.zeros(len(self.queries), np.int64)
        absent = self.sampled[place] != self.queries
        return pyarrow.array(values[place], mask=absent) if absent.any() else values[place]

    def table(self, kind: Literal["points", "statistics"] = "points") -> "pyarrow.Table":
        """What was measured as a table.

        Parameters
        ----------
        kind : "points" or "statistics", default "points"
            "points": `per_point()`, with the summary in the schema's metadata, as JSON under "fastent". "statistics": a row for
            each statistic with its value, and its standard error and 95 % interval where a sample estimates it; null for what
            is not known.
        """
        import pyarrow

        choice("kind", kind, ("points", "statistics"))
        if kind == "points":
            return self.per_point().replace_schema_metadata({"fastent": json.dumps(self.as_json(), allow_nan=False)})
        found, no = dict(self._numbers()), math.nan
        rows = [each if isinstance(each, Estimate) else Estimate(each, no, no, no) for each in found.values()]
        columns = {
            name: pyarrow.array(np.array([row[i] for row in rows], np.float64), from_pandas=True)
            for i, name in enumerate(Estimate._fields)
        }
        return pyarrow.table({"statistic": list(found), **columns})

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write `summary.json`, `per_point.parquet` and `differences.npz` into a folder, which is made if it is missing.

        The last has what differences from other measurements are made of (labels, neighbours, margins), about 100 bytes for
        each point: `fastent report A B` reads it.

        `asked`, where the points come from and with which options they were measured, is kept in the summary.
        """
        place = output_folder(folder)
        summary = self.as_json() | ({} if asked is None else {"asked": asked})
        write_text(place / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        self.to_parquet(place / "per_point.parquet")
        PointValues.of(self).save(place)

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
            "classes": self.class_names,
            "queries": len(self.queries),
            "sampled": len(self.sampled),
            "k": self.k,
            "normalize": self.normalize,
            "standardize": self.standardize,
            "temperature": self.temperature,
            "seed": self.seed,
            "fingerprint": self.fingerprint or None,
            "statistics": {
                name: {key: value if math.isfinite(value) else None for key, value in numbers.items()}
                for name, numbers in statistics.items()
            },
            "by_class": self._by_class(),
            "notes": list(self.notes),
            "stages": [stage._asdict() for stage in self.stages],
        }

    def _by_class(self) -> dict[str, list[float | None]]:
        """What is known of each class, in the order of `classes`."""
        columns: dict[str, NDArray[np.float64]] = {}
        if self.mixing is not None:
            low, high = self.mixing.class_intervals.T
            columns |= {
                "purity": self.mixing.class_purity, "purity_low": low, "purity_high": high, "chance": self.mixing.class_chance,
            }  # fmt: skip
        if self.capacity is not None:
            low, high = self.capacity.class_intervals["class_capacity"].T
            columns |= {
                "capacity": self.capacity.class_capacity, "capacity_low": low, "capacity_high": high,
                "capacity_radius": self.capacity.radius, "capacity_dimension": self.capacity.dimension,
            }  # fmt: skip
        return {name: rounded(values, ".9g") for name, values in columns.items()}

    def plot(
        self,
        kind: Literal["matrix", "margins", "distance", "collapse", "dimension", "capacity", "map"] = "matrix",
        *,
        ax: "Axes | None" = None,
    ) -> "tuple[Figure, Axes]":
        """Draw one view of the classes with matplotlib.

        Parameters
        ----------
        kind : str
            "matrix": who lies among whose neighbours. "margins": distribution of relative margins by class. "distance": between
            class means. "collapse": class-distance normalised variance. "dimension": of each class, by each method. "capacity":
            of each class, in mean-field theory. "map": queries in two dimensions, in the colours of their classes, with rings
            around those that are `outvoted`.
        ax : matplotlib Axes, optional
            Where to draw; default a new figure.

        Raises
        ------
        FastentError
            An unknown kind; one that was not measured.
        """
        choice("kind", kind, tuple(_DRAWN))
        if getattr(self, _DRAWN[kind]) is None:
            how = "map='pca'" if kind == "map" else f"{_DRAWN[kind]!r} among the metrics"
            raise FastentError(f"kind={kind!r} was not measured: call fe.measure with {how}")
        if self.mixing is not None and kind == "matrix":
            return self._by_name(self.mixing).plot(ax=ax)  # type: ignore[no-any-return]
        if self.margins is not None and kind == "margins":
            return self.margins.plot(self._shown_labels, ax=ax)
        if self.geometry is not None and kind in ("distance", "collapse"):
            return self._by_name(self.geometry).plot(kind, ax=ax)  # type: ignore[no-any-return]
        if self.capacity is not None and kind == "capacity":
            return self._by_name(self.capacity).plot(ax=ax)  # type: ignore[no-any-return]
        if self.maps is not None and kind == "map":
            return next(iter(self.maps.values())).plot(self._shown_labels, marked=self.outvoted, mark="outvoted", ax=ax)
        return plot_dimensions({name: self._by_name(each) for name, each in (self.dimension or {}).items()}, ax)

    def _repr_html_(self) -> str:
        intervals = self.intervals()
        rows = [
            (name, readable(value), readable_interval(intervals.get(name)), MEANINGS[name])
            for name, value in self.summary().items()
        ]
        return html_table(self._title, ("statistic", "value", "95 % interval", "what it says"), rows, self._said_notes)

    @property
    def _title(self) -> str:
        n, d = self.shape
        return f"{n:,} points x {d} features, {len(self.classes)} classes, {which_rows(self.normalize, self.standardize)}"

    @property
    def _said_notes(self) -> list[str]:
        return [f"{note[0].upper()}{note[1:]}." for note in self.notes]

    def __repr__(self) -> str:
        shown = ("mixing/overlap", "margins/n3", "silhouette/exact", "geometry/fisher", "dimension/twonn")
        found = self.summary()
        values = ", ".join(f"{name.split('/')[1]} {found[name]:.4f}" for name in shown if name in found)
        n, d = self.shape
        asked = "" if len(self.queries) == n else f", {in_queries(len(self.queries))}"
        which = which_rows(self.normalize, self.standardize)
        return f"Measurement({n:,} x {d}, {len(self.classes)} classes, {which}{asked}: {values})"

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
        beside = uncertain and options.max_width >= _ROOM_FOR_INTERVALS
        table.add_column("", overflow="fold")
        table.add_column("value" if beside or not uncertain else "value\n95 % interval", justify="right", no_wrap=True)
        if beside:
            table.add_column("95 % interval", justify="right", no_wrap=True)
        if explained:
            table.add_column("")
        before = ""
        for name, value in summary.items():
            group, statistic = name.split("/")
            if group != before:
                table.add_row(f"[bold]{group}[/bold]")
                before = group
            interval = readable_interval(intervals.get(name))
            cells = [readable(value), interval] if beside else ["\n".join(filter(None, (readable(value), interval)))]
            meaning = [f"[dim]{MEANINGS[name]}[/dim]"] if explained else []
            table.add_row(f"  {statistic}", *cells, *meaning)
        yield table
