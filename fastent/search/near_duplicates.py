"""Near duplicates: all pairs of rows within a distance, the groups that they form, and which rows to keep."""

import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import with_labels
from fastent.arrays.ranges import as_wide, check_range
from fastent.arrays.validation import as_features, as_labels, check_finite, in_memory
from fastent.errors import FastentError
from fastent.io.files import output_folder, write_parquet, write_text
from fastent.io.scratch import check_scratch
from fastent.io.tabular import Tabular
from fastent.options import choice, number, whole_number
from fastent.printable import storable
from fastent.runtime.memory import budget_bytes
from fastent.runtime.progress import Progress
from fastent.search.equal_rows import Pairs, equal_rows
from fastent.search.neighbors import search_distances

if TYPE_CHECKING:
    import pyarrow

__all__ = ["NearDuplicates", "near_duplicates"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class NearDuplicates(Tabular):
    """Pairs of rows that lie within a radius of each other, and the groups that they form.

    Attributes
    ----------
    pairs : (m, 2) int64
        Row numbers, the lower one first, each pair once, ascending. With `between`: a row of that, and a row of X.
    distances : (m,) float32
        Of each pair, computed and compared with the radius in double precision.
    nearest : (q,) int64
        The nearest row within the radius, of each row of X or of `between`; ties to the lower number; -1 if there is none.
    nearest_distance : (q,) float32
        Its distance; NaN if there is none.
    groups : (n,) int64 or None
        The group of each row, named by the lowest row number in it: rows that are joined by pairs, or by chains of pairs, so
        that two rows of a group may lie farther apart than the radius. None with `between`.
    keep : (q,) bool
        One row of each group, the lowest: `X[keep]` has no near duplicates left. With `between`: its rows without a near
        duplicate in X.
    n : int
        How many rows X has.
    radius : float
        The largest distance of a pair.
    metric : str
        "euclidean" or "cosine".
    quantile : float or None
        Where the radius is a quantile of distances to the nearest row.
    sampled : int
        Of how many rows that is the quantile; 0 if the radius was given.
    pair_labels : (m, 2) or None
        Labels of the two rows of each pair.
    between : bool
        Whether rows of another set were compared with those of X.
    """

    pairs: NDArray[np.int64]
    distances: NDArray[np.float32]
    nearest: NDArray[np.int64]
    nearest_distance: NDArray[np.float32]
    groups: NDArray[np.int64] | None
    keep: NDArray[np.bool_]
    n: int
    radius: float
    metric: Literal["euclidean", "cosine"] = "euclidean"
    quantile: float | None = None
    sampled: int = 0
    pair_labels: NDArray[Any] | None = None
    between: bool = False

    @property
    def conflicts(self) -> NDArray[np.bool_]:
        """Which pairs have two labels: one of the two may be wrong. (m,) bool."""
        if self.pair_labels is None:
            raise FastentError("labels were not given: call fe.near_duplicates(X, ..., labels=y)")
        differ: NDArray[np.bool_] = self.pair_labels[:, 0] != self.pair_labels[:, 1]
        return differ

    def table(self) -> "pyarrow.Table":
        """A row for each row that has a near duplicate, group by group: row, group, keep, nearest, distance.

        With `between` there are no groups: row, a row of that set; nearest, a row of X; distance.
        """
        import pyarrow

        rows = np.flatnonzero(self.nearest >= 0)
        columns: dict[str, Any] = {"row": rows}
        if self.groups is not None:
            rows = rows[np.argsort(self.groups[rows], kind="stable")]
            columns = {"row": rows, "group": self.groups[rows], "keep": self.keep[rows]}
        return pyarrow.table(columns | {"nearest": self.nearest[rows], "distance": self.nearest_distance[rows]})

    def pair_table(self) -> "pyarrow.Table":
        """A row for each pair: row, other, distance, and the labels of both if there are any."""
        import pyarrow

        columns: dict[str, Any] = {"row": self.pairs[:, 0], "other": self.pairs[:, 1], "distance": self.distances}
        if self.pair_labels is not None:
            names = ("label", "other_label")
            columns |= {name: storable(np.ascontiguousarray(self.pair_labels[:, i])) for i, name in enumerate(names)}
        return pyarrow.table(columns)

    def summary(self) -> dict[str, Any]:
        """The radius and the counts, by name: `groups` of at least two rows; `conflicts` where there are labels."""
        found: dict[str, Any] = {"rows": self.n}
        if self.between:
            found["between"] = len(self.keep)
        found |= {"metric": self.metric, "radius": self.radius}
        if self.quantile is not None:
            found |= {"quantile": self.quantile, "sampled": self.sampled}
        found |= {"pairs": len(self.pairs), "rows_with_duplicates": int((self.nearest >= 0).sum())}
        if self.groups is not None:
            sizes = np.bincount(self.groups)
            found |= {"groups": int((sizes > 1).sum()), "largest_group": int(sizes.max())}
        found["rows_to_drop"] = int((~self.keep).sum())
        if self.pair_labels is not None:
            found["conflicts"] = int(self.conflicts.sum())
        return found

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write `pairs.parquet`, `groups.parquet` and `summary.json` into a folder, which is made if it is missing.

        `asked`, where the rows come from and with which options they were compared, is kept in the summary.
        """
        place = output_folder(folder)
        write_parquet(place / "pairs.parquet", self.pair_table())
        write_parquet(place / "groups.parquet", self.table())
        summary = self.summary() | ({} if asked is None else {"asked": asked})
        write_text(place / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")

    def __repr__(self) -> str:
        found = self.summary()
        said = [_counted(found["pairs"], "pair")]
        if self.groups is not None:
            largest = f" of up to {found['largest_group']:,}" if found["groups"] else ""
            said.append(_counted(found["groups"], "group") + largest)
        said.append(_counted(found["rows_to_drop"], "row") + " to drop")
        if "conflicts" in found:
            said.append(_counted(found["conflicts"], "pair") + " with two labels")
        rows = _counted(len(self.keep), "row") + (f" against {self.n:,}" if self.between else "")
        how = "" if self.quantile is None else f", quantile {self.quantile:g} of the nearest distances of {self.sampled:,} rows"
        return f"NearDuplicates({rows}, {self.metric} radius {self.radius:.6g}{how}: {', '.join(said)})"


def near_duplicates(
    X: Any,
    radius: float | None = None,
    *,
    quantile: float | None = None,
    between: Any = None,
    labels: Any = None,
    between_labels: Any = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    equal: Literal["all", "first"] = "all",
    memory_budget: int | str | None = None,
    scratch: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> NearDuplicates:
    """Find all pairs of rows that lie within a radius of each other, exactly, and the groups that they form.

    Parameters
    ----------
    X : array-like (n, d)
        As for `fe.neighbors`.
    radius : float, optional
        The largest distance of a pair, >= 0; 0 finds rows at no distance from each other. Either this or `quantile`.
    quantile : float, optional
        In [0, 1]: the radius is the least distance within which this share of the rows has another row, as estimated from the
        nearest neighbours of 10,000 rows (of all, if there are no more) that are drawn with `seed`. With `between`: within
        which this share of its rows has a row of X.
    between : array-like (q, d), optional
        Another set, such as the test set, whose rows are compared with those of X, such as the training set, and not with each
        other. It is held in memory.
    labels : array-like (n,) or str, optional
        Pairs whose labels differ are `conflicts` then. As for `fe.measure`: of a table also the name of the label column.
    between_labels : array-like (q,) or str, optional
        The same for `between`.
    metric : "euclidean" or "cosine"
        Cosine distance is 1 - cos, in [0, 2]; rows of zeros are refused.
    equal : "all" or "first"
        Which pairs of equal rows there are: all, m (m - 1) / 2 for a row that occurs m times; or only those of each copy with
        the first of its equals. The copies have no other pairs then. Groups and rows to keep are the same.
    memory_budget : int or str, optional
        Bytes, or like "4GiB", X itself not counted; by default what is available. Rows that do not fit with their index are
        searched in cells of space.
    scratch : path or str, optional
        Where copies of rows that do not fit in memory lie until the search ends; default `TMPDIR`.
    seed : int
        Of the rows that are drawn for `quantile`.
    progress : bool or callable
        True for a bar on stderr, or a function of (done, total, message).

    Returns
    -------
    NearDuplicates
        Whether a pair is within the radius is decided in double precision from the rows as given, as in `fe.neighbors`; a
        distance that equals the radius is.

    Raises
    ------
    FastentError
        Bad input; no radius, or both; more pairs than memory has room for, with a radius that has fewer.

    Examples
    --------
    >>> import fastent as fe
    >>> found = fe.near_duplicates([[0.0], [5.0], [0.25], [5.0], [9.0]], 0.5)
    >>> found.pairs.tolist(), found.groups.tolist(), found.keep.tolist()
    ([[0, 2], [1, 3]], [0, 1, 0, 1, 4], [True, True, False, False, True])
    """
    from fastent.search.radius_search import RadiusSearch

    choice("metric", metric, ("euclidean", "cosine"))
    choice("equal", equal, ("all", "first"))
    seed = whole_number("seed", seed, minimum=0)
    unit = metric == "cosine"
    if (radius is None) == (quantile is None):
        which = "both are given" if radius is not None else "neither is given"
        raise FastentError(f"radius= or quantile= is needed, and {which}: quantile=0.01 is a start if distances are unknown")
    if radius is not None:
        radius = number("radius", radius, minimum=0, maximum=2 if unit else math.inf)
    else:
        quantile = number("quantile", quantile, minimum=0, maximum=1)
    X, labels = with_labels(X, labels)
    between, between_labels = with_labels(between, between_labels)
    rows, points = _compared(as_features(X), between)
    names = _labels(labels, between_labels, len(rows), None if points is None else len(points), between is not None)
    check_range(rows, points, unit=unit)
    memory = budget_bytes(memory_budget)
    search = RadiusSearch(rows, points, equal_rows(rows), unit, equal, memory, check_scratch(scratch), seed, progress)
    sampled = 0
    if radius is None:
        assert quantile is not None
        radius, sampled = search.radius_of(quantile)
    found = _in_order(search.pairs(radius), len(rows))
    pairs = np.stack([found.rows, found.others], 1)
    q = len(rows if points is None else points)
    nearest, squared = _nearest(found, q, both_ends=points is None)
    groups = None if points is not None else _groups(found, q)
    return NearDuplicates(
        pairs=pairs,
        distances=search_distances(found.squared, unit).astype(np.float32),
        nearest=nearest,
        nearest_distance=search_distances(squared, unit).astype(np.float32),
        groups=groups,
        keep=nearest < 0 if groups is None else groups == np.arange(q),
        n=len(rows),
        radius=radius,
        metric=metric,
        quantile=quantile,
        sampled=sampled,
        pair_labels=None if names is None else np.stack([names[0][pairs[:, 0]], names[1][pairs[:, 1]]], 1),
        between=points is not None,
    )


def _compared(X: Array, between: Any) -> tuple[Array, Array | None]:
    """Rows, and what they are compared with unless that is themselves, in one precision."""
    if between is None:
        return X, None
    points = as_features(between, name="between")
    if points.shape[1] != X.shape[1]:
        raise FastentError(f"between has {points.shape[1]} features, X has {X.shape[1]}: pass rows of the same space")
    check_finite(points, name="between")
    with np.errstate(over="ignore"):
        return as_wide(X, in_memory(points))


def _labels(labels: Any, between_labels: Any, n: int, q: int | None, between: bool) -> tuple[Array, Array] | None:
    """Of what comes first in a pair, and of what comes second."""
    if between_labels is not None and not between:
        raise FastentError("between_labels are for between=, which is not given: pass labels=")
    if labels is None and between_labels is None:
        return None
    if labels is None or (between and between_labels is None):
        raise FastentError("labels= and between_labels= are needed together, one label for each row of X and of between")
    rows = as_labels(labels, n=n)
    named = rows.classes[rows.codes]
    if not between:
        return named, named
    others = as_labels(between_labels, n=q, name="between_labels")
    kinds = [each.classes.dtype.kind in "US" for each in (rows, others)]
    if kinds[0] != kinds[1]:
        raise FastentError(
            f"labels are {rows.classes.dtype.name}, between_labels {others.classes.dtype.name}: pass both of one kind"
        )
    return others.classes[others.codes], named


def _in_order(found: Pairs, n: int) -> Pairs:
    order = np.argsort(found.rows * n + found.others, kind="stable")
    return Pairs(found.rows[order], found.others[order], found.squared[order])


def _nearest(found: Pairs, q: int, *, both_ends: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest partner of each of q rows, ties to the lower number, and its squared distance; -1 and NaN without any."""
    squared, nearest = np.full(q, np.inf), np.full(q, np.iinfo(np.int64).max)
    ends = [(found.rows, found.others), (found.others, found.rows)][: 1 + both_ends]
    for rows, _ in ends:
        np.minimum.at(squared, rows, found.squared)
    for rows, others in ends:
        is_nearest = found.squared == squared[rows]
        np.minimum.at(nearest, rows[is_nearest], others[is_nearest])
    none = np.isinf(squared)
    nearest[none], squared[none] = -1, np.nan
    return nearest, squared


def _groups(found: Pairs, n: int) -> NDArray[np.int64]:
    """The lowest row number of each row's group."""
    if not len(found.rows):
        return np.arange(n)
    from fastent.search.spanning_tree import components

    _, first, which = np.unique(components(found.rows, found.others, n), return_index=True, return_inverse=True)
    groups: NDArray[np.int64] = first[which]
    return groups


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
