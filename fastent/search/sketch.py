"""The frame in which few coordinates say most of a point, and the sketches of points in it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype, unit_rows
from fastent.runtime.threads import in_parallel, single_blas_thread

__all__ = ["Frame", "SketchBounds", "sample_rows", "take_frame", "typical_scale"]

Array = NDArray[Any]

# Rows of which the axes are taken; fewer where they have many features, or where the middle and the scale are all.
_SAMPLE_ROWS, _FEW_ROWS, _FEWEST_ROWS = 4096, 512, 128
_LITTLE = 1 << 19  # values that are seen in less time than threads take to start
# In double precision a block of so many values and what becomes of it stay in the caches; at most and at least so many rows.
_BLOCK_VALUES, _BLOCK_ROWS = 1 << 17, (32, 512)
# So few axes are found by iteration.
_FEW_AXES, _ITERATIONS = 16, 2
# With more features axes are taken of few rows, and are no more than these.
_WIDE = 512
# An axis along which a sample varies less than that, of its largest variance, is noise.
_NO_VARIANCE = 2.0**-40
# Rows of a sample that say where its middle is, and how many times farther from there than half of the sample a row is left
# out of the frame: it is damaged, or one of so few that seeing the others well is worth more.
_MIDDLE_ROWS, _FAR = 65, 2.0**10
# Frames whose points lie within these distances of the origin need no scale.
_NEAREST, _FARTHEST = 2.0**-20, 2.0**20
# Single precision holds scales from 2^-120 to 2^120.
_LARGEST_SCALE = 120
# Points farther out, in units of the sketch, are drawn in to here, so that squares do not overflow in single precision.
_FARTHEST_KEPT = 2.0**60
# What rounding a sketch to single precision, and the norm of its rest, may do to a point, as shares of its norm: the latter is
# the root of what two sums of d terms lose in double precision, and is this times the root of d.
_ERROR, _ERROR_OF_REST = 2.0**-18, 2.0**-26
# A square in single precision below that of this may have vanished.
_VANISHED = 2.0**-50
# What scaling two rows to unit length leaves between their directions and where they are put. Closer ones are not told apart.
_UNIT_ROUNDING, _CLOSEST_SCALE = 2.0**-47, 2.0**44


class SketchBounds(NamedTuple):
    """How distances between sketches bound distances between rows.

    scale : float
        Of the sketch: a distance of 1 between rows is so long there.
    slack : float
        What underflow, and the scaling of rows to unit length, may do to a sketch, in its units.
    error : float
        A sketch is where exact arithmetic puts it, but for this share of its norm.
    """

    scale: float
    slack: float
    error: float


@dataclass(frozen=True, eq=False)
class Frame:
    """How rows become points: of unit length or as they are, seen from an origin along axes, and scaled by a power of two.

    Distances between points that lie too far out are shortened, never lengthened: a ball is convex, and moving points to the
    nearest of its points brings none of them farther from another.

    Attributes
    ----------
    unit : bool
    scale : float
        A power of two that keeps squares within single precision; 1 unless values are extreme.
    origin : (d,) float64
        Of rows, or of rows of unit length.
    axes : (d, p) float64
        Orthonormal, p <= 127.
    """

    unit: bool
    scale: float
    origin: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def bounds(self) -> SketchBounds:
        slack = _VANISHED + self.unit * _UNIT_ROUNDING * self.scale
        return SketchBounds(self.scale, slack, max(_ERROR, _ERROR_OF_REST * len(self.origin) ** 0.5))

    def sketch(self, X: Array, size: int) -> NDArray[np.float32]:
        """(n, size): the first size - 1 coordinates, and the norm of the rest."""
        n, d = X.shape
        sketch = np.zeros((n, size), np.float32)
        axes = np.ascontiguousarray(self.axes[:, : size - 1])

        rows = _block_rows(d)

        def fill(begin: int) -> None:
            block, squared = self._centred(X[begin : begin + rows])
            here = slice(begin, begin + len(block))
            kept = block @ axes
            sketch[here, : kept.shape[1]] = kept
            if kept.shape[1] < d:
                # In double precision: single would leave a rest where there is none.
                sketch[here, size - 1] = np.sqrt(np.maximum(squared - np.einsum("ij,ij->i", kept, kept), 0))

        in_parallel(fill, range(0, n, rows), little=n * d < _LITTLE)
        return sketch

    def whole(self, X: Array) -> NDArray[np.float32]:
        """(n, d): the points themselves, which leave out nothing."""
        points = np.empty(X.shape, np.float32)
        rows = _block_rows(X.shape[1])

        def fill(begin: int) -> None:
            points[begin : begin + rows] = self._centred(X[begin : begin + rows])[0]

        in_parallel(fill, range(0, len(X), rows), little=points.size < _LITTLE)
        return points

    def _centred(self, rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points (m, d) in double precision, drawn in, and their squared norms (m,)."""
        points = np.array(rows, np.float64)
        if self.unit:
            points = unit_rows(points)
        points -= self.origin
        if self.scale != 1:
            points *= self.scale
        squared = np.einsum("ij,ij->i", points, points)
        far = squared > _FARTHEST_KEPT**2
        if far.any():
            points[far] *= (_FARTHEST_KEPT / np.sqrt(squared[far]))[:, None]
            squared[far] = np.einsum("ij,ij->i", points[far], points[far])
        return points, squared


def _block_rows(d: int) -> int:
    return min(max(_BLOCK_VALUES // d, _BLOCK_ROWS[0]), _BLOCK_ROWS[1])


def take_frame(X: Array, *, n_axes: int, unit: bool, seed: int) -> Frame:
    """Principal axes of a sample of the rows. Any frame is exact; this one makes sketches tell points apart early."""
    count = sample_rows(X.shape[1]) if n_axes > _FEW_AXES else _FEW_ROWS if n_axes else _FEWEST_ROWS
    sample = _sample(X, unit, seed, count)
    origin = sample.mean(0)
    if kernel_dtype(X) == np.float32 and not unit:  # so that rows can be seen from there in their precision
        origin = origin.astype(np.float32).astype(np.float64)
    sample -= origin
    scale = _scale_of(sample)
    if unit:
        scale = min(scale, _CLOSEST_SCALE)
    with single_blas_thread():  # whatever the number of threads, the same axes, and so the same order of the rows
        return Frame(unit, scale, origin, _principal_axes(sample * scale, n_axes))


def sample_rows(d: int) -> int:
    """Rows of d features of which a frame is taken."""
    return _SAMPLE_ROWS if d <= _WIDE else _FEW_ROWS


def typical_scale(X: Array, *, seed: int = 0) -> float:
    """The power of two by which the rows of a sample come to distances of about 1; 1 unless values are extreme."""
    sample = _sample(X, False, seed, _FEW_ROWS)
    return _scale_of(sample - sample.mean(0))


def _sample(X: Array, unit: bool, seed: int, count: int) -> NDArray[np.float64]:
    """Some rows in double precision, without those that are much farther from the middle than half of them."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(X), min(count, len(X)), replace=False))
    sample = np.asarray(X[rows], np.float64)
    if unit:
        sample = unit_rows(sample)
    middle = np.median(sample[:: -(-len(sample) // _MIDDLE_ROWS)], axis=0)
    distances = np.linalg.norm(sample - middle, axis=1)
    apart = distances[distances > 0]
    return sample[distances <= _FAR * np.median(apart)] if len(apart) else sample


def _scale_of(points: NDArray[np.float64]) -> float:
    farthest = float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
    if farthest == 0 or _NEAREST < farthest < _FARTHEST:
        return 1.0
    return float(2.0 ** np.clip(-np.frexp(farthest)[1], -_LARGEST_SCALE, _LARGEST_SCALE))


def _principal_axes(sample: NDArray[np.float64], n_axes: int) -> NDArray[np.float64]:
    """Orthonormal (d, at most n_axes), those along which the sample varies most first."""
    d = sample.shape[1]
    if n_axes == 0:
        return np.empty((d, 0))
    if n_axes <= _FEW_AXES and min(sample.shape) >= 4 * _FEW_AXES:  # else all of them are found as soon
        return _leading_axes(sample, n_axes)
    if d <= _WIDE:
        axes: NDArray[np.float64] = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :n_axes]
        return np.ascontiguousarray(axes)  # which lets the others go
    # Of few rows of many features: their axes are combinations of the rows. Squares of tiny values would vanish.
    sample = sample / max(np.abs(sample).max(), np.finfo(float).tiny)
    variances, weights = np.linalg.eigh(sample @ sample.T)
    kept = variances[::-1][:n_axes] > variances[-1] * _NO_VARIANCE
    return np.linalg.qr(sample.T @ weights[:, ::-1][:, :n_axes][:, kept])[0]  # orthonormal to the last bit


def _leading_axes(sample: NDArray[np.float64], n_axes: int) -> NDArray[np.float64]:
    """The same, or nearly so, for a few axes of many, by iteration of a random subspace (Halko et al., arXiv:0909.4061)."""
    sample = sample / max(np.abs(sample).max(), np.finfo(float).tiny)
    axes = np.random.default_rng(0).standard_normal((sample.shape[1], n_axes))
    for _ in range(_ITERATIONS):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    seen = sample @ axes
    return np.linalg.qr(axes @ np.linalg.eigh(seen.T @ seen)[1][:, ::-1])[0]
