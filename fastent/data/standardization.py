"""(x - mean) / (std + 1e-9) by feature, as in the source paper, except for features that vary little or not at all."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import DerivedRows, check_finite, kernel_dtype, row_blocks, stays_on_disk
from fastent.data.fingerprint import CLASSES, POINTS, TEST_CLASSES, TEST_POINTS, DataFingerprint
from fastent.data.stored_rows import TrainingRows
from fastent.errors import FastentError
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, reporting

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Standardizer", "find_constants", "read_standardizer", "standardized", "standardized_rows"]

Array = NDArray[Any]

# What the source paper adds to every standard deviation.
_EPSILON = 1e-9
# Below that it changes what is trained on by more than a millionth. Sums of squares below the other may lack digits.
_SMALL, _VANISHING = 1e-3, 1e-290
# What messages call rows.
_TRAINING = "training points"


def _scale_of(deviation: NDArray[np.float64], mean: NDArray[np.float64], how: str = "safe") -> NDArray[np.float64]:
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


def _check_enough(n: int, what: str = _TRAINING, remedy: str = "use standardize='none'") -> None:
    if n < 2:
        raise FastentError(f"standardisation needs two {what} or more, there is 1: {remedy}")


def _check_squares(squares: NDArray[np.float64], largest: NDArray[np.float64], what: str = f"the {_TRAINING}") -> None:
    """Refuse features whose squared offsets are out of float64's range, by their sums and the largest offsets, (d,)."""
    wrong = np.flatnonzero(~np.isfinite(squares) | ((squares < _VANISHING) & (largest > 0)))
    if len(wrong):
        column = int(wrong[0])
        raise FastentError(
            f"{len(wrong)} features of {what} vary by up to {largest[column]:.2g}, first column {column}, and "
            "squares of that are out of float64's range: rescale them"
        )


def _moments(rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased standard deviation of each feature, in float64; exactly 0 for a feature that never varies."""
    _check_enough(len(rows))
    # From the first row, so that features that never vary stay exactly 0 and values far from 0 keep their digits.
    origin = np.asarray(rows[0], np.float64)
    shift = sum(((block - origin).sum(0) for _, block in row_blocks(rows)), np.zeros(rows.shape[1])) / len(rows)
    squares, largest = np.zeros((2, rows.shape[1]))
    for _, block in row_blocks(rows):
        offsets = (block - origin) - shift
        largest = np.maximum(largest, np.abs(offsets).max(0))
        with np.errstate(over="ignore", under="ignore"):
            squares += (offsets**2).sum(0)
    _check_squares(squares, largest)
    return origin + shift, np.sqrt(squares / (len(rows) - 1))


def standardized(x_train: Array, x_test: Array, how: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Training and test rows, both by the constants of the training rows; "none" leaves them as they are, in float32."""
    mean: Any = 0.0
    scale: Any = 1.0
    if how != "none":
        mean, deviation = _moments(x_train)
        scale = _scale_of(deviation, mean, how)
    return _applied(x_train, mean, scale), _applied(x_test, mean, scale)


def standardized_rows(X: Any) -> Any:
    """All rows by the constants of all rows, in the dtype that kernels take; read from disk when they are needed, as X is."""
    _check_enough(len(X), "rows of X", "leave out standardize")
    mean, scale = find_constants(X, "safe", (block for _, block in row_blocks(X)), name="X")
    dtype = kernel_dtype(X)
    if stays_on_disk(X):
        return DerivedRows(X, partial(_scaled, mean=mean, scale=scale, dtype=dtype), dtype)
    check_fits(X.size * dtype.itemsize, "standardised features", "save X with numpy.save and pass fe.open(path)")
    return _applied(X, mean, scale, dtype)


def _scaled(rows: Array, mean: Any, scale: Any, dtype: np.dtype[Any]) -> Array:
    values: Array = (np.asarray(rows, np.float64) - mean) * scale
    return values.astype(dtype)


def _applied(rows: Array, mean: Any, scale: Any, dtype: Any = np.float32) -> Array:
    result = np.empty(rows.shape, dtype)
    size = max(1, _BLOCK_BYTES // (8 * rows.shape[1]))
    for start, block in row_blocks(rows):
        for at in range(0, len(block), size):
            with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for infinities
                result[start + at : start + at + size] = (block[at : at + size] - mean) * scale
    return result


# Small enough to stay in the processor's cache.
_BLOCK_BYTES = 2 << 20
# A mean of so many standard deviations costs so much of single precision's digits that differences are taken in double.
_FAR = 256
_SHARED = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


class Standardizer:
    """(x - mean) * scale of rows as stored, as a float32 tensor.

    Attributes
    ----------
    mean, scale : (d,) float64
    """

    def __init__(self, mean: Array, scale: Array, stored: np.dtype[Any], device: str) -> None:
        import torch

        self.mean, self.scale = mean, scale
        wide = kernel_dtype(np.empty((0, 1), stored)) == np.float64 or bool((np.abs(mean) * scale > _FAR).any())
        dtype = torch.float64 if wide else torch.float32
        self._as_stored = stored.name in _SHARED
        self._identity = not mean.any() and bool((scale == 1).all())
        self._mean, self._scale = (torch.from_numpy(values).to(device, dtype) for values in (mean, scale))

    def __call__(self, rows: NDArray[Any]) -> "Tensor":
        import torch

        if not (self._as_stored and rows.flags.writeable and rows.dtype.isnative):
            rows = rows.astype(rows.dtype.newbyteorder("=") if self._as_stored else kernel_dtype(rows))
        stored = torch.from_numpy(rows).to(self._mean.device)
        if self._identity:
            return stored.float()
        return stored.to(self._mean.dtype, copy=True).sub_(self._mean).mul_(self._scale).float()


def read_standardizer(
    rows: TrainingRows,
    how: str,
    device: str,
    constants: tuple[Array, Array] | None,
    progress: Progress,
    interrupted: Callable[[], bool],
) -> tuple[Standardizer, DataFingerprint]:
    """A standardiser and the fingerprint of all data, from one pass over the rows; known `constants` are taken as they are."""
    X, fingerprint = rows.train.X, DataFingerprint()
    fingerprint.begin(X)
    with reporting(progress, "standardising" if constants is None else "the same data?", len(X)) as report:

        def blocks() -> Iterator[NDArray[Any]]:
            for start, block in row_blocks(X):
                if interrupted():
                    raise KeyboardInterrupt
                fingerprint.update(block)
                yield block
                report(start + len(block), "")

        if constants is None:
            constants = find_constants(X, how, blocks())
        else:
            for _ in blocks():
                pass
    fingerprint.end(POINTS)
    fingerprint.add(CLASSES, rows.codes)
    if rows.test is not None and rows.test_codes is not None:
        fingerprint.add_rows(TEST_POINTS, rows.test.X)
        fingerprint.add(TEST_CLASSES, rows.test_codes)
    fingerprint.add_labels(rows.labels)
    return Standardizer(*constants, X.dtype, device), fingerprint


def find_constants(X: Any, how: str, blocks: Iterable[NDArray[Any]], *, name: str = "data") -> tuple[Array, Array]:
    """Mean and scale of each feature from one pass over X, in double precision, merged block by block.

    Features that never vary become 0 ("safe"); "none" leaves all as they are, but refuses NaN and infinities. name : what
    messages call X, by default the training points, or data.
    """
    n, d = X.shape
    points = name if name != "data" else f"the {_TRAINING}"
    if how == "none":
        for block in blocks:
            with np.errstate(over="ignore", invalid="ignore"):
                suspicious = not np.isfinite(block.sum())
            if suspicious:
                check_finite(X, name=name)
        return np.zeros(d), np.ones(d)
    _check_enough(n)
    # From the first row, so that features that never vary stay exactly 0 and values far from 0 keep their digits.
    origin = np.asarray(X[0], np.float64)
    seen, mean, squares, largest = 0, np.zeros(d), np.zeros(d), np.zeros(d)
    size = max(1, _BLOCK_BYTES // (8 * d))
    for block in blocks:
        for at in range(0, len(block), size):
            with np.errstate(over="ignore", invalid="ignore"):
                offsets = block[at : at + size] - origin
                largest = np.maximum(largest, np.abs(offsets).max(0))
                count, here = len(offsets), offsets.mean(0)
                offsets -= here
                move = here - mean
                squares += np.einsum("ij,ij->j", offsets, offsets) + move * move * (seen * count / (seen + count))
                mean += move * (count / (seen + count))
                seen += count
        if not np.isfinite(squares).all():
            check_finite(X, name=name)
            _check_squares(squares, largest, points)
    _check_squares(squares, largest, points)
    return origin + mean, _scale_of(np.sqrt(squares / (n - 1)), origin + mean)
