"""Points cut into tiles of `TILE`, again and again at the widest variance: the leaves of a k-d tree."""

from typing import Any

import numpy as np

from .jit import driver, kernel, step
from .selection import select

__all__ = ["TILE", "cut_into_tiles"]

# Points in a tile: a constant, so that loops over a tile vectorise without a remainder.
TILE = 128

# The variances that decide where to cut need no more rows.
_VARIANCE_ROWS = 4096


@step()
def _sort(numbers: Any) -> None:
    """By insertion, for the few of a tile."""
    for i in range(1, numbers.shape[0]):
        number, place = numbers[i], i
        while place > 0 and numbers[place - 1] > number:
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number


@kernel()
def _cut_into_tiles(sketch: Any, order: Any, keys: Any, sums: Any, squares: Any, stack: Any) -> None:
    n, depth = order.shape[0], 1
    while depth > 0:
        depth -= 1
        first, last = stack[depth, 0], stack[depth, 1]
        begin, end = first * TILE, last * TILE if last * TILE < n else n
        if last - first == 1:
            _sort(order[begin:end])
            continue
        middle = (first + last) // 2
        column = _widest(sketch, order[begin:end], sums, squares)
        for i in range(begin, end):
            keys[i] = sketch[order[i], column]
        select(keys[begin:end], order[begin:end], middle * TILE - begin)
        stack[depth, 0], stack[depth, 1] = first, middle
        stack[depth + 1, 0], stack[depth + 1, 1] = middle, last
        depth += 2


@driver(_cut_into_tiles)
def cut_into_tiles(sketch: Any) -> Any:
    """Row numbers (n,) int64 tile by tile, ascending within each; near tiles lie side by side.

    Parameters
    ----------
    sketch : (n, m) float32
    """
    n, m = sketch.shape
    order = np.arange(n)
    # What is still to be cut, from tile to tile. Depth first, so the stack is no deeper than the tree.
    stack = np.empty((2 * 64, 2), np.int64)
    stack[0] = 0, -(-n // TILE)
    _cut_into_tiles(sketch, order, np.empty(n, np.float32), np.empty(m), np.empty(m), stack)
    return order


@step()
def _widest(sketch: Any, rows: Any, sums: Any, squares: Any) -> int:
    """The column with the largest variance, in a sample of the rows where they are many."""
    m, n = sums.shape[0], rows.shape[0]
    stride, first = 1 + n // _VARIANCE_ROWS, sketch[rows[0]]
    sums[:], squares[:] = 0.0, 0.0
    for i in range(0, n, stride):
        row = sketch[rows[i]]
        for j in range(m):
            value = np.float64(row[j]) - first[j]
            sums[j] += value
            squares[j] += value * value
    n_sampled = (n + stride - 1) // stride
    best, widest = 0, -1.0
    for j in range(m):
        variance = squares[j] - sums[j] * sums[j] / n_sampled
        if variance > widest:
            best, widest = j, variance
    return best
