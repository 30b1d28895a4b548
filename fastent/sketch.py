"""The frame in which few coordinates say most of a point, and the sketches of points in it."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays import check_finite, row_blocks, stays_on_disk, unit_rows
from fastent.chunks import parts
from fastent.errors import FastentError
from fastent.spread import spread
from fastent.threads import in_parallel, single_blas_thread

__all__ = ["FINEST", "Frame", "common_scale", "directions", "take_frame"]

Array = NDArray[Any]

# The largest sketch.
FINEST = 128

_SAMPLE_ROWS = 4096
_BLOCK_ROWS = 512  # in double precision a block and what becomes of it stay in the caches
# From so many features on, all principal axes cost more than the first ones by random projection.
_WIDE = 1024


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

    @property
    def keeps_rows(self) -> bool:
        return not self.unit and self.scale == 1

    def scaled(self, rows: Array) -> Array:
        """Rows as the search sees them, in their own precision."""
        if self.unit:
            return directions(rows).astype(rows.dtype)
        return rows if self.scale == 1 else rows * rows.dtype.type(self.scale)

    def sketches(self, X: Array, *sizes: int) -> list[NDArray[np.float32]]:
        """For each size (n, size): the first size - 1 coordinates, and the norm of the rest."""
        n, d = X.shape
        sketches = [np.zeros((n, size), np.float32) for size in sizes]
        axes = np.ascontiguousarray(self.axes[:, : max(sizes) - 1])

        def fill(begin: int) -> None:
            block = self._centred(X[begin : begin + _BLOCK_ROWS])
            here = slice(begin, begin + len(block))
            coordinates = block @ axes
            squared = np.einsum("ij,ij->i", block, block)
            for size, sketch in zip(sizes, sketches, strict=True):
                kept = coordinates[:, : size - 1]
                sketch[here, : kept.shape[1]] = kept
                if kept.shape[1] < d:
                    # In double precision: single would leave a rest where there is none.
                    sketch[here, size - 1] = np.sqrt(np.maximum(squared - np.einsum("ij,ij->i", kept, kept), 0))

        in_parallel(fill, range(0, n, _BLOCK_ROWS))
        return sketches

    def whole(self, X: Array) -> NDArray[np.float32]:
        """(n, d rounded up to a multiple of 8): the points themselves, which leave out nothing."""
        points = np.zeros((len(X), -(-X.shape[1] // 8) * 8), np.float32)

        def fill(begin: int) -> None:
            points[begin : begin + _BLOCK_ROWS, : X.shape[1]] = self._centred(X[begin : begin + _BLOCK_ROWS])

        in_parallel(fill, range(0, len(X), _BLOCK_ROWS))
        return points

    def _centred(self, rows: Array) -> NDArray[np.float64]:
        rows = np.asarray(rows, np.float64)
        return (directions(rows) if self.unit else rows if self.scale == 1 else rows * self.scale) - self.origin


def common_scale(*sets: Array, client: Any = None) -> float:
    """A power of two that keeps the squares of all these rows within single precision; 1 unless their values are extreme.

    Raises
    ------
    FastentError
        NaN or infinities; values whose distances single precision cannot hold.
    """
    largest = float(np.max([_largest(rows, client) for rows in sets]))  # NaN if there is one anywhere
    if not np.isfinite(largest):
        for rows, name in zip(sets, ("X", "queries"), strict=False):
            check_finite(rows, name=name)
    smallest, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if 2 * largest * math.sqrt(sets[0].shape[1]) > most or 0 < largest < smallest:
        raise FastentError(f"X has values up to {largest:.2g}, whose distances are out of float32's range: rescale X")
    return 1.0 if largest == 0 or 2.0**-40 < largest < 2.0**40 else 2.0 ** -math.frexp(largest)[1]


def _largest(X: Array, client: Any) -> float:
    if client is not None and stays_on_disk(X):
        return float(np.max(list(spread(client, partial(_largest_of_part, X), parts(X)))))
    return float(np.max([max(block.max(), -block.min()) for _, block in row_blocks(X)]))


def _largest_of_part(X: Array, piece: tuple[int, int]) -> float:
    return _largest(np.asarray(X[piece[0] : piece[1]]), None)


def take_frame(X: Array, *, n_axes: int, unit: bool, scale: float, seed: int) -> Frame:
    """Principal axes of a sample of the rows. Any frame is exact; this one makes sketches tell points apart early."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(X), min(_SAMPLE_ROWS, len(X)), replace=False))
    sample = np.asarray(X[rows], np.float64)
    sample = directions(sample) if unit else sample * scale
    origin = sample.mean(0)
    sample -= origin
    with single_blas_thread():  # whatever the number of threads, the same axes, and so the same order of the rows
        return Frame(unit, scale, origin, _principal_axes(sample, n_axes, seed))


def _principal_axes(sample: NDArray[np.float64], n_axes: int, seed: int) -> NDArray[np.float64]:
    """Orthonormal (d, n_axes), those along which the sample varies most first."""
    d = sample.shape[1]
    if n_axes == 0:
        return np.empty((d, 0))
    if d <= _WIDE:
        return np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :n_axes]
    from sklearn.utils.extmath import randomized_svd

    # Its powers of the data overflow single precision sooner than the data.
    sample = (sample / max(np.abs(sample).max(), np.finfo(float).tiny)).astype(np.float32)
    found = randomized_svd(sample, n_axes, n_iter=2, random_state=seed)[2]
    return np.linalg.qr(found.astype(np.float64).T)[0]  # orthonormal to the last bit


def directions(rows: Array) -> NDArray[np.float64]:
    """Rows scaled to unit length, in double precision; a row of zeros is refused."""
    zero = ~np.any(rows, axis=1)
    if zero.any():
        raise FastentError(
            f"metric='cosine': {np.count_nonzero(zero)} rows of zeros have no direction: drop them or use 'euclidean'"
        )
    return unit_rows(rows)
