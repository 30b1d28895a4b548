"""Nearest neighbours as they were found: lists of row numbers and distances, never -1, NaN or negative."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import BLOCK_BYTES, Labels, as_array, as_labels
from fastent.errors import FastentError
from fastent.io.scratch import array_on_disk, folder_of
from fastent.io.tabular import Tabular
from fastent.options import choice, flag, short_repr, whole_number
from fastent.printable import in_queries
from fastent.search.neighbor_graph import KINDS, Kind, as_arrays, as_graph
from fastent.search.neighbor_lists import (
    QueryLists,
    check_not_repeated,
    check_still_in_range,
    checked_lists,
    checked_recall,
    checked_resolution,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

    from fastent.search.index import Work

__all__ = ["METRICS", "Neighbors", "check_neighbors", "exact_neighbors", "label_codes", "search_distances"]

Array = NDArray[Any]

METRICS = ("euclidean", "cosine")


@dataclass(frozen=True, eq=False)
class Neighbors(Tabular):
    """The k nearest rows of some queries, from `fe.neighbors` or from any search of your own.

    Attributes
    ----------
    indices : (q, k) int64
        Row numbers, the nearest first.
    distances : (q, k) float32
        Not squared, >= 0, ascending.
    queries : (q,) int64 or None
        The queries' row numbers, by default all rows; None for points that are no rows, whose `method` is not "given".
    n : int
        How many rows were searched; by default one more than the largest row number in the lists.
    method : str
        How they were found: a name of your own, or "given".
    recall : float
        Share of the true neighbours that were found, in [0, 1]: 1 for an exact search, measured on a sample of the queries for
        another, NaN for what you bring.
    work : Work or None
        How an exact search went, what it was expected to take without building an index, and counts of what it did. Of other
        methods, that of the queries which these left open, if any; None for an exact search chunk by chunk.
    metric : str
        What the distances are: "euclidean" or "cosine".
    resolution : (q,) float32 or None
        The Euclidean distance from each query up to which rounding of the rows could have made two rows of one. From
        `fe.neighbors` it is that of the rows' precision; None, or one number for all, for what you bring.

    Raises
    ------
    FastentError
        Shapes that do not fit; indices or queries out of range; a neighbour twice in a list, or the query itself; distances
        that are negative, NaN, infinite, beyond float32 or not ascending. Each with the first row in which it is.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    queries: NDArray[np.int64] | None = None
    n: int = 0
    method: str = "given"
    recall: float = np.nan
    work: "Work | None" = None
    metric: Literal["euclidean", "cosine"] = "euclidean"
    resolution: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise FastentError(f"method={short_repr(self.method)}: a name is needed, for instance 'given'")
        choice("metric", self.metric, METRICS)
        lists = checked_lists(self.indices, self.distances, self.queries, self.n, own_rows=self.method == "given")
        checked: dict[str, Any] = {
            **lists._asdict(),
            "recall": checked_recall(self.recall),
            "resolution": checked_resolution(self.resolution, len(lists.indices)),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _of_search(cls, **fields: Any) -> "Neighbors":
        """What a search of our own found, all fields by name, as it is: only lists that users bring are checked and copied."""
        made = object.__new__(cls)
        for field in dataclasses.fields(cls):
            object.__setattr__(made, field.name, fields.pop(field.name))
        assert not fields
        return made

    @property
    def k(self) -> int:
        return int(self.indices.shape[1])

    def subset(self, k: int) -> "Neighbors":
        """Only the first k neighbours of each query."""
        k = whole_number("k", k, minimum=1, maximum=self.k)
        lists = {name: np.ascontiguousarray(getattr(self, name)[:, :k]) for name in ("indices", "distances")}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Neighbors._of_search(**(fields | lists))

    def arrays(self, *, include_self: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Row numbers and distances as two new arrays, as UMAP, openTSNE and scib-metrics take them.

        Parameters
        ----------
        include_self : bool, default False
            Whether each query that is a row comes first in its own list, at distance 0: k + 1 columns.

        Returns
        -------
        indices : (q, k) or (q, k + 1) int64
            In the order of the queries; if every row was a query, in the order of the rows.
        distances : float32, of the same shape

        Raises
        ------
        FastentError
            A row that is named twice among the queries; `include_self` for queries that are no rows; too little memory.

        Examples
        --------
        >>> import fastent as fe
        >>> near = fe.neighbors([[0.0], [1.0], [3.0]], k=1)
        >>> near.arrays(include_self=True)[0].tolist()
        [[0, 1], [1, 0], [2, 1]]
        """
        return as_arrays(self._lists, include_self=flag("include_self", include_self))

    def graph(self, kind: Kind = "distance", *, include_self: bool = False, symmetric: bool = False) -> "csr_matrix":
        """The neighbours as a sparse graph, as scikit-learn, HDBSCAN, cleanlab and others take it.

        Parameters
        ----------
        kind : "distance" or "connectivity", default "distance"
            Whether entries are distances or 1.
        include_self : bool, default False
            Whether each query that is a row has an entry for itself, of distance 0, in addition to its k neighbours. Whatever
            takes `metric="precomputed"` in scikit-learn expects it.
        symmetric : bool, default False
            Whether every edge is there in both directions: if either point is among the other's neighbours. Rows then have k
            entries or more.

        Returns
        -------
        csr_matrix (q, n) float64
            A row for each query, in their order; (n, n) in the order of the rows if every row was a query. In each row the
            entries ascend by distance, the point itself first; those between equal points are stored zeros, which
            `eliminate_zeros` would remove.

        Raises
        ------
        FastentError
            An unknown kind; a row that is named twice among the queries; `include_self` for queries that are no rows;
            `symmetric` where not every row was a query; too little memory.

        Examples
        --------
        >>> import fastent as fe
        >>> near = fe.neighbors([[0.0], [1.0], [3.0]], k=1)
        >>> near.graph().toarray().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
        >>> near.graph("connectivity", symmetric=True).toarray().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
        """
        choice("kind", kind, KINDS)
        return as_graph(
            self._lists, kind, include_self=flag("include_self", include_self), symmetric=flag("symmetric", symmetric)
        )

    def table(self) -> "pa.Table":
        """The edges as a table: a row for each query and neighbour, with the rank of the neighbour from 1 and its distance.

        A query that is no row goes by its position among the queries.
        """
        import pyarrow as pa

        q, k = self.indices.shape
        queries = np.arange(q) if self.queries is None else self.queries
        return pa.table(
            {
                "query": np.repeat(queries, k),
                "rank": np.tile(np.arange(1, k + 1), q),
                "neighbor": self.indices.ravel(),
                "distance": self.distances.ravel(),
            }
        )

    @property
    def _lists(self) -> QueryLists:
        return QueryLists(self.indices, self.distances, self.queries, self.n)

    def __repr__(self) -> str:
        recall = "" if np.isnan(self.recall) or self.recall == 1 else f", recall {self.recall:.4f}"
        how = f": {self.work.chosen}" if self.work is not None and self.work.chosen else ""
        return f"Neighbors({in_queries(len(self.indices))}, k={self.k}, {self.n} rows, {self.method}{recall}{how})"


def check_neighbors(neighbors: Any, k: int = 10, *, queries: bool = True) -> None:
    """Refuse what is not `Neighbors`, and lists that were changed; where queries matter, one that is named twice.

    k : for the message, how many neighbours would do.
    """
    if not isinstance(neighbors, Neighbors):
        raise FastentError(f"neighbors is {type(neighbors).__name__}: pass what fe.neighbors(X, k={k}) returns")
    check_still_in_range(neighbors.indices, neighbors.queries if queries else None, neighbors.n)
    check_not_repeated(neighbors.queries if queries else None, neighbors.n)


def label_codes(neighbors: Neighbors, labels: Any, query_labels: Any) -> tuple[Labels, NDArray[np.int64]]:
    """Codes of the rows and of the queries."""
    rows = as_labels(labels, n=neighbors.n)
    if neighbors.queries is not None:
        if query_labels is not None:
            raise FastentError("query_labels are for queries that are no rows: these have the rows' labels")
        return rows, rows.codes[neighbors.queries]
    if query_labels is None:
        raise FastentError("the queries are no rows: pass their labels as query_labels")
    codes, classes = as_labels(as_array(query_labels, "query_labels"), n=len(neighbors.indices), name="query_labels")
    strange = classes[~np.isin(classes, rows.classes)]
    if len(strange):
        raise FastentError(f"query_labels holds {strange[0]!s}, which no row has: drop those queries")
    return rows, np.searchsorted(rows.classes, classes)[codes]


def exact_neighbors(
    found: tuple[Array, Array],
    queries: NDArray[np.int64] | None,
    n: int,
    resolution: NDArray[np.float32] | None = None,
    *,
    unit: bool = False,
    method: str = "exact",
    recall: float = 1.0,
    work: "Work | None" = None,
) -> Neighbors:
    """Of squared distances and row numbers (q, k), as a search among n rows returns them, by default an exact one."""
    squared, index = found
    return Neighbors._of_search(
        indices=index,
        distances=_in_single(squared, unit),
        queries=queries,
        n=n,
        method=method,
        recall=recall,
        work=work,
        metric="cosine" if unit else "euclidean",
        resolution=resolution,
    )


def _in_single(squared: NDArray[np.float64], unit: bool) -> NDArray[np.float32]:
    """Distances as they are reported; of lists that are on disk, there too."""
    folder = folder_of(squared)
    if folder is None:
        return search_distances(squared, unit).astype(np.float32)
    distances: NDArray[np.float32] = array_on_disk(folder, squared.shape, np.float32)
    size = max(1, BLOCK_BYTES // (8 * squared.shape[1]))
    for begin in range(0, len(squared), size):
        distances[begin : begin + size] = search_distances(squared[begin : begin + size], unit)
    return distances


def search_distances(squared: NDArray[np.float64], unit: bool) -> NDArray[np.float64]:
    """Distances from the squares that a search returns; between unit rows 1 - cos = |a - b|^2 / 2."""
    return squared / 2 if unit else np.sqrt(squared)
