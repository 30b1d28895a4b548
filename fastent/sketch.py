"""The frame in which few coordinates say most of a point, and the sketches of points in it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays import row_blocks
from fastent.errors import FastentError

__all__ = ["FINEST", "Coordinates", "Frame", "take_frame", "unit_rows"]

Array = NDArray[Any]

# A sketch of m numbers has m - 1 coordinates and the norm of the rest; these many coordinates can be asked for.
_KEPT = np.array([15, 31, 47, 63, 95, 127])
FINEST = int(_KEPT[-1]) + 1

_SAMPLE_ROWS = 4096
_BLOCK_ROWS = 4096


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
        for here, block in self._centred(X):
            projected = block @ self.axes
            values[here] = projected
            # In double precision: single would leave a rest where there is none.
            left = np.einsum("ij,ij->i", block, block)[:, None] - np.cumsum(projected**2, 1)[:, np.minimum(_KEPT, p) - 1]
            if p == X.shape[1]:
                left[:, p <= _KEPT] = 0
            rests[here] = np.sqrt(np.maximum(left, 0))
        return Coordinates(values, rests)

    def whole(self, X: Array) -> NDArray[np.float32]:
        """(n, d rounded up to a multiple of 8): the points themselves, which leave out nothing."""
        points = np.zeros((len(X), -(-X.shape[1] // 8) * 8), np.float32)
        for here, block in self._centred(X):
            points[here, : X.shape[1]] = block
        return points

    def _centred(self, X: Array) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for begin in range(0, len(X), _BLOCK_ROWS):
            rows = np.asarray(X[begin : begin + _BLOCK_ROWS], np.float64)
            yield slice(begin, begin + len(rows)), (unit_rows(rows) if self.unit else rows * self.scale) - self.origin


def take_frame(X: Array, *, n_axes: int, unit: bool, seed: int) -> Frame:
    """Principal axes of a sample of the rows. Any frame is exact; this one makes sketches tell points apart early."""
    from sklearn.utils.extmath import randomized_svd

    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(X), min(_SAMPLE_ROWS, len(X)), replace=False))
    sample = np.asarray(X[rows], np.float64)
    largest = max(float(np.abs(block).max()) for _, block in row_blocks(X))
    if unit:
        scale, sample = 1.0, unit_rows(sample)
    else:
        scale = 1.0 if largest == 0 or 2.0**-40 < largest < 2.0**40 else 2.0 ** -math.frexp(largest)[1]
        sample = sample * scale
    origin = sample.mean(0)
    sample -= origin
    if n_axes == 0:
        return Frame(unit, scale, origin, np.empty((X.shape[1], 0)))
    found = randomized_svd(sample.astype(np.float32), min(n_axes, len(rows)), n_iter=2, random_state=seed)[2]
    # Orthonormal to the last bit, and as many as asked for where the sample spans fewer directions.
    directions = np.concatenate([found.astype(np.float64).T, np.eye(X.shape[1], n_axes)], 1)
    return Frame(unit, scale, origin, np.linalg.qr(directions)[0][:, :n_axes])


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
