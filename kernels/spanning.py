"""What Boruvka's rounds do for every point."""

from typing import Any

import numpy as np

from .jit import driver, kernel, step
from .sharing import parallel_for

__all__ = ["nearest_outside", "shortest_edges"]


@kernel()
def _nearest_outside(begin: int, end: int, near: Any, near_index: Any, component: Any, squared: Any, other: Any) -> None:
    n, k = near_index.shape
    for i in range(begin, end):
        if other[i] < n and component[other[i]] != component[i]:
            continue
        j = 0
        while j < k and component[near_index[i, j]] == component[i]:
            j += 1
        squared[i], other[i] = (near[i, j], near_index[i, j]) if j < k else (np.inf, n)


@driver(_nearest_outside)
def nearest_outside(near: Any, near_index: Any, component: Any, squared: Any, other: Any) -> None:
    """Where a point's nearest in another component has come into its own, take the next one in its list.

    Parameters
    ----------
    near, near_index : (n, k) float64, int64
        Lists of nearest neighbours.
    component : (n,) int64
    squared, other : (n,) float64, int64
        Overwritten; infinite and n where the list has none.
    """
    parallel_for(_nearest_outside, len(near), near, near_index, component, squared, other)


@step()
def _lower(a: int, b: int) -> int:
    return a if a < b else b


@kernel()
def _shortest_edges(component: Any, squared: Any, other: Any, chosen: Any) -> None:
    n = component.shape[0]
    for i in range(n):
        if other[i] == n:
            continue
        c = component[i]
        best = chosen[c]
        if best == n or squared[i] < squared[best]:
            chosen[c] = i
        elif squared[i] == squared[best]:
            # Where the lower numbers are equal, the sums compare the higher ones.
            low, its_low = _lower(i, other[i]), _lower(best, other[best])
            if low < its_low or (low == its_low and i + other[i] < best + other[best]):
                chosen[c] = i


@driver(_shortest_edges)
def shortest_edges(component: Any, n_components: int, squared: Any, other: Any) -> Any:
    """The point of each component that holds its shortest edge, n where none does; of one length that with lower numbers."""
    chosen = np.full(n_components, len(component), np.int64)
    _shortest_edges(component, squared, other, chosen)
    return chosen
