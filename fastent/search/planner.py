"""Which index serves a search: chosen in one place, from sizes and prices, before any row is read or anything is built."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.ranges import check_range
from fastent.arrays.validation import Labels, bytes_in_memory, in_memory
from fastent.io.result_cache import PartialResult
from fastent.runtime.memory import budget_bytes, check_fits
from fastent.search.cells.index import PartitionedIndex
from fastent.search.cells.plan import plan_cells
from fastent.search.exact_index import ExactIndex
from fastent.search.index import Index, Wanted
from fastent.search.index_costs import index_bytes, index_seconds
from fastent.search.out_of_core import ChunkedIndex, chunking
from fastent.search.scan import ScannedRows, scan_bytes, scan_seconds
from fastent.search.sketch import typical_scale
from fastent.search.sweep import LabelledPoints
from fastent.search.tiles import keeps_classes_apart

__all__ = ["IndexKind", "IndexPlan", "is_scanned", "plan_index", "points_to_pair"]

Array = NDArray[Any]

# One index in memory of all rows; the rows as they lie; one chunk of them after the other, here or on a cluster; one cell of
# space after the other; no index.
IndexKind = Literal["index", "scan", "chunks", "cells", "sweep"]

# So few queries for so few neighbours are scanned without asking what that takes: hardly ever more than an index does.
_FEW, _SHORT_LISTS = 64, 64
# Rows that do not fit are indexed in cells of space, and not in their order, for queries that are more than this share of them:
# cells take another pass and scratch files, and spare each query most cells.
_MANY = 8
# Below so many bytes memory is not looked up, which takes half a millisecond.
_LITTLE = 1 << 26


class IndexPlan(NamedTuple):
    """The choice for one set of rows.

    kind : "index", "scan", "chunks", "cells" or "sweep"
    k : int
        The longest list.
    in_order : bool
        Whether an index leaves the rows in their order, for few queries.
    by_class : bool
        Whether lists are of a class or of all others only, which an index serves best that keeps large classes apart.
    bytes : int
        Memory that it takes at most, the queries' lists included, and the rows if these have to be read into memory.
    """

    kind: IndexKind
    bytes: int
    k: int
    in_order: bool
    by_class: bool
    memory: float
    client: Any
    scratch: str | None = None

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
            Where a search that goes through the rows by chunks or cells keeps what it has found so far.
        """
        if self.kind == "scan":
            return ScannedRows(X, unit=unit)
        if self.kind == "index":
            by_class = self.by_class and classes is not None and keeps_classes_apart(len(X), int(classes.max()) + 1)
            return ExactIndex(
                in_memory(X), classes=classes, unit=unit, k=self.k, seed=seed, in_order=self.in_order, by_class=by_class
            )
        if self.kind == "cells":
            kept_in = None if unfinished is None else unfinished.folder
            return PartitionedIndex(
                X, classes=classes, unit=unit, memory=self.memory, scratch=self.scratch, kept_in=kept_in, client=self.client,
                seed=seed,
            )  # fmt: skip
        assert self.kind == "chunks", "a sweep takes no index"
        return ChunkedIndex(X, classes=classes, unit=unit, memory=self.memory, unfinished=unfinished, client=self.client)


def plan_index(
    X: Array,
    n_queries: int,
    wanted: Wanted,
    *,
    memory: float | None,
    client: Any = None,
    scratch: str | None = None,
    pairs_met: bool = False,
    read_once: bool = False,
    searched_once: bool = False,
    in_cells: bool = False,
) -> IndexPlan:
    """Choose how rows are searched.

    Parameters
    ----------
    X : (n, d)
        Only its shape, its dtype and where it lies matter.
    n_queries : int
    wanted : dict
        The lists that each query wants, and how long they are; empty where nothing is searched.
    memory : int or None
        Bytes that may be used, by each worker if there are any; None for what is available.
    client : distributed.Client, optional
        A cluster whose workers share the work.
    scratch : str, optional
        Where scratch files lie, from `check_scratch`.
    pairs_met : bool, optional, default False
        Whether the queries meet all rows in a sweep anyway, so that this can take the place of an index.
    read_once : bool, optional, default False
        Whether rows are to be left where they lie even if they would fit in memory.
    searched_once : bool, optional, default False
        Whether there is one search only, so that few queries may meet the rows as these lie. Such a search checks the values of
        the rows itself, but not those of the queries.
    in_cells : bool, optional, default False
        Whether rows are to be searched cell by cell, as was chosen before with less memory.
    """
    k = max(wanted.values(), default=1)
    if in_cells:
        assert memory is not None
        return IndexPlan(
            "cells", plan_cells(X, n_queries, wanted, memory, client=client).needed, k, False, False, memory, client, scratch
        )
    if searched_once and set(wanted) == {"all"} and is_scanned(X, n_queries, k, memory, client):
        needed = scan_bytes(X, n_queries, k)
        return IndexPlan("scan", needed, k, False, False, needed, client)
    needed = index_bytes(X, n_queries, sum(wanted.values())) * bool(wanted) + bytes_in_memory(X)
    memory = _memory_for(needed, memory)
    kind: IndexKind = "index"
    if client is not None or read_once or needed > memory:
        kind, needed = "sweep", 0
        if not pairs_met:
            kind, needed = _out_of_core(X, n_queries, wanted, memory, client)
    in_order = set(wanted) == {"all"} and _in_order(X, n_queries, k)
    return IndexPlan(kind, needed, k, in_order, bool(wanted) and "all" not in wanted, memory, client, scratch)


def _out_of_core(X: Array, q: int, wanted: Wanted, memory: float, client: Any) -> tuple[IndexKind, int]:
    """How rows are searched that do not fit in memory, and what that needs."""
    chunks = chunking(X, q, wanted, memory, client)
    if q * _MANY < len(X) and chunks.needed <= memory:
        return "chunks", chunks.needed
    return "cells", plan_cells(X, q, wanted, memory, client=client).needed


def _in_order(X: Array, n_queries: int, k: int) -> bool:
    """Whether queries are so few that they meet all rows in less time than it takes to tell which tiles they need.

    Nothing is known of the rows: an index may spare queries all products (classes apart) or none (Gaussian), and is taken to
    spare them three quarters.
    """
    built, coded, products, _ = index_seconds(X, n_queries, k)
    return coded + 0.75 * products < built


def is_scanned(X: Array, n_queries: int, k: int, memory: float | None, client: Any = None) -> bool:
    """Whether queries are so few that they should meet the rows as these lie, and no index is built for one search."""
    if client is not None or n_queries >= len(X):
        return False
    if n_queries > _FEW or k > _SHORT_LISTS:
        _, coded, products, lists = index_seconds(X, n_queries, k)
        if scan_seconds(X, n_queries, k) > coded + products + lists:
            return False
    needed = scan_bytes(X, n_queries, k)
    return needed <= _memory_for(needed, memory)


def _memory_for(needed: int, memory: float | None) -> float:
    """The memory; what is needed, and nothing looked up, where that is little and no memory was given."""
    if memory is not None:
        return memory
    return needed if needed <= _LITTLE else budget_bytes(None)


def points_to_pair(
    X: NDArray[Any], labels: Labels, needed: int, what: str, remedy: str, memory_budget: int | str | None, *, whole: bool = True
) -> LabelledPoints:
    """Points that are in memory if the `whole` of them meet, and otherwise read block by block; `needed` bytes come on top."""
    check_fits(needed + whole * bytes_in_memory(X), what, remedy, memory_budget)
    rows = in_memory(X) if whole else X
    check_range(rows)
    return LabelledPoints(rows, labels.codes, typical_scale(rows), len(labels.classes))
