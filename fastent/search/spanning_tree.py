"""The Euclidean minimum spanning tree, exact, in memory that grows with the number of points."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.runtime.progress import Progress, reporting
from fastent.search.index import Index

__all__ = ["SpanningTree", "components", "minimum_spanning_tree"]

Array = NDArray[Any]


class SpanningTree(NamedTuple):
    """Edges (n - 1, 2) int64, the lower row number first, and their squared lengths (n - 1,) float64."""

    edges: NDArray[np.int64]
    squared: NDArray[np.float64]


def minimum_spanning_tree(index: Index, lists: tuple[Array, Array], progress: Progress = None) -> SpanningTree:
    """Boruvka's rounds: each component takes its shortest edge to another, the largest one may wait.

    Of edges of one length the one with the lower row numbers counts as shorter: then there is one tree, whatever the rounds do.
    A point's shortest edge to another component is in its list of nearest neighbours, or it is no shorter than the list's last.
    Only points for which that could still be the component's shortest are searched, and no farther than that.

    Parameters
    ----------
    index : Index
        Of the rows.
    lists : (n, k) float64 and (n, k) int64
        All rows' nearest neighbours, squared.
    """
    from fastent.kernels.spanning import nearest_outside, shortest_edges

    near, near_index = lists
    n = len(near)
    component = np.arange(n)
    # The nearest point known in another component, and a distance below which there is no other.
    squared, other = near[:, 0].copy(), near_index[:, 0].copy()
    known_to = near[:, -1].copy()
    edges: list[Array] = [np.empty((0, 2), np.int64)]  # of one row, all there is
    lengths: list[Array] = [np.empty(0)]
    with reporting(progress, "spanning tree", n) as report:
        while (n_components := component.max() + 1) > 1:
            report(n - n_components, f"{n_components} components")
            nearest_outside(near, near_index, component, squared, other)
            waits = int(np.bincount(component).argmax())
            _search_open(index, component, waits, squared, other, known_to)
            chosen = shortest_edges(component, n_components, squared, other)
            chosen[waits] = n  # it was not searched: what it knows may not be its shortest
            chosen = chosen[chosen < n]
            ends = np.sort(np.stack([chosen, other[chosen]], 1), axis=1)
            ends, first = np.unique(ends, axis=0, return_index=True)
            edges.append(ends)
            lengths.append(squared[chosen][first])
            first, second = component[ends].T
            component = components(first, second, n_components)[component]
    return SpanningTree(np.concatenate(edges), np.concatenate(lengths))


def _search_open(index: Index, component: Array, waits: int, squared: Array, other: Array, known_to: Array) -> None:
    """Search for points that know no edge though one may be as short as the shortest that their component knows."""
    n = len(component)
    shortest = np.full(component.max() + 1, np.inf)
    np.minimum.at(shortest, component, squared)
    unknown = np.flatnonzero((other == n) & (known_to <= shortest[component]) & (component != waits))
    if not len(unknown):
        return
    within = shortest[component[unknown]]
    lists = index.relabelled(component).nearest(1, unknown, among="other classes", within=within)
    squared[unknown], other[unknown] = lists.squared[:, 0], lists.indices[:, 0]
    known_to[unknown] = np.maximum(known_to[unknown], np.minimum(squared[unknown], within))


def components(first: Array, second: Array, n: int) -> NDArray[np.int64]:
    """Which component each of n points is in, where these pairs of them are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joins = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    found: NDArray[np.int64] = connected_components(joins, directed=False)[1].astype(np.int64)
    return found
