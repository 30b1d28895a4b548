"""Margins: of points, from the distances to the nearest of the same class and of another; of a network's outputs."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source
from fastent.arrays.labelled import as_labelled, paired
from fastent.arrays.queries import query_rows
from fastent.arrays.ranges import check_range
from fastent.arrays.validation import (
    Labels,
    as_features,
    as_labels,
    check_finite,
    check_lengths,
    in_memory,
    label_array,
    row_blocks,
)  # fmt: skip
from fastent.errors import FastentError
from fastent.io.scratch import check_scratch
from fastent.io.tabular import Tabular
from fastent.options import choice, whole_number
from fastent.printable import in_queries
from fastent.runtime.memory import budget_bytes
from fastent.runtime.progress import Progress
from fastent.search.found_neighbors import search_distances
from fastent.search.index import NeighborLists, Wanted
from fastent.statistics.intervals import (
    Estimate,
    Population,
    influences,
    population_of,
    ratio_of_means,
    sample_mean,
    sample_share,
)  # fmt: skip
from fastent.statistics.notes import Note, few_or_skewed, listed, merged, one_point

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Margins", "logit_margin", "margins", "margins_from"]


@dataclass(frozen=True, eq=False)
class Margins(Tabular):
    """Hits, misses and what follows from them. A point that is alone in its class has no hit: NaN, and not in the means.

    Attributes
    ----------
    queries : (q,) int64
        Row numbers.
    hit, miss : (q,) float64
        Distance to the nearest other point of the same class, and to the nearest of another class, >= 0.
    hit_index, miss_index : (q,) int64
        Which points these are, ties by the lower row number; n where there is no hit.
    margin : (q,) float64
        (miss - hit) / 2, the hypothesis margin (Crammer et al. 2002).
    relative : (q,) float64
        (miss - hit) / (miss + hit), in [-1, 1]; 0 / 0 is 0.
    missed : (q,) bool
        Whether the nearest other point has another label, ties by the lower row number; True where there is no hit.
    n2 : float
        r / (1 + r), r = sum of hits / sum of misses (Lorena et al. 2019), in [0, 1]; NaN where both are 0.
    n3 : float
        Share of points that are `missed`, in [0, 1].
    alone : int
        Number of queries that are alone in their class.
    intervals : dict of Estimate
        For "margin", "relative", "n2" and "n3": value, standard error and 95 % interval over all rows, for queries that are a
        random sample of them; for "margin" and "n2" of 50 at least. Without error where every row was a query, and only there.
    notes : tuple of str
        Classes with one point; why a mean is NaN, or its interval may be too narrow.
    """

    queries: NDArray[np.int64]
    hit: NDArray[np.float64]
    miss: NDArray[np.float64]
    hit_index: NDArray[np.int64]
    miss_index: NDArray[np.int64]
    margin: NDArray[np.float64]
    relative: NDArray[np.float64]
    missed: NDArray[np.bool_]
    n2: float
    n3: float
    alone: int
    intervals: dict[str, Estimate]
    notes: tuple[Note, ...] = ()

    def table(self) -> "pa.Table":
        """A row for each query, by its row number; null where a point alone in its class has no hit."""
        import pyarrow as pa

        none = np.isnan(self.hit)
        columns: dict[str, Any] = {"row": self.queries}
        for name in ("hit", "miss", "hit_index", "miss_index", "margin", "relative"):
            values = getattr(self, name)
            columns[name] = pa.array(values, mask=none if name == "hit_index" else np.isnan(values))
        return pa.table(columns)

    def plot(self, labels: Any = None, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw how relative margins are distributed, with matplotlib: median, middle half and middle nine tenths.

        Parameters
        ----------
        labels : array-like (n,), optional
            Labels of all rows, to draw a line for each class; of more than 25 classes, those with the lowest medians.
        ax : matplotlib Axes, optional
            Where to draw; default a new figure.

        Raises
        ------
        FastentError
            Labels of too few rows.
        """
        from fastent.plots.by_name import MOST_GROUPS, draw_quantiles
        from fastent.plots.figure import axes_of

        groups = self._by_class(labels)
        if not groups:
            raise FastentError("no point has another of its class: there are no relative margins to draw")
        figure, axes = axes_of(ax)
        draw_quantiles(axes, groups)
        drawn = "dot: median; bar: middle half; line: 5 to 95 %"
        left_out = f"; the {MOST_GROUPS} worst of {len(groups)} classes" if len(groups) > MOST_GROUPS else ""
        axes.set(
            xlabel=f"relative margin; below 0 the nearest point is of another class\n({drawn})",
            ylabel="" if labels is None else "class",
            title=f"{100 * self.n3:.1f} % lie nearest to another class{left_out}",
        )
        return figure, axes

    def _by_class(self, labels: Any) -> list[tuple[str, NDArray[np.float64]]]:
        """Names of the classes and their known relative margins; without labels those of all points."""
        if labels is None:
            groups = [("all points", self.relative)]
        else:
            codes, classes = as_labels(labels)
            if len(codes) <= int(self.queries.max()):
                raise FastentError(
                    f"labels has {len(codes)} entries, the margins are of row {self.queries.max()}: pass those of all rows"
                )
            own = codes[self.queries]
            groups = [(str(name), self.relative[own == c]) for c, name in enumerate(classes)]
        known = [(name, values[~np.isnan(values)]) for name, values in groups]
        return [(name, values) for name, values in known if len(values)]

    def __repr__(self) -> str:
        mean = self.intervals["relative"].value
        return f"Margins({in_queries(len(self.hit))}, relative margin {mean:.4f}, n2 {self.n2:.4f}, n3 {self.n3:.4f})"


def margins(
    X: Any,
    labels: Any,
    *,
    queries: Any = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    memory_budget: int | str | None = None,
    seed: int = 0,
    client: Any = None,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress = None,
) -> Margins:
    """Find the nearest point of the same class and of another class, for all rows or for some.

    Parameters
    ----------
    X : array-like (n, d)
        As for `fe.neighbors`.
    labels : array-like (n,)
        Two classes or more.
    queries : int or (q,) int, optional
        How many rows to draw at random with `seed`, or row numbers; default all rows.
    metric : "euclidean" or "cosine"
    memory_budget, seed, client, scratch, progress
        As for `fe.neighbors`.

    Returns
    -------
    Margins

    Raises
    ------
    FastentError
        Bad input; only one class; too little memory.

    References
    ----------
    Crammer et al., "Margin analysis of the LVQ algorithm", 2002.
    Lorena et al., "How complex is your classification problem?", 2019.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.margins([[0.0], [1.0], [3.0], [7.0]], ["a", "a", "b", "b"]).margin.tolist()
    [1.0, 0.5, -1.0, 1.0]
    """
    from fastent.search.planner import plan_index

    choice("metric", metric, ("euclidean", "cosine"))
    seed = whole_number("seed", seed, minimum=0)
    points, coded = as_labelled(X, labels)
    features = as_shared_source(points, client)
    n, d = features.shape
    rows = query_rows(queries, n, d, seed=seed, what="margins")
    unit = metric == "cosine"
    wanted: Wanted = {"own class": 1, "other classes": 1}
    n_queries = n if rows is None else len(rows)
    plan = plan_index(
        features, n_queries, wanted, memory=budget_bytes(memory_budget), client=client, scratch=check_scratch(scratch)
    )
    if plan.kind == "index":
        features = in_memory(features)
    check_range(features, unit=unit, client=client)
    lists = plan.build(features, classes=coded.codes, unit=unit, seed=seed).search(wanted, rows, progress=progress)
    rows = np.arange(n) if rows is None else rows
    return margins_from(rows, lists["own class"], lists["other classes"], coded, unit)


def margins_from(
    rows: NDArray[np.int64],
    hits: NeighborLists,
    misses: NeighborLists,
    labels: Labels,
    unit: bool,
    population: Population | None = None,
) -> Margins:
    """Margins of some rows, from lists (q, 1) of their hits and misses, and labels of all rows.

    population : what the rows are a sample of; all rows alike if it is None.
    """
    (near, near_index), (other, other_index) = hits, misses
    hit_index, miss_index = near_index[:, 0], other_index[:, 0]
    missed = ((other < near) | ((other == near) & (other_index < near_index)))[:, 0]
    hit = search_distances(np.where(np.isinf(near), np.nan, near)[:, 0], unit)
    miss = search_distances(other[:, 0], unit)
    with np.errstate(invalid="ignore"):
        relative = np.where(hit + miss == 0, 0.0, (miss - hit) / (miss + hit))
    margin = (miss - hit) / 2
    n = population_of(rows, len(labels.codes)) if population is None else population
    intervals = {
        # A mislabelled point has hit and miss exchanged.
        "margin": sample_mean(margin, n, others=-margin),
        "relative": sample_mean(relative, n, least=-1, most=1),
        "n2": ratio_of_means(hit, miss, n),
        "n3": sample_share(missed, n),
    }
    return Margins(
        queries=rows,
        hit=hit,
        miss=miss,
        hit_index=hit_index,
        miss_index=miss_index,
        margin=margin,
        relative=relative,
        missed=missed,
        n2=intervals["n2"].value,
        n3=intervals["n3"].value,
        alone=int(np.isnan(hit).sum()),
        intervals=intervals,
        notes=merged(_notes(rows, hit, miss, labels, intervals, n)),
    )


def _notes(
    rows: NDArray[np.int64],
    hit: NDArray[np.float64],
    miss: NDArray[np.float64],
    labels: Labels,
    intervals: dict[str, Estimate],
    population: Population,
) -> Iterator[Note]:
    codes, classes = labels
    alone = np.isnan(hit)
    if alone.any():
        counts = np.bincount(codes, minlength=len(classes))
        left_out = "margin, relative and n2 leave the point out, for it has no hit, and n3 counts it as an error"
        yield from one_point(classes, counts, left_out)
    if alone.all():
        yield Note("margin, relative and n2 are unknown", "every query is alone in its class")
    elif np.isnan(intervals["n2"].value):
        yield Note("n2 is unknown", "every hit and every miss is at distance 0")
    level = ~alone & (hit + miss == 0)
    if level.any():
        yield Note(
            f"{level.sum():,} queries coincide with a point of their class and one of another (rows {listed(rows[level])})",
            "relative is 0 there",
        )
    unbounded = {"margin": (miss - hit) / 2}
    if not np.isnan(intervals["n2"].value):
        unbounded["n2"] = influences(hit, miss, population)
    yield from few_or_skewed(unbounded, rows, intervals, population)


def logit_margin(logits: Any, labels: Any) -> NDArray[np.float64]:
    """Logit of the true class less the largest other one: (n,), negative where the network is wrong.

    Parameters
    ----------
    logits : array-like (n, C), or path
        Any real dtype; a column for each of two classes or more.
    labels : array-like (n,), path, or the name of a column
        Class numbers 0..C-1: the columns.

    Returns
    -------
    (n,) float64

    Raises
    ------
    FastentError
        One column; labels that are no columns; NaN; lengths that differ.

    References
    ----------
    Jiang et al., "Predicting the generalization gap in deep networks with margin distributions", 2019.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.logit_margin([[2.0, 0.5, 1.0], [0.0, 3.0, 4.0]], [0, 1]).tolist()
    [1.0, -1.0]
    """
    logits, labels = paired(logits, labels)
    outputs = as_features(logits, name="logits", flatten=False)
    n, n_classes = outputs.shape
    if n_classes < 2:
        raise FastentError("logits have one column: a column for each of two classes or more is needed, for one use [0, z]")
    codes = label_array(labels, "labels")
    if codes.ndim != 1 or codes.dtype.kind not in "iub":
        raise FastentError(
            f"labels have shape {codes.shape} and dtype {codes.dtype}: "
            f"class numbers 0..{n_classes - 1}, one for each row, are needed"
        )
    check_lengths(n, len(codes), features_name="logits")
    strange = np.flatnonzero((codes < 0) | (codes >= n_classes))
    if len(strange):
        raise FastentError(
            f"label {codes[strange[0]]} is no column of logits: 0..{n_classes - 1} are; {len(strange)} rows have such labels, "
            f"first row {strange[0]}"
        )
    check_finite(outputs, name="logits")
    margin = np.empty(n)
    for begin, block in row_blocks(outputs):
        rows, own = np.arange(len(block)), codes[begin : begin + len(block)].astype(np.int64)
        others = block.copy()
        others[rows, own] = -np.inf
        margin[begin : begin + len(block)] = block[rows, own].astype(np.float64) - others.max(1)
    return margin
