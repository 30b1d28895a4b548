"""A k-d tree whose leaves are tiles of `TILE` points, over one group of points after the other."""

from typing import Any, NamedTuple

import numpy as np

from .jit import driver, kernel, step
from .sharing import parallel_for

__all__ = ["TILE", "Tree", "bounding_boxes", "build_tree", "kept_of_products", "lay_out_tiles", "select"]

# Points in a tile: a constant, so that loops over a tile vectorise without a remainder.
TILE = 128

# The variances that decide where to cut need no more rows.
_VARIANCE_ROWS = 4096


class Tree(NamedTuple):
    """Nodes are numbered from the root, 0, and before their children.

    left, right : (nodes,) int32
        Children; -1 at a leaf.
    tile : (nodes,) int64
        The tile of a leaf.
    lower, upper : (nodes, m) float32
        The box around the node's points in the sketch.
    """

    left: Any
    right: Any
    tile: Any
    lower: Any
    upper: Any


def _cut_groups(groups: Any) -> Any:
    """The first tile of each group, and where each tile starts."""
    tiles = -(-np.diff(groups) // TILE)
    first_tile = np.concatenate([[0], np.cumsum(tiles)])
    start = np.arange(first_tile[-1] + 1) * TILE + np.append(np.repeat(groups[:-1] - first_tile[:-1] * TILE, tiles), 0)
    start[-1] = groups[-1]
    return first_tile, start


@step()
def _sort(numbers: Any) -> None:
    """By insertion, for the few of a tile."""
    for i in range(1, numbers.shape[0]):
        number, place = numbers[i], i
        while place > 0 and numbers[place - 1] > number:
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number


@step()
def _push(stack: Any, depth: int, node: int, t0: int, t1: int, g0: int, g1: int) -> None:
    entry = stack[depth]
    entry[0], entry[1], entry[2], entry[3], entry[4] = node, t0, t1, g0, g1


@kernel()
def _build_tree(
    sketch: Any, order: Any, first_tile: Any, start: Any, left: Any, right: Any, tile: Any, root: Any, keys: Any, sums: Any,
    squares: Any, stack: Any,
) -> None:  # fmt: skip
    depth, used = np.int64(1), np.int64(1)
    while depth > 0:
        depth -= 1
        entry = stack[depth]
        node, t0, t1, g0, g1 = entry[0], entry[1], entry[2], entry[3], entry[4]
        if g1 - g0 == 1 and t0 == first_tile[g0] and t1 == first_tile[g1]:
            root[g0] = node
        if t1 - t0 == 1:
            tile[node] = t0
            _sort(order[start[t0] : start[t1]])
            continue
        if g1 - g0 > 1:
            middle_group = last_group = (g0 + g1) // 2
            middle = first_tile[middle_group]
        else:
            middle_group, last_group, middle = g0, g1, (t0 + t1) // 2
            a, b = start[t0], start[t1]
            if sums.shape[0] > 0:
                column = _widest(sketch, order[a:b], sums, squares)
                for i in range(a, b):
                    keys[i] = sketch[order[i], column]
                select(keys[a:b], order[a:b], start[middle] - a)
        left[node], right[node] = used, used + 1
        _push(stack, depth, used, t0, middle, g0, last_group)
        _push(stack, depth + 1, used + 1, middle, t1, middle_group, g1)
        depth, used = depth + 2, used + 2


@driver(_build_tree)
def build_tree(sketch: Any, order: Any, groups: Any) -> Any:
    """Cut points into tiles: between groups first, then at the widest variance of the sketch.

    Parameters
    ----------
    sketch : (n, m) float32
        With m = 0 the points stay in their order.
    order : (n,) int64
        Row numbers, group by group; sorted into tile order in place, within a tile by number.
    groups : (G + 1,) int64
        Where in `order` each group starts, none empty.

    Returns
    -------
    left, right : (nodes,) int32
    tile : (nodes,) int64
    start : (tiles + 1,) int64
        Where in `order` each tile starts.
    root : (G,) int64
        The node that holds exactly one group's tiles.
    """
    m = sketch.shape[1]
    first_tile, start = _cut_groups(groups)
    n_nodes = 2 * (len(start) - 1) - 1
    left, right = np.full(n_nodes, -1, np.int32), np.full(n_nodes, -1, np.int32)
    tile, root = np.full(n_nodes, -1, np.int64), np.empty(len(groups) - 1, np.int64)
    keys, sums, squares = np.empty(len(order), np.float32), np.empty(m), np.empty(m)
    # A node to split: its number, its tiles and its groups. Depth first, so the stack is no deeper than the tree.
    stack = np.empty((2 * 64, 5), np.int64)
    stack[0] = 0, 0, len(start) - 1, 0, len(groups) - 1
    _build_tree(sketch, order, first_tile, start, left, right, tile, root, keys, sums, squares, stack)
    return left, right, tile, start, root


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


@step()
def _middle_of_three(a: float, b: float, c: float) -> float:
    low, high = (a, b) if a < b else (b, a)
    return low if c < low else high if c > high else c


@step()
def select(keys: Any, rows: Any, middle: int) -> None:
    """Order both by key as far as it takes to have the `middle` smallest in front (Hoare's selection)."""
    first, last = 0, keys.shape[0] - 1
    while first < last:
        pivot = _middle_of_three(keys[first], keys[(first + last) // 2], keys[last])
        i, j = first, last
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                rows[i], rows[j] = rows[j], rows[i]
                i, j = i + 1, j - 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            return


@step()
def kept_of_products(m: int) -> float:
    """What is certain of two squared norms less a sum of m products, taken in single precision, as a share of the norms."""
    return 1 - (4 * m + 32) * 2.0**-24


@kernel()
def _lay_out_tiles(
    begin: int, end: int, sketch: Any, start: Any, sketch_error: float, tiled: Any, norms: Any, centre: Any, lower: Any,
    upper: Any, errors: Any,
) -> None:  # fmt: skip
    m = sketch.shape[1]
    kept = kept_of_products(m)
    for i in range(begin, end):
        first, last = start[i], start[i + 1]
        low, high, middle, tile, squares = lower[i], upper[i], centre[i], tiled[i], norms[i]
        largest = 0.0
        for s in range(first, last):
            row, squared = sketch[s], 0.0
            for j in range(m):
                value = row[j]
                low[j] = value if value < low[j] else low[j]
                high[j] = value if value > high[j] else high[j]
                squared += np.float64(value) * value
            largest = squared if squared > largest else largest
        error = np.float32(np.sqrt(largest) * sketch_error)
        errors[i] = error
        for j in range(m):
            middle[j] = 0.5 * (low[j] + high[j])
            low[j] -= error
            high[j] += error
        for s in range(first, last):
            row, squared = sketch[s], 0.0
            for j in range(m):
                value = row[j] - middle[j]
                tile[j * TILE + s - first] = value
                squared += np.float64(value) * value
            squares[s - first] = squared * kept


@driver(_lay_out_tiles)
def lay_out_tiles(sketch: Any, start: Any, sketch_error: float) -> Any:
    """Transpose sketches tile by tile, so that a loop over a tile's points runs over neighbouring memory.

    Parameters
    ----------
    sketch : (n, m) float32
        In tile order.
    start : (tiles + 1,) int64
    sketch_error : float
        How far a sketch may be from where exact arithmetic puts it, as a share of its norm.

    Returns
    -------
    tiled, norms, centre, lower, upper, sketch_error
        As in `search.Tiles`.
    """
    n_tiles, m = len(start) - 1, sketch.shape[1]
    tiled = np.zeros((n_tiles, m * TILE), np.float32)
    norms = np.full((n_tiles, TILE), np.nan, np.float32)
    lower, upper = np.full((n_tiles, m), np.inf, np.float32), np.full((n_tiles, m), -np.inf, np.float32)
    centre, errors = np.empty((n_tiles, m), np.float32), np.zeros(n_tiles, np.float32)
    parallel_for(_lay_out_tiles, n_tiles, sketch, start, sketch_error, tiled, norms, centre, lower, upper, errors)
    return tiled, norms, centre, lower, upper, errors


def bounding_boxes(left: Any, right: Any, tile: Any, lower: Any, upper: Any) -> Any:
    """Boxes (nodes, m) of all nodes from those of the tiles, a level of the tree at a time."""
    leaf = tile >= 0
    low, high = np.empty((len(left), lower.shape[1]), np.float32), np.empty((len(left), lower.shape[1]), np.float32)
    low[leaf], high[leaf] = lower[tile[leaf]], upper[tile[leaf]]
    levels, parents = [], np.flatnonzero(~leaf[:1])
    while len(parents):
        levels.append(parents)
        children = np.concatenate([left[parents], right[parents]])
        parents = children[~leaf[children]]
    for parents in reversed(levels):
        low[parents] = np.minimum(low[left[parents]], low[right[parents]])
        high[parents] = np.maximum(high[left[parents]], high[right[parents]])
    return low, high
