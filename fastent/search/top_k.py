"""Nearest neighbours from a sweep over all pairs, without an index: for few queries, or where all pairs are met anyway."""

import threading
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.search.sweep import Block, Side, SweptQueries

__all__ = ["Among", "NearestLists"]

Array = NDArray[Any]
Among = Literal["all", "own class", "other classes"]
_AMONG: tuple[Among, ...] = ("all", "own class", "other classes")


class NearestLists:
    """The k nearest of each query, as `ExactIndex.nearest` finds them: a reduction of the sweep.

    Distances are taken in double precision where single precision does not show a pair to be too far.

    Parameters
    ----------
    n_queries, k, n : int
        n : rows there are.
    among : str
        Which rows are entered; "all" where the queries are all rows.
    """

    def __init__(self, n_queries: int, k: int, n: int, *, among: Among = "all") -> None:
        # The lists of a side are one piece, and so is how far each reaches: its last entry.
        self._swept = SweptQueries(n_queries)
        self._squared = np.full((n_queries, k), np.inf)
        self._index = np.full((n_queries, k), n, np.int64)
        self._limits = np.full(n_queries, np.inf, np.float32)
        self._among = _AMONG.index(among)
        self._locks: dict[int, threading.Lock] = {}

    def reduce(self, block: Block) -> None:
        """Enter a block. What lists hold in the end does not depend on the order in which blocks come."""
        from fastent.kernels.pairs import nearest_across, nearest_both, tighten

        found, rows, columns = block.distances, block.rows, block.columns
        pairs = (
            found.squared, found.norms, found.other_norms, found.share, rows.rows, columns.rows, found.scale, rows.ids,
            columns.ids,
        )  # fmt: skip
        if block.mirrored:
            # The columns lie on a later side: locks are always taken in that order.
            with self._lock(rows), self._lock(columns):
                nearest_both(*pairs, *self._lists(rows), *self._lists(columns), False)
            return
        with self._lock(rows):
            lists, index, limits = self._lists(rows)
            if rows is columns:
                tighten(found.squared, found.norms, found.share, found.scale, lists, limits)
                nearest_both(*pairs, lists, index, limits, lists, index, limits, True)
                return
            codes = np.repeat(rows.classes, np.diff(rows.bounds))
            segments = (columns.classes, columns.bounds) if self._among else (np.zeros(1, np.int64), columns.bounds[[0, -1]])
            nearest_across(*pairs, lists, index, limits, self._among, codes, *segments)

    def add(self, rows: Side, columns: Side, mirrored: bool, part: None) -> None:
        """Lists are filled by `reduce`."""

    def state(self) -> dict[str, Array]:
        return {"squared": self._squared, "index": self._index, "limits": self._limits, "place": self._swept.place}

    def where(self, side: Side) -> Any:
        return self._swept.piece(side)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_locks": {}}  # which another process has of its own

    def found(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Squared distances (q, k), ascending, and row numbers (q, k), ties by the lower; n where there are fewer."""
        squared, index = (self._swept.by_query(lists, axis=0) for lists in (self._squared, self._index))
        return squared, index

    def _lock(self, side: Side) -> threading.Lock:
        return self._locks.setdefault(side.start, threading.Lock())

    def _lists(self, side: Side) -> tuple[Array, Array, Array]:
        piece = self._swept.piece(side)
        return self._squared[piece], self._index[piece], self._limits[piece]
