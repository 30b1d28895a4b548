"""Nearest neighbours from a sweep over all pairs: for few queries, or where all pairs are met anyway."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.io.result_cache import PartialResult
from fastent.kernels.pairs import Lists, count_nearer, count_nearer_down, nearest_across, nearest_both, tighten
from fastent.runtime.progress import Progress
from fastent.search.index import AMONG, Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, with_points
from fastent.search.sweep import ClassBlock, LabelledPoints, PairBlock, Reduction, Sums, shared_segments, sweep

__all__ = ["NearerCounts", "SweptIndex", "TopK"]

Array = NDArray[Any]


class TopK(Reduction):
    """The k nearest rows of each query.

    Distances are taken in double precision where single precision does not show a pair to be too far.

    Parameters
    ----------
    n_queries, k, n : int
        n : rows there are.
    among : str
        Which rows are entered; "all" where the queries are all rows.
    """

    query_axis = 0

    def __init__(self, n_queries: int, k: int, n: int, *, among: Among = "all") -> None:
        super().__init__(
            n_queries,
            squared=np.full((n_queries, k), np.inf),
            index=np.full((n_queries, k), n, np.int64),
            limits=np.full(n_queries, np.inf, np.float32),  # how far each list reaches, in the units of the sweep
        )
        self._among = AMONG.index(among)
        self._locks: dict[int, threading.Lock] = {}

    def reduce(self, block: PairBlock) -> Sums:
        """Enter a block. What lists hold in the end does not depend on the order in which blocks come."""
        found, rows, columns = block.distances, block.rows, block.columns
        pairs = found, rows.ids, columns.ids
        if block.mirrored:
            # The columns lie in a later block: locks are always taken in that order.
            with self._lock(rows), self._lock(columns):
                nearest_both(*pairs, self._lists(rows), self._lists(columns), False)
            return {}, {}
        with self._lock(rows):
            lists = self._lists(rows)
            if rows is columns:
                tighten(found, lists)
                nearest_both(*pairs, lists, lists, True)
                return {}, {}
            codes = np.repeat(rows.classes, np.diff(rows.bounds))
            segments = (columns.classes, columns.bounds) if self._among else (np.zeros(1, np.int64), columns.bounds[[0, -1]])
            nearest_across(*pairs, lists, self._among, codes, *segments)
        return {}, {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_locks": {}}  # which another process has of its own

    def lists(self) -> NeighborLists:
        return NeighborLists(self.by_query("squared"), self.by_query("index"))

    def _lock(self, queries: ClassBlock) -> threading.Lock:
        return self._locks.setdefault(queries.start, threading.Lock())

    def _lists(self, queries: ClassBlock) -> Lists:
        piece = self._piece(queries)
        return Lists(**{name: array[piece] for name, array in self._arrays.items()})


class NearerCounts(Reduction):
    """How many rows of its own class are nearer to each query than a squared distance (q,), the query itself among them.

    Blocks without a class on both sides may be left out.
    """

    def __init__(self, limits: NDArray[np.float64]) -> None:
        super().__init__(len(limits), count=np.zeros(len(limits), np.int64))
        self._limits = limits

    def reduce(self, block: PairBlock) -> Sums:
        rows, columns = block.rows, block.columns
        across = np.zeros(len(rows.ids), np.int64)
        down = np.zeros(len(columns.ids) * block.mirrored, np.int64)
        found = block.distances
        limits = self._limits[rows.place]
        limits_down = self._limits[columns.place] if block.mirrored else limits
        scaled, scaled_down = found.scaled(limits), found.scaled(limits_down)
        for here, there in shared_segments(rows, columns):
            count_nearer(found, here, there, limits, scaled, across)
            if block.mirrored:
                count_nearer_down(found, here, there, limits_down, scaled_down, down)
        return {"count": across}, {"count": down}


class SweptIndex(Index):
    """No index at all: every query meets every row.

    Parameters
    ----------
    points : LabelledPoints
    alongside : sequence of Reduction, optional
        What the first search computes in the same sweep, for all its queries.
    order : (n,) int64, optional, default class by class
        How rows lie in the sweep where all are queries.
    description : str
        What progress is reported under.
    unfinished : PartialResult, optional
        Where the first search keeps what it has found so far.
    client : distributed.Client, optional
    """

    def __init__(
        self,
        points: LabelledPoints,
        *,
        alongside: Sequence[Reduction] = (),
        order: NDArray[np.int64] | None = None,
        description: str = "all pairs",
        unfinished: PartialResult | None = None,
        client: Any = None,
    ) -> None:
        self._points, self._alongside, self._client = points, alongside, client
        self._order, self._description = order, description
        self._unfinished = PartialResult() if unfinished is None else unfinished

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        n = len(self._points.X)
        queries = with_points(queries)
        if queries is None and set(wanted) != {"all"}:
            queries = np.arange(n)
        q = n if queries is None else len(queries.points if isinstance(queries, ExternalQueries) else queries)
        lists = {among: TopK(q, k, n, among=among) for among, k in wanted.items()}
        alongside, self._alongside = self._alongside, ()
        unfinished, self._unfinished = self._unfinished, PartialResult()
        sweep(
            self._points, queries, [*alongside, *lists.values()],
            order=self._order, progress=progress, description=self._description, unfinished=unfinished, client=self._client,
        )  # fmt: skip
        return {among: each.lists().within(within, n) for among, each in lists.items()}

    def relabelled(self, classes: NDArray[np.int64]) -> "SweptIndex":
        return SweptIndex(self._points._replace(codes=classes, n_classes=int(classes.max()) + 1), client=self._client)
