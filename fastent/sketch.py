"""The frame in which few coordinates say most of a point, and the sketches of points in it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays import row_blocks
from fastent.errors import FastentError
from fastent.threads import in_parallel

__all__ = ["FINEST", "Coordinates", "Frame", "take_frame", "unit_rows"]

Array = NDArray[Any]

# A sketch of m numbers has m - 1 coordinates and the norm of the rest; these many coordinates can be asked for.
_KEPT = np.array([15, 31, 47, 63, 95, 127])
FINEST = int(_KEPT[-1]) + 1

_SAMPLE_ROWS = 4096
_BLOCK_ROWS = 512  # in double precision a block and what becomes of it stay in the caches
# From so many features on, all principal axes cost more than the first ones by random projection.
_WIDE = 1024


class Coordinates(NamedTuple):
    """Coordinates (n, p) float32 in a frame, and (n, 6) float32 the norms of what the first so many of them leave out."""

    values: NDArray[np.float32]
    rests: NDArray[np.float32]

    def sketch(self, size: int) -> NDArray[np.float32]:
        """(n, size): the first size - 1 coordinates and the norm of the rest."""
        kept = min(size - 1, self.values.shape[1])
        sketch = np.zeros((len(self.values), size), np.float32)
        sketch[:, :kept] = self.values[:, :kept]
        sketch[:, size - 1] = self.rests[:, np.searchsorted(_KEPT, size - 1)]
        return sketch

    def take(self, rows: Array) -> "Coordinates":
        return Coordinates(self.values[rows], self.rests[rows])


@dataclass(frozen=True, eq=False)
class Frame:
    """How rows become points: scaled by a power of two, or to unit length, and seen from an origin along axes.

    Attributes
    ----------
    unit : bool
    scale : float
        A power of two that keeps squares within single precision; 1 unless values are extreme.
    origin : (d,) float64
    axes : (d, p) float64
        Orthonormal, p <= 127.
    """

    unit: bool
    scale: float
    origin: NDArray[np.float64]
    axes: NDArray[np.float64]

    def scaled(self, rows: Array) -> Array:
        """Rows as the search sees them, in their own precision."""
        if self.unit:
            return unit_rows(rows).astype(rows.dtype)
        return rows if self.scale == 1 else rows * rows.dtype.type(self.scale)

    def project(self, X: Array) -> Coordinates:
        p = self.axes.shape[1]
        values, rests = np.empty((len(X), p), np.float32), np.empty((len(X), len(_KEPT)), np.float32)
        within = np.flatnonzero(np.append(0, _KEPT) < p)  # where the axes that one more rest leaves out begin

        def fill(begin: int) -> None:
            block = self._centred(X[begin : begin + _BLOCK_ROWS])
            here = slice(begin, begin + len(block))
            projected = block @ self.axes
            values[here] = projected
            # In double precision: single would leave a rest where there is none.
            kept = np.add.reduceat(np.square(projected, out=projected), np.append(0, _KEPT)[within], axis=1).cumsum(1)
            left = np.einsum("ij,ij->i", block, block)[:, None] - kept[:, np.minimum(np.arange(len(_KEPT)), len(within) - 1)]
            if p == X.shape[1]:
                left[:, p <= _KEPT] = 0
            rests[here] = np.sqrt(np.maximum(left, 0))

        in_parallel(fill, range(0, len(X), _BLOCK_ROWS))
        return Coordinates(values, rests)

    def whole(self, X: Array) -> NDArray[np.float32]:
        """(n, d rounded up to a multiple of 8): the points themselves, which leave out nothing."""
        points = np.zeros((len(X), -(-X.shape[1] // 8) * 8), np.float32)

        def fill(begin: int) -> None:
            points[begin : begin + _BLOCK_ROWS, : X.shape[1]] = self._centred(X[begin : begin + _BLOCK_ROWS])

        in_parallel(fill, range(0, len(X), _BLOCK_ROWS))
        return points

    def _centred(self, rows: Array) -> NDArray[np.float64]:
        rows = np.asarray(rows, np.float64)
        return (unit_rows(rows) if self.unit else rows if self.scale == 1 else rows * self.scale) - self.origin


def take_frame(X: Array, *, n_axes: int, unit: bool, seed: int) -> Frame:
    """Principal axes of a sample of the rows. Any frame is exact; this one makes sketches tell points apart early."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(X), min(_SAMPLE_ROWS, len(X)), replace=False))
    sample = np.asarray(X[rows], np.float64)
    largest = max(max(float(block.max()), -float(block.min())) for _, block in row_blocks(X))
    if unit:
        scale, sample = 1.0, unit_rows(sample)
    else:
        scale = 1.0 if largest == 0 or 2.0**-40 < largest < 2.0**40 else 2.0 ** -math.frexp(largest)[1]
        sample = sample * scale
    origin = sample.mean(0)
    sample -= origin
    return Frame(unit, scale, origin, _principal_axes(sample, n_axes, seed))


def _principal_axes(sample: NDArray[np.float64], n_axes: int, seed: int) -> NDArray[np.float64]:
    """Orthonormal (d, n_axes), those along which the sample varies most first."""
    d = sample.shape[1]
    if d <= _WIDE:
        return np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :n_axes]
    from sklearn.utils.extmath import randomized_svd

    found = randomized_svd(sample.astype(np.float32), n_axes, n_iter=2, random_state=seed)[2]
    return np.linalg.qr(found.astype(np.float64).T)[0]  # orthonormal to the last bit


def unit_rows(rows: Array) -> NDArray[np.float64]:
    """Rows scaled to unit length, in double precision; a row of zeros is refused."""
    rows = np.asarray(rows, np.float64)
    largest = np.abs(rows).max(1, keepdims=True)
    if not largest.all():
        raise FastentError(
            f"metric='cosine': {np.count_nonzero(largest == 0)} rows of zeros have no direction: drop them or use 'euclidean'"
        )
    rows = rows / largest  # so that squares neither overflow nor vanish
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]
