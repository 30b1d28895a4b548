"""Exact neighbours among rows that do not fit in memory: in its own cell of space a query learns which others it must search.

    rows ---- dealt to cells of space, each of a size that memory allows (`cell_rows`)
                 |
       1. a cell --- an index of it --- searched by its own queries, whose lists then tell how far they reach
                 |
       2. a cell --- an index of it --- searched by the queries of other cells that reach it, no farther than their lists

An index is built at most twice for each cell, and a query meets few cells where space can be told apart. A pair's distance does
not depend on the index it is met in, and lists keep the nearest with ties by the lower row number: what is found is what one
index of all rows finds, to the bit.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype
from fastent.errors import FastentError
from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.io.files import alone_in
from fastent.io.scratch import check_room, scratch_folder
from fastent.printable import in_queries
from fastent.runtime.cluster import map_on_cluster, n_threads
from fastent.runtime.formatting import duration
from fastent.runtime.memory import check_fits, readable_bytes
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.search.cell_queries import CellLists, CellQueries
from fastent.search.cell_rows import CellRows, as_stored, blocks, deal_block, dealt, is_spooled
from fastent.search.cell_search import Arrays, CellSearch
from fastent.search.index import Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, Work, count_of, with_points
from fastent.search.index_costs import Like, index_bytes
from fastent.search.partition import ROOM, Partition, take_partition
from fastent.search.time_left import TimeLeft

__all__ = ["CellPlan", "PartitionedIndex", "lists_go_to_disk", "plan_cells"]

Array = NDArray[Any]

# Fewer rows are no cell worth an index, more bring nothing.
_LEAST, _MOST = 1024, 1 << 21
# How much finer space is cut if cells do not fit: by one in so many.
_FINER = 20
# Visitors of a cell come so many at a time, or an eighth of its rows.
_VISITORS, _VISITING = 1024, 8
# On a cluster so many times as many: a worker that takes another cell in between indexes this one again.
_VISITORS_OF_TASK = 8
# Bytes of rows that are dealt at a time at most, and the share of the memory that these may be.
_BLOCK, _BLOCKS = 64 << 20, 12
# On a cluster as many cells as threads, and at least so many: of two, one takes longer. And the rows that are worth a task.
_SHARED, _WORTH_SENDING = 4, 1 << 14
# Lists that take a larger share of the memory are kept on disk.
_LISTS = 4
# Progress is told in so many steps of equal time.
_STEPS = 1000
_SAID = {"deal": "rows are dealt to cells", "own": "queries search their own cells", "visit": "queries search other cells"}


class CellPlan(NamedTuple):
    """How rows are searched cell by cell, and what that takes.

    cells : int
    visitors : int
        Queries of other cells that search a cell at a time.
    block : int
        Rows that are dealt at a time.
    lists_on_disk : bool
    needed, scratch : int
        Bytes of memory and of disk.
    """

    cells: int
    visitors: int
    block: int
    lists_on_disk: bool
    needed: int
    scratch: int


def plan_cells(X: Array, q: int, wanted: Wanted, memory: float, *, client: Any = None, cells: int | None = None) -> CellPlan:
    """The fewest cells for which `memory` will do, no smaller than the smallest, whatever these take; or so many cells.

    client : whose workers share the cells, at least one for each of their threads; `memory` is that of each thread, and the
    caller's too.
    """
    n, d = X.shape
    itemsize, all_rows, entries = X.dtype.itemsize, q == n, sum(wanted.values())
    lists, on_disk = 16 * entries * q, lists_go_to_disk(q, wanted, memory)
    block = max(1, min(n, int(min(_BLOCK, memory / _BLOCKS)) // (d * itemsize)))
    kept = 8 * n + (0 if all_rows else 8 * n + 16 * q) + (0 if on_disk else lists)

    def needed(n_cells: int, visitors: int) -> int:
        rows = min(n, int(ROOM * n / n_cells) + 1)
        here = Like((rows, d), X.dtype)
        own = index_bytes(here, rows if all_rows else min(q, rows), entries)
        raw = 2 * rows * d * itemsize
        visits = index_bytes(here, visitors, entries)
        visits += visitors * (d * (itemsize + kernel_dtype(X).itemsize) + 64 * entries)
        reach = len(wanted) * q * (8 + -(-n_cells // 8))
        return int(kept + reach + max(raw + own, raw // 2 + visits, 5 * block * d * itemsize))

    def fitting(n_cells: int) -> CellPlan:
        """With so many cells, and as many visitors at a time as there is room for."""
        visitors = min(q, max(_VISITORS, n // n_cells // _VISITING))
        while visitors < q and needed(n_cells, 2 * visitors) <= memory:
            visitors *= 2
        visitors = min(q, visitors)
        copies = n * d * as_stored(X).dtype.itemsize if is_spooled(X) or client is not None else 0
        return CellPlan(n_cells, visitors, block, on_disk, needed(n_cells, visitors), int(copies + 2 * on_disk * lists))

    if cells is not None:
        return fitting(cells)
    shared = 0 if client is None else min(max(_SHARED, n_threads(client)), n // _WORTH_SENDING)
    plans, cells = [], max(1, -(-n // _MOST), shared)
    while True:
        plans.append(fitting(cells))
        if plans[-1].needed <= memory:
            return plans[-1]
        if cells * _LEAST >= n:
            return min(plans, key=lambda plan: plan.needed)
        cells += 1 + cells // _FINER


def lists_go_to_disk(q: int, wanted: Wanted, memory: float) -> bool:
    """Whether lists would take too much of the memory, and are arrays whose pages lie on disk."""
    return 16 * sum(wanted.values()) * q > memory / _LISTS


class PartitionedIndex(Index):
    """Rows that need not fit in memory, in cells of space.

    Parameters
    ----------
    X : (n, d)
        An array, a memory map or a source; read once, and copied to scratch files if single rows cannot be read from where
        they lie without reading others.
    classes : (n,) int64, optional
        Classes of the rows, for the other lists than "all".
    unit : bool, optional, default False
        As for `ExactIndex`.
    memory : int
        Bytes that may be used; by each thread of the workers, if there are any.
    client : distributed.Client, optional
        Whose workers take a cell each. Scratch files must then lie where all of them see them.
    place : Path, optional
        A folder in which the first search keeps what it has found, and resumes from; later ones have other queries. It stays.
    cells : int, optional
        How many cells; default as few as memory allows.
    seed : int, optional, default 0
        Of the samples from which cells, frames and codes are taken. It cannot change what is found.
    """

    def __init__(
        self,
        X: Array,
        *,
        classes: NDArray[np.int64] | None = None,
        unit: bool = False,
        memory: float,
        place: Path | None = None,
        client: Any = None,
        cells: int | None = None,
        seed: int = 0,
    ) -> None:
        self._X, self._classes, self._unit, self._memory = X, classes, unit, memory
        self._place, self._client, self._n_cells, self._seed = place, client, cells, seed

    def relabelled(self, classes: NDArray[np.int64]) -> "PartitionedIndex":
        return PartitionedIndex(
            self._X, classes=classes, unit=self._unit, memory=self._memory, client=self._client, cells=self._n_cells,
            seed=self._seed,
        )  # fmt: skip

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        X, queries = self._X, with_points(queries)
        n, d = X.shape
        if isinstance(queries, np.ndarray) and np.array_equal(queries, np.arange(n)):
            queries = None
        q = count_of(queries, n)
        plan = plan_cells(X, q, wanted, self._memory, client=self._client, cells=self._n_cells)
        what = f"the search of {in_queries(q)} among {n:,} x {d} points, in {plan.cells:,} cell{'s' * (plan.cells > 1)},"
        check_fits(plan.needed, what, f"use {'fewer queries or ' * (q > 1)}a larger memory_budget", int(self._memory))
        place, self._place = self._place, None
        with scratch_folder(place) as folder, alone_in(folder):
            plan, partition = self._begun(plan, folder, q, wanted)
            there = sum(file.stat().st_size for file in folder.iterdir())
            check_room(folder, plan.scratch - there, what)
            search = _Search(self, plan, partition, folder, queries, wanted, within, keeps=place is not None)
            with interruptible() as interrupted, reporting(progress, "neighbours", _STEPS) as report:
                for share, message in search.steps():
                    report(int(share * _STEPS), message)
                    if interrupted():
                        raise KeyboardInterrupt
            self.work = search.work()
            found = search.lists.in_order_of_queries()
            for rows in folder.glob("rows-*.bin"):  # what was found stays where a search can be resumed
                rows.unlink()
        return found

    def _begun(self, plan: CellPlan, folder: Path, q: int, wanted: Wanted) -> tuple[CellPlan, Partition]:
        """How a search that a folder keeps was begun, if memory still allows it; else it is begun anew.

        Space stays cut as it was: another processor, or another number of cells, would cut it elsewhere.
        """
        path = folder / "plan.npz"
        if path.exists():
            kept = _read(path)
            partition = Partition.from_arrays(kept)
            resumed = plan_cells(self._X, q, wanted, self._memory, client=self._client, cells=partition.n_cells)
            if resumed.needed <= self._memory:
                return resumed._replace(block=int(kept["block"])), partition
            for part in folder.iterdir():
                part.unlink()
        partition = take_partition(self._X, plan.cells, unit=self._unit, seed=self._seed)
        write_checked_npz(path, partition.as_arrays() | {"block": np.array(plan.block)})
        return plan, partition


class _Search:
    """A search under way: what is known, and the steps that are left.

    Attributes
    ----------
    lists : CellLists
    """

    def __init__(
        self,
        index: PartitionedIndex,
        plan: CellPlan,
        partition: Partition,
        folder: Path,
        queries: NDArray[np.int64] | ExternalQueries | None,
        wanted: Wanted,
        within: Array | None,
        *,
        keeps: bool,
    ) -> None:
        self._index, self._plan, self._partition, self._folder = index, plan, partition, folder
        self._given, self._wanted, self._within = queries, wanted, within
        self._parts = folder if keeps else None
        self._counts, self._visits, self._read, self._written = np.zeros(5, np.int64), 0, 0, 0
        n = len(index._X)
        self._time, self._share_over = TimeLeft(n, count_of(queries, n), plan.cells), 0.0

    def steps(self) -> Iterator[tuple[float, str]]:
        """Do one step after the other; the share of the time that is over."""
        yield from self._deal()
        yield from self._search_own()
        yield from self._visit()

    def work(self) -> Work:
        """What they took."""
        q, n, cells = len(self._queries), len(self._index._X), self._plan.cells
        read, written = self._read, self._written + self._rows.bytes_written
        chosen = (
            f"in {cells:,} cells of space, each query in {1 + self._visits / max(1, q):.3g} of them on average; "
            f"{100 * self._counts[2] / (q * n):.3g} % of the pairs were compared, {readable_bytes(read)} of rows read and "
            f"{readable_bytes(written)} of scratch written"
        )
        return Work(cells=cells, visits=self._visits, bytes_read=read, bytes_written=written, chosen=chosen).plus(self._counts)

    def _deal(self) -> Iterator[tuple[float, str]]:
        index, plan, X, classes = self._index, self._plan, self._index._X, self._index._classes
        folder = self._folder if is_spooled(X) or index._client is not None else None
        partition = self._partition
        found, self._read = [], len(X) * X.shape[1] * X.dtype.itemsize
        if index._client is not None:
            deal = partial(_dealt_at_a_worker, X, partition, self._folder)
            for start, stop in map_on_cluster(index._client, deal, blocks(len(X), plan.block)):
                yield self._after("deal", stop - start)
        for each in dealt(X, partition, folder, plan.block):
            found.append(each)
            if index._client is None:
                yield self._after("deal", len(each.places))
        self._rows = CellRows(X, partition, found, folder, plan.block)
        has_class = np.ones((plan.cells, 1), bool)
        if classes is not None:
            n_classes, cells = int(classes.max()) + 1, range(plan.cells)
            has_class = np.array([np.bincount(classes[self._rows.numbers(cell)], minlength=n_classes) > 0 for cell in cells])
        self._cells = CellSearch(self._rows, has_class, self._wanted, unit=index._unit, seed=index._seed)
        self._queries = CellQueries(self._rows, self._given, classes)
        lists_in = self._folder if plan.lists_on_disk else None
        self.lists = CellLists(self._queries, self._wanted, len(X), self._within, lists_in, index._memory)
        # Which cells queries reach, by position: a bit for each cell.
        words = -(-plan.cells // 8)
        self._reached = {each: np.zeros((words, len(self._queries)), np.uint8) for each in self._wanted}
        self._visits_of, self._last = np.zeros(plan.cells, np.int64), (-1, np.empty(0, np.int64))

    def _search_own(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by its own queries."""
        start, done, groups = self._queries.start.tolist(), 0, []
        for cell, (first, last) in enumerate(pairwise(start)):
            if not self._rows.size(cell):  # points in a cell without rows reach all others, for all that is known
                for reached in self._reached.values():
                    reached[:, first:last] = 255
                self._visits_of += (last - first) * (np.diff(self._rows.start) > 0)
                continue
            # Points may all lie in one cell, of which a plan knows nothing; rows are no more than the cell has.
            size = self._plan.visitors if self._queries.are_points else max(1, last - first)
            groups += [(cell, at, min(at + size, last)) for at in range(first, last, size)]
        for (cell, begin, end), found in self._carried_out("own", groups, self._own_queries):
            self._enter(cell, slice(begin, end), found)
            for among, reached in self._reached.items():
                reached[:, begin:end] = found[f"reached/{among}"]
            done += end - begin
            self._visits_of += found["visits"]
            self._time.visits = len(self._queries) * float(self._visits_of.sum()) / done
            yield self._after("own", end - begin)

    def _own_queries(self, cell: int, begin: int, end: int) -> Arrays:
        asked = self._queries.own(cell, slice(begin, end))
        if self._within is not None:
            asked["within"] = self._within[self._queries.order[begin:end]]
        return asked

    def _visit(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by the queries of others that reach it: first the one that most queries reach."""
        size = self._plan.visitors * (1 if self._index._client is None else _VISITORS_OF_TASK)
        cells = [cell for cell in np.argsort(-self._visits_of, kind="stable").tolist() if self._visits_of[cell]]
        groups = [(cell, at, at + size) for cell in cells for at in range(0, int(self._visits_of[cell]), size)]
        for (cell, begin, end), found in self._carried_out("visit", groups, self._visiting_queries):
            positions = self._visitors(cell)[begin:end]
            self._enter(cell, positions, found)
            self._visits += len(positions)
            yield self._after("visit", len(positions))

    def _visiting_queries(self, cell: int, begin: int, end: int) -> Arrays:
        positions = self._visitors(cell)[begin:end]
        asked = self._queries.visitors(cell, positions)
        for among in self._wanted:
            farthest = self.lists.farthest[among][positions]
            asked[f"within/{among}"] = np.where(self._reach(among, cell)[positions], farthest, -1)
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
        work = getattr(self._cells, stage)
        if self._index._client is None:
            for task in tasks:
                yield task, self._kept(_name(stage, task), partial(_asked_now, work, ask, task))
            return
        for task in tasks:
            if not (self._folder / f"{_name(stage, task)}.npz").exists():
                write_checked_npz(self._folder / f"{_name(stage, task)}.asked.npz", ask(*task), compress=False)
        for task in map_on_cluster(self._index._client, partial(_at_a_worker, work, self._folder, stage), tasks):
            path = self._folder / f"{_name(stage, task)}.npz"
            found = _read(path)
            self._written += path.stat().st_size
            path.with_suffix(".asked.npz").unlink(missing_ok=True)
            yield task, found

    def _enter(self, cell: int, positions: "NDArray[np.int64] | slice", found: Arrays) -> None:
        self._counts += found["work"]
        self._read += int(found["bytes_read"])
        numbers = np.append(self._rows.numbers(cell), len(self._index._X))  # the last for no row
        for among in self._wanted:
            lists = NeighborLists(found[f"squared/{among}"], numbers[found[f"indices/{among}"]])
            self.lists.enter(among, positions, lists)

    def _visitors(self, cell: int) -> NDArray[np.int64]:
        """Positions of the queries that reach a cell for any of their lists; those of the last cell are kept."""
        if self._last[0] != cell:
            wanting = np.logical_or.reduce([self._reach(among, cell) for among in self._wanted])
            self._last = cell, np.flatnonzero(wanting)
        return self._last[1]

    def _reach(self, among: Among, cell: int) -> NDArray[np.bool_]:
        reach: NDArray[np.bool_] = (self._reached[among][cell >> 3] >> np.uint8(cell & 7) & 1).astype(bool)
        return reach

    def _kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """A part that is kept where a search can be resumed, made now unless it is there."""
        if self._parts is None:
            return make()
        path = self._parts / f"{name}.npz"
        if path.exists():
            return _read(path)
        found = make()
        write_checked_npz(path, found, compress=False)
        self._written += path.stat().st_size
        return found


# Queries that search a cell together: the cell, and what else tells which they are.
_Group = tuple[int, ...]


def _name(stage: str, group: _Group) -> str:
    return "-".join(map(str, (stage, *group)))


def _asked_now(work: Callable[[int, Arrays], Arrays], ask: Callable[..., Arrays], group: _Group) -> Arrays:
    return work(group[0], ask(*group))


def _at_a_worker(work: Callable[[int, Arrays], Arrays], folder: Path, stage: str, group: _Group) -> _Group:
    """Runs on a worker: what is asked of a cell, and what is found, goes through files that all processes see."""
    _check_seen(folder)
    path = folder / f"{_name(stage, group)}.npz"
    if not path.exists():
        write_checked_npz(path, work(group[0], _read(path.with_suffix(".asked.npz"))), compress=False)
    return group


def _dealt_at_a_worker(X: Array, partition: Partition, folder: Path, bounds: tuple[int, int]) -> tuple[int, int]:
    """The same for rows that are dealt to cells."""
    _check_seen(folder)
    deal_block(X, partition, folder, bounds)
    return bounds


def _check_seen(folder: Path) -> None:
    if not folder.is_dir():
        raise FastentError(
            f"a worker on {socket.gethostname()!r} does not see the scratch folder {str(folder)!r}: set TMPDIR, or the output "
            "folder, to one that all workers share"
        )


def _read(path: Path) -> Arrays:
    return read_checked_npz(path, f"remove {str(path)!r}, so that it is made again")
