"""The time and memory of neighbours, mixing and margins of points in a file, in a separate process.

python bench/million.py X.npy y.npy
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import fastent as fe
from fastent.search.index_costs import index_bytes


def resident(field: str) -> int:
    """`field` is "VmRSS" for the current memory or "VmHWM" for its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    X, y = np.load(sys.argv[1]), np.load(sys.argv[2])
    fe.margins(X[:10_000], y[:10_000])  # the kernels, compiled or from the cache
    fe.mixing(fe.neighbors(X[:10_000]), y[:10_000])
    Path("/proc/self/clear_refs").write_text("5")  # the most from here on
    before, started = resident("VmRSS"), time.perf_counter()
    near = fe.neighbors(X)
    searched = time.perf_counter()
    after = resident("VmHWM")
    mixing = fe.mixing(near, y)
    mixed = time.perf_counter()
    margins = fe.margins(X, y)
    print(
        json.dumps(
            {
                "neighbors_s": searched - started,
                "mixing_s": mixed - searched,
                "margins_s": time.perf_counter() - mixed,
                "overlap": mixing.overlap,
                "n3": margins.n3,
                "pairs_scanned": near.work.scanned / len(X) ** 2,
                "neighbors_bytes": after - before,
                "formula_bytes": index_bytes(X, len(X), 10),
                "peak_bytes": resident("VmHWM"),
                "X_bytes": X.nbytes,
            }
        )
    )


if __name__ == "__main__":
    main()
