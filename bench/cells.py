"""Neighbours, hits and misses of all rows of a large file, cell by cell: time, memory, scratch; and what a simulation needs.

python -m bench.cells FOLDER [--rows 10000000] [--memory 2GiB] [--in-memory 1000000]

FOLDER holds X.npy and y.npy, written as by `bench.out_of_core` if they are not there yet. A process of its own measures the
first rows in memory, another all rows within the memory. Results: bench/results/cells.json, which `bench.simulate_cluster` reads.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.revision import revision

RESULTS = Path(__file__).parent / "results" / "cells.json"
METRICS = ["mixing", "margins"]


def measure(folder: Path, n: int, memory: str | None) -> None:
    """In a separate process."""
    import fastent as fe
    from bench.memory import anonymous_bytes, watched

    X, y = fe.ArraySource(np.load(folder / "X.npy", mmap_mode="r")[:n]), np.load(folder / "y.npy")[:n]
    fe.measure(fe.ArraySource(X[:20_000]), y[:20_000], metrics=METRICS, memory_budget="40MiB")  # imports, kernels
    tasks = [] if memory is None else _recorded()
    before, started, processor = anonymous_bytes(), time.perf_counter(), time.process_time()
    said: list[tuple[float, str]] = []
    with watched() as peak:
        found = fe.measure(
            X, y, metrics=METRICS, memory_budget=memory,
            progress=lambda done, total, message: said.append((time.perf_counter() - started, message)),
        )  # fmt: skip
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {
        "rows": n, "features": X.shape[1], "dtype": str(X.dtype), "memory": memory, "seconds": seconds,
        "processor_seconds": time.process_time() - processor, "anonymous_bytes": peak.bytes - before,
        "stages": [stage._asdict() for stage in found.stages], "statistics": found.summary(),
        "said": [each for each in said if memory is not None][:: max(1, len(said) // 20)],
    }  # fmt: skip
    if tasks:
        result["simulated_with"] = _for_simulation(n, tasks, said)
    print(json.dumps(result))


def _recorded() -> list[dict[str, float]]:
    """Filled with what each group of queries took, while a search goes on."""
    from fastent.search.cells.stages import Stages

    tasks: list[dict[str, float]] = []
    carried_out = Stages._carried_out

    def timed(self, stage, groups, ask):
        began = time.perf_counter()
        for group, found in carried_out(self, stage, groups, ask):
            queries = len(next(array for name, array in found.items() if name.startswith("squared")))
            tasks.append(
                {
                    "visit": stage == "visit", "cell": group[0], "rows": self._rows.size(group[0]), "queries": queries,
                    "seconds": time.perf_counter() - began, "visited": len(found.get("visited", ())),
                }
            )  # fmt: skip
            yield group, found
            began = time.perf_counter()

    Stages._carried_out = timed
    return tasks


def _for_simulation(n: int, tasks: list[dict[str, float]], said: list[tuple[float, str]]) -> dict[str, float]:
    """Seconds of one thread, if both were busy."""
    from fastent.runtime.threads import working_threads

    own, visits = ([task for task in tasks if task["visit"] == which] for which in (False, True))
    cells = len(own)
    sizes = np.array([task["rows"] for task in own])
    arrivals = np.zeros(1 + max(int(task["cell"]) for task in tasks))
    for task in visits:
        arrivals[int(task["cell"])] += task["queries"]
    threads = working_threads()
    return {
        "cells": cells,
        "cell_rows": float(sizes.mean()),
        "cell_spread": float(sizes.std() / sizes.mean()),
        "visits_a_doubling": float(arrivals.sum() / n / np.log2(cells)),
        "visited_by_any": sum(task["visited"] for task in own) / cells / (arrivals.sum() / n),
        "visit_spread": float(np.std(np.log(np.maximum(arrivals, 1)))),
        "deal_seconds_a_row": threads * next(t for t, message in reversed(said) if message.startswith("rows")) / n,
        "own_seconds_a_row": threads * sum(task["seconds"] for task in own) / n,
        "visit_seconds": threads * sum(task["seconds"] for task in visits) / max(1.0, arrivals.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--in-memory", type=int, default=1_000_000)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here is not None:
        measure(given.folder, given.here, given.memory if given.here == given.rows else None)
        return
    if not (given.folder / "X.npy").exists():
        from bench.out_of_core import write

        write(given.folder, given.rows)
    found: dict[str, Any] = {"commit": revision(), "threads": 2}
    for name, n in (("in_memory", given.in_memory), ("cell_by_cell", given.rows)):
        command = [sys.executable, "-m", "bench.cells", str(given.folder), "--rows", str(given.rows), "--memory", given.memory]
        printed = subprocess.run([*command, "--here", str(n)], check=True, stdout=subprocess.PIPE, text=True).stdout
        found[name] = json.loads(printed)
    small, large = found["in_memory"], found["cell_by_cell"]
    found["time_over_that_of_as_many_rows_in_memory"] = large["seconds"] / small["seconds"] * small["rows"] / large["rows"]
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "cell_by_cell"}, indent=2))


if __name__ == "__main__":
    main()
