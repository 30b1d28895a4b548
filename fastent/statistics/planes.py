"""Ways to lay points out in a plane: principal axes, and UMAP and t-SNE from lists of neighbours that are there already.

    rows (m, d) -- principal_plane --> (m, 2), and the shares of the variance along both axes
                                         |  where the other two start
    lists (m, k) of neighbours -----> UMAP, t-SNE -------------> (m, 2)

The signs of axes, the order of sums and everything random are fixed, so that the same points give the same plane.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.runtime.optional import needed
from fastent.runtime.threads import single_blas_thread
from fastent.search.found_neighbors import Neighbors

__all__ = ["LONGEST_LISTS", "PACKAGES", "PLANES", "principal_plane"]

Plane = NDArray[np.float64]

# What the methods need that is not installed with this package.
PACKAGES = {"umap": "umap", "tsne": "openTSNE"}
# How many neighbours UMAP and t-SNE are given: 15 with the point itself, UMAP's default; three times t-SNE's perplexity of 30.
LONGEST_LISTS = {"umap": 14, "tsne": 90}
# Axes that are iterated together, for two; how often at most, and the change of the variance along those two that is none.
_AXES, _ITERATIONS, _SETTLED = 12, 30, 1e-9
# The width of a start: UMAP's own, and what the gradient of t-SNE needs.
_UMAP_WIDTH, _TSNE_DEVIATION = 10.0, 1e-4


def principal_plane(rows: NDArray[Any]) -> tuple[Plane, NDArray[np.float64]]:
    """Coordinates (m, 2) of rows (m, d) along their two principal axes, and the shares of the variance along these (2,).

    An axis points to where its largest component is positive. Without variance all points are at 0, and its shares are NaN.
    """
    points = np.array(rows, np.float64)
    largest = np.abs(points).max(initial=0)
    if largest == 0:
        return np.zeros((len(points), 2)), np.full(2, np.nan)
    # A power of two loses no bit, and keeps sums and squares within double precision.
    scale = 2.0 ** -np.frexp(largest)[1]
    points *= scale
    points -= points[0].copy()  # so that equal values have no variance, not even of rounding
    points -= points.mean(0)
    total = float(np.einsum("ij,ij->", points, points))
    if total == 0:
        return np.zeros((len(points), 2)), np.full(2, np.nan)
    plane = np.zeros((len(points), 2))
    with single_blas_thread():  # whatever the number of threads, the same axes
        axes = _leading_axes(points)
        plane[:, : axes.shape[1]] = points @ axes
    return plane / scale, np.einsum("ij,ij->j", plane, plane) / total


def _leading_axes(points: Plane) -> Plane:
    """Orthonormal (d, at most 2), by iteration of a subspace until the variance along the first two grows no more."""
    seen = points @ np.random.default_rng(0).standard_normal((points.shape[1], min(_AXES, *points.shape)))
    before = 0.0
    for _ in range(_ITERATIONS):
        axes = np.linalg.qr(points.T @ seen)[0]
        seen = points @ axes
        variances, turned = np.linalg.eigh(seen.T @ seen)
        found = float(variances[-2:].sum())
        if found - before <= _SETTLED * found:
            break
        before = found
    leading = axes @ turned[:, ::-1][:, :2]
    largest = np.abs(leading).argmax(0)
    signed: Plane = leading * np.where(leading[largest, np.arange(leading.shape[1])] < 0, -1.0, 1.0)
    return signed


def _umap_plane(start: Plane, near: Neighbors, seed: int) -> Plane:
    """UMAP (McInnes et al., arXiv:1802.03426) from the neighbours of all points, which it counts with the point itself."""
    UMAP = needed("umap", "UMAP", extra="map")
    m = len(start)
    k = min(LONGEST_LISTS["umap"], near.k)
    indices = np.column_stack([np.arange(m), near.indices[:, :k]])
    distances = np.column_stack([np.zeros(m, np.float32), near.distances[:, :k]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that new points cannot be placed, that one thread is used
        found = UMAP(
            n_neighbors=k + 1,
            precomputed_knn=(indices, distances),
            init=(start * (_UMAP_WIDTH / np.abs(start).max())).astype(np.float32),
            random_state=seed,
            n_jobs=1,
        ).fit_transform(start.astype(np.float32))
    return np.asarray(found, np.float64)


def _tsne_plane(start: Plane, near: Neighbors, seed: int) -> Plane:
    """t-SNE (van der Maaten and Hinton, JMLR 9, 2008; openTSNE) from the neighbours of all points, without the point itself."""
    openTSNE = needed("openTSNE", extra="map")
    k = min(LONGEST_LISTS["tsne"], near.k)
    index = needed("openTSNE.nearest_neighbors", "PrecomputedNeighbors", extra="map")(
        near.indices[:, :k], near.distances[:, :k].astype(np.float64)
    )
    affinities = openTSNE.affinity.PerplexityBasedNN(knn_index=index, perplexity=k / 3, n_jobs=1)
    start = start * (_TSNE_DEVIATION / start[:, 0].std())
    found = openTSNE.TSNE(initialization=start, random_state=seed, n_jobs=1).fit(affinities=affinities, initialization=start)
    return np.asarray(found, np.float64)


# Each from principal coordinates (m, 2), the neighbours of all m points, and a seed.
PLANES: dict[str, Callable[[Plane, Neighbors, int], Plane]] = {"umap": _umap_plane, "tsne": _tsne_plane}
