"""Queries: what users pass as `queries=`, checked."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.frames import frame_table
from fastent.arrays.validation import as_array, as_features, check_finite, check_same_columns, in_memory, rows_of
from fastent.errors import FastentError
from fastent.io.opening import located, read_features
from fastent.io.reading import is_there, name_list
from fastent.io.row_numbers import COLUMN, are_row_numbers, read_row_numbers
from fastent.io.sources import Source
from fastent.options import whole_number

__all__ = ["Queries", "as_queries", "other_width", "query_rows"]

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
    array, names = _loaded(queries, X)
    if array.ndim in (1, 2) and len(array) == 0:
        one = "row number" if array.ndim == 1 else "point"
        raise FastentError(f"queries is empty, shape {array.shape}: at least one {one} is needed, or None for all rows")
    if array.ndim == 0:
        count = whole_number("queries", queries, minimum=1, maximum=n)
        return Queries(np.sort(np.random.default_rng(seed).choice(n, count, replace=False)), None)
    if array.ndim >= 2:
        points = as_features(array, name="queries")
        if points.shape[1] != d:
            raise other_width(points.shape[1], d, names)
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


def _loaded(queries: Any, X: Any) -> tuple[Array, tuple[str, ...] | None]:
    """What a path, a source or a data frame holds, in memory, and its columns; anything else as an array."""
    if isinstance(queries, str | os.PathLike):
        path, column, reader = located(os.fspath(queries))
        if reader is not None and reader.table is not None and is_there(path) and are_row_numbers(reader.table(path), column):
            return read_row_numbers(queries), None
        queries = read_features(os.fspath(queries), any_rank=True)
    frame = None if isinstance(queries, Source) else frame_table(queries, "queries")
    if frame is not None and are_row_numbers(frame):
        return frame.column(COLUMN), None
    if isinstance(queries, Source) or frame is not None:
        queries = rows_of(queries, "queries")
        check_same_columns(X, queries)
        return np.array(in_memory(as_features(queries, name="queries"))), queries.columns
    return np.array(queries) if isinstance(queries, np.memmap) else as_array(queries, "queries"), None


def other_width(width: int, d: int, columns: Sequence[str] | None = None) -> FastentError:
    """The error over queries of another number of features than X has."""
    extra = f", without labels and others: they have the columns {name_list(columns)}" if columns and width > d else ""
    return FastentError(f"queries have {width} feature{'s' * (width != 1)}, X has {d}: pass points of the same space{extra}")


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
