"""Queries cell by cell: which lie where, what they want to be told, and the lists that they have."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.io.scratch import array_on_disk
from fastent.kernels.merging import merge_lists
from fastent.search.cells.cell import Arrays
from fastent.search.cells.rows import CellRows
from fastent.search.index import Among, ExternalQueries, NeighborLists, Wanted

__all__ = ["CellLists", "CellQueries"]

Array = NDArray[Any]

# Values of points that are dealt at a time; entries of lists that are put in the order of the queries at a time, at most.
_VALUES, _ENTRIES = 1 << 22, 1 << 20
# Bytes of the memory for each entry that is put in order: four times what that takes.
_ROOM_OF_ENTRY = 256


class CellQueries:
    """Queries, cell by cell: all rows, some of them by number, or points.

    Attributes
    ----------
    order : (q,) int64
        Numbers of the queries cell after cell; places in this are *positions*.
    start : (cells + 1,) int64
        Where each cell begins in that.
    """

    def __init__(self, rows: CellRows, queries: "NDArray[np.int64] | ExternalQueries | None", classes: Array | None) -> None:
        self._rows, self._classes = rows, classes
        self._external = queries if isinstance(queries, ExternalQueries) else None
        self._places: NDArray[np.int64] | None = None
        self._excluded: NDArray[np.int64] | None = None
        if queries is None:
            self.order, self.start = rows.order, rows.start
            return
        place = np.empty(len(rows.order), np.int64)  # of each row in the order of the cells
        place[rows.order] = np.arange(len(place))
        if isinstance(queries, ExternalQueries):
            self.order, self.start = _dealt_points(queries.points, rows)
            excluded = queries.excluded[self.order]
            self._excluded = np.where(excluded >= 0, place[excluded], -1)
            return
        self._places = place[queries]
        self.order = np.argsort(self._places, kind="stable")
        self._places = self._places[self.order]
        self.start = np.searchsorted(self._places, rows.start)

    @property
    def are_points(self) -> bool:
        return self._external is not None

    def __len__(self) -> int:
        return len(self.order)

    def positions(self, cell: int) -> slice:
        """Of the queries that lie in a cell."""
        return slice(int(self.start[cell]), int(self.start[cell + 1]))

    def own(self, cell: int, here: slice) -> Arrays:
        """What is asked of a cell by its own queries, or of points by some of these, by position: see `cell`."""
        if self._external is not None:
            return self._asked(cell, np.arange(here.start, here.stop))
        asked: Arrays = {} if self._classes is None else {"classes": self._classes[self._rows.numbers(cell)]}
        return asked if self._places is None else asked | {"places": self._places[here] - self._rows.start[cell]}

    def visitors(self, cell: int, positions: NDArray[np.int64]) -> Arrays:
        """What is asked of a cell by some queries, by ascending positions, of other cells."""
        asked = self._asked(cell, positions)
        if self._external is None:
            asked["places"] = positions if self._places is None else self._places[positions]
        return asked

    def _asked(self, cell: int, positions: NDArray[np.int64]) -> Arrays:
        asked, numbers = {"excluded": np.full(len(positions), -1)}, self.order[positions]
        if self._classes is not None:
            asked["classes"] = self._classes[self._rows.numbers(cell)]
        if self._external is not None:
            asked |= {"points": self._external.points[numbers], "query_classes": self._external.classes[numbers]}
            assert self._excluded is not None
            begin, end = self._rows.start[cell], self._rows.start[cell + 1]
            its = self._excluded[positions]
            asked["excluded"] = np.where((its >= begin) & (its < end), its - begin, -1)
        elif self._classes is None:
            asked["query_classes"] = np.zeros(len(positions), np.int64)
        else:
            rows = numbers if self._places is None else self._rows.order[self._places[positions]]
            asked["query_classes"] = self._classes[rows]
        return asked


def _dealt_points(points: Array, rows: CellRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of points cell after cell, and where each cell begins."""
    q, d = points.shape
    cell_of = np.empty(q, np.int64)
    size = max(1, _VALUES // d)
    for begin in range(0, q, size):
        block = points[begin : begin + size]
        places, counts = rows.partition.dealt(rows.partition.sketch(block), begin + np.arange(len(block)))
        cell_of[begin + places] = np.repeat(np.arange(rows.n_cells), counts)
    order = np.argsort(cell_of, kind="stable")
    return order, np.searchsorted(cell_of[order], np.arange(rows.n_cells + 1))


class CellLists:
    """Lists of queries, in memory by the numbers of the queries, or on disk by their positions, where a cell's lie together.

    Attributes
    ----------
    farthest : dict of (q,) float64
        By position: squared distances beyond which nothing is wanted any more.
    """

    def __init__(
        self, queries: CellQueries, wanted: Wanted, n: int, within: Array | None, folder: Path | None, memory: float
    ) -> None:
        self._queries, self._folder, q = queries, folder, len(queries)
        self._entries = int(min(_ENTRIES, memory / _ROOM_OF_ENTRY))
        self._lists = {each: _room((q, k), n, folder) for each, k in wanted.items()}
        begin = np.full(q, np.inf) if within is None else within[queries.order].astype(np.float64)
        self.farthest = {each: begin.copy() for each in wanted}

    def enter(self, among: Among, positions: "NDArray[np.int64] | slice", found: NeighborLists) -> None:
        """Join what queries found, rows by their numbers among all, to what they have."""
        at = positions if self._folder is not None else self._queries.order[positions]
        squared, indices = self._lists[among].squared[at], self._lists[among].indices[at]
        merge_lists(squared, indices, found.squared, found.indices)
        self._lists[among].squared[at], self._lists[among].indices[at] = squared, indices
        self.farthest[among][positions] = np.minimum(self.farthest[among][positions], squared[:, -1])

    def in_order_of_queries(self) -> dict[Among, NeighborLists]:
        """All lists; those on disk are put in order some at a time, as arrays whose pages stay on disk."""
        if self._folder is None:
            return self._lists
        position = np.empty(len(self._queries), np.int64)  # in the order of the queries
        position[self._queries.order] = np.arange(len(position))
        return {each: self._put_in_order(lists, position) for each, lists in self._lists.items()}

    def _put_in_order(self, lists: NeighborLists, position: NDArray[np.int64]) -> NeighborLists:
        assert self._folder is not None
        q, k = lists.squared.shape
        ordered = NeighborLists(array_on_disk(self._folder, (q, k), np.float64), array_on_disk(self._folder, (q, k), np.int64))
        size = max(1, self._entries // k)
        for begin in range(0, q, size):
            at = position[begin : begin + size]
            some = np.sort(at)  # pieces of each cell
            back = np.searchsorted(some, at)
            ordered.squared[begin : begin + size] = lists.squared[some][back]
            ordered.indices[begin : begin + size] = lists.indices[some][back]
        return ordered


def _room(shape: tuple[int, int], n: int, folder: Path | None) -> NeighborLists:
    if folder is None:
        return NeighborLists.empty(shape, n)
    lists = NeighborLists(array_on_disk(folder, shape, np.float64), array_on_disk(folder, shape, np.int64))
    size = max(1, _ENTRIES // shape[1])
    for begin in range(0, shape[0], size):
        lists.squared[begin : begin + size], lists.indices[begin : begin + size] = np.inf, n
    return lists
