"""The plan of a search cell by cell, replayed for more rows and workers than this machine has: time, traffic, memory.

python -m bench.simulate_cluster [--cell-rows 1000000] [--row-bytes 256] [--isotropic]

Nothing is computed but the plan: cells of a given size, visits, tasks and bytes follow from the number of rows by the rules of
`fastent.search.cells`; seconds for each row and visit, and how unevenly cells are visited, are those of a real run (bench/results/cells.json,
from `bench.cells`, says of what). A task goes to the thread that is free first; a thread reads and writes at its share of its
worker's link and of the shared disk. The calling process reads what was found while others search. What is assumed and not
measured stands below.
"""

import argparse
import heapq
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastent.search.index_costs import Like, index_bytes

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "cells.json"
ROWS, WORKERS = (10_000_000, 100_000_000, 1_000_000_000), (16, 64, 256)
# Assumed: bytes a second that a worker's link, the shared disk and the calling process manage; seconds of a scheduler for a task;
# threads of a worker.
LINK, DISK, CALLER, TASK, THREADS = 1.0e9, 10.0e9, 1.0e9, 1e-3, 4
# As in `fastent.search.cells.stages`.
FEWEST_VISITORS = 1 << 14
# Bytes that tell a worker of a visit: the row, its class, what it leaves out, and how far its lists reach.
ASKED = 8 * (3 + 3)
# Of the lists of one search: entries of 16 bytes, and lists of which each has a threshold and bits for cells.
ENTRIES, LISTS = 12, 3
# Seconds of a thread for a pair of isotropic points (40,000 x 128).
PAIR = 1.7e-9
# Seconds of a thread to index a row again (125,000 x 128), and the power of the rows with which a search grows.
BUILD, POWER = 3.1e-6, 1.15


class Outcome(NamedTuple):
    rows: int
    workers: int
    cells: int
    tasks: int
    visits: float
    deal: float
    own: float
    visit: float
    read: float
    traffic: float
    scratch: float
    worker_memory: float
    caller_memory: float

    @property
    def hours(self) -> float:
        return (self.deal + self.own + self.visit + self.read) / 3600


def simulate(
    n: int, workers: int, measured: dict[str, Any], *, cell_rows: int, row_bytes: int, isotropic: bool = False, seed: int = 0
) -> Outcome:
    """Replay the plan for n rows of 16-bit features; isotropic ones visit every cell, and look at all of its rows."""
    rng = np.random.default_rng(seed)
    threads = workers * THREADS
    cells = max(threads, math.ceil(n / cell_rows))
    each = n / cells
    # Rows of the cells spread as those of the run did; a query visits more cells the more there are.
    sizes = each * np.clip(rng.normal(1, measured["cell_spread"], cells), 0.5, 1.5)
    visits = cells - 1.0 if isotropic else measured["visits_a_doubling"] * math.log2(cells)
    arrivals = visits * sizes * rng.lognormal(0, 0 if isotropic else measured["visit_spread"], cells)
    arrivals *= visits * n / arrivals.sum()
    growth = (each / measured["cell_rows"]) ** (POWER - 1)
    per_row, per_visit = measured["own_seconds_a_row"] * growth, measured["visit_seconds"] * growth
    if isotropic:
        per_row, per_visit = PAIR * each / 2, PAIR * each
    link = min(LINK / THREADS, DISK / threads)
    lists = 16 * ENTRIES
    blocks = max(1, round(n * row_bytes / (64 << 20)))
    deal = _makespan(np.full(blocks, n / blocks * (measured["deal_seconds_a_row"] + 2 * row_bytes / link)), threads)
    bits = LISTS * min(cells, measured["visited_by_any"] * visits) / 8  # of a query, for the cells that any of its cell reaches
    own = _makespan(sizes * (per_row + (row_bytes + lists + bits) / link), threads)
    # Visitors of a cell are one task, or several where they are more than an even share.
    parts = np.ceil(arrivals / max(FEWEST_VISITORS, arrivals.sum() / threads)).astype(int)
    each_visits = np.repeat(arrivals / parts, parts) * (per_visit + (2 * row_bytes + 2 * lists) / link)
    visit = _makespan(each_visits + np.repeat(sizes, parts) * (BUILD + row_bytes / link), threads)
    found = n * (lists + bits) + visits * n * lists
    asked = visits * n * ASKED
    read = max(0.0, (found + asked) / CALLER - own - visit)  # it reads and writes while they search
    traffic = asked + n * 2 * row_bytes + n * (row_bytes + lists) + visits * n * (row_bytes + 2 * lists) + n * row_bytes + found
    return Outcome(
        rows=n, workers=workers, cells=cells, tasks=blocks + cells + int(parts.sum()), visits=visits,
        deal=deal, own=own, visit=visit, read=read, traffic=traffic,
        scratch=n * row_bytes + found + n * 2 * lists,
        worker_memory=THREADS * index_bytes(Like((int(each), row_bytes // 2), np.dtype(np.float16)), int(each), ENTRIES),
        caller_memory=n * (8 + 16 + 8 * LISTS),  # numbers, classes, order, and how far lists reach
    )  # fmt: skip


def _makespan(seconds: np.ndarray, threads: int) -> float:
    """When the last of some tasks is done, if each thread takes the next when it is free."""
    free = [0.0] * min(threads, len(seconds))
    heapq.heapify(free)
    for i, each in enumerate(seconds.tolist()):
        begin = max(heapq.heappop(free), i * TASK)  # the scheduler deals one after the other
        heapq.heappush(free, begin + each)
    return max(free)


def table(outcomes: list[Outcome]) -> str:
    """As Markdown."""
    lines = [
        "| rows | workers | cells | tasks | visits a query | time | of which dealing, own cells, visits | traffic | scratch "
        "| memory of a worker | of the calling process |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        stages = ", ".join(f"{100 * each / (o.hours * 3600):.0f} %" for each in (o.deal, o.own, o.visit))
        lines.append(
            f"| {o.rows:,} | {o.workers} | {o.cells:,} | {o.tasks:,} | {o.visits:.1f} | {_time(o.hours)} | {stages} "
            f"| {_bytes(o.traffic)} | {_bytes(o.scratch)} | {_bytes(o.worker_memory)} | {_bytes(o.caller_memory)} |"
        )
    return "\n".join(lines)


def _time(hours: float) -> str:
    seconds = 3600 * hours
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{hours:.1f} h"


def _bytes(size: float) -> str:
    return f"{size / 1e12:.1f} TB" if size > 1e12 else f"{size / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell-rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=256)
    parser.add_argument("--isotropic", action="store_true")
    given = parser.parse_args()
    measured = json.loads(MEASURED.read_text())["cell_by_cell"]["simulated_with"]
    options = {"cell_rows": given.cell_rows, "row_bytes": given.row_bytes, "isotropic": given.isotropic}
    print(table([simulate(n, workers, measured, **options) for n in ROWS for workers in WORKERS]))


if __name__ == "__main__":
    main()
