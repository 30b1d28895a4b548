"""A search cell by cell, under way: rows are dealt, queries search their own cells, and then the others that they reach.

What is asked of a cell and what is found there goes by way of files where workers of a cluster are asked, and stays where the
search can be resumed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.scratch import ScratchFolder
from fastent.runtime.cluster import map_on_cluster, n_threads
from fastent.runtime.formatting import duration
from fastent.runtime.memory import readable_bytes
from fastent.search.cells.cell import Arrays, CellSearch
from fastent.search.cells.partition import Partition
from fastent.search.cells.plan import VISITORS_OF_TASK, CellPlan
from fastent.search.cells.queries import CellLists, CellQueries
from fastent.search.cells.reach import Reached
from fastent.search.cells.rows import CellRows, blocks, deal_block, dealt, is_spooled
from fastent.search.cells.time_left import TimeLeft
from fastent.search.index import ExternalQueries, NeighborLists, Wanted, Work, count_of

__all__ = ["Asked", "Places", "Stages"]

Array = NDArray[Any]

# On a cluster all visitors of a cell are one task, as each indexes the cell again, unless there are more than so many, and more
# than an even share of all visits: so many for each thread, lest one be left to work when the others are done.
_FEWEST_VISITORS, _PARTS_OF_THREAD = 1 << 14, 4
_SAID = {"deal": "rows are dealt to cells", "own": "queries search their own cells", "visit": "queries search other cells"}


class Asked(NamedTuple):
    """What is searched for, and among what."""

    X: Array
    classes: NDArray[np.int64] | None
    queries: NDArray[np.int64] | ExternalQueries | None
    wanted: Wanted
    within: Array | None
    unit: bool
    seed: int


class Places(NamedTuple):
    """Where files lie.

    scratch : ScratchFolder
        Copies of rows, and what goes to workers and back.
    kept : ScratchFolder, optional
        What was found, where the search can be resumed; may be the same.
    lists : Path
        Lists that do not fit in memory.
    """

    scratch: ScratchFolder
    kept: ScratchFolder | None
    lists: Path


class Stages:
    """A search under way: what is known, and the steps that are left.

    Attributes
    ----------
    lists : CellLists
    """

    def __init__(self, asked: Asked, plan: CellPlan, partition: Partition, places: Places, client: Any, memory: float) -> None:
        self._asked, self._plan, self._partition, self._places = asked, plan, partition, places
        self._client, self._memory = client, memory
        self._counts, self._visits, self._read, self._written = np.zeros(5, np.int64), 0, 0, 0
        n = len(asked.X)
        self._time, self._share_over = TimeLeft(n, count_of(asked.queries, n), plan.cells), 0.0

    def steps(self) -> Iterator[tuple[float, str]]:
        """Do one step after the other; the share of the time that is over."""
        yield from self._deal()
        with closing(self._reached):
            yield from self._search_own()
            yield from self._visit()

    def work(self) -> Work:
        """What they took."""
        q, n, cells = len(self._queries), len(self._asked.X), self._plan.cells
        read, written = self._read, self._written + self._rows.bytes_written
        chosen = (
            f"in {cells:,} cells of space, each query in {1 + self._visits / max(1, q):.3g} of them on average; "
            f"{100 * self._counts[2] / (q * n):.3g} % of the pairs were compared, {readable_bytes(read)} of rows read and "
            f"{readable_bytes(written)} of scratch written"
        )
        return Work(cells=cells, visits=self._visits, bytes_read=read, bytes_written=written, chosen=chosen).plus(self._counts)

    def _deal(self) -> Iterator[tuple[float, str]]:
        asked, plan, partition = self._asked, self._plan, self._partition
        X, classes = asked.X, asked.classes
        folder = self._places.scratch if is_spooled(X) or self._client is not None else None
        found, self._read = [], len(X) * X.shape[1] * X.dtype.itemsize
        if self._client is not None:
            deal = partial(_dealt_at_a_worker, X, partition, self._places.scratch)
            for start, stop in map_on_cluster(self._client, deal, blocks(len(X), plan.block)):
                yield self._after("deal", stop - start)
        for each in dealt(X, partition, folder, plan.block):
            found.append(each)
            if self._client is None:
                yield self._after("deal", len(each.order))
        self._rows = CellRows(X, partition, found, folder, plan.block)
        has_class = np.ones((plan.cells, 1), bool)
        if classes is not None:
            n_classes, cells = int(classes.max()) + 1, range(plan.cells)
            has_class = np.array([np.bincount(classes[self._rows.numbers(cell)], minlength=n_classes) > 0 for cell in cells])
        self._cells = CellSearch(self._rows, has_class, asked.wanted, visitors=plan.visitors, unit=asked.unit, seed=asked.seed)
        self._queries = CellQueries(self._rows, asked.queries, classes)
        on_disk = self._places.lists if plan.lists_on_disk else None
        self.lists = CellLists(self._queries, asked.wanted, len(X), asked.within, on_disk, self._memory)
        self._reached = Reached(asked.wanted, plan.cells, on_disk)

    def _search_own(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by its own queries."""
        done, groups = 0, []
        for cell, (first, last) in enumerate(pairwise(self._queries.start.tolist())):
            if not self._rows.size(cell):  # points in a cell without rows reach all others, for all that is known
                self._reached.enter_all(first, last - first, np.flatnonzero(np.diff(self._rows.start)))
                continue
            # Points may all lie in one cell, of which a plan knows nothing; rows are no more than the cell has.
            size = self._plan.visitors if self._queries.are_points else max(1, last - first)
            groups += [(cell, at, min(at + size, last)) for at in range(first, last, size)]
        for (cell, begin, end), found in self._carried_out("own", groups, self._own_queries):
            self._enter(cell, slice(begin, end), found)
            self._reached.enter(begin, end - begin, found)
            done += end - begin
            self._time.visits = len(self._queries) * float(self._reached.visits.sum()) / done
            yield self._after("own", end - begin)

    def _own_queries(self, cell: int, begin: int, end: int) -> Arrays:
        asked = self._queries.own(cell, slice(begin, end))
        if self._asked.within is not None:
            asked["within"] = self._asked.within[self._queries.order[begin:end]]
        return asked

    def _visit(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by the queries of others that reach it: first the one that most queries reach."""
        size, visits = self._plan.visitors, self._reached.visits
        if self._client is not None:
            even = int(visits.sum()) // (_PARTS_OF_THREAD * n_threads(self._client))
            size = min(size * VISITORS_OF_TASK, max(_FEWEST_VISITORS, even))
        cells = [cell for cell in np.argsort(-visits, kind="stable").tolist() if visits[cell]]
        groups = [(cell, at, at + size) for cell in cells for at in range(0, int(visits[cell]), size)]
        for (cell, begin, end), found in self._carried_out("visit", groups, self._visiting_queries):
            positions = self._reached.queries(cell)[0][begin:end]
            self._enter(cell, positions, found)
            self._visits += len(positions)
            yield self._after("visit", len(positions))

    def _visiting_queries(self, cell: int, begin: int, end: int) -> Arrays:
        positions, wanting = self._reached.queries(cell)
        positions = positions[begin:end]
        asked = self._queries.visitors(cell, positions)
        for among in self._asked.wanted:
            farthest = self.lists.farthest[among][positions]
            asked[f"within/{among}"] = np.where(wanting[among][begin:end], farthest, -1)
        return asked

    def _after(self, stage: Literal["deal", "own", "visit"], amount: float) -> tuple[float, str]:
        self._time.add(stage, amount)
        self._share_over = max(self._share_over, self._time.share_over)  # what is expected may have grown
        return self._share_over, f"{_SAID[stage]}; about {duration(self._time.seconds_left)} left"

    def _carried_out(
        self, stage: Literal["own", "visit"], tasks: "Sequence[_Group]", ask: Callable[..., Arrays]
    ) -> "Iterator[tuple[_Group, Arrays]]":
        """What is found by one group of queries after the other, each a cell and what else `ask` takes.

        What is asked of a cell knows what was found in those before it; on a cluster, where all of them are searched at once,
        what was found in the stage before.
        """
        work, (scratch, kept, _) = getattr(self._cells, stage), self._places
        there = set() if kept is None else set(kept.names())
        left = [task for task in tasks if _name(stage, task) not in there]
        at_workers: Iterator[_Group] = iter(())
        if self._client is not None:
            for task in left:
                scratch.write_arrays(_name(stage, task, asked=True), ask(*task))
            at_workers = map_on_cluster(self._client, partial(_at_a_worker, work, scratch, stage), left)
        for task in tasks:
            name = _name(stage, task)
            if name in there:
                assert kept is not None
                yield task, kept.read_arrays(name)
                continue
            if self._client is None:
                found = work(task[0], ask(*task))
            else:
                next(at_workers)
                found = scratch.read_arrays(name)
                self._written += scratch.size(name)
                scratch.remove(_name(stage, task, asked=True))
            if kept is not None and not (kept is scratch and self._client is not None):
                kept.write_arrays(name, found)
                self._written += kept.size(name)
            if self._client is not None and kept is not scratch:
                scratch.remove(name)
            yield task, found

    def _enter(self, cell: int, positions: "NDArray[np.int64] | slice", found: Arrays) -> None:
        self._counts += found["work"]
        self._read += int(found["bytes_read"])
        numbers = np.append(self._rows.numbers(cell), len(self._asked.X))  # the last for no row
        for among in self._asked.wanted:
            lists = NeighborLists(found[f"squared/{among}"], numbers[found[f"indices/{among}"]])
            self.lists.enter(among, positions, lists)


# Queries that search a cell together: the cell, and what else tells which they are.
_Group = tuple[int, ...]


def _name(stage: str, group: _Group, *, asked: bool = False) -> str:
    """Of the file of what is asked, or found."""
    return f"{stage}-{'-'.join(map(str, group))}{'.asked' * asked}.npz"


def _at_a_worker(work: Callable[[int, Arrays], Arrays], folder: ScratchFolder, stage: str, group: _Group) -> _Group:
    """Runs on a worker: what is asked of a cell, and what is found, goes through files that all processes see."""
    folder.check_seen()
    if not folder.holds(_name(stage, group)):
        folder.write_arrays(_name(stage, group), work(group[0], folder.read_arrays(_name(stage, group, asked=True))))
    return group


def _dealt_at_a_worker(X: Array, partition: Partition, folder: ScratchFolder, bounds: tuple[int, int]) -> tuple[int, int]:
    """The same for rows that are dealt to cells."""
    folder.check_seen()
    deal_block(X, partition, folder, bounds)
    return bounds
