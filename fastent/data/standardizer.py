"""Standardised features of rows as they are read: constants from one pass, applied to each batch."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastent.arrays.validation import check_finite, kernel_dtype, row_blocks
from fastent.data.fingerprint import CLASSES, POINTS, TEST_CLASSES, TEST_POINTS, DataFingerprint
from fastent.data.standardization import check_enough, check_squares, scale_of
from fastent.data.stored_rows import TrainingRows
from fastent.runtime.progress import Progress, reporting

__all__ = ["Standardizer", "find_constants", "read_standardizer"]

Array = NDArray[np.float64]

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
        self.mean, self.scale = mean, scale
        wide = kernel_dtype(np.empty((0, 1), stored)) == np.float64 or bool((np.abs(mean) * scale > _FAR).any())
        dtype = torch.float64 if wide else torch.float32
        self._as_stored = stored.name in _SHARED
        self._identity = not mean.any() and bool((scale == 1).all())
        self._mean, self._scale = (torch.from_numpy(values).to(device, dtype) for values in (mean, scale))

    def __call__(self, rows: NDArray[Any]) -> Tensor:
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


def find_constants(X: Any, how: str, blocks: Iterable[NDArray[Any]]) -> tuple[Array, Array]:
    """Mean and scale of each feature from one pass over X, in double precision, merged block by block.

    Features that never vary become 0 ("safe"); "none" leaves all as they are, but refuses NaN and infinities.
    """
    n, d = X.shape
    if how == "none":
        for block in blocks:
            with np.errstate(over="ignore", invalid="ignore"):
                suspicious = not np.isfinite(block.sum())
            if suspicious:
                check_finite(X, name="data")
        return np.zeros(d), np.ones(d)
    check_enough(n)
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
            check_finite(X, name="data")
            check_squares(squares, largest)
    check_squares(squares, largest)
    return origin + mean, scale_of(np.sqrt(squares / (n - 1)), origin + mean)
