"""Nearest rows by brute force in double precision, and how far answers from elsewhere agree with them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Oracle", "assert_exact", "nearest", "without_own"]

Array = NDArray[Any]

# Candidates that the rounding of |a|^2 + |b|^2 - 2 ab may put in the wrong order, before differences decide.
_SPARE = 50
_TOLERANCE = 1e-5


class Oracle:
    """The k nearest rows of some of the queries, and how many of an answer's lists are the same.

    Parameters
    ----------
    X : (n, d)
    points : (q, d)
        The queries.
    rows_are_queries : bool
        `points` are the rows, each of which is left out of its own list.
    checked : int
        That many queries, drawn at random.

    Attributes
    ----------
    queries : (c,) int64
        Which queries are checked.
    """

    def __init__(
        self, X: Array, points: Array, k: int, *, metric: str = "euclidean", rows_are_queries: bool = True, checked: int = 1000
    ) -> None:
        count = len(points)
        self.queries = np.sort(np.random.default_rng(0).choice(count, min(checked, count), replace=False))
        self._k, self._cosine, self._rows_are_queries = k, metric == "cosine", rows_are_queries
        self._X, self._points = (self._comparable(each) for each in (X, points[self.queries]))
        squared, self.indices = nearest(self._X, self._points, k, self.queries if rows_are_queries else None)
        self.distances = self._distances(squared)

    def share_exact(self, distances: Array) -> float:
        """Share of the lists (c, k) with the right distances, up to 1e-5 relative."""
        return float(np.isclose(np.sort(distances, axis=1), self.distances, rtol=_TOLERANCE, atol=1e-12).all(1).mean())

    def recall(self, distances: Array) -> float:
        """Share of the neighbours (c, k) that are as near as the k nearest."""
        return float((distances <= self.distances[:, -1:] * (1 + 1e-6)).mean())

    def distances_to(self, indices: Array) -> Array:
        """In double precision, of lists (c, k), or (c, k + 1) with the query's own row."""
        wanted = without_own(indices, self.queries, self._k) if self._rows_are_queries else indices
        return self._distances(_squared(self._X, self._points, wanted))

    def _comparable(self, rows: Array) -> Array:
        rows = rows.astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if self._cosine else rows

    def _distances(self, squared: Array) -> Array:
        return squared / 2 if self._cosine else np.sqrt(squared)


def assert_exact(found: Any, X: Array) -> None:
    """The `fe.Neighbors` of all rows are those of brute force for 1,000 of them."""
    oracle = Oracle(X, X, found.indices.shape[1])
    np.testing.assert_allclose(found.distances[oracle.queries], oracle.distances, rtol=_TOLERANCE)
    for mine, theirs, d in zip(found.indices[oracle.queries], oracle.indices, oracle.distances, strict=True):
        different = np.setxor1d(mine, theirs)
        assert len(different) == 0 or np.isclose(d[-1], d[-2], rtol=1e-12), (mine, theirs)


def nearest(X: Array, points: Array, k: int, excluded: Array | None = None) -> tuple[Array, Array]:
    """Squared distances (q, k) and numbers of the nearest rows; `excluded` (q,) has a row that each list leaves out."""
    squared = (X**2).sum(1) - 2 * points @ X.T
    if excluded is not None:
        squared[np.arange(len(points)), excluded] = np.inf
    most = min(k + _SPARE, len(X) - 1)
    candidates = np.argpartition(squared, most, axis=1)[:, :most]
    exact = _squared(X, points, candidates)
    if excluded is not None:
        exact[candidates == excluded[:, None]] = np.inf
    order = np.lexsort((candidates, exact))[:, :k]
    return np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)


def without_own(indices: Array, own: Array, k: int) -> Array:
    """The first k of each list of k + 1, without the query's own row."""
    return np.stack([near[near != row][:k] for near, row in zip(indices, own, strict=True)])


def _squared(X: Array, points: Array, indices: Array) -> Array:
    """Squared distances from each point to the rows of its list, from differences."""
    return np.stack([((X[near] - point) ** 2).sum(1) for point, near in zip(points, indices, strict=True)])
