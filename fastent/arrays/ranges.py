"""What the values of rows allow.

Range: the search accepts finite values whose distances float32 can hold, and refuses others with their row.
Resolution: two rows that are nearer to each other than it may be the same row, rounded twice.
"""

import math
import sys
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import (
    DerivedRows,
    check_directions,
    check_finite,
    joined,
    kernel_dtype,
    row_blocks,
    stays_on_disk,
    zero_rows,
)
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.runtime.cluster import map_on_cluster

__all__ = ["as_wide", "check_queries", "check_range", "largest_in_range", "largest_value", "resolution_of"]

Array = NDArray[Any]

# Halved at run time, this is 0 where a thread takes subnormal numbers for 0.
_LEAST_NORMAL = sys.float_info.min
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# Double precision distinguishes all whole numbers up to here.
_WHOLE = 2.0**53 - 1
# Significant bits of bfloat16, float16 and float32 (then float64), and how many units in the last place may be
# rounding errors: half precision is rounded once from single precision; single and double lose a few bits on the way.
_FORMATS = ((8, 2), (11, 2), (24, 8), (53, 8))
# Numbers on a grid with at most this many steps are exact, as integers are.
_GRID = 256
_SAMPLE_ROWS, _SAMPLE_VALUES = 64, 1 << 20


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
        `unit`, a row of zeros; subnormal numbers where this thread takes them for 0.
    """
    sets = [(X, "X")] if queries is None else [(X, "X"), (queries, "queries")]
    if client is None and _takes_subnormals_for_zero():
        for rows, name in sets:
            if unit or kernel_dtype(rows) == np.float32:  # squares of such differences vanish in double precision anyway
                _check_no_subnormals(rows, name)
    sizes = [largest_value(rows, client) for rows, _ in sets]
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
        most = largest_in_range(rows.shape[1])
        if size > most:
            row, column = _first_above(rows, most)
            raise FastentError(
                f"{name} {has} values up to {size:.2g}, first in row {row}, column {column}, whose distances are out of "
                f"float32's range: leave such rows out, or rescale {name}"
            )
    if not unit and 0 < max(sizes) < _LEAST:
        raise FastentError(f"X has no value above {max(sizes):.2g}, and distances are out of float32's range: rescale X")


def _takes_subnormals_for_zero() -> bool:
    """Whether this thread's processor was told so, by torch.set_flush_denormal or by a library built with -ffast-math."""
    return _LEAST_NORMAL / 2 == 0


def _check_no_subnormals(X: Array, name: str) -> None:
    """By their bits: compared as numbers they are 0 here."""
    single = kernel_dtype(X) == np.float32
    least, fraction = ("1.2e-38", 23) if single else ("2.2e-308", 52)
    size = max(1, _SAMPLE_VALUES // X.shape[1])
    for start, block in row_blocks(X):
        for begin in range(0, len(block), size):
            bits: Array = np.left_shift(block[begin : begin + size].view(np.uint32 if single else np.uint64), 1)
            found = (bits > 0) & (bits < 1 << (fraction + 1))
            if found.any():
                row, column = np.argwhere(found)[0]
                raise FastentError(
                    f"{name} has values between 0 and {least}, first in row {start + begin + int(row)}, column {column}, which "
                    "this thread takes for 0: call torch.set_flush_denormal(False) first, or set them to 0"
                )


def largest_in_range(d: int) -> float:
    """The largest value for which float32 holds all distances in d dimensions."""
    return _MOST / (2 * math.sqrt(d))


def check_queries(X: Array, rows: NDArray[np.int64] | None, points: Array | None, *, unit: bool = False) -> None:
    """`check_range` for rows that a scan is going to meet, which sees to their values: the queries alone are read.

    All rows are read where the queries leave something open, or this thread takes subnormal numbers for 0.
    """
    asked = points if points is not None else X[rows]
    size = largest_value(asked)
    if unit:
        settled = math.isfinite(size) and len(joined([zero_rows(block) for _, block in row_blocks(asked)])) == 0
    else:
        settled = _LEAST <= size <= largest_in_range(X.shape[1])
    if (
        not settled
        or _takes_subnormals_for_zero()
        or any(each.dtype.kind in "iu" and each.dtype.itemsize == 8 for each in (X, asked))
    ):
        check_range(X, points, unit=unit)


def _first_above(rows: Array, limit: float) -> tuple[int, int]:
    for start, block in row_blocks(rows):
        high = np.abs(block) > limit
        if high.any():
            row, column = np.argwhere(high)[0]
            return start + int(row), int(column)
    raise AssertionError("no value is above the limit")


def largest_value(X: Array, client: Any = None) -> float:
    """The largest absolute value; NaN if there is one anywhere."""
    if client is not None and stays_on_disk(X):
        return float(np.max(list(map_on_cluster(client, partial(_largest_of_part, X), parts(X)))))
    return float(np.max([max(block.max(), -block.min()) for _, block in row_blocks(X)]))


def _largest_of_part(X: Array, piece: tuple[int, int]) -> float:
    return largest_value(np.asarray(X[piece[0] : piece[1]]))


def as_wide(X: Array, queries: Array) -> tuple[Array, Array]:
    """X and the points to search for in it, both in the same precision: float64 if either needs it."""
    needs = [kernel_dtype(rows) == np.float64 for rows in (X, queries)]
    if needs[1] and not needs[0]:
        single = all((block.astype(np.float32) == block).all() for _, block in row_blocks(queries))
        return (X, queries.astype(np.float32)) if single else (DerivedRows(X, _as_double), queries)  # type: ignore[return-value]
    return (X, queries.astype(np.float64)) if needs[0] and not needs[1] else (X, queries)


def _as_double(rows: Array) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64)


def resolution_of(
    X: Array, rows: NDArray[np.int64] | None, points: Array | None = None, *, unit: bool = False
) -> NDArray[np.float32]:
    """Distances (q,) that rounding alone can cause, for some rows of X, all rows (None), or points that are not rows.

    Parameters
    ----------
    unit : bool
        The distances are those of the rows scaled to unit length.
    """
    q = len(points) if points is not None else len(X) if rows is None else len(rows)
    precision = _precision(X)
    if points is not None:
        precision = max(precision, _precision(points))
    if unit:
        precision = max(precision, _precision(np.full((1, 1), 1 / 3, kernel_dtype(X))))
        return np.full(q, precision, np.float32)
    if precision == 0:
        return np.zeros(q, np.float32)
    asked: Array = points if points is not None else X if rows is None or _are_all(rows, len(X)) else X[rows]
    norms = [np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64)) for _, block in row_blocks(asked)]
    with np.errstate(under="ignore"):
        return (precision * np.concatenate(norms)).astype(np.float32)


def _are_all(rows: NDArray[np.int64], n: int) -> bool:
    return len(rows) == n and np.array_equal(rows, np.arange(n))


def _precision(X: Array) -> float:
    """The relative size of rounding errors; 0 for integers and other numbers on a coarse grid.

    Judged by values, not only by dtype: bfloat16 values often arrive as float32, and float32 values as float64.
    """
    if X.dtype.kind != "f":
        return 0.0
    step = -(-len(X) // max(1, min(_SAMPLE_ROWS, _SAMPLE_VALUES // X.shape[1])))
    sample = np.abs(np.asarray(X[np.arange(0, len(X), step)], np.float64))
    sample = sample[sample > 0]
    if len(sample) == 0 or _on_coarse_grid(sample):
        return 0.0
    mantissa, _ = np.frexp(sample)
    for bits, units in _FORMATS:
        if bits == 53 or _all_whole(mantissa, bits):
            return float(units * 2.0 ** (1 - bits))
    raise AssertionError("every float64 has 53 bits")


def _on_coarse_grid(values: Array) -> bool:
    """Whether these positive numbers are whole, or whole multiples of a power of two that is a `_GRID`-th of the largest."""
    if _all_whole(values, 0):
        return True
    _, exponent = np.frexp(values.max())
    return _all_whole(values, int(np.log2(_GRID)) - int(exponent))


def _all_whole(values: Array, power: int) -> bool:
    """Whether values are whole times 2^power; the first few mostly tell that they are not."""
    for some in (values[:64], values):
        scaled = np.ldexp(some, power)
        if not (scaled == np.rint(scaled)).all():
            return False
    return True
