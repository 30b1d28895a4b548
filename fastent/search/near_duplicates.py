"""`fe.near_duplicates`: all pairs of rows within a distance."""

import math
import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import with_labels
from fastent.arrays.queries import other_width
from fastent.arrays.ranges import as_wide, check_range
from fastent.arrays.validation import as_features, as_labels, check_finite, check_same_columns, in_memory, rows_of
from fastent.errors import FastentError
from fastent.io.scratch import check_scratch
from fastent.io.sources import Source
from fastent.options import choice, number, whole_number
from fastent.runtime.memory import budget_bytes
from fastent.runtime.progress import Progress
from fastent.search.equal_rows import Pairs, equal_rows
from fastent.search.found_duplicates import NearDuplicates
from fastent.search.found_neighbors import search_distances

__all__ = ["near_duplicates"]

Array = NDArray[Any]


def near_duplicates(
    X: Any,
    radius: float | None = None,
    *,
    quantile: float | None = None,
    queries: Any = None,
    labels: Any = None,
    query_labels: Any = None,
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
        nearest neighbours of 10,000 rows (of all, if there are no more) that are drawn with `seed`. With `queries`: within
        which this share of them has a row of X.
    queries : array-like (q, d), optional
        Rows of another set, such as the test set, which are compared with those of X, such as the training set, and not with
        each other. They are held in memory.
    labels : array-like (n,) or str, optional
        Pairs whose labels differ are `conflicts` then. As for `fe.measure`: of a table also the name of the label column.
    query_labels : array-like (q,) or str, optional
        The same for `queries`.
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
    queries, query_labels = with_labels(queries, query_labels)
    rows, points = _compared(rows_of(X), queries)
    names = _labels(labels, query_labels, len(rows), None if points is None else len(points))
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
        queries=None if points is None else q,
    )


def _compared(given: Any, queries: Any) -> tuple[Array, Array | None]:
    """Rows, and what they are compared with unless that is themselves, in one precision."""
    X = as_features(given)
    if queries is None:
        return X, None
    queries = rows_of(queries, "queries")
    check_same_columns(given, queries)
    points = as_features(queries, name="queries")
    if points.shape[1] != X.shape[1]:
        raise other_width(points.shape[1], X.shape[1], queries.columns if isinstance(queries, Source) else None)
    check_finite(points, name="queries")
    with np.errstate(over="ignore"):
        return as_wide(X, in_memory(points))


def _labels(labels: Any, query_labels: Any, n: int, q: int | None) -> tuple[Array, Array] | None:
    """Of what comes first in a pair, and of what comes second."""
    if query_labels is not None and q is None:
        raise FastentError("query_labels are for queries=, which is not given: pass labels=")
    if labels is None and query_labels is None:
        return None
    if labels is None or (q is not None and query_labels is None):
        raise FastentError("labels= and query_labels= are needed together, one label for each row of X and each query")
    rows = as_labels(labels, n=n)
    named = rows.classes[rows.codes]
    if q is None:
        return named, named
    others = as_labels(query_labels, n=q, name="query_labels")
    kinds = [each.classes.dtype.kind in "US" for each in (rows, others)]
    if kinds[0] != kinds[1]:
        raise FastentError(
            f"labels are {rows.classes.dtype.name}, query_labels {others.classes.dtype.name}: pass both of one kind"
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
