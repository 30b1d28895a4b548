"""Lists of neighbours without repeated rows: what rounding alone can tell apart is one point, which counts once.

Ratios of distances to near neighbours assume points of a continuous density, which never coincide. Rows do, exactly or but for
rounding, where data hold a picture twice or a network was run twice; and then r_1 says nothing of how points lie.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.search.neighbors import Neighbors

__all__ = ["DistinctNeighbors", "distinct_neighbors"]

Array = NDArray[Any]

# Distances are kept in single precision: so many of its units apart they may be equal. And no more of a distance than this is
# taken for rounding of rows in half precision, whose errors in many directions cancel.
_SINGLE, _MOST = 4 * 2.0**-23, 2.0**-8
_SPARSE = 16


class DistinctNeighbors(NamedTuple):
    """Distances to neighbours that differ from the query and from each other.

    distances : (q, k) float64, ascending; inf where a list has no more.
    counts : (q,) how many there are.
    points : (q,) which point a query is: the same number for queries that repeat each other.
    tolerance : (q,) how far apart two distances may be and yet be one.
    """

    distances: NDArray[np.float64]
    counts: NDArray[np.int64]
    points: NDArray[np.int64]
    tolerance: NDArray[np.float64]

    def first_of(self, codes: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Mask (q,) of the queries that are the first of their point, or the first in their class."""
        keys = self.points if codes is None else self.points * (1 + codes.max()) + codes
        mask = np.zeros(len(keys), bool)
        mask[np.unique(keys, return_index=True)[1]] = True
        return mask


def distinct_neighbors(neighbors: Neighbors) -> DistinctNeighbors:
    """Leave out of each list what repeats the query or a nearer neighbour, as far as the lists themselves show it."""
    indices, distances = neighbors.indices, neighbors.distances.astype(np.float64)
    q, k = distances.shape
    resolution = np.zeros(q) if neighbors.resolution is None else neighbors.resolution.astype(np.float64)
    own = np.arange(neighbors.n, neighbors.n + q) if neighbors.queries is None else neighbors.queries
    at, place = np.nonzero(distances <= resolution[:, None])
    if len(at):
        n = neighbors.n
        if n > _SPARSE * indices.size:  # most rows are in no list: number those that are
            known, numbers = np.unique(np.concatenate([own, indices.ravel()]), return_inverse=True)
            own, indices, n = numbers[:q], numbers[q:].reshape(q, k), len(known)
        point = _joined(own[at], indices[at, place], n + q)
        points = point[own]
        several = np.bincount(point, minlength=len(point)) > 1
        affected = np.flatnonzero(several[point[indices]].any(1))
        lists = np.column_stack([points[affected], point[indices[affected]]])
        repeated = np.column_stack([(lists[:, :a] == lists[:, a : a + 1]).any(1) for a in range(1, k + 1)])
        some = np.where(repeated, np.inf, distances[affected])
        some.sort(axis=1)
        distances[affected] = some
    else:
        points = own
    nearest = distances[:, 0]
    with np.errstate(invalid="ignore"):
        tolerance = _SINGLE * nearest + np.minimum(resolution, _MOST * nearest)
    return DistinctNeighbors(distances, np.isfinite(distances).sum(1), points, tolerance)


def _joined(first: NDArray[np.int64], second: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Which of the points (n,) each row is, where these pairs of rows are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joins = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    point: NDArray[np.int64] = connected_components(joins, directed=False)[1].astype(np.int64)
    return point
