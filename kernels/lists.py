"""Lists of nearest neighbours, and the distances that decide what enters them."""

from typing import Any

import numpy as np

from .arrays import read_only
from .distance import squared_angle, squared_distance
from .jit import SUMS, driver, kernel, step
from .sharing import parallel_for

__all__ = ["LONG", "SORTED", "WIDENED", "enter", "insert", "rank_candidates", "refine", "sorted_lists"]

# Survivors' distances are left early after so many features: no more than what `WIDENED` allows for; 64 take the same time.
_STRIDE = 128
# What a sum of at most 128 squares in single precision can lose or gain, in whatever order it is taken: as a factor, and by
# underflow, even where a processor takes numbers below 2^-126 for 0. Longer sums are corrected where they are taken.
WIDENED, _LOST_TO_UNDERFLOW = np.float32(1 + 2.0**-16), 128 * 2.0**-126
# Lists of more entries are long: they ascend only at the end, and begin with a radius (`radii`). Gaussian 5,000 x 128 takes the
# same time so at 20, 0.85 of it at 40, 0.6 at 90 and 0.5 at 200.
LONG = 24
# So many entries of them are sorted at a time, with 40 bytes for each; 2^12 to 2^16 take the same time.
SORTED = 1 << 14
# Sums of squares in single precision may overflow only beyond this.
_LARGE = 2.0**126


@step(fastmath=SUMS)
def _in_single(a: Any, b: Any) -> float:
    """Of two rows, or two sketches, in their precision."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@step(counted=False)
def insert(squared: Any, index: Any, distance: float, neighbour: int) -> None:
    """Insert into an ascending list, ties by the lower number; the last entry falls out."""
    position = squared.shape[0] - 1
    if distance > squared[position] or (distance == squared[position] and neighbour > index[position]):
        return
    while position > 0 and (
        squared[position - 1] > distance or (squared[position - 1] == distance and index[position - 1] > neighbour)
    ):
        squared[position], index[position] = squared[position - 1], index[position - 1]
        position -= 1
    squared[position], index[position] = distance, neighbour


@step(counted=False)
def _beyond(squared: Any, index: Any, a: int, b: int) -> bool:
    """Whether entry a comes after entry b."""
    return squared[a] > squared[b] or (squared[a] == squared[b] and index[a] > index[b])


@step(counted=False)
def _sift(squared: Any, index: Any, h: int, distance: float, neighbour: int) -> None:
    """Put an entry in place of node h of a heap, whose root is the last entry of a list and whose last node is the first."""
    last = squared.shape[0] - 1
    place = last - h
    while 2 * h + 1 <= last:
        h = 2 * h + 1
        child = last - h
        if h < last and _beyond(squared, index, child - 1, child):
            child, h = child - 1, h + 1
        if distance > squared[child] or (distance == squared[child] and neighbour > index[child]):
            break
        squared[place], index[place] = squared[child], index[child]
        place = child
    squared[place], index[place] = distance, neighbour


@step(counted=False)
def enter(squared: Any, index: Any, distance: float, neighbour: int, count: int) -> int:
    """Enter a neighbour in a list of k, whose last entry falls out if it is full; ties by the lower number.

    Short lists ascend. Entries of a long one would have to be moved too often: they come one after the other, and when it is
    full it becomes a heap, whose root, the farthest, is the last; it ascends when it has been through `sorted_lists`.

    Returns
    -------
    int
        How many entries there are now, if `count` were there.
    """
    last = squared.shape[0] - 1
    if last < LONG:
        insert(squared, index, distance, neighbour)
    elif count <= last:
        squared[count], index[count] = distance, neighbour
        if count == last:
            for h in range((last - 1) >> 1, -1, -1):
                _sift(squared, index, h, squared[last - h], index[last - h])
    elif distance < squared[last] or (distance == squared[last] and neighbour < index[last]):
        _sift(squared, index, 0, distance, neighbour)
    return count + 1 if count <= last else count


def sorted_lists(squared: Any, index: Any) -> Any:
    """Lists (q, k) that `enter` has filled, ascending, ties by the lower number."""
    k = squared.shape[1]
    if k > LONG:
        rows = max(1, SORTED // k)
        for begin in range(0, len(squared), rows):
            _sort_lists(squared[begin : begin + rows], index[begin : begin + rows])
    return squared, index


def _sort_lists(squared: Any, index: Any) -> None:
    order = np.argsort(squared, axis=1)
    by_distance = np.take_along_axis(squared, order, 1)
    tied = (by_distance[:, 1:] == by_distance[:, :-1]).any(1)
    if tied.any():
        order[tied] = np.lexsort((index[tied], squared[tied]), axis=1)
    squared[:], index[:] = by_distance, np.take_along_axis(index, order, 1)


@step(counted=False)
def refine(a: Any, b: Any, threshold: float) -> float:
    """The squared distance, or infinity if it is seen on the way to exceed the threshold."""
    d = a.shape[0]
    limit = threshold * np.float64(WIDENED) + _LOST_TO_UNDERFLOW if threshold < _LARGE else np.inf
    so_far = 0.0
    for j in range(0, d if limit < np.inf else 0, _STRIDE):
        so_far += _in_single(a[j : j + _STRIDE], b[j : j + _STRIDE])
        if so_far > limit:
            return np.inf
    return squared_distance(a, b)


@kernel()
def _rank_candidates(
    begin: int, end: int, rows: Any, lengths: Any, queries: Any, query_lengths: Any, excluded: Any, candidates: Any,
    angular: bool, squared: Any, index: Any,
) -> None:  # fmt: skip
    for i in range(begin, end):
        its_squared, its_index, query, its_candidates = squared[i], index[i], queries[i], candidates[i]
        count = np.int64(0)
        for j in range(its_candidates.shape[0]):
            candidate = its_candidates[j]
            if candidate < 0 or candidate == excluded[i]:
                continue
            if angular:
                distance = squared_angle(query, rows[candidate], query_lengths[i], lengths[candidate])
            else:
                distance = squared_distance(query, rows[candidate])
            count = enter(its_squared, its_index, distance, candidate, count)


@driver(_rank_candidates)
def rank_candidates(
    rows: Any, lengths: Any, queries: Any, query_lengths: Any, excluded: Any, candidates: Any, k: int, angular: bool
) -> Any:
    """Keep the k nearest of some candidates, by distances in double precision, ties by the lower row number.

    Parameters
    ----------
    rows : (n, d), queries : (q, d)
        float32 or float64, C-contiguous.
    lengths, query_lengths : (n,), (q,) float64
        For angles, from `squared_lengths`.
    excluded : (q,) int64
        The row that is left out, -1 for none.
    candidates : (q, c) int64
        Row numbers without repetition; negative ones are no candidates.

    Returns
    -------
    squared : (q, k) float64
        Infinity where there are fewer.
    index : (q, k) int64
    """
    q = len(queries)
    squared, index = np.full((q, k), np.inf), np.full((q, k), len(rows), np.int64)
    rows, queries, candidates = read_only(rows), read_only(queries), np.ascontiguousarray(candidates, np.int64)
    parallel_for(_rank_candidates, q, rows, lengths, queries, query_lengths, excluded, candidates, angular, squared, index)
    return sorted_lists(squared, index)
