"""Standardised features of rows as they are read: constants from one pass, applied to each batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastent.arrays.validation import check_finite, kernel_dtype, row_blocks
from fastent.data.training_set import check_squares, scale_of
from fastent.errors import FastentError

__all__ = ["Standard"]

# Small enough to stay in the processor's cache.
_BLOCK_BYTES = 2 << 20
# A mean of so many standard deviations costs so much of single precision's digits that differences are taken in double.
_FAR = 256
_SHARED = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


class Standard:
    """(x - mean) * scale of rows as stored, as a float32 tensor.

    Attributes
    ----------
    mean, scale : (d,) float64
    """

    def __init__(self, mean: NDArray[np.float64], scale: NDArray[np.float64], stored: np.dtype[Any], device: str) -> None:
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

    @classmethod
    def of(
        cls,
        X: Any,
        how: str,
        device: str,
        *,
        report: Callable[[int, str], None],
        interrupted: Callable[[], bool],
        also: Callable[[NDArray[Any]], Any] = lambda block: None,
    ) -> "Standard":
        """From one pass over X: means and unbiased deviations in double precision, merged block by block.

        Features that never vary become 0 ("safe"); "none" leaves all as they are, but for a look for NaN and infinities.
        `also` is called with every block of rows, in order, so that one pass serves two.
        """
        n, d = X.shape
        if how == "none":
            for start, block in row_blocks(X):
                if interrupted():
                    raise KeyboardInterrupt
                also(block)
                with np.errstate(over="ignore", invalid="ignore"):
                    suspicious = not np.isfinite(block.sum())
                if suspicious:
                    check_finite(X, name="data")
                report(start + len(block), "checking")
            return cls(np.zeros(d), np.ones(d), X.dtype, device)
        if n < 2:
            raise FastentError("standardisation needs two training points or more, there is 1: use standardize='none'")
        # From the first row, so that features that never vary stay exactly 0 and values far from 0 keep their digits.
        origin = np.asarray(X[0], np.float64)
        seen, mean, squares, largest = 0, np.zeros(d), np.zeros(d), np.zeros(d)
        size = max(1, _BLOCK_BYTES // (8 * d))
        for start, block in row_blocks(X):
            if interrupted():
                raise KeyboardInterrupt
            also(block)
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
            report(start + len(block), "standardising")
        deviation = np.sqrt(squares / (n - 1))
        check_squares(squares, largest)
        scale = scale_of(deviation, origin + mean)
        return cls(origin + mean, scale, X.dtype, device)
