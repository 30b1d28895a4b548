"""Spheres about points, as large as the other classes let them be, and which of them cover the classes: T1."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.runtime.threads import in_parallel
from fastent.search.sweep import BLOCK_ROWS, DistanceWorkspace, LabelledPoints
from fastent.statistics.margins import Margins

__all__ = ["Spheres", "spheres"]

Array = NDArray[Any]

# So many spheres are compared with all smaller ones at first, for these may hold most of the class; then twice as many.
_FEWEST = 64


class Spheres(NamedTuple):
    """radius : (n,) float64. absorbed : (n,) bool, whether the centre lies in a larger sphere of the class that is not."""

    radius: NDArray[np.float64]
    absorbed: NDArray[np.bool_]


def spheres(points: LabelledPoints, found: Margins) -> Spheres:
    """The spheres of all points, from all their margins.

    From the largest down, of equal ones by row number, each is kept unless its centre lies in one that is kept: all points are
    covered by those. A class of m points of which few are kept costs about m distances for each of these.
    """
    radius = _radii(found.miss, found.miss_index)
    absorbed = np.zeros(len(radius), np.bool_)
    by_class = np.split(np.argsort(points.codes, kind="stable"), np.cumsum(np.bincount(points.codes))[:-1])

    def cover(c: int) -> None:
        rows = by_class[c][np.argsort(-radius[by_class[c]], kind="stable")]
        absorbed[rows] = _covered(points.take(rows), radius[rows], points.scale)

    in_parallel(cover, range(len(by_class)))
    return Spheres(radius, absorbed)


def _radii(miss: Array, enemy: Array) -> NDArray[np.float64]:
    """Half the distance of two points that are each other's nearest; otherwise what the nearest one's sphere leaves."""
    radius = [0.0] * len(miss)
    distances, enemies = miss.tolist(), enemy.tolist()
    # The nearest of another class is itself no farther from its own nearest: it comes first, or is as far.
    for i in np.argsort(miss, kind="stable").tolist():
        j, distance = enemies[i], distances[i]
        radius[i] = distance / 2 if distances[j] == distance else distance - radius[j]
    return np.array(radius)


def _covered(rows: Array, radius: NDArray[np.float64], scale: float) -> NDArray[np.bool_]:
    """Of points (m, d) of one class in the order of their radii, largest first."""
    from fastent.kernels.pairs import cover

    workspace = DistanceWorkspace(rows.shape[1], scale)

    def mark(some: Array, others: Array, flags: Array, same: bool) -> None:
        found, radii = workspace.measure(rows[some], rows[others]), radius[some]
        cover(found, radii, found.scaled(radii**2), flags, same)

    covered = np.zeros(len(rows), np.bool_)
    left, size = np.arange(len(rows)), _FEWEST
    while len(left):
        some, left = left[:size], left[size:]
        flags = np.zeros(len(some), np.bool_)
        mark(some, some, flags, True)
        covered[some] = flags
        kept = some[~flags]
        for begin in range(0, len(left), BLOCK_ROWS):
            others = left[begin : begin + BLOCK_ROWS]
            flags = np.zeros(len(others), np.bool_)
            mark(kept, others, flags, False)
            covered[others] = flags
        left = left[~covered[left]]
        size = min(2 * size, BLOCK_ROWS)
    return covered
