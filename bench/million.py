"""Neighbours, mixing and margins of points in a file, in a process of its own: what they take, and how much memory.

python bench/million.py X.npy y.npy
"""

import json
import resource
import sys
import time

import numpy as np

import fastent as fe
from fastent.exact import index_bytes


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    X, y = np.load(sys.argv[1]), np.load(sys.argv[2])
    fe.margins(X[:10_000], y[:10_000])  # the kernels, compiled or from the cache
    fe.mixing(fe.neighbors(X[:10_000]), y[:10_000])
    before, started = resident(), time.perf_counter()
    near = fe.neighbors(X)
    searched = time.perf_counter()
    after = resident()
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
                "peak_bytes": resident(),
                "X_bytes": X.nbytes,
            }
        )
    )


if __name__ == "__main__":
    main()
