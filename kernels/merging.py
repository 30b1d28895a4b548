"""Lists of neighbours among some rows, joined with lists among others."""

from typing import Any

import numpy as np

from .arrays import read_only
from .jit import driver, kernel
from .sharing import parallel_for

__all__ = ["merge_lists"]


@kernel()
def _merge_lists(begin: int, end: int, squared: Any, index: Any, more_squared: Any, more_index: Any) -> None:
    k = squared.shape[1]
    old_squared, old_index = np.empty(k), np.empty(k, np.int64)
    for i in range(begin, end):
        its_squared, its_index, other_squared, other_index = squared[i], index[i], more_squared[i], more_index[i]
        last = k - 1
        if other_squared[0] > its_squared[last] or other_squared[0] == np.inf:
            continue
        for j in range(k):
            old_squared[j], old_index[j] = its_squared[j], its_index[j]
        a, b = np.int64(0), np.int64(0)
        for j in range(k):
            nearer = old_squared[a] < other_squared[b]
            level = old_squared[a] == other_squared[b] and old_index[a] < other_index[b]
            if nearer or level:
                its_squared[j], its_index[j] = old_squared[a], old_index[a]
                a += 1
            else:
                its_squared[j], its_index[j] = other_squared[b], other_index[b]
                b += 1


@driver(_merge_lists)
def merge_lists(squared: Any, index: Any, more_squared: Any, more_index: Any) -> None:
    """Enter what some queries found among other rows in their lists.

    Parameters
    ----------
    squared : (q, k) float64
        Ascending, ties by the lower number; infinite where there are fewer. Overwritten, as is `index`.
    index : (q, k) int64
    more_squared, more_index : the same, of other rows
    """
    parallel_for(_merge_lists, len(squared), squared, index, read_only(more_squared), read_only(more_index))
