"""Which index serves a search: chosen in one place, from sizes alone, before anything is read or built."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.ranges import check_range
from fastent.arrays.validation import Labels, bytes_in_memory, in_memory
from fastent.io.result_cache import PartialResult
from fastent.runtime.memory import budget_bytes, check_fits
from fastent.search.exact_index import ExactIndex, index_bytes, index_seconds
from fastent.search.index import Index, Wanted
from fastent.search.out_of_core import ChunkedIndex, chunking
from fastent.search.scan import scan_bytes, scan_seconds
from fastent.search.sketch import typical_scale
from fastent.search.sweep import LabelledPoints

__all__ = ["IndexKind", "IndexPlan", "is_scanned", "memory_for", "plan_index", "points_to_pair"]

Array = NDArray[Any]

# One index in memory of all rows; one chunk of rows after the other, here or on a cluster; no index.
IndexKind = Literal["index", "chunks", "sweep"]

# So few queries are scanned without asking what that takes: 1.8 ns for a value at typical prices, where coding it takes 5.
_FEW = 64
# At most this share of the rows are scanned, and meet codes of rows in their order. Of 1,000 to 4,000 rows a fourth or a half
# still takes less than an index does; of 20,000 a sixteenth takes twice as long, but there prices decide.
_SHARE = 1 / 8
# Lists that are longer are not kept in order row by row: for 20 queries of 100,000 rows a scan takes a third of an index's time
# at 256, 1.3 times as long at 1,024.
_LONGEST_LIST = 256
# Below so many bytes memory is not looked up, which takes half a millisecond.
_LITTLE = 1 << 26


class IndexPlan(NamedTuple):
    """The choice for one set of rows.

    kind : "index", "chunks" or "sweep"
    k : int
        The longest list.
    in_order : bool
        Whether an index leaves the rows in their order, for few queries.
    bytes : int
        Memory that it takes at most, the queries' lists included, and the rows if these have to be read into memory.
    """

    kind: IndexKind
    bytes: int
    k: int
    in_order: bool
    memory: float
    client: Any

    def build(
        self,
        X: Array,
        *,
        classes: NDArray[np.int64] | None = None,
        unit: bool = False,
        seed: int = 0,
        unfinished: PartialResult | None = None,
    ) -> Index:
        """The index of the rows (n, d), with their classes (n,) if lists of a class are wanted.

        Parameters
        ----------
        unit : bool, optional, default False
            Compare rows by their angles.
        seed : int, optional, default 0
        unfinished : PartialResult, optional
            Where a search that goes through the rows by chunks keeps what it has found so far.
        """
        if self.kind == "index":
            return ExactIndex(in_memory(X), classes=classes, unit=unit, k=self.k, seed=seed, in_order=self.in_order)
        assert self.kind == "chunks", "a sweep takes no index"
        return ChunkedIndex(X, classes=classes, unit=unit, memory=self.memory, unfinished=unfinished, client=self.client)


def plan_index(
    X: Array,
    n_queries: int,
    wanted: Wanted,
    *,
    memory: float,
    client: Any = None,
    pairs_met: bool = False,
    read_once: bool = False,
) -> IndexPlan:
    """Choose how rows are searched.

    Parameters
    ----------
    X : (n, d)
        Only its shape, its dtype and where it lies matter.
    n_queries : int
    wanted : dict
        The lists that each query wants, and how long they are; empty where nothing is searched.
    memory : int
        Bytes that may be used, by each worker if there are any.
    client : distributed.Client, optional
        A cluster whose workers share the work.
    pairs_met : bool, optional, default False
        Whether the queries meet all rows in a sweep anyway, so that this can take the place of an index.
    read_once : bool, optional, default False
        Whether rows are to be left where they lie even if they would fit in memory.
    """
    needed = index_bytes(X, n_queries, sum(wanted.values())) * bool(wanted) + bytes_in_memory(X)
    kind: IndexKind = "index"
    if client is not None or read_once or needed > memory:
        kind, needed = "sweep", 0
        if not pairs_met:
            kind = "chunks"
            needed = chunking(X, n_queries, wanted, memory, client).needed
    in_order = set(wanted) == {"all"} and _in_order(X, n_queries)
    return IndexPlan(kind, needed, max(wanted.values(), default=1), in_order, memory, client)


def _in_order(X: Array, n_queries: int) -> bool:
    """Whether queries are so few that they meet all rows in less time than it takes to tell which tiles they need."""
    if n_queries > _SHARE * len(X):
        return False
    built, coded, met = index_seconds(X, n_queries)
    return coded + met < built


def is_scanned(X: Array, n_queries: int, k: int, memory_budget: int | str | None, client: Any = None) -> bool:
    """Whether queries are so few that they should meet the rows as these lie, and no index is built for one search."""
    if client is not None or n_queries > _SHARE * len(X) or k > _LONGEST_LIST:
        return False
    if n_queries > _FEW:
        built, coded, met = index_seconds(X, n_queries)
        if scan_seconds(X, n_queries) > min(built, coded) + met:
            return False
    needed = scan_bytes(X, n_queries, k)
    return needed <= memory_for(needed, memory_budget)


def memory_for(needed: int, memory_budget: int | str | None) -> float:
    """The budget in bytes; no less than what is needed, and not looked up, where that is little and no budget was given."""
    return needed if memory_budget is None and needed <= _LITTLE else budget_bytes(memory_budget)


def points_to_pair(
    X: NDArray[Any], labels: Labels, needed: int, what: str, remedy: str, memory_budget: int | str | None, *, whole: bool = True
) -> LabelledPoints:
    """Points that are in memory if the `whole` of them meet, and otherwise read block by block; `needed` bytes come on top."""
    check_fits(needed + whole * bytes_in_memory(X), what, remedy, memory_budget)
    rows = in_memory(X) if whole else X
    check_range(rows)
    return LabelledPoints(rows, labels.codes, typical_scale(rows), len(labels.classes))
