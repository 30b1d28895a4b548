"""Lists of neighbours that users bring, checked whatever found them: kernels take their row numbers as addresses."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_array
from fastent.errors import FastentError
from fastent.options import number, whole_number

__all__ = [
    "QueryLists",
    "check_not_repeated",
    "check_still_in_range",
    "checked_lists",
    "checked_recall",
    "checked_resolution",
]

Array = NDArray[Any]


class QueryLists(NamedTuple):
    """The fields of `Neighbors` that say which rows are near which."""

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    queries: NDArray[np.int64] | None
    n: int


def checked_lists(indices: Any, distances: Any, queries: Any, n: Any, *, own_rows: bool) -> QueryLists:
    """Copies of indices (q, k), distances (q, k) and queries (q,), and how many rows there are.

    own_rows : queries are all rows where none are given, else points that are no rows.

    Raises
    ------
    FastentError
        Whatever a search cannot have found, with the first row in which it is.
    """
    indices, distances = as_array(indices, "indices"), as_array(distances, "distances")
    if indices.ndim != 2 or 0 in indices.shape or indices.dtype.kind not in "iu" or distances.shape != indices.shape:
        raise FastentError(
            f"indices have shape {indices.shape} and dtype {indices.dtype}, distances {distances.shape}: "
            "integers (queries, k) and as many distances are needed"
        )
    if distances.dtype.kind not in "fiu":
        raise FastentError(f"distances have dtype {distances.dtype}: real numbers are needed, Euclidean distances or 1 - cos")
    if queries is not None:
        queries = _checked_queries(queries, len(indices))
    elif own_rows:
        queries = np.arange(len(indices))
    in_sight = 1 + max(int(indices.max()), -1 if queries is None else int(queries.max()))
    n = whole_number("n", n, minimum=0, maximum=2**63 - 1) or in_sight
    outside = f"are not within 0..{n - 1}"
    _refuse((indices < 0) | (indices >= n), indices, "indices", outside, "pass row numbers, only of neighbours that were found")
    if queries is not None:
        _refuse((queries < 0) | (queries >= n), queries, "queries", outside, "pass the row numbers of the queries")
        queries = queries.astype(np.int64)
        _refuse(indices == queries[:, None], indices, "indices", "hold the query itself", "leave it out by its number")
    indices = np.array(indices, np.int64, order="C")
    ordered = np.sort(indices, axis=1)
    _refuse(ordered[:, 1:] == ordered[:, :-1], ordered, "indices", "hold a neighbour twice", "name each neighbour once")
    single = _as_single(distances)
    _refuse(
        ~np.isfinite(single) | (distances < 0),
        distances,
        "distances",
        "are NaN, negative, infinite or beyond float32",
        "pass distances from 0 to 3e38, of neighbours that were found",
    )
    _refuse(np.diff(distances, axis=1) < 0, distances, "distances", "are not ascending", "sort them, with their indices")
    return QueryLists(indices, single, queries, n)


def checked_recall(recall: Any) -> float:
    """A share, or NaN where it is not known."""
    unknown = isinstance(recall, float | np.floating) and np.isnan(recall)
    return np.nan if unknown else number("recall", recall, minimum=0, maximum=1)


def checked_resolution(resolution: Any, q: int) -> NDArray[np.float32] | None:
    """One number for each query, from one for each or one for all."""
    if resolution is None:
        return None
    array = as_array(resolution, "resolution")
    if array.shape not in ((), (q,)) or array.dtype.kind not in "fiu":
        raise FastentError(
            f"resolution has shape {array.shape} and dtype {array.dtype}: a number, or one for each of {q} queries, is needed"
        )
    single = _as_single(np.broadcast_to(array, (q,)))
    _refuse(~np.isfinite(single) | (single < 0), single, "resolution", "is no distance", "pass 0 where it is unknown")
    return single


def check_still_in_range(indices: Array, queries: Array | None, n: int) -> None:
    """Lists can be written to after they were made, and kernels do not check them."""
    for name, array in (("indices", indices), ("queries", queries)):
        if array is not None and (array.min() < 0 or array.max() >= n):
            _refuse((array < 0) | (array >= n), array, name, f"are not within 0..{n - 1}", "they were changed: search again")


def check_not_repeated(queries: Array | None, n: int) -> None:
    """For statistics over queries: one that is named twice would count twice."""
    if queries is None or len(queries) < 2:
        return
    if len(queries) == n and np.array_equal(queries, np.arange(n)):
        return
    rows, counts = np.unique(queries, return_counts=True)
    several = np.flatnonzero(counts > 1)
    if len(several):
        many = f"{len(several)} rows" if len(several) > 1 else "1 row"
        first = several[0]
        raise FastentError(
            f"queries name {many} more than once, first row {rows[first]} ({counts[first]} times): name each once"
        )


def _as_single(values: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore"):  # what single precision cannot hold is infinite, and refused
        return np.array(values, np.float32, order="C")


def _checked_queries(given: Any, q: int) -> Array:
    queries = as_array(given, "queries")
    if queries.shape != (q,):
        raise FastentError(f"queries have shape {queries.shape} for {q} rows of indices: one each is needed")
    if queries.dtype.kind not in "iu":
        raise FastentError(f"queries have dtype {queries.dtype}: whole row numbers, as integers, are needed")
    return queries


def _refuse(bad: Array, values: Array, name: str, what: str, remedy: str) -> None:
    rows = np.flatnonzero(bad if bad.ndim == 1 else bad.any(1))
    if len(rows):
        first = rows[0]
        value = values[first] if values.ndim == 1 else values[first][np.flatnonzero(bad[first])[0]]
        raise FastentError(f"{name} {what} in {len(rows)} row{'s' * (len(rows) > 1)}, first row {first} ({value}): {remedy}")
