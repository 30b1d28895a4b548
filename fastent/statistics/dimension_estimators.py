"""Estimators of the intrinsic dimension, from ratios of distances to near neighbours that are distinct points.

Ratios assume points of a continuous density, which never coincide. Rows do, exactly or but for rounding, where data hold a
picture twice or a network was run twice; and then r_1 says nothing of how points lie. What rounding alone can tell apart is one
point, which counts once.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.search.found_neighbors import Neighbors
from fastent.search.spanning_tree import components

__all__ = ["ESTIMATES", "FEW_TIES", "DistinctNeighbors", "Method", "Ratios", "distinct_neighbors", "fit", "ratios_of"]

Array = NDArray[np.float64]
Method = Literal["twonn", "twonn-ml", "mle", "gride"]

# The largest ratios are the least certain and bend the line most: Facco et al. leave out a tenth.
_KEPT = 0.9
# Up to this share of ties count with the ratio 1 that they have: rounding makes as many ratios too large. Where not every row
# is a query, ties may be copies of each other, which nothing else shows.
FEW_TIES = 0.1
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
        point = components(own[at], indices[at, place], n + q)
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


class Ratios(NamedTuple):
    """Logarithms of ratios of distances, for each query, and what goes into them.

    log_ratio : (q,) of the outer to the inner distance; for "mle" the sum over the inner ones.
    inner : (q,) for "gride" n of r_2n / r_n, for "mle" how many ratios are summed, otherwise 1.
    cut : (q,) below what the logarithm of the ratio comes out as 0.
    lacking, ties : (q,) queries whose lists have too few distances, or one distance only.
    """

    log_ratio: Array
    inner: Array
    cut: Array
    lacking: NDArray[np.bool_]
    ties: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_]) -> "Ratios":
        return Ratios(self.log_ratio[rows], self.inner[rows], self.cut[rows], self.lacking[rows], self.ties[rows])


def ratios_of(distinct: DistinctNeighbors, method: Method, k: int, every_row: bool) -> Ratios:
    counts = np.minimum(distinct.counts, k)
    lacking = counts < 2
    counts = np.maximum(counts, 2)
    inner = counts // 2 if method == "gride" else counts - 1 if method == "mle" else np.ones_like(counts)
    first = inner - 1 if method == "gride" else np.zeros_like(inner)
    last = 2 * inner - 1 if method == "gride" else counts - 1
    here = np.arange(len(counts))
    near, far = distinct.distances[here, first], distinct.distances[here, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        ties = ~lacking & (far - near <= distinct.tolerance)
        if method == "mle":
            ratios = np.log(far[:, None] / distinct.distances[:, : k - 1])
            log_ratio = np.where(np.arange(k - 1) < inner[:, None], ratios, 0).sum(1)
        else:
            log_ratio = np.log(far / near)
    if every_row and (method == "mle" or inner.max() == 1) and ties.sum() <= FEW_TIES * (~lacking).sum():
        ties = np.zeros_like(ties)
    cut = _cut(near, ties, distinct) if ties.any() and method != "mle" else np.zeros_like(log_ratio)
    return Ratios(log_ratio, inner.astype(np.float64), cut, lacking, ties)


def _cut(near: Array, ties: NDArray[np.bool_], distinct: DistinctNeighbors) -> Array:
    """Half the step from each inner distance to the next one that occurs anywhere, if it is also a distance of ties.

    Where ties are left out, the other ratios are a sample of their distribution without what lies below.
    """
    tolerance = distinct.tolerance
    tied = np.sort(near[ties])
    with np.errstate(invalid="ignore"):  # of queries whose lists lack it
        at = np.searchsorted(tied, near - tolerance)
    occurs_in_ties = tied[np.minimum(at, len(tied) - 1)] <= near + tolerance
    all_distances = np.sort(distinct.distances, axis=None)
    beyond = np.searchsorted(all_distances, near + tolerance, side="right")
    following = all_distances[np.minimum(beyond, len(all_distances) - 1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.log(np.maximum(np.sqrt(following / near), 1 + tolerance / near))
    return np.where(occurs_in_ties & np.isfinite(step), step, 0.0)


def fit(ratios: Ratios) -> tuple[float, float]:
    # -log(1 - F) of an exponential distribution is a line, also from where its left is cut off.
    log_ratio = np.sort(ratios.log_ratio - ratios.cut)
    n = len(log_ratio)
    kept = max(1, int(n * _KEPT))
    x, y = log_ratio[:kept], -np.log1p(-np.arange(1, kept + 1) / n)
    slope = x @ y / (x @ x)
    # The points of the line are order statistics, far from independent: the error is that of the likelihood.
    value, error = _twonn_likelihood(ratios)
    return float(slope), float(slope * error / value)


# Errors are the larger of two: what the model says, and what the points say by how far apart their own estimates lie (the
# "sandwich").


def _twonn_likelihood(ratios: Ratios) -> tuple[float, float]:
    logs = ratios.log_ratio - ratios.cut
    value = (len(logs) - 1) / logs.sum()
    return float(value), float(value * max(1.0, logs.std() / logs.mean()) / np.sqrt(len(logs)))


def _levina_bickel(ratios: Ratios) -> tuple[float, float]:
    value = ratios.inner.sum() / ratios.log_ratio.sum()
    apart = np.sqrt(((ratios.inner - value * ratios.log_ratio) ** 2).sum()) / ratios.log_ratio.sum()
    return float(value), float(max(value / np.sqrt(ratios.inner.sum()), apart))


def _gride(ratios: Ratios) -> tuple[float, float]:
    """Maximum of the likelihood N log d + sum (n - 1) log(mu^d - 1) - ((2n - 1) d + 1) log mu, mu = r_2n / r_n.

    mu^-d has a Beta(n, n) distribution: where ties are left out, up to a `cut`, divided by its share up to exp(-d cut).
    """
    from scipy.optimize import brentq

    log_ratio, inner = ratios.log_ratio, ratios.inner
    if (inner == 1).all():
        return _twonn_likelihood(ratios)
    n = len(log_ratio)
    is_cut = ratios.cut > 0

    def slope(d: float) -> float:
        # d/dd log(mu^d - 1) = log mu / (1 - mu^-d)
        whole = n / d + (((inner - 1) / -np.expm1(-d * log_ratio) - (2 * inner - 1)) * log_ratio).sum()
        return float(whole + _slope_of_share(d, ratios.cut[is_cut], inner[is_cut]))

    high = 1.0
    while slope(high) > 0:
        high *= 2
    value = float(brentq(slope, 1e-12, high, rtol=1e-12))
    curvature = (slope(value * (1 - 1e-4)) - slope(value * (1 + 1e-4))) / (2e-4 * value)
    scores = 1 / value + ((inner - 1) / -np.expm1(-value * log_ratio) - (2 * inner - 1)) * log_ratio
    apart = 0.0 if is_cut.any() else float(np.sqrt((scores**2).sum()))
    return value, float(max(np.sqrt(curvature), apart) / curvature)


def _slope_of_share(d: float, cut: Array, inner: Array) -> float:
    """d/dd of -sum log I(exp(-d cut)), I the distribution function of Beta(n, n)."""
    if len(cut) == 0:
        return 0.0
    from scipy.special import betainc, betaln, xlog1py

    x = np.exp(-d * cut)
    share = betainc(inner, inner, x)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        log_density = (1 - inner) * d * cut + xlog1py(inner - 1, -x) - betaln(inner, inner)
        rate = np.exp(log_density + np.log(x) - np.log(share))  # n where both vanish
    return float((cut * np.where(np.isfinite(rate), rate, inner)).sum())


ESTIMATES: dict[Method, Callable[[Ratios], tuple[float, float]]] = {
    "twonn": fit, "twonn-ml": _twonn_likelihood, "mle": _levina_bickel, "gride": _gride,
}  # fmt: skip
