"""Mixing and margins of five million points on disk within 1 GiB; a subset is bit-identical to the result in memory.

FASTENT_DATA=DIR python -m bench.out_of_core FOLDER [--rows 5000000] [--queries 50000]

The points are the last hidden layer of a trained network on augmented MNIST; they are written to FOLDER if they are not there
yet. Results: bench/results/out-of-core.json.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.revision import revision

RESULTS = Path(__file__).parent / "results" / "out-of-core.json"
CUT, MEMORY = 200_000, "1GiB"
METRICS = ["mixing", "margins"]


def write(folder: Path, n: int) -> None:
    from bench.activations import WIDTHS, augmented_blocks

    folder.mkdir(parents=True, exist_ok=True)
    X = np.lib.format.open_memmap(folder / "X.tmp", "w+", np.float16, (n, WIDTHS[3]))
    y = np.empty(n, np.int64)
    for begin, rows, labels in augmented_blocks("trained", n):
        X[begin : begin + len(rows)], y[begin : begin + len(rows)] = rows, labels
    X.flush()
    np.save(folder / "y.npy", y)
    (folder / "X.tmp").rename(folder / "X.npy")


def measure(folder: Path, queries: int) -> None:
    """In a separate process."""
    import fastent as fe
    from bench.memory import anonymous_bytes, watched

    X, y = fe.open(folder / "X.npy"), np.load(folder / "y.npy")
    fe.measure(fe.ArraySource(X[:20_000]), y[:20_000], metrics=METRICS, queries=1000)  # imports, kernels from the cache
    before, started = anonymous_bytes(), time.perf_counter()
    with watched() as peak:
        found = fe.measure(X, y, metrics=METRICS, queries=queries, memory_budget=MEMORY)
    seconds = time.perf_counter() - started
    half = fe.measure(fe.ArraySource(X[:CUT]), y[:CUT], metrics=METRICS, queries=queries, memory_budget="150MiB")
    whole = fe.measure(X[:CUT], y[:CUT], metrics=METRICS, queries=queries)
    same = half.summary() == whole.summary() and half.per_point().equals(whole.per_point())
    print(
        json.dumps(
            {
                "rows": len(X), "features": X.shape[1], "dtype": str(X.dtype), "queries": queries, "memory": MEMORY,
                "seconds": seconds, "rows_per_second": len(X) / seconds,
                "anonymous_bytes_before": before, "anonymous_bytes_peak": peak.bytes,
                "intervals": {name: list(estimate) for name, estimate in found.intervals().items()},
                "stages": [stage._asdict() for stage in found.stages],
                "cut": CUT, "cut_in_memory_is_the_same_to_the_bit": same,
            }
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        measure(given.folder, given.queries)
        return
    if not (given.folder / "X.npy").exists():
        write(given.folder, given.rows)
    command = [sys.executable, "-m", "bench.out_of_core", str(given.folder), "--queries", str(given.queries), "--here"]
    found = {"commit": revision()} | json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
