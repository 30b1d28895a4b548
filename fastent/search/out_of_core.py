"""Exact neighbours among rows that come chunk by chunk, so that neither they nor an index of them must fit in memory.

    rows, in their order ---- a chunk ---- an index of it ---- searched for every query, no farther than its list still reaches
                                the next chunk is read meanwhile

For queries that are few, or rows that come only once; what all rows ask of each other goes cell by cell (`cells`). A
pair's distance does not depend on the chunk it is met in, and lists keep the nearest with ties by the lower row number: what is
found is what one index of all rows finds, to the bit.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype
from fastent.io.result_cache import PartialResult
from fastent.io.sources import blocks_ahead
from fastent.kernels.merging import merge_lists
from fastent.printable import in_queries
from fastent.runtime.cluster import map_on_cluster, n_threads
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.search.exact_index import ExactIndex, PreparedQueries, View
from fastent.search.index import Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, count_of, with_points
from fastent.search.index_costs import Like, index_bytes

__all__ = ["ChunkedIndex", "Chunking", "NearestSoFar", "chunking"]

Array = NDArray[Any]

# Fewer rows are no chunk worth an index, more bring nothing.
_LEAST, _MOST = 4096, 1 << 20
# Before chunks are given to workers, queries search so many rows, to know how far they need not search.
_SAMPLED = 4096
# What the order of a sum may do for each of its terms, several times over; and what it may do to the smallest angles, for which
# terms cancel, and to sums of which terms vanish.
_ROUNDING, _ANGLE, _UNDERFLOW = 2.0**-50, 2.0**-140, 2.0**-1000
# What a pair that its codes let pass takes, in scanned pairs.
_SURVIVOR = 32


class NearestSoFar:
    """The nearest rows of some queries among all rows that were shown so far: for rows that come only once.

    Parameters
    ----------
    queries : ExternalQueries
        The rows that they leave out, by their numbers among all rows.
    wanted : dict
        The length of each list.
    unit : bool, optional, default False
        Search among the rows scaled to unit length.
    view : View, optional
        How the first of the rows should be seen, if it is known from other rows.

    Attributes
    ----------
    view : View or None
        How the first of the rows were seen.
    work : int
        What the searches took so far, in scanned pairs.
    """

    def __init__(self, queries: ExternalQueries, wanted: Wanted, *, unit: bool = False, view: View | None = None) -> None:
        self._queries, self._wanted, self._unit = queries, wanted, unit
        q = len(queries.points)
        self._lists = {each: NeighborLists(np.full((q, k), np.inf), np.zeros((q, k), np.int64)) for each, k in wanted.items()}
        self._within = {each: np.full(q, np.inf) for each in wanted}
        # The next index sees points as the last one did, so that queries need not be made ready again.
        self._view = view
        self._prepared: PreparedQueries | None = None
        self.view: View | None = None
        self.work = 0
        self.n_seen = 0

    def update(self, rows: Array, start: int, classes: NDArray[np.int64] | None = None) -> None:
        """Show the rows start..start + m, (m, d), with their classes (m,) if lists of a class are wanted."""
        by_class = set(self._wanted) != {"all"}
        k = max(self._wanted.values())
        index = ExactIndex(rows, classes=classes if by_class else None, unit=self._unit, k=k, view=self._view)
        prepared = self._among_rows(index, start, len(rows))
        for among, k in self._wanted.items():
            within = np.minimum(self._lists[among].squared[:, -1], self._within[among])
            squared, found = index.search({among: k}, prepared, within=within)[among]
            self._enter(among, NeighborLists(squared, found + start))
            self.work += index.work.scanned + _SURVIVOR * index.work.survivors
        self.view = self.view or index.view
        self.n_seen = max(self.n_seen, start + len(rows))

    @property
    def work_for_a_pair(self) -> float:
        """What a pair of a query and a row took so far, where scanning each would take 1; more if codes let much pass."""
        return self.work / max(1, len(self._queries.points) * self.n_seen)

    def _among_rows(self, index: ExactIndex, start: int, m: int) -> PreparedQueries:
        """The queries, ready for an index of the rows start..start + m."""
        excluded = self._queries.excluded
        excluded = np.where((excluded >= start) & (excluded < start + m), excluded - start, -1)
        if self._prepared is None or self._view is None or self._view.frame is not index.view.frame:
            by_class = set(self._wanted) != {"all"}
            classes = self._queries.classes if by_class else np.zeros(len(excluded), np.int64)
            self._prepared = index.prepare(ExternalQueries(self._queries.points, excluded, classes))
        self._view = index.view
        return self._prepared.leaving_out(excluded)

    def _enter(self, among: Among, lists: NeighborLists) -> None:
        merge_lists(*self._lists[among], *lists)

    def confined(self, rows: Array, numbers: NDArray[np.int64], classes: NDArray[np.int64] | None) -> "NearestSoFar":
        """The same queries, which have found nothing but need search no farther than among some rows, given by number."""
        other, sample = self.afresh(), self.afresh()
        place = np.searchsorted(numbers, self._queries.excluded)
        place[place == len(numbers)] = 0
        excluded = np.where(numbers[place] == self._queries.excluded, place, -1)
        sample._queries = self._queries._replace(excluded=excluded)
        sample.update(rows, 0, classes)
        d = self._queries.points.shape[1]
        for each, lists in sample._lists.items():
            farthest = np.minimum(lists.squared[:, -1], self._lists[each].squared[:, -1])
            other._within[each] = _as_on_any_processor(farthest, d, self._unit)
        return other

    def afresh(self) -> "NearestSoFar":
        """The same queries, which search as far as these did at first and have found nothing."""
        other = NearestSoFar(self._queries, self._wanted, unit=self._unit)
        other._within = dict(self._within)
        return other

    def join(self, state: dict[str, Array]) -> None:
        """Enter what the same queries found among other rows, from their `state_dict`."""
        for each in self._wanted:
            self._enter(each, NeighborLists(state[f"squared/{each}"], state[f"index/{each}"]))
        self.n_seen = max(self.n_seen, int(state["n_seen"]))

    def found(self) -> dict[Among, NeighborLists]:
        """The lists; where there are fewer rows, infinity and `n_seen`."""
        return {
            each: NeighborLists(squared.copy(), np.where(np.isinf(squared), self.n_seen, indices))
            for each, (squared, indices) in self._lists.items()
        }

    def state_dict(self) -> dict[str, Array]:
        """Copies of everything that `update` changes, as plain arrays."""
        return _as_state(self._lists) | {"n_seen": np.array(self.n_seen)}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Go on from a `state_dict` of the same queries."""
        for each in self._lists:
            self._lists[each] = NeighborLists(np.array(state[f"squared/{each}"]), np.array(state[f"index/{each}"]))
        self.n_seen = int(state["n_seen"])


def _as_on_any_processor(squared: Array, d: int, unit: bool) -> Array:
    """No less than squared distances of d features are where vectors have another length, and sums another order."""
    room: Array = squared * (1 + (d + 16) * _ROUNDING) + (_ANGLE if unit else _UNDERFLOW)
    return room


def _as_state(lists: dict[Among, NeighborLists]) -> dict[str, Array]:
    squared = {f"squared/{each}": found.squared.copy() for each, found in lists.items()}
    return squared | {f"index/{each}": found.indices.copy() for each, found in lists.items()}


class Chunking(NamedTuple):
    """How many rows are indexed at a time, and what that takes in bytes."""

    rows: int
    needed: int


def chunking(X: Array, q: int, wanted: Wanted, memory: float, client: Any = None) -> Chunking:
    """The largest chunks for which `memory` will do, no smaller than the smallest, whatever these take."""
    n, d = X.shape
    pieces = 1 if client is None else 2 * n_threads(client)
    lists = 64 * sum(wanted.values()) * q

    def needed(rows: int) -> int:
        raw = 2 * rows * d * (kernel_dtype(X).itemsize + X.dtype.itemsize) // 2
        as_given = q * d * kernel_dtype(X).itemsize
        # Lists; an index of the chunk, the queries in its tiles; two chunks as they are read.
        return int(lists + raw + as_given + index_bytes(Like((rows, d), X.dtype), q, max(wanted.values())))

    least = min(n, _LEAST)
    low, high = least, max(least, min(_MOST, -(-n // pieces)))
    while high - low > 1024:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= memory else (low, middle)
    low = high if needed(high) <= memory else low
    rows = -(-n // -(-n // low))  # chunks of about the same size
    return Chunking(rows, needed(rows))


class ChunkedIndex(Index):
    """Rows that need not fit in memory: each search indexes a chunk after the other.

    Parameters
    ----------
    X : (n, d)
        An array, a memory map or a source; read once, a chunk ahead.
    classes : (n,) int64, optional
        Classes of the rows, for the other lists than "all".
    unit : bool, optional, default False
        As for `ExactIndex`.
    memory : int
        Bytes that may be used, by each worker if there are any.
    unfinished : PartialResult, optional
        Where the first search keeps its lists, and resumes from; later ones have other queries.
    client : distributed.Client, optional
        Whose workers take a chunk each.
    """

    def __init__(
        self,
        X: Array,
        *,
        classes: NDArray[np.int64] | None = None,
        unit: bool = False,
        memory: float,
        unfinished: PartialResult | None = None,
        client: Any = None,
    ) -> None:
        self._X, self._classes, self._unit = X, classes, unit
        self._memory, self._client = memory, client
        self._unfinished = PartialResult() if unfinished is None else unfinished

    def relabelled(self, classes: NDArray[np.int64]) -> "ChunkedIndex":
        return ChunkedIndex(self._X, classes=classes, unit=self._unit, memory=self._memory, client=self._client)

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        n, queries = len(self._X), with_points(queries)
        numbers = np.arange(n) if queries is None else queries
        q = count_of(numbers, n)
        plan = chunking(self._X, q, wanted, self._memory, self._client)
        what = f"the search of {in_queries(q)} among {n:,} x {self._X.shape[1]} points, {plan.rows:,} rows at a time,"
        check_fits(plan.needed, what, f"use {'fewer queries or ' * (q > 1)}a larger memory_budget", int(self._memory))
        unfinished, self._unfinished = self._unfinished, PartialResult()
        near, kept = NearestSoFar(self._with_points(numbers), wanted, unit=self._unit), unfinished.kept()
        first_row = 0
        if kept is not None:
            first_row = int(kept["row"])
            near.load_state_dict(kept)
        with interruptible() as interrupted, reporting(progress, "neighbours", n) as report:
            for seen in self._show(near, range(first_row, n, plan.rows)):
                report(seen, "")
                if unfinished.due or seen == n:
                    unfinished.keep(near.state_dict() | {"row": np.array(seen)})
                if interrupted():
                    raise KeyboardInterrupt
        return {each: lists.within(within, n) for each, lists in near.found().items()}

    def _with_points(self, rows: NDArray[np.int64] | ExternalQueries) -> ExternalQueries:
        """The queries, with their points."""
        if isinstance(rows, ExternalQueries):
            return rows
        classes = np.zeros(len(rows), np.int64) if self._classes is None else self._classes[rows]
        return ExternalQueries(self._X[rows].astype(kernel_dtype(self._X), copy=False), rows, classes)

    def _show(self, near: NearestSoFar, starts: range) -> Iterator[int]:
        """Show chunk after chunk; yield how many rows were shown."""
        X, classes = self._X, self._classes
        bounds = [(start, min(start + starts.step, len(X))) for start in starts]
        if self._client is None:
            for start, chunk in blocks_ahead(lambda start, stop: np.array(X[start:stop]), bounds):
                near.update(chunk, start, None if classes is None else classes[start : start + len(chunk)])
                yield start + len(chunk)
            return
        some = np.sort(np.random.default_rng(0).choice(len(X), min(_SAMPLED, len(X)), replace=False))
        asking = near.confined(X[some], some, None if classes is None else classes[some])
        chunks = [(start, stop, None if classes is None else classes[start:stop]) for start, stop in bounds]
        for found, (_, stop) in zip(map_on_cluster(self._client, partial(_shown, asking, X), chunks), bounds, strict=True):
            near.join(found)
            yield stop


def _shown(asking: NearestSoFar, X: Array, chunk: tuple[int, int, Array | None]) -> dict[str, Array]:
    """What the queries find in one chunk."""
    start, stop, classes = chunk
    near = asking.afresh()  # tasks of one process are given the same object
    near.update(np.array(X[start:stop]), start, classes)
    return near.state_dict()
