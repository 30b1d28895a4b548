"""How many cells, and what searching them takes: of memory, and of disk."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype
from fastent.runtime.cluster import memory_of_thread, n_threads
from fastent.search.cells.partition import ROOM, SKETCHED
from fastent.search.cells.rows import as_stored, is_spooled
from fastent.search.index import Wanted
from fastent.search.index_costs import Like, axes_of_frame, index_bytes

__all__ = ["VISITORS_OF_TASK", "CellPlan", "lists_go_to_disk", "plan_cells"]

Array = NDArray[Any]

# Fewer rows are no cell worth an index, more bring nothing.
_LEAST, _MOST = 1024, 1 << 21
# How much finer space is cut if cells do not fit: by one in so many.
_FINER = 20
# Visitors of a cell search it so many at a time, or an eighth of its rows; a task of a worker has at most so many times these.
_VISITORS, _VISITING, VISITORS_OF_TASK = 1024, 8, 8
# Bytes of rows that are dealt at a time at most, and the share of the memory that these may be.
_BLOCK, _BLOCKS = 64 << 20, 12
# On a cluster as many cells as threads, and at least so many: of two, one takes longer. And the rows that are worth a task.
_SHARED, _WORTH_SENDING = 4, 1 << 14
# Bytes of what is known of the rows of a cell in a block: two boxes of sketches, a count, a checksum.
_DEALT_BYTES = 2 * 4 * (SKETCHED + 1) + 8 + 4
# The share of a worker's memory that kept indices may fill: it pauses at four fifths, and lets go of none while it does.
_OF_WORKER = 0.5
# Lists that take a larger share of the memory are kept on disk.
_LISTS = 4


class CellPlan(NamedTuple):
    """How rows are searched cell by cell, and what that takes.

    cells : int
    visitors : int
        Queries of other cells that search a cell at a time.
    kept : int
        Cells whose index each thread keeps, beside the one that it searches.
    block : int
        Rows that are dealt at a time.
    lists_on_disk : bool
        Whether lists, and the bits that say which cells queries reach, are kept on disk.
    needed : int
        Bytes of memory.
    copies, found, lists : int
        Bytes of disk: of copies of rows; of what is found, where it is kept or workers find it, as far as that is known
        beforehand; of lists and bits.
    """

    cells: int
    visitors: int
    kept: int
    block: int
    lists_on_disk: bool
    needed: int
    copies: int
    found: int
    lists: int


def plan_cells(X: Array, q: int, wanted: Wanted, memory: float, *, client: Any = None, cells: int | None = None) -> CellPlan:
    """The fewest cells for which `memory` will do, no smaller than the smallest, whatever these take; or so many cells.

    client : whose workers share the cells, at least one for each of their threads; `memory` is that of each thread, and the
    caller's too.
    """
    n, d = X.shape
    itemsize, all_rows, entries = X.dtype.itemsize, q == n, sum(wanted.values())
    lists, on_disk = 16 * entries * q, lists_go_to_disk(q, wanted, memory)
    block = max(1, min(n, int(min(_BLOCK, memory / _BLOCKS)) // (d * itemsize)))
    threads = 1 if client is None else n_threads(client)
    room = memory if client is None else min(memory, _OF_WORKER * memory_of_thread(client))
    known = 8 * n + (0 if all_rows else 8 * n + 16 * q) + (0 if on_disk else lists)

    def reach(n_cells: int) -> int:
        """Which cells queries reach, if every query reached all."""
        return len(wanted) * q * -(-n_cells // 8)

    def largest(n_cells: int) -> Like:
        """The rows of the largest cell."""
        return Like((min(n, int(ROOM * n / n_cells) + 1), d), X.dtype)

    def needed(n_cells: int, visitors: int) -> int:
        here = largest(n_cells)
        rows = here.shape[0]
        own_queries = rows if all_rows else min(q, rows)
        own = index_bytes(here, own_queries, entries) + 2 * len(wanted) * n_cells * own_queries // 8
        raw = 2 * rows * d * itemsize
        visits = index_bytes(here, visitors, entries)
        visits += visitors * (d * (itemsize + kernel_dtype(X).itemsize) + 64 * entries)
        if client is not None:  # what they find, as it is written
            visits += VISITORS_OF_TASK * visitors * 32 * entries
        # How far lists reach, who reaches one cell, and who all; where the rows of cells lie in each block, with their boxes.
        reached = (8 * len(wanted) + 8 + len(wanted)) * q + (0 if on_disk else reach(n_cells))
        dealt = -(-n // block) * n_cells * _DEALT_BYTES
        views = 8 * n_cells * d * (axes_of_frame(rows, d) + 1)
        return int(known + reached + dealt + views + max(raw + own, raw // 2 + visits, 5 * block * d * itemsize))

    def fitting(n_cells: int) -> CellPlan:
        """With so many cells, and as many indices that are kept and then visitors at a time as there is room for."""
        visitors = min(q, max(_VISITORS, n // n_cells // _VISITING))
        index = index_bytes(largest(n_cells), 0, entries)
        its_share = -(-n_cells // threads) - 1
        kept = max(0, min(its_share, int((room - needed(n_cells, visitors)) // index)))
        while visitors < q and needed(n_cells, 2 * visitors) + kept * index <= memory:
            visitors *= 2
        visitors = min(q, visitors)
        copies = n * d * as_stored(X).dtype.itemsize if is_spooled(X) or client is not None else 0
        found = 2 * lists + reach(n_cells)
        return CellPlan(
            n_cells, visitors, kept, block, on_disk, needed(n_cells, visitors) + kept * index, copies, found, on_disk * found
        )

    if cells is not None:
        return fitting(cells)
    shared = 0 if client is None else min(max(_SHARED, threads), n // _WORTH_SENDING)
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
