"""Which values the search accepts: finite ones whose distances float32 can hold. Others are refused, with their row."""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import DerivedRows, check_directions, check_finite, kernel_dtype, row_blocks, stays_on_disk
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.runtime.cluster import map_on_cluster

__all__ = ["as_wide", "check_range"]

Array = NDArray[Any]

_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# Double precision distinguishes all whole numbers up to here.
_WHOLE = 2.0**53 - 1


def check_range(X: Array, queries: Array | None = None, *, unit: bool = False, client: Any = None) -> None:
    """Refuse values that cannot be searched exactly.

    Parameters
    ----------
    X : (n, d), queries : (q, d), optional
        From `as_features`.
    unit : bool
        Rows will be compared by the angle between them: they may have any length but 0.
    client : distributed.Client, optional
        Whose workers read an X that stays on disk.

    Raises
    ------
    FastentError
        NaN or infinities; whole numbers that double precision does not hold; distances that float32 does not hold, or, with
        `unit`, a row of zeros.
    """
    sets = [(X, "X")] if queries is None else [(X, "X"), (queries, "queries")]
    sizes = [_largest(rows, client) for rows, _ in sets]
    for (rows, name), size in zip(sets, sizes, strict=True):
        has = "has" if name == "X" else "have"
        if not math.isfinite(size):
            check_finite(rows, name=name)
        if size > _WHOLE and rows.dtype.kind in "iu" and rows.dtype.itemsize == 8:
            row, column = _first_above(rows, _WHOLE)
            raise FastentError(
                f"{name} {has} whole numbers of 2^53 and more, first in row {row}, column {column}, which double precision "
                "does not tell apart: subtract what they have in common, or use smaller ones"
            )
        if unit:
            check_directions(rows, name=name)
            continue
        most = _MOST / (2 * math.sqrt(rows.shape[1]))
        if size > most:
            row, column = _first_above(rows, most)
            raise FastentError(
                f"{name} {has} values up to {size:.2g}, first in row {row}, column {column}, whose distances are out of "
                f"float32's range: leave such rows out, or rescale {name}"
            )
    if not unit and 0 < max(sizes) < _LEAST:
        raise FastentError(f"X has no value above {max(sizes):.2g}, and distances are out of float32's range: rescale X")


def _first_above(rows: Array, limit: float) -> tuple[int, int]:
    for start, block in row_blocks(rows):
        high = np.abs(block) > limit
        if high.any():
            row, column = np.argwhere(high)[0]
            return start + int(row), int(column)
    raise AssertionError("no value is above the limit")


def _largest(X: Array, client: Any) -> float:
    """The largest absolute value; NaN if there is one anywhere."""
    if client is not None and stays_on_disk(X):
        return float(np.max(list(map_on_cluster(client, partial(_largest_of_part, X), parts(X)))))
    return float(np.max([max(block.max(), -block.min()) for _, block in row_blocks(X)]))


def _largest_of_part(X: Array, piece: tuple[int, int]) -> float:
    return _largest(np.asarray(X[piece[0] : piece[1]]), None)


def as_wide(X: Array, queries: Array) -> tuple[Array, Array]:
    """X and the points to search for in it, both in the same precision: float64 if either needs it."""
    needs = [kernel_dtype(rows) == np.float64 for rows in (X, queries)]
    if needs[1] and not needs[0]:
        single = all((block.astype(np.float32) == block).all() for _, block in row_blocks(queries))
        return (X, queries.astype(np.float32)) if single else (DerivedRows(X, _as_double), queries)  # type: ignore[return-value]
    return (X, queries.astype(np.float64)) if needs[0] and not needs[1] else (X, queries)


def _as_double(rows: Array) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64)
