"""Queries: what users pass as `queries=`, checked."""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.frames import frame_table
from fastent.arrays.validation import as_array, as_features, check_finite, check_same_columns, in_memory, rows_of
from fastent.errors import FastentError
from fastent.io.opening import read_features
from fastent.io.sources import Source
from fastent.options import whole_number

__all__ = ["Queries", "as_queries", "query_rows"]

Array = NDArray[Any]


class Queries(NamedTuple):
    """Row numbers (q,), or points (q, d) that are not rows of X."""

    rows: NDArray[np.int64] | None
    points: Array | None

    @property
    def given(self) -> Array:
        """The row numbers or the points."""
        return self.points if self.rows is None else self.rows  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.given)


def as_queries(queries: Any, n: int, d: int, *, seed: int, X: Any = None) -> Queries:
    """Row numbers or points, given or where they lie; or a number of rows to draw, or None for all rows.

    X : the rows as they were opened, which may know the names of their features.
    """
    if queries is None:
        return Queries(np.arange(n), None)
    array = _loaded(queries, X)
    if array.ndim in (1, 2) and len(array) == 0:
        one = "row number" if array.ndim == 1 else "point"
        raise FastentError(f"queries is empty, shape {array.shape}: at least one {one} is needed, or None for all rows")
    if array.ndim == 0:
        count = whole_number("queries", queries, minimum=1, maximum=n)
        return Queries(np.sort(np.random.default_rng(seed).choice(n, count, replace=False)), None)
    if array.ndim >= 2:
        points = as_features(array, name="queries")
        if points.shape[1] != d:
            raise FastentError(f"queries have {points.shape[1]} features, X has {d}: pass points of the same space")
        check_finite(points, name="queries")
        return Queries(None, points)
    if array.dtype.kind == "b":
        raise FastentError(f"queries are {len(array)} booleans: row numbers are needed, pass np.flatnonzero(queries)")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise FastentError(
            f"queries have shape {array.shape} and dtype {array.dtype}: a number, row numbers (q,) or points (q, d) are needed"
        )
    if array.min() < 0 or array.max() >= n:
        wrong = array[(array < 0) | (array >= n)]
        raise FastentError(f"{len(wrong)} of the queries are not rows of X, first {wrong[0]}: its rows are 0..{n - 1}")
    return Queries(array.astype(np.int64), None)


def _loaded(queries: Any, X: Any) -> Array:
    """What a path, a source or a data frame holds, in memory; anything else as an array."""
    if isinstance(queries, str | os.PathLike):
        queries = read_features(os.fspath(queries), any_rank=True)
    if isinstance(queries, Source) or frame_table(queries, "queries") is not None:
        queries = rows_of(queries, "queries")
        check_same_columns(X, queries)
        return np.array(in_memory(as_features(queries, name="queries")))
    return np.array(queries) if isinstance(queries, np.memmap) else as_array(queries, "queries")


def query_rows(queries: Any, n: int, d: int, *, seed: int, what: str, once: bool = True) -> NDArray[np.int64] | None:
    """Row numbers, or None for all rows; points that are not rows of X have no label and are refused.

    once : whether a row that is named twice is refused, because it would count twice in a mean.
    """
    if queries is None:
        return None
    rows = as_queries(queries, n, d, seed=seed).rows
    if rows is None:
        raise FastentError(f"queries of {what} are rows of X, by number: points that are no rows have no label here")
    if once:
        different, counts = np.unique(rows, return_counts=True)
        if len(different) < len(rows):
            raise FastentError(
                f"queries name {len(rows)} rows, {len(different)} of them different: name each once, which row "
                f"{different[counts > 1][0]} is not"
            )
    return rows
