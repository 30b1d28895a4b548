"""`fe.neighbors`: the nearest neighbours, exact unless asked otherwise, in double precision where it decides."""

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source
from fastent.arrays.labelled import with_labels
from fastent.arrays.queries import Queries, as_queries
from fastent.arrays.ranges import as_wide, check_queries, check_range
from fastent.arrays.validation import BLOCK_BYTES, as_features, bytes_in_memory, in_memory, rows_of
from fastent.errors import FastentError
from fastent.io.scratch import check_scratch
from fastent.options import choice, short_repr, whole_number
from fastent.runtime.memory import as_bytes
from fastent.runtime.progress import Progress
from fastent.search.backends import PROPOSERS, chosen_options
from fastent.search.found_neighbors import METRICS, Neighbors
from fastent.search.neighbor_search import NeighborSearch
from fastent.search.proposed_neighbors import proposed_neighbors

if TYPE_CHECKING:
    from fastent.search.planner import IndexPlan

__all__ = ["neighbors"]

Array = NDArray[Any]
Method = Literal["auto", "exact", "flat", "ivf", "hnsw", "torch"]


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
    choice("metric", metric, METRICS)
    choice("method", method, ("auto", "exact", *PROPOSERS))
    seed = whole_number("seed", seed, minimum=0)
    X, _ = with_labels(X, None)
    given = rows_of(X)
    features = as_shared_source(as_features(given), client)
    checked = as_queries(queries, *features.shape, seed=seed, X=given)
    most = len(features) - (checked.rows is not None)
    if not most:
        raise FastentError("X has one row, which has no neighbours: pass more rows")
    k = whole_number("k", k, minimum=1, maximum=most)
    unit = metric == "cosine"
    if method == "auto":
        method = "torch" if getattr(getattr(X, "device", None), "type", "cpu") == "cuda" else "exact"
    memory = None if memory_budget is None else as_bytes(memory_budget)
    task = NeighborSearch(
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
    task = task._replace(options=options)
    return task.exact() if method == "exact" else proposed_neighbors(task)


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
