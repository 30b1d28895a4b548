"""Nearest neighbours: exact unless asked otherwise, in double precision where it decides, never -1, NaN or negative."""

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source
from fastent.arrays.queries import Queries, as_queries
from fastent.arrays.ranges import as_wide, check_queries, check_range, resolution_of
from fastent.arrays.validation import (
    BLOCK_BYTES,
    Labels,
    as_array,
    as_features,
    as_labels,
    bytes_in_memory,
    in_memory,
    joined,
    row_blocks,
)  # fmt: skip
from fastent.errors import FastentError
from fastent.io.scratch import array_on_disk, check_scratch, folder_of
from fastent.io.tabular import Tabular
from fastent.options import choice, flag, short_repr, whole_number
from fastent.printable import in_queries
from fastent.runtime.memory import as_bytes, check_fits
from fastent.runtime.progress import Progress
from fastent.search.backends import PROPOSERS, chosen_options
from fastent.search.neighbor_graph import KINDS, Kind, Lists, as_arrays, as_graph
from fastent.search.neighbor_lists import (
    check_not_repeated,
    check_still_in_range,
    checked_lists,
    checked_recall,
    checked_resolution,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

    from fastent.search.index import NeighborLists, Wanted, Work
    from fastent.search.planner import IndexPlan

__all__ = ["Neighbors", "check_neighbors", "exact_neighbors", "label_codes", "neighbors", "search_distances"]

Array = NDArray[Any]
Method = Literal["auto", "exact", "flat", "ivf", "hnsw", "torch"]

# faiss and torch rank in single precision by |a|^2 + |b|^2 - 2 ab: so many candidates more are ranked again.
_SPARE = 16
# Sums in double precision may be off by less.
_DOUBLE = 1 + 2.0**-40
_RECALL_QUERIES = 200
_METRICS = ("euclidean", "cosine")


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
        choice("metric", self.metric, _METRICS)
        lists = checked_lists(self.indices, self.distances, self.queries, self.n, own_rows=self.method == "given")
        checked: dict[str, Any] = dict(zip(("indices", "distances", "queries", "n"), lists, strict=True))
        checked |= {
            "recall": checked_recall(self.recall),
            "resolution": checked_resolution(self.resolution, len(lists[0])),
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
    def _lists(self) -> Lists:
        return Lists(self.indices, self.distances, self.queries, self.n)

    def __repr__(self) -> str:
        recall = "" if np.isnan(self.recall) or self.recall == 1 else f", recall {self.recall:.4f}"
        how = f": {self.work.chosen}" if self.work is not None and self.work.chosen else ""
        return f"Neighbors({in_queries(len(self.indices))}, k={self.k}, {self.n} rows, {self.method}{recall}{how})"


def neighbors(
    X: Any,
    k: int = 10,
    *,
    queries: Any = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    method: Method = "auto",
    memory_budget: int | str | None = None,
    seed: int = 0,
    device: str | None = None,
    nlist: int | None = None,
    nprobe: int | None = None,
    hnsw_m: int | None = None,
    ef_construction: int | None = None,
    ef_search: int | None = None,
    client: Any = None,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress = None,
) -> Neighbors:
    """Find the k nearest rows of X, for all rows or for some queries, each row left out of its own list by its number.

    Parameters
    ----------
    X : array-like (n, d)
        float16, bfloat16, float32, float64 or integers; any memory order, memory maps, torch on any device, a `fe.open` source.
        NaN is refused.
    k : int
        From 1 to n - 1 (n for points that are no rows).
    queries : int, (q,) int, (q, d) array-like, or path, optional
        A number: that many rows, drawn at random with `seed`. Row numbers. Or other points, from whose lists nothing is left
        out. By default all rows.
    metric : "euclidean" or "cosine"
        Cosine distance is 1 - cos, in [0, 2]; rows of zeros are refused.
    method : "auto", "exact", "flat", "ivf", "hnsw" or "torch"
        "exact" skips what a bound shows to be too far, and picks the bound's size on a sample of the data; where nothing can be
        skipped it scans all pairs. "auto" is "exact", or "torch" for a tensor on a GPU. "flat" is faiss's scan of all pairs,
        "torch" a blocked matrix product: what these propose is ranked again in double precision, and where single precision
        leaves open whether something nearer was missed, the exact search decides: the result is that of "exact". "ivf" and
        "hnsw", also from faiss, search only a part of the rows: what they propose is ranked again, equally near rows that they
        did not propose are missing, and their recall is measured.
    memory_budget : int or str, optional
        Bytes, or like "4GiB"; by default what is available. Rows that do not fit with their index are searched in cells of
        space or, for few queries, in chunks, with the same result.
    seed : int
    device : str, optional
        For "torch": "cpu", "cuda", ...; by default where X is.
    nlist, nprobe : int, optional
        For "ivf": the number of lists (by default about 4 sqrt(n)), and how many of them a query searches (16).
    hnsw_m, ef_construction, ef_search : int, optional
        For "hnsw": links of a point (16), and how many candidates building (100) and searching (50) keep.
    client : distributed.Client, optional
        For "exact": a Dask cluster whose workers share the search of a `fe.open` source that all of them can read.
    scratch : path or str, optional
        For "exact": where copies of rows that do not fit in memory lie, and what workers are given and find, until the search
        ends: a folder, or the address of an object store that fsspec knows, such as "s3://bucket/folder". Default `TMPDIR`.
        Lists that do not fit lie in the folder, or in `TMPDIR` if there is a store.
    progress : bool or callable
        True for a bar on stderr with an estimate of the time left; or a function of (done, total, message).

    Returns
    -------
    Neighbors
        Distances are computed in double precision from differences of the rows as given; ties are ordered by the lower row
        number. The same for any number of threads. `docs/exactness.md` says for which values that holds.

    Raises
    ------
    FastentError
        Bad input; too few rows; memory that will not do.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.neighbors([[0.0], [1.0], [3.0], [7.0]], k=2).indices.tolist()
    [[1, 2], [0, 2], [1, 0], [2, 1]]
    """
    choice("metric", metric, _METRICS)
    choice("method", method, ("auto", "exact", *PROPOSERS))
    seed = whole_number("seed", seed, minimum=0)
    features = as_shared_source(as_features(X), client)
    checked = as_queries(queries, *features.shape, seed=seed)
    most = len(features) - (checked.rows is not None)
    if not most:
        raise FastentError("X has one row, which has no neighbours: pass more rows")
    k = whole_number("k", k, minimum=1, maximum=most)
    unit = metric == "cosine"
    if method == "auto":
        method = "torch" if getattr(getattr(X, "device", None), "type", "cpu") == "cuda" else "exact"
    memory = None if memory_budget is None else as_bytes(memory_budget)
    task = _Task(
        *_in_one_precision(features, checked),
        k,
        unit,
        method,
        seed,
        {},
        progress,
        client,
        check_scratch(scratch),
        memory,
        memory_budget,
        None,
    )
    plan = task.planned(len(checked)) if method == "exact" else None
    if plan is not None and _is_loaded(plan, features, checked):
        features = in_memory(features)
        task = task._replace(X=_in_one_precision(features, checked)[0])
    if plan is not None and plan.kind == "scan":
        check_queries(features, checked.rows, checked.points, unit=unit)
    else:
        check_range(features, checked.points, unit=unit, client=client)
    task = task._replace(plan=plan)
    if device is not None and not isinstance(device, str) and type(device).__name__ != "device":
        raise FastentError(f"device={short_repr(device)}: a name such as 'cpu' or 'cuda' is needed")
    given = {"nlist": nlist, "nprobe": nprobe, "hnsw_m": hnsw_m, "ef_construction": ef_construction, "ef_search": ef_search}
    options = chosen_options(method, given | {"device": device})
    if method == "torch" and device is None and hasattr(X, "device"):
        options["device"] = str(X.device)
    for name, value in (("client", client), ("scratch", scratch)):
        if value is not None and method != "exact":
            raise FastentError(f"{name}= is for method='exact', not {method!r}: leave one of the two out")
    return (_exact if method == "exact" else _proposed)(task._replace(options=options))


def _in_one_precision(X: Array, queries: Queries) -> tuple[Array, Queries]:
    """Both as they are compared."""
    if queries.points is None:
        return X, queries
    with np.errstate(over="ignore"):
        rows, points = as_wide(X, queries.points)
    return rows, Queries(None, points)


def _is_loaded(plan: "IndexPlan", X: Array, queries: Queries) -> bool:
    """Whether rows on disk are read into memory at once, all or so few of them that a scan has room for them anyway."""
    if plan.kind == "scan":
        return bytes_in_memory(X) <= BLOCK_BYTES
    return plan.kind == "index" and queries.points is None


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


class _Task(NamedTuple):
    """What is to be searched, checked.

    memory : bytes that may be used, None for what is available; memory_budget : the same as users gave it. plan : how the rows
    are searched, where that is settled.
    """

    X: Array
    queries: Queries
    k: int
    unit: bool
    method: str
    seed: int
    options: dict[str, Any]
    progress: Progress
    client: Any
    scratch: str | None
    memory: int | None
    memory_budget: int | str | None
    plan: "IndexPlan | None"

    def planned(self, n_queries: int) -> "IndexPlan":
        from fastent.search.planner import plan_index

        wanted: Wanted = {"all": self.k}
        return plan_index(
            self.X, n_queries, wanted, memory=self.memory, client=self.client, scratch=self.scratch, searched_once=True
        )

    def searched(self, queries: Array) -> "tuple[NeighborLists, Work | None]":
        """Exact lists of some of the queries, and what finding them took."""
        index = (self.plan or self.planned(len(queries))).build(self.X, unit=self.unit, seed=self.seed)
        return index.nearest(self.k, queries, progress=self.progress), index.work

    def in_memory(self) -> Array:
        """The rows, if there is room for what other libraries take."""
        n, d = self.X.shape
        check_fits(
            16 * n * d + len(self.queries) * (24 * (self.k + _SPARE) + 16 * d),
            f"the {self.method} search for {self.k} neighbours of {in_queries(len(self.queries))} among {n} x {d} points",
            "use fewer queries, or method='exact', which takes the rows chunk by chunk",
            self.memory_budget,
        )
        return in_memory(self.X)

    def finished(self, squared: NDArray[np.float64], found: NDArray[np.int64], recall: float, work: Any = None) -> Neighbors:
        resolution = None if self.unit else resolution_of(self.X, self.queries.rows, self.queries.points)
        return exact_neighbors(
            (squared, found), self.queries.rows, len(self.X), resolution,
            unit=self.unit, method=self.method, recall=recall, work=work,
        )  # fmt: skip


def _exact(task: _Task) -> Neighbors:
    (squared, found), work = task.searched(task.queries.given)
    return task.finished(squared, found, 1.0, work)


def _proposed(task: _Task) -> Neighbors:
    """Candidates from another library, ranked again; what it may have missed is searched for, or estimated on a sample."""
    task = task._replace(X=task.in_memory())
    squared, found, doubtful, complete = _ranked(task)
    q, work = len(task.queries), None
    if len(doubtful):
        (squared[doubtful], found[doubtful]), work = task.searched(task.queries.given[doubtful])
        work = _of_some(work, f"{len(doubtful)} of {q} queries were left open and searched exactly")
    if complete:
        return task.finished(squared, found, 1.0, work)
    sample = np.sort(np.random.default_rng(task.seed).choice(q, min(_RECALL_QUERIES, q), replace=False))
    nearest, _ = task.searched(task.queries.given[sample])
    recall = (squared[sample] <= nearest.squared[:, -1:] * _DOUBLE).mean()
    return task.finished(squared, found, float(recall), work)


def _of_some(work: "Work | None", which: str) -> "Work":
    """What an exact search took, and for which of the queries it was made."""
    from fastent.search.index import Work

    work = work or Work()
    return work._replace(chosen=f"{which}{work.chosen and ': '}{work.chosen}")


def _ranked(task: _Task) -> tuple[Array, Array, NDArray[np.int64], bool]:
    """Lists of what another library proposes; which of them may miss something; whether the others miss nothing."""
    from fastent.kernels.distance import squared_lengths
    from fastent.kernels.lists import rank_candidates
    from fastent.search.exact_index import as_compared
    from fastent.search.sketch import take_frame

    X, queries, k = task.X, task.queries, task.k
    frame = take_frame(X, n_axes=0, unit=task.unit, seed=task.seed)
    points = X[queries.rows] if queries.points is None else queries.points
    excluded = np.full(len(queries), -1) if queries.rows is None else queries.rows
    wanted = min(k + _SPARE + 1, len(X))
    propose = PROPOSERS[task.method]
    proposed, beyond = propose(frame.whole(X), frame.whole(points), wanted, task.seed, task.options)
    compared = [joined([as_compared(block, task.unit) for _, block in row_blocks(some)]) for some in (X, points)]
    lengths = [squared_lengths(some) if task.unit else np.empty(0) for some in compared]
    squared, found = rank_candidates(compared[0], lengths[0], compared[1], lengths[1], excluded, proposed, k, task.unit)
    doubtful = np.isinf(squared[:, -1])  # an index that searches few places may come back with fewer than k
    if beyond is not None and wanted < len(X):
        bounds = frame.bounds
        doubtful |= ~(np.sqrt(squared[:, -1]) * (bounds.scale * _DOUBLE) + bounds.slack < beyond)
    return squared, found, np.flatnonzero(doubtful), beyond is not None


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
