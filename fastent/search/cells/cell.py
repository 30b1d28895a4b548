"""What is done for one cell, in whatever process: its own queries search it, and then those of other cells that reach it.

What is asked and what is found are plain arrays by name, which also go through files to the workers of a cluster, and stay
there for a search that is resumed.

    own      `classes` (m,), `places` (q,) of the queries among the rows or, of points, `points` (q, d), `excluded` and
             `query_classes`; `within` (q,) squared distances beyond which nothing is wanted; each only where there are such
    visit    the same, but places in the order of all cells, and `within/LIST` of each list, -1 for queries that want none; and
             `checksum`, which tells who they are, and is found again
    found    `squared/LIST`, `indices/LIST` (q, k): rows by their places in the cell; `work` (5,), the counts of `Work`, and
             `bytes_read`; of own queries also which other cells may hold rows that they want: `visited` (c,), the cells of
             any of them, `visits` (c,), of how many, and `reached/LIST` (c, ceil(q / 8)), of which, a bit for each
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.search.cells.rows import CellRows
from fastent.search.exact_index import ExactIndex, View
from fastent.search.index import Among, ExternalQueries, NeighborLists, Wanted, first_of_class
from fastent.search.tiles import keeps_classes_apart

__all__ = ["Arrays", "CellSearch"]

Array = NDArray[Any]
Arrays = dict[str, Array]

# Queries of which it is told at a time which cells they reach: a multiple of 8, whose bits share bytes.
_QUERIES = 1 << 13


class CellSearch:
    """What cells are searched for, and how.

    Parameters
    ----------
    rows : CellRows
    has_class : (cells, classes) bool
        Of which classes a cell holds rows.
    wanted : dict
    visitors : int
        So many queries of other cells search a cell at a time.
    kept : int
        So many indices of cells are kept beside those that are searched.
    unit : bool
    seed : int
    """

    def __init__(
        self, rows: CellRows, has_class: NDArray[np.bool_], wanted: Wanted, *, visitors: int, kept: int, unit: bool, seed: int
    ) -> None:
        self.rows, self._has_class, self._wanted = rows, has_class, dict(wanted)
        self._unit, self._seed, self._classes_of_cells = unit, seed, has_class.sum(1)
        self._visitors = visitors
        # Indices of cells, the last used last; threads of a worker share this object, and take out what they use.
        self._kept, self._most = OrderedDict[int, ExactIndex](), kept
        self._views: dict[int, View] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": {}, "_kept": OrderedDict()}  # another process makes its own

    def own(self, cell: int, asked: Arrays) -> Arrays:
        """What the queries of a cell find in it, and which others they reach."""
        reading, within = self.rows.afresh(), asked.get("within")
        index, rows = self._index(cell, asked, reading)
        codes = asked.get("classes", np.zeros(self.rows.size(cell), np.int64))
        queries, work = _queries(asked), np.zeros(5, np.int64)
        lists: dict[Among, NeighborLists] = {}
        for among, k in self._wanted.items():
            last = index.work
            if among != "all" and k == 1 and within is None and "all" in lists:
                lists[among] = first_of_class(index, among, lists["all"], codes, queries)
            else:
                lists[among] = index.search({among: k}, queries, within=within)[among]
            if index.work is not last:
                work += index.work[:5]
        if isinstance(queries, ExternalQueries):
            points, own = queries.points, queries.classes
        else:
            assert rows is not None, "rows search their cell once"
            points, own = (rows, codes) if queries is None else (rows[queries], codes[queries])
        self._keep(cell, index)
        found = self._reached(cell, lists, points, own, within)
        for among, (squared, indices) in lists.items():
            found |= {f"squared/{among}": squared, f"indices/{among}": indices}
        return found | {"work": work, "bytes_read": np.array(reading.bytes_read)}

    def _reached(
        self, cell: int, lists: dict[Among, NeighborLists], points: Array, classes: NDArray[np.int64], within: Array | None
    ) -> Arrays:
        """Which other cells queries with these lists reach."""
        q, cells = len(points), self.rows.n_cells
        others = (np.arange(cells) != cell) & (self.rows.sizes > 0)
        bits = {among: np.zeros((cells, -(-q // 8)), np.uint8) for among in lists}
        visits = np.zeros(cells, np.int64)
        for begin in range(0, q, _QUERIES):
            some = slice(begin, min(begin + _QUERIES, q))
            sketch = self.rows.partition.sketch(points[some])
            visited = np.zeros((len(sketch), cells), bool)
            for among, (squared, _) in lists.items():
                farthest = squared[some, -1] if within is None else np.minimum(squared[some, -1], within[some])
                reached = self.rows.partition.reached(sketch, farthest, self.rows.boxes) & others
                reached &= self._of_class(among, classes[some])
                visited |= reached
                bits[among][:, begin // 8 : -(-some.stop // 8)] = np.packbits(reached, axis=0, bitorder="little").T
            visits += visited.sum(0)
        visited_by_any = np.flatnonzero(visits)
        found: Arrays = {f"reached/{among}": each[visited_by_any] for among, each in bits.items()}
        return found | {"visited": visited_by_any, "visits": visits[visited_by_any]}

    def visit(self, cell: int, asked: Arrays) -> Arrays:
        """What queries of other cells find in a cell, whose index is kept for the next of its visitors."""
        reading = self.rows.afresh()
        index, _ = self._index(cell, asked, reading)
        parts = [self._visit_together(index, reading.size(cell), some, reading) for some in _in_parts(asked, self._visitors)]
        self._keep(cell, index)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "work"}
        work = np.sum([part["work"] for part in parts], axis=0)
        return found | {"work": work, "bytes_read": np.array(reading.bytes_read), "checksum": asked["checksum"]}

    def _visit_together(self, index: ExactIndex, n: int, asked: Arrays, reading: CellRows) -> Arrays:
        """The same of so many that there is room for all of them."""
        work = np.zeros(5, np.int64)
        points = asked["points"] if "points" in asked else reading.take_several(asked["places"])
        visitors = ExternalQueries(points, asked["excluded"], asked["query_classes"])
        found: Arrays = {}
        lists: dict[Among, NeighborLists] = {}
        for among, k in self._wanted.items():
            within = asked[f"within/{among}"]
            lists[among] = NeighborLists.empty((len(within), k), n)
            some = np.flatnonzero(within >= 0)
            if among != "all" and k == 1 and "all" in lists:
                some = some[~self._taken_from_all(among, asked, lists, some)]
            if len(some):
                asking = visitors if len(some) == len(within) else ExternalQueries(*(each[some] for each in visitors))
                nearest = index.nearest(k, asking, among=among, within=within[some])
                lists[among].squared[some], lists[among].indices[some] = nearest
                work += index.work[:5]
            found |= {f"squared/{among}": lists[among].squared, f"indices/{among}": lists[among].indices}
        return found | {"work": work}

    def _taken_from_all(
        self, among: Among, asked: Arrays, lists: dict[Among, NeighborLists], some: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Take the nearest row of a class from lists among all rows, where these decide it; for which of some visitors they do.

        They do if they reach as far, unless they are full and hold no row of that class.
        """
        everything, k = lists["all"], lists["all"].squared.shape[1]
        within, farther = asked[f"within/{among}"][some], asked["within/all"][some]
        squared, indices = everything.squared[some], everything.indices[some]
        there = np.isfinite(squared)
        codes, own = asked["classes"], asked["query_classes"][some]
        fits = there & ((codes[np.where(there, indices, 0)] == own[:, None]) == (among == "own class"))
        first = fits.argmax(1)[:, None]
        nearest = np.take_along_axis(squared, first, 1)[:, 0]
        seen = fits.any(1) & (farther >= 0)
        known: NDArray[np.bool_] = seen | ((farther >= within) & ~there[:, k - 1])
        at = some[seen & (nearest <= within)]
        lists[among].squared[at, 0] = nearest[seen & (nearest <= within)]
        lists[among].indices[at, 0] = np.take_along_axis(indices, first, 1)[seen & (nearest <= within), 0]
        return known

    def _index(self, cell: int, asked: Arrays, reading: CellRows) -> tuple[ExactIndex, Array | None]:
        """The index of a cell and, if it is made now, the rows; else it has been kept."""
        kept = self._kept.pop(cell, None)
        if kept is not None:
            return kept, None
        self._forget(self._most)
        rows, classes = reading.read(cell), asked.get("classes")
        by_class = (
            "all" not in self._wanted and classes is not None and keeps_classes_apart(len(rows), self._has_class.shape[1])
        )
        index = ExactIndex(
            rows, classes=classes, unit=self._unit, k=max(self._wanted.values()), seed=self._seed,
            view=self._views.get(cell), by_class=by_class,
        )  # fmt: skip
        self._views[cell] = index.view
        return index, rows

    def _keep(self, cell: int, index: ExactIndex) -> None:
        self._kept[cell] = index
        self._forget(self._most + 1)

    def _forget(self, most: int) -> None:
        """Keep no more than so many indices, the last used."""
        while len(self._kept) > most:
            with suppress(KeyError):  # another thread has taken the last
                self._kept.popitem(last=False)

    def _of_class(self, among: Among, own: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q, cells): the cells that hold rows of the classes that are wanted."""
        if among == "all":
            return np.ones((1, self.rows.n_cells), bool)
        has = self._has_class.T
        wanted = has if among == "own class" else self._classes_of_cells > has
        return wanted[own]


def _in_parts(asked: Arrays, size: int) -> Iterator[Arrays]:
    """What is asked by so many visitors at a time."""
    for begin in range(0, len(asked["excluded"]), size):
        of_all = ("classes", "checksum")
        yield {name: each if name in of_all else each[begin : begin + size] for name, each in asked.items()}


def _queries(asked: Arrays) -> NDArray[np.int64] | ExternalQueries | None:
    if "points" in asked:
        return ExternalQueries(asked["points"], asked["excluded"], asked["query_classes"])
    return asked.get("places")
