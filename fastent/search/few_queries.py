"""A few rows compared with all others by SciPy, where that is faster than compiling and building a search."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEMORY", "are_few", "are_too_many", "distances_in_blocks"]

# What a search beside other work may take: an index, or blocks of pairs.
MEMORY = 512 << 20
# Up to so many multiplications, comparing all pairs takes less time than compiling the search that skips most of them.
_COMPARED = 2e9
# More than these take longer than ten seconds, on data that are then read from disk.
_MOST = 1e12


def are_few(queries: int, shape: tuple[int, ...]) -> bool:
    """Whether to compare so many rows with all of `shape`, (n, d), in pairs."""
    return float(queries) * shape[0] * shape[1] <= _COMPARED


def are_too_many(queries: int, shape: tuple[int, ...]) -> bool:
    """Whether the search takes longer than one would wait for beside other work."""
    return float(queries) * shape[0] * shape[1] > _MOST


def distances_in_blocks(rows: Any, queries: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Places among the queries (row numbers) and their distances (m, n) to all rows, infinite to themselves, in blocks."""
    from scipy.spatial.distance import cdist

    every = np.asarray(rows[:], np.float64)
    step = max(1, MEMORY // (32 * len(every)))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        apart = cdist(every[some], every)
        apart[np.arange(len(some)), some] = np.inf
        yield slice(start, start + len(some)), apart
