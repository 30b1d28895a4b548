"""The index of rows that do not fit in memory: in its own cell of space a query learns which others it must search."""

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.io.files import alone_in, output_folder
from fastent.io.scratch import LocalFolder, ScratchFolder, check_room, local_folder, scratch_folder
from fastent.printable import in_queries
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.search.cells.partition import Partition, take_partition
from fastent.search.cells.plan import CellPlan, plan_cells
from fastent.search.cells.rows import is_copy
from fastent.search.cells.stages import Folders, Request, Stages, is_sent
from fastent.search.index import Among, Index, IndexQueries, NeighborLists, Wanted, count_of, with_points

__all__ = ["PartitionedIndex"]

Array = NDArray[Any]

# Progress is told in so many steps of equal time.
_STEPS = 1000
# The share of the memory with which a search is planned that may be resumed with less.
_OF_RESUMED = 0.8
# How a search that a folder keeps was begun.
_BEGUN = "plan.npz"


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
    scratch : str, optional
        Where scratch files lie, a folder or the address of an object store; default `kept_in` or `TMPDIR`.
    client : distributed.Client, optional
        Whose workers take a cell each. Scratch files must then lie where all of them see them.
    kept_in : Path, optional
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
        scratch: str | None = None,
        kept_in: Path | None = None,
        client: Any = None,
        cells: int | None = None,
        seed: int = 0,
    ) -> None:
        self._X, self._classes, self._unit, self._memory, self._scratch = X, classes, unit, memory, scratch
        self._kept_in, self._client, self._n_cells, self._seed = kept_in, client, cells, seed

    def relabelled(self, classes: NDArray[np.int64]) -> "PartitionedIndex":
        return PartitionedIndex(
            self._X, classes=classes, unit=self._unit, memory=self._memory, scratch=self._scratch, client=self._client,
            cells=self._n_cells, seed=self._seed,
        )  # fmt: skip

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        X, queries = self._X, with_points(queries)
        n, d = X.shape
        if isinstance(queries, np.ndarray) and np.array_equal(queries, np.arange(n)):
            queries = None
        q = count_of(queries, n)
        plan = self._plan(q, wanted)
        what = f"the search of {in_queries(q)} among {n:,} x {d} points, in {plan.cells:,} cell{'s' * (plan.cells > 1)},"
        check_fits(plan.needed, what, f"use {'fewer queries or ' * (q > 1)}a larger memory_budget", int(self._memory))
        with ExitStack() as opened:
            folders, plan, partition = self._begun(opened, plan, q, wanted, what)
            request = Request(X, self._classes, queries, wanted, within, self._unit, self._seed)
            stages = Stages(request, plan, partition, folders, self._client, self._memory)
            with interruptible() as interrupted, reporting(progress, "neighbours", _STEPS) as report:
                for share, message in stages.steps():
                    report(int(share * _STEPS), message)
                    if interrupted():
                        raise KeyboardInterrupt
            self.work = stages.work()
            found = stages.lists.in_order_of_queries()
            if folders.kept is not None:  # what was found stays
                for name in folders.kept.names():
                    if is_copy(name) or is_sent(name) or name.startswith("."):
                        folders.kept.remove(name)
        return found

    def _plan(self, q: int, wanted: Wanted) -> CellPlan:
        """With room to spare, if there is, where a search may be resumed when less memory is available."""
        for memory in (self._memory * _OF_RESUMED, self._memory) if self._kept_in is not None else (self._memory,):
            plan = plan_cells(self._X, q, wanted, memory, client=self._client, cells=self._n_cells)
            if plan.needed <= memory:
                break
        return plan

    def _begun(
        self, opened: ExitStack, plan: CellPlan, q: int, wanted: Wanted, what: str
    ) -> tuple[Folders, CellPlan, Partition]:
        """Where the files of this search lie, until all that was opened is closed; and how it goes.

        A search that a folder keeps goes as it was begun, if memory still allows it, since another processor would cut space
        elsewhere. Else it is begun anew, in another subfolder: a worker may still write to the one before.
        """
        kept_in, self._kept_in = self._kept_in, None
        kept: LocalFolder | None = None
        partition: Partition | None = None
        scratch: ScratchFolder
        if kept_in is not None:
            opened.enter_context(alone_in(output_folder(kept_in)))
            kept, plan, partition = self._kept_before(kept_in, plan, q, wanted)
        if kept is None or self._scratch is not None:
            scratch, lists_in = opened.enter_context(scratch_folder(self._scratch)), local_folder(self._scratch)
        else:
            scratch, lists_in = kept, kept.path.parent
        room: list[tuple[Path, float]] = [(lists_in, plan.lists)]
        if kept is not None:
            room.append((kept.path, max(0, plan.found + (kept is scratch) * plan.copies - kept.total())))
        if isinstance(scratch, LocalFolder) and scratch is not kept:
            room.append((scratch.path, plan.copies + (self._client is not None) * plan.found))
        check_room(room, what)
        if partition is None:
            partition = take_partition(self._X, plan.cells, unit=self._unit, seed=self._seed)
            if kept is not None:
                kept.write_arrays(_BEGUN, partition.as_arrays() | {"block": np.array(plan.block)})
        return Folders(scratch, kept, lists_in), plan, partition

    def _kept_before(
        self, kept_in: Path, plan: CellPlan, q: int, wanted: Wanted
    ) -> tuple[LocalFolder, CellPlan, Partition | None]:
        """The subfolder of a search that was begun before and can go on; or a new one, and others are removed."""
        for path in sorted(each for each in kept_in.iterdir() if each.is_dir()):
            before = LocalFolder(path)
            if before.holds(_BEGUN):
                begun = before.read_arrays(_BEGUN)
                partition = Partition.from_arrays(begun)
                resumed = plan_cells(self._X, q, wanted, self._memory, client=self._client, cells=partition.n_cells)
                if resumed.needed <= self._memory:
                    return before, resumed._replace(block=int(begun["block"])), partition
            before.remove(_BEGUN)  # first, so that nobody goes on with what is left
            shutil.rmtree(path, ignore_errors=True)
        new = kept_in / secrets.token_hex(4)
        new.mkdir()
        return LocalFolder(new), plan, None
