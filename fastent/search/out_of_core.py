"""Exact neighbours among rows that come chunk by chunk, so that neither they nor an index of them must fit in memory.

    rows, in their order ---- a chunk ---- an index of it ---- asked by every query, no farther than it still looks
                                the next chunk is read meanwhile

A pair's distance does not depend on the chunk it is met in, and lists keep the nearest with ties by the lower row number:
what is found is what one index of all rows finds, to the bit.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import bytes_in_memory, kernel_dtype
from fastent.io.result_cache import PartialResult
from fastent.io.sources import blocks_ahead
from fastent.runtime.cluster import map_on_cluster, n_threads
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.search.exact_index import Asked, ExactIndex, Outsiders, View, index_bytes
from fastent.search.top_k import Among

__all__ = ["Chunking", "NearestSoFar", "chunking", "fits", "nearest_by_chunks", "nearest_of"]

Array = NDArray[Any]
Found = tuple[NDArray[np.float64], NDArray[np.int64]]

# Fewer rows are no chunk worth an index, more bring nothing.
_LEAST, _MOST = 4096, 1 << 20
# Before chunks are given to workers, queries look at so many rows, to know how far they need not look.
_SAMPLED = 4096


class NearestSoFar:
    """The nearest rows of some queries among all rows that were shown so far.

    Parameters
    ----------
    points : (q, d)
        The queries.
    own : (q,) int64
        The row that each of them is, left out of its lists; -1 for none.
    k : int, or one for each of `among`
    codes : (q,) int64, optional
        Their classes, from 0.
    among : "all", "own class", "other classes", or several of these
        Which rows are entered; the latter two take codes.
    unit : bool
        Search among the rows scaled to unit length.
    """

    def __init__(
        self,
        points: Array,
        own: NDArray[np.int64],
        k: int | Sequence[int],
        codes: NDArray[np.int64] | None = None,
        among: Among | Sequence[Among] = "all",
        *,
        unit: bool = False,
    ) -> None:
        wanted: Sequence[Among] = (among,) if isinstance(among, str) else among
        self._ks = dict(zip(wanted, [k] * len(wanted) if isinstance(k, int) else k, strict=True))
        self._points, self._own, self._unit = points, own, unit
        self._codes = codes
        self._squared = {each: np.full((len(points), k), np.inf) for each, k in self._ks.items()}
        self._index = {each: np.zeros((len(points), k), np.int64) for each, k in self._ks.items()}
        self._within = {each: np.full(len(points), np.inf) for each in self._ks}
        # The next index sees points as the last one did, so that queries need not be made ready again.
        self._view: View | None = None
        self._asked: Asked | None = None
        self.n_seen = 0

    def update(self, rows: Array, start: int, codes: NDArray[np.int64] | None = None) -> None:
        """Show the rows start..start + m, (m, d), with their classes (m,) if queries have classes."""
        by_class = self._codes is not None and set(self._ks) != {"all"}
        n_queries = None if by_class else len(self._points)
        index = ExactIndex(rows, codes=codes if by_class else None, unit=self._unit, n_queries=n_queries, view=self._view)
        own = np.where((self._own >= start) & (self._own < start + len(rows)), self._own - start, -1)
        if self._asked is None or self._view is None or self._view.frame is not index.view.frame:
            query_codes = self._codes if by_class and self._codes is not None else np.zeros(len(own), np.int64)
            self._asked = index.asked(Outsiders(self._points, own, query_codes))
        asked = self._asked.leaving_out(own)
        self._view = index.view
        for among, k in self._ks.items():
            within = np.minimum(self._squared[among][:, -1], self._within[among])
            squared, found = index.nearest(k, asked, among=among, within=within)
            squared[found == len(rows)] = np.inf  # what the list was confined to
            self._enter(among, squared, found + start)
        self.n_seen = max(self.n_seen, start + len(rows))

    def _enter(self, among: Among, squared: Array, index: Array) -> None:
        known = self._squared[among], self._index[among]
        self._squared[among], self._index[among] = nearest_of([known, (squared, index)])

    def confined(self, rows: Array, numbers: NDArray[np.int64], codes: NDArray[np.int64] | None) -> "NearestSoFar":
        """The same queries, which have found nothing but need look no farther than they would among some rows, by number."""
        other, sample = self.afresh(), self.afresh()
        place = np.searchsorted(numbers, self._own)
        place[place == len(numbers)] = 0
        sample._own = np.where(numbers[place] == self._own, place, -1)
        sample.update(rows, 0, codes)
        other._within = {
            each: np.minimum(squared[:, -1], self._squared[each][:, -1]) for each, squared in sample._squared.items()
        }
        return other

    def afresh(self) -> "NearestSoFar":
        """The same queries, which look as far as these did at first and have found nothing."""
        other = NearestSoFar(self._points, self._own, list(self._ks.values()), self._codes, list(self._ks), unit=self._unit)
        other._within = self._within
        return other

    def join(self, state: dict[str, Array]) -> None:
        """Enter what the same queries found among other rows, from their `state_dict`."""
        for each in self._ks:
            self._enter(each, state[f"squared/{each}"], state[f"index/{each}"])
        self.n_seen = max(self.n_seen, int(state["n_seen"]))

    def found(self, among: Among | None = None) -> Found:
        """Squared distances (q, k), ascending, and row numbers (q, k), ties by the lower; infinity and `n_seen` where there are
        fewer. Of the first of `among` unless said."""
        each = next(iter(self._ks)) if among is None else among
        squared = self._squared[each].copy()
        return squared, np.where(np.isinf(squared), self.n_seen, self._index[each])

    def state_dict(self) -> dict[str, Array]:
        """Copies of everything that `update` changes, as plain arrays."""
        lists = {f"{kind}/{each}": lists[each].copy() for each in self._ks for kind, lists in self._lists()}
        return lists | {"n_seen": np.array(self.n_seen)}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Go on from a `state_dict` of the same queries."""
        for kind, lists in self._lists():
            for each in self._ks:
                lists[each] = np.array(state[f"{kind}/{each}"])
        self.n_seen = int(state["n_seen"])

    def _lists(self) -> tuple[tuple[str, dict[Among, Array]], tuple[str, dict[Among, Array]]]:
        return ("squared", self._squared), ("index", self._index)


def fits(X: Array, q: int, k: int, memory: int) -> bool:
    """Whether one index of all rows does: with its queries, and with the rows themselves if these lie elsewhere."""
    return index_bytes(X, q, k) + bytes_in_memory(X) <= memory


def nearest_of(lists: Sequence[Found]) -> Found:
    """The k nearest among several lists (q, k) of the same queries: ascending, ties by the lower row number."""
    k = lists[0][0].shape[1]
    squared = np.concatenate([each for each, _ in lists], axis=1)
    index = np.concatenate([each for _, each in lists], axis=1)
    order = np.lexsort((index, squared))[:, :k]
    return np.take_along_axis(squared, order, 1), np.take_along_axis(index, order, 1)


class Chunking(NamedTuple):
    """How many rows are indexed at a time, how many queries ask them, and what that takes in bytes."""

    rows: int
    queries: int
    needed: int


def chunking(X: Array, q: int, ks: Sequence[int], memory: int, *, pieces: int = 1) -> Chunking:
    """The largest chunks for which `memory` will do, at least so many; no smaller than the smallest, whatever these take."""
    n, d = X.shape
    lists = sum(64 * k for k in ks) * q

    def needed(rows: int, queries: int) -> int:
        raw = 2 * rows * d * (kernel_dtype(X).itemsize + X.dtype.itemsize) // 2
        asked = queries * d * kernel_dtype(X).itemsize
        # Beside lists, which all queries have: an index of the chunk, these queries in its tiles; two chunks as they are read.
        return int(lists + raw + asked + index_bytes(_Like((rows, d), X.dtype), queries, max(ks)))

    least = min(n, _LEAST)
    most = max(least, min(_MOST, -(-n // pieces)))
    rows, queries = most, q
    while needed(rows, queries) > memory and max(rows, queries) > least:
        if rows >= queries:
            rows = max(least, rows // 2)
        else:
            queries = max(least, queries // 2)
    # As many more rows as fit, in chunks of about the same size.
    low, high = rows, min(most, 2 * rows)
    while high - low > 1024:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle, queries) <= memory else (low, middle)
    rows = -(-n // -(-n // low))
    queries = -(-q // -(-q // queries))
    return Chunking(rows, queries, needed(rows, queries))


class _Like(NamedTuple):
    """What a formula asks of an array."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]


def nearest_by_chunks(
    X: Array,
    rows: NDArray[np.int64] | Array,
    wanted: dict[Among, int],
    *,
    codes: NDArray[np.int64] | None = None,
    unit: bool = False,
    memory: int,
    progress: Progress = None,
    unfinished: PartialResult | None = None,
    client: Any = None,
) -> dict[Among, Found]:
    """What `ExactIndex.nearest` finds, for X that need not fit in memory.

    Parameters
    ----------
    X : (n, d)
        An array, a memory map or a source; read once for every block of queries, a chunk ahead.
    rows : (q,) int64, or (q, d)
        Row numbers, or points that are no rows.
    wanted : dict
        How many neighbours among which rows.
    codes : (n,) int64, optional
        Classes of the rows, for the others than "all".
    memory : int
        Bytes that may be used, by each worker if there are any.
    unfinished : PartialResult, optional
        Where lists are kept on the way, and taken up from.
    client : distributed.Client, optional
        Whose workers take a chunk each.
    """
    n, q = len(X), len(rows)
    plan = chunking(X, q, list(wanted.values()), memory, pieces=1 if client is None else 2 * n_threads(client))
    check_fits(
        plan.needed, f"the search of {q} queries among {n} x {X.shape[1]} points, {plan.rows} rows at a time,",
        "use fewer queries or a larger memory_budget", memory,
    )  # fmt: skip
    found = {each: (np.full((q, k), np.inf), np.full((q, k), n, np.int64)) for each, k in wanted.items()}
    finished = {f"{name}/{each}": lists[i] for each, lists in found.items() for i, name in enumerate(("squared", "index"))}
    unfinished = PartialResult() if unfinished is None else unfinished
    kept = unfinished.kept()
    begin = first_row = 0
    if kept is not None:
        begin, first_row = int(kept["query"]), int(kept["row"])
        for name, lists in finished.items():
            lists[:] = kept[f"finished/{name}"]

    with interruptible() as interrupted, reporting(progress, "neighbours", q * n) as report:
        while begin < q:
            size = plan.queries if kept is None else len(kept[f"index/{next(iter(wanted))}"])
            here = slice(begin, min(begin + size, q))
            near = _asking(X, rows[here], wanted, codes, unit)
            if kept is not None:
                near.load_state_dict(kept)
            for seen in _showing(near, X, codes, range(first_row, n, plan.rows), client):
                report(begin * n + (here.stop - begin) * seen, "")
                if unfinished.due or seen == n:
                    done = {f"finished/{name}": lists for name, lists in finished.items()}
                    unfinished.keep(near.state_dict() | done | {"query": np.array(begin), "row": np.array(seen)})
                if interrupted():
                    raise KeyboardInterrupt
            for each, (squared, index) in found.items():
                squared[here], index[here] = near.found(each)
            begin, first_row, kept = here.stop, 0, None
    return found


def _asking(X: Array, rows: Array, wanted: dict[Among, int], codes: Array | None, unit: bool) -> NearestSoFar:
    numbered = rows.ndim == 1
    points = (X[rows] if numbered else rows[:]).astype(kernel_dtype(X), copy=False)
    own = rows if numbered else np.full(len(rows), -1)
    query_codes = None if codes is None else codes[rows]
    return NearestSoFar(points, own, list(wanted.values()), query_codes, list(wanted), unit=unit)


def _showing(near: NearestSoFar, X: Array, codes: Array | None, starts: range, client: Any) -> Iterator[int]:
    """Show chunk after chunk; yield how many rows were shown."""
    bounds = [(start, min(start + starts.step, len(X))) for start in starts]
    if client is None:
        for start, chunk in blocks_ahead(lambda start, stop: np.array(X[start:stop]), bounds):
            near.update(chunk, start, None if codes is None else codes[start : start + len(chunk)])
            yield start + len(chunk)
        return
    some = np.sort(np.random.default_rng(0).choice(len(X), min(_SAMPLED, len(X)), replace=False))
    asking = near.confined(X[some], some, None if codes is None else codes[some])
    chunks = [(start, stop, None if codes is None else codes[start:stop]) for start, stop in bounds]
    for found, (_, stop) in zip(map_on_cluster(client, partial(_shown, asking, X), chunks), bounds, strict=True):
        near.join(found)
        yield stop


def _shown(asking: NearestSoFar, X: Array, chunk: tuple[int, int, Array | None]) -> dict[str, Array]:
    """What the queries find in one chunk."""
    start, stop, codes = chunk
    own = asking.afresh()  # tasks of one process are given the same object
    own.update(np.array(X[start:stop]), start, codes)
    return own.state_dict()
