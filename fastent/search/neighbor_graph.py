"""Lists of neighbours in the forms that other tools take: arrays with or without the point itself, and a sparse graph.

Other tools write to what they are given (UMAP to the arrays, scikit-learn to the graph), so all of it is copied.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.printable import in_queries
from fastent.runtime.memory import check_fits
from fastent.search.neighbor_lists import QueryLists, check_not_repeated, check_still_in_range

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["KINDS", "Kind", "as_arrays", "as_graph"]

Array = NDArray[Any]
Kind = Literal["distance", "connectivity"]
KINDS = ("distance", "connectivity")

# Bytes for each entry: of lists, a row number and a distance; of a graph another of each; where edges are turned round and
# sorted, several.
_LISTED, _ENTRY, _TURNED = 12, 28, 120


def as_arrays(near: QueryLists, *, include_self: bool, bytes_each: int = _LISTED) -> tuple[Array, Array]:
    """Copies of indices and distances; where every row was a query, in the order of the rows, not in that of the queries."""
    indices, distances, queries, n = near
    check_still_in_range(indices, queries, n)
    check_not_repeated(queries, n)
    q, k = indices.shape
    check_fits(bytes_each * q * (k + include_self), f"{q} lists of {k} neighbours for another tool", "use near.subset(k)")
    if include_self and queries is None:
        raise FastentError("include_self=True: the queries are no rows, and have no place in their own lists; leave it out")
    if queries is not None and q == n and (queries[1:] < queries[:-1]).any():
        order = np.argsort(queries)
        indices, distances, queries = indices[order], distances[order], queries[order]
    if include_self and queries is not None:
        return np.hstack([queries[:, None], indices]), np.hstack([np.zeros((q, 1), np.float32), distances])
    return np.array(indices, order="C"), np.array(distances, order="C")


def as_graph(near: QueryLists, kind: Kind, *, include_self: bool, symmetric: bool) -> "csr_matrix":
    """A CSR matrix (q, n) whose rows are sorted by distance, the point itself first; distances of 0 are entries.

    In double precision, as scikit-learn takes it: when SciPy converts a graph, it sorts the rows by column.
    """
    from scipy.sparse import csr_matrix

    n = near.n
    if symmetric and (near.queries is None or len(near.queries) < n):
        raise FastentError(
            f"symmetric=True takes every row as a query, and these are {in_queries(len(near.indices))} among {n} rows: "
            "search with queries=None"
        )
    indices, distances = as_arrays(near, include_self=include_self, bytes_each=_TURNED if symmetric else _ENTRY)
    (q, width), columns, distances = indices.shape, indices.ravel(), distances.ravel()
    starts = np.arange(0, q * width + 1, width)
    if symmetric:
        starts, columns, distances = _both_ways(np.repeat(np.arange(n), width), columns, distances, n)
    values = distances.astype(np.float64) if kind == "distance" else np.ones(len(distances))
    index = np.int32 if max(n, len(columns)) <= np.iinfo(np.int32).max else np.int64
    return csr_matrix((values, columns.astype(index), starts.astype(index)), shape=(q, n))


def _both_ways(
    rows: NDArray[np.int64], columns: NDArray[np.int64], distances: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Starts of the rows, columns and distances with each edge in both directions; of two distances the shorter.

    scipy's own sums and maxima would drop the edges between equal points.
    """
    rows, columns, distances = np.concatenate([rows, columns]), np.concatenate([columns, rows]), np.tile(distances, 2)
    order = np.lexsort((distances, columns, rows))
    rows, columns, distances = rows[order], columns[order], distances[order]
    first = np.append(True, (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1]))
    rows, columns, distances = rows[first], columns[first], distances[first]
    order = np.lexsort((columns, columns != rows, distances, rows))
    starts = np.searchsorted(rows, np.arange(n + 1))
    return starts, columns[order], distances[order]
