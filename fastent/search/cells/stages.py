"""A search cell by cell, under way: rows are dealt, queries search their own cells, and then the others that they reach.

What is asked of a cell and what is found there goes by way of files where workers of a cluster are asked, and stays where the
search can be resumed.
"""

import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.scratch import ScratchFolder
from fastent.runtime.cluster import Shared, map_on_cluster, n_threads, shared_by_workers, threads_of_worker
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

__all__ = ["Folders", "Request", "Stages", "is_sent"]

Array = NDArray[Any]

# On a cluster all visitors of a cell are one task, as each indexes the cell again, unless there are more than so many, and more
# than a thread's even share of all visits, so that no thread works alone at the end.
_FEWEST_VISITORS = 1 << 14
_SAID = {"deal": "rows are dealt to cells", "own": "queries search their own cells", "visit": "queries search other cells"}


class Request(NamedTuple):
    """What is searched for, and among what."""

    X: Array
    classes: NDArray[np.int64] | None
    queries: NDArray[np.int64] | ExternalQueries | None
    wanted: Wanted
    within: Array | None
    unit: bool
    seed: int


class Folders(NamedTuple):
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

    _shared: Shared

    def __init__(
        self, request: Request, plan: CellPlan, partition: Partition, folders: Folders, client: Any, memory: float
    ) -> None:
        self._request, self._plan, self._partition, self._folders = request, plan, partition, folders
        self._client, self._memory = client, memory
        self._counts, self._visits, self._read, self._written = np.zeros(5, np.int64), 0, 0, 0
        n = len(request.X)
        self._time, self._share_over = TimeLeft(n, count_of(request.queries, n), plan.cells), 0.0

    def steps(self) -> Iterator[tuple[float, str]]:
        """Do one step after the other; the share of the time that is over."""
        yield from self._deal()
        with ExitStack() as opened:
            opened.callback(self._reached.close)
            if self._client is not None:
                work = partial(_at_a_worker, self._cells, self._folders.scratch)
                self._shared = opened.enter_context(shared_by_workers(self._client, work))
            yield from self._search_own()
            yield from self._visit()

    def work(self) -> Work:
        """What they took."""
        q, n, cells = len(self._queries), len(self._request.X), self._plan.cells
        read, written = self._read, self._written + self._rows.bytes_copied
        chosen = (
            f"in {cells:,} cells of space, each query in {1 + self._visits / max(1, q):.3g} of them on average; "
            f"{100 * self._counts[2] / (q * n):.3g} % of the pairs were compared, {readable_bytes(read)} of rows read and "
            f"{readable_bytes(written)} of scratch written"
        )
        return Work(cells=cells, visits=self._visits, bytes_read=read, bytes_written=written, chosen=chosen).plus(self._counts)

    def _deal(self) -> Iterator[tuple[float, str]]:
        request, plan, partition = self._request, self._plan, self._partition
        X = request.X
        folder = self._folders.scratch if is_spooled(X) or self._client is not None else None
        found, self._read = [], len(X) * X.shape[1] * X.dtype.itemsize
        if self._client is not None:
            deal = partial(_dealt_at_a_worker, X, partition, self._folders.scratch)
            for start, stop in map_on_cluster(self._client, deal, blocks(len(X), plan.block)):
                yield self._after("deal", stop - start)
        for each, done_before in dealt(X, partition, folder, plan.block):
            found.append(each)
            if self._client is None:
                yield self._after("deal", len(each.order), done_before)
        self._prepare(CellRows(X, partition, found, folder, plan.block))

    def _prepare(self, rows: CellRows) -> None:
        """What is known once rows are dealt."""
        request, plan, n_cells, classes = self._request, self._plan, self._plan.cells, self._request.classes
        self._rows = rows
        has_class = np.ones((n_cells, 1), bool)
        if classes is not None:
            n_classes, cells = int(classes.max()) + 1, range(n_cells)
            has_class = np.array([np.bincount(classes[rows.numbers(cell)], minlength=n_classes) > 0 for cell in cells])
        sharing = 1 if self._client is None else threads_of_worker(self._client)
        self._cells = CellSearch(
            rows, has_class, request.wanted,
            visitors=plan.visitors, kept=sharing * plan.kept, unit=request.unit, seed=request.seed,
        )  # fmt: skip
        self._searched_at: dict[int, str] = {}  # workers, which may have kept the indices of their cells
        self._queries = CellQueries(rows, request.queries, classes)
        on_disk = self._folders.lists if plan.lists_on_disk else None
        self.lists = CellLists(self._queries, request.wanted, len(request.X), request.within, on_disk, self._memory)
        self._reached = Reached(request.wanted, n_cells, on_disk)

    def _search_own(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by its own queries."""
        done, groups, size_of_points = 0, [], self._as_begun("own", self._plan.visitors)
        for cell, (first, last) in enumerate(pairwise(self._queries.start.tolist())):
            if not self._rows.size(cell):  # points in a cell without rows reach all others, for all that is known
                self._reached.enter_all(first, last - first, np.flatnonzero(self._rows.sizes))
                continue
            # A plan does not know how points spread over cells: they search some at a time. Rows are no more than the cell has.
            size = size_of_points if self._queries.are_points else max(1, last - first)
            groups += [(cell, at, min(at + size, last)) for at in range(first, last, size)]
        for (cell, begin, end), found, done_before in self._carried_out("own", groups, self._own_queries):
            self._enter(cell, slice(begin, end), found)
            self._reached.enter(begin, end - begin, found)
            done += end - begin
            self._time.visits = len(self._queries) * float(self._reached.visits.sum()) / done
            yield self._after("own", end - begin, done_before)

    def _as_begun(self, stage: Literal["own", "visit"], size: int) -> int:
        """How many queries a group has: as many as when a kept search came so far first, lest its files have other names."""
        kept, name = self._folders.kept, f"groups-{stage}.npz"
        if kept is None:
            return size
        if not kept.holds(name):
            kept.write_arrays(name, {"size": np.array(size)})
        return int(kept.read_arrays(name)["size"])

    def _own_queries(self, cell: int, begin: int, end: int) -> Arrays:
        asked = self._queries.own(cell, slice(begin, end))
        if self._request.within is not None:
            asked["within"] = self._request.within[self._queries.order[begin:end]]
        return asked

    def _visit(self) -> Iterator[tuple[float, str]]:
        """Every cell is searched by the queries of others that reach it: first the one that most queries reach."""
        size, visits = self._plan.visitors, self._reached.visits
        if self._client is not None and not self._queries.are_points:  # of rows only their places are sent
            even = int(visits.sum()) // n_threads(self._client)
            size = min(size * VISITORS_OF_TASK, max(_FEWEST_VISITORS, even))
        size = self._as_begun("visit", size)
        cells = [cell for cell in np.argsort(-visits, kind="stable").tolist() if visits[cell]]
        groups = [(cell, at, at + size) for cell in cells for at in range(0, int(visits[cell]), size)]
        for (cell, begin, end), found, done_before in self._carried_out("visit", groups, self._visiting_queries):
            positions = self._reached.queries(cell)[0][begin:end]
            if found["checksum"] != _checksum(positions):
                raise FastentError(
                    f"{_name('visit', (cell, begin, end))!r} in {str(self._folders.kept)!r} is of other queries, as cells were "
                    "searched again on another processor: remove that folder, so that the search is begun again"
                )
            self._enter(cell, positions, found)
            self._visits += len(positions)
            yield self._after("visit", len(positions), done_before)

    def _visiting_queries(self, cell: int, begin: int, end: int) -> Arrays:
        positions, wanting = self._reached.queries(cell)
        positions = positions[begin:end]
        asked = self._queries.visitors(cell, positions) | {"checksum": np.array(_checksum(positions))}
        for among in self._request.wanted:
            farthest = self.lists.farthest[among][positions]
            asked[f"within/{among}"] = np.where(wanting[among][begin:end], farthest, -1)
        return asked

    def _after(self, stage: Literal["deal", "own", "visit"], amount: float, done_before: bool = False) -> tuple[float, str]:
        self._time.add(stage, amount, done_before=done_before)
        self._share_over = max(self._share_over, self._time.share_over)  # what is expected may have grown
        return self._share_over, f"{_SAID[stage]}; about {duration(self._time.seconds_left)} left"

    def _carried_out(
        self, stage: Literal["own", "visit"], tasks: "Sequence[_Group]", ask: Callable[..., Arrays]
    ) -> "Iterator[tuple[_Group, Arrays, bool]]":
        """What is found by one group of queries after the other, and whether a search that is resumed had found it before.

        tasks : groups, each a cell and what else `ask` takes. What is asked of a cell knows what was found in those before it;
        on a cluster, where several are searched at once, in most of those.
        """
        kept, scratch = self._folders.kept, self._folders.scratch
        there = set() if kept is None else set(kept.names())
        left = [task for task in tasks if _name(stage, task) not in there]
        found_now = self._found_here(stage, left, ask) if self._client is None else self._found_by_workers(stage, left, ask)
        with closing(found_now):
            for task in tasks:
                name = _name(stage, task)
                if kept is not None and name in there:
                    yield task, kept.read_arrays(name), True
                    continue
                found = next(found_now)
                if kept is not None and not (kept is scratch and self._client is not None):  # a worker has written it there
                    kept.write_arrays(name, found)
                    self._written += kept.size(name)
                yield task, found, False

    def _found_here(self, stage: str, tasks: "Sequence[_Group]", ask: Callable[..., Arrays]) -> Generator[Arrays]:
        for task in tasks:
            yield getattr(self._cells, stage)(task[0], ask(*task))

    def _found_by_workers(self, stage: str, tasks: "Sequence[_Group]", ask: Callable[..., Arrays]) -> Generator[Arrays]:
        """Files go to workers and back; they are removed as soon as they have been read."""
        kept, scratch = self._folders.kept, self._folders.scratch

        def sent() -> Iterator[tuple[str, _Group]]:
            for task in tasks:
                scratch.write_arrays(_name(stage, task, asked=True), ask(*task))
                yield stage, task

        def preferred(sent: tuple[str, _Group]) -> str | None:
            cell, begin, _ = sent[1]  # other parts of many visitors may go elsewhere
            return self._searched_at.get(cell) if begin == 0 else None

        found_at: Iterator[tuple[_Group, str]] = map_on_cluster(self._client, self._shared, sent(), preferred=preferred)
        for task, worker in found_at:
            self._searched_at[task[0]] = worker
            name = _name(stage, task)
            found = scratch.read_arrays(name)
            self._written += scratch.size(name)
            scratch.remove(_name(stage, task, asked=True))
            if kept is not scratch:
                scratch.remove(name)
            yield found

    def _enter(self, cell: int, positions: "NDArray[np.int64] | slice", found: Arrays) -> None:
        self._counts += found["work"]
        self._read += int(found["bytes_read"])
        numbers = np.append(self._rows.numbers(cell), len(self._request.X))  # the last for no row
        for among in self._request.wanted:
            lists = NeighborLists(found[f"squared/{among}"], numbers[found[f"indices/{among}"]])
            self.lists.enter(among, positions, lists)


# Queries that search a cell together: the cell, and what else tells which they are.
_Group = tuple[int, ...]


def _checksum(positions: NDArray[np.int64]) -> int:
    return zlib.crc32(np.ascontiguousarray(positions).data)


def _name(stage: str, group: _Group, *, asked: bool = False) -> str:
    """Of the file of what is asked, or found."""
    return f"{stage}-{'-'.join(map(str, group))}{'.asked' * asked}.npz"


def is_sent(name: str) -> bool:
    """Whether a file tells a worker what is asked."""
    return name.endswith(".asked.npz")


def _at_a_worker(cells: CellSearch, folder: ScratchFolder, task: tuple[str, _Group]) -> tuple[_Group, str]:
    """Runs on a worker: what is asked of a cell, and what is found, goes through files that all see. And its address."""
    from distributed import get_worker

    stage, group = task
    folder.check_seen()
    if not folder.holds(_name(stage, group)):
        found = getattr(cells, stage)(group[0], folder.read_arrays(_name(stage, group, asked=True)))
        folder.write_arrays(_name(stage, group), found)
    return group, str(get_worker().address)


def _dealt_at_a_worker(X: Array, partition: Partition, folder: ScratchFolder, bounds: tuple[int, int]) -> tuple[int, int]:
    """The same for rows that are dealt to cells."""
    folder.check_seen()
    deal_block(X, partition, folder, bounds)
    return bounds
