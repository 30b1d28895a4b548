"""The resolution of rows: two rows that are nearer than this may be the same row, rounded twice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype, row_blocks

__all__ = ["precision_of", "resolution_of"]

Array = NDArray[Any]

# Significant bits of bfloat16, float16 and float32 (then float64), and how many units in the last place may be
# rounding errors: half precision is rounded once from single precision; single and double lose a few bits on the way.
_FORMATS = ((8, 2), (11, 2), (24, 8), (53, 8))
# Numbers on a grid with at most this many steps are exact, as integers are.
_GRID = 256
_SAMPLE_ROWS, _SAMPLE_VALUES = 64, 1 << 20


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
    precision = precision_of(X)
    if points is not None:
        precision = max(precision, precision_of(points))
    if unit:
        precision = max(precision, precision_of(np.full((1, 1), 1 / 3, kernel_dtype(X))))
        return np.full(q, precision, np.float32)
    if precision == 0:
        return np.zeros(q, np.float32)
    asked: Array = points if points is not None else X if rows is None or np.array_equal(rows, np.arange(len(X))) else X[rows]
    norms = [_norms(block) for _, block in row_blocks(asked)]
    with np.errstate(under="ignore"):
        return (precision * np.concatenate(norms)).astype(np.float32)


def precision_of(X: Array) -> float:
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
        scaled = np.ldexp(mantissa, bits)
        if bits == 53 or (scaled == np.rint(scaled)).all():
            return float(units * 2.0 ** (1 - bits))
    raise AssertionError("every float64 has 53 bits")


def _on_coarse_grid(values: Array) -> bool:
    """Whether these positive numbers are whole, or whole multiples of a power of two that is a `_GRID`-th of the largest."""
    if (values == np.rint(values)).all():
        return True
    _, exponent = np.frexp(values.max())
    steps = np.ldexp(values, int(np.log2(_GRID)) - int(exponent))
    return bool((steps == np.rint(steps)).all())


def _norms(rows: Array) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return norms
