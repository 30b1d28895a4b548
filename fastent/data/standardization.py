"""(x - mean) / (std + 1e-9) by feature, as in the source paper, except for features that vary little or not at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import row_blocks
from fastent.errors import FastentError

__all__ = ["check_enough", "check_squares", "moments", "scale_of", "standardized"]

Array = NDArray[Any]

# What the source paper adds to every standard deviation.
_EPSILON = 1e-9
# Below that it changes what is trained on by more than a millionth. Sums of squares below the other may lack digits.
_SMALL, _VANISHING = 1e-3, 1e-290


def scale_of(deviation: NDArray[np.float64], mean: NDArray[np.float64], how: str = "safe") -> NDArray[np.float64]:
    """Factors of the features: "safe" has 0 for a feature that never varies, "paper" an enormous value.

    Small deviations have the paper's constant in their own units, so that units do not matter, and what varies by rounding
    alone stays small.
    """
    if how == "paper":
        return np.asarray(1 / (deviation + _EPSILON))
    small = _EPSILON * np.minimum(1.0, np.abs(mean) + deviation)
    with np.errstate(divide="ignore"):
        scale = 1 / (deviation + np.where(deviation > _SMALL, _EPSILON, small))
    scale[deviation == 0] = 0.0
    return scale


def check_enough(n: int) -> None:
    if n < 2:
        raise FastentError("standardisation needs two training points or more, there is 1: use standardize='none'")


def check_squares(squares: NDArray[np.float64], largest: NDArray[np.float64]) -> None:
    """Refuse features whose squared offsets are out of float64's range, by their sums and the largest offsets, (d,)."""
    wrong = np.flatnonzero(~np.isfinite(squares) | ((squares < _VANISHING) & (largest > 0)))
    if len(wrong):
        column = int(wrong[0])
        raise FastentError(
            f"{len(wrong)} features of the training points vary by up to {largest[column]:.2g}, first column {column}, and "
            "squares of that are out of float64's range: rescale them"
        )


def moments(rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased standard deviation of each feature, in float64; exactly 0 for a feature that never varies."""
    check_enough(len(rows))
    # From the first row, so that features that never vary stay exactly 0 and values far from 0 keep their digits.
    origin = np.asarray(rows[0], np.float64)
    shift = sum(((block - origin).sum(0) for _, block in row_blocks(rows)), np.zeros(rows.shape[1])) / len(rows)
    squares, largest = np.zeros((2, rows.shape[1]))
    for _, block in row_blocks(rows):
        offsets = (block - origin) - shift
        largest = np.maximum(largest, np.abs(offsets).max(0))
        with np.errstate(over="ignore", under="ignore"):
            squares += (offsets**2).sum(0)
    check_squares(squares, largest)
    return origin + shift, np.sqrt(squares / (len(rows) - 1))


def standardized(rows: Array, mean: Any, scale: Any) -> NDArray[np.float32]:
    result = np.empty(rows.shape, np.float32)
    for start, block in row_blocks(rows):
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for infinities
            result[start : start + len(block)] = (block - mean) * scale
    return result
