"""A k-d tree whose leaves are tiles of `TILE` points, over one group of points after the other."""

from typing import Any, NamedTuple

import numpy as np

from .jit import driver, kernel
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


@kernel()
def _cut_groups(groups: Any) -> Any:
    """The first tile of each group, and where each tile starts."""
    n_groups = len(groups) - 1
    first_tile = np.zeros(n_groups + 1, np.int64)
    for g in range(n_groups):
        first_tile[g + 1] = first_tile[g] + (groups[g + 1] - groups[g] + TILE - 1) // TILE
    start = np.empty(first_tile[n_groups] + 1, np.int64)
    for g in range(n_groups):
        for t in range(first_tile[g], first_tile[g + 1]):
            start[t] = groups[g] + (t - first_tile[g]) * TILE
    start[-1] = groups[-1]
    return first_tile, start


@kernel()
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
    n_groups, m = len(groups) - 1, sketch.shape[1]
    first_tile, start = _cut_groups(groups)
    n_tiles = first_tile[n_groups]
    n_nodes = 2 * n_tiles - 1
    left, right = np.full(n_nodes, -1, np.int32), np.full(n_nodes, -1, np.int32)
    tile, root = np.full(n_nodes, -1, np.int64), np.empty(n_groups, np.int64)
    keys = np.empty(len(order), np.float32)
    sums, squares = np.empty(m), np.empty(m)
    # A node to split: its number, its tiles and its groups. Depth first, so the stack is no deeper than the tree.
    stack = np.empty((2 * 64, 5), np.int64)
    stack[0] = (0, 0, n_tiles, 0, n_groups)
    depth, used = 1, 1
    while depth > 0:
        depth -= 1
        node, t0, t1, g0, g1 = stack[depth]
        if g1 - g0 == 1 and t0 == first_tile[g0] and t1 == first_tile[g1]:
            root[g0] = node
        if t1 - t0 == 1:
            tile[node] = t0
            order[start[t0] : start[t1]].sort()
            continue
        middle_group = g0
        if g1 - g0 > 1:
            middle_group = (g0 + g1) // 2
            middle = first_tile[middle_group]
        else:
            middle = (t0 + t1) // 2
            a, b = start[t0], start[t1]
            if m > 0:
                column = _widest(sketch, order[a:b], sums, squares)
                for i in range(a, b):
                    keys[i] = sketch[order[i], column]
                select(keys[a:b], order[a:b], start[middle] - a)
        left[node], right[node] = used, used + 1
        stack[depth] = (used, t0, middle, g0, middle_group if g1 - g0 > 1 else g1)
        stack[depth + 1] = (used + 1, middle, t1, middle_group, g1)
        depth, used = depth + 2, used + 2
    return left, right, tile, start, root


@kernel()
def _widest(sketch: Any, rows: Any, sums: Any, squares: Any) -> int:
    """The column with the largest variance, in a sample of the rows where they are many."""
    m, step = sketch.shape[1], 1 + len(rows) // _VARIANCE_ROWS
    sums[:], squares[:] = 0.0, 0.0
    for row in rows[::step]:
        for j in range(m):
            value = np.float64(sketch[row, j]) - sketch[rows[0], j]
            sums[j] += value
            squares[j] += value * value
    best, widest = 0, -1.0
    for j in range(m):
        variance = squares[j] - sums[j] * sums[j] / len(rows[::step])
        if variance > widest:
            best, widest = j, variance
    return best


@kernel()
def select(keys: Any, rows: Any, middle: int) -> None:
    """Order both by key as far as it takes to have the `middle` smallest in front (Hoare's selection)."""
    first, last = 0, len(keys) - 1
    while first < last:
        a, b, c = keys[first], keys[(first + last) // 2], keys[last]
        pivot = max(min(a, b), min(max(a, b), c))
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


@kernel()
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
        largest = 0.0
        for s in range(start[i], start[i + 1]):
            squared = 0.0
            for j in range(m):
                value = sketch[s, j]
                lower[i, j], upper[i, j] = min(lower[i, j], value), max(upper[i, j], value)
                squared += np.float64(value) * value
            largest = max(largest, squared)
        errors[i] = np.sqrt(largest) * sketch_error
        for j in range(m):
            centre[i, j] = 0.5 * (lower[i, j] + upper[i, j])
            lower[i, j] -= errors[i]
            upper[i, j] += errors[i]
        tile = tiled[i]
        for s in range(start[i], start[i + 1]):
            squared = 0.0
            for j in range(m):
                value = sketch[s, j] - centre[i, j]
                tile[j * TILE + s - start[i]] = value
                squared += np.float64(value) * value
            norms[i, s - start[i]] = squared * kept


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
        As in `search.TiledPoints`.
    """
    n_tiles, m = len(start) - 1, sketch.shape[1]
    tiled = np.zeros((n_tiles, m * TILE), np.float32)
    norms = np.full((n_tiles, TILE), np.nan, np.float32)
    lower, upper = np.full((n_tiles, m), np.inf, np.float32), np.full((n_tiles, m), -np.inf, np.float32)
    centre, errors = np.empty((n_tiles, m), np.float32), np.zeros(n_tiles, np.float32)
    parallel_for(_lay_out_tiles, n_tiles, sketch, start, sketch_error, tiled, norms, centre, lower, upper, errors)
    return tiled, norms, centre, lower, upper, errors


@kernel()
def bounding_boxes(left: Any, right: Any, tile: Any, lower: Any, upper: Any) -> Any:
    """Boxes (nodes, m) of all nodes from those of the tiles; children come after their parents."""
    n_nodes, m = len(left), lower.shape[1]
    low, high = np.empty((n_nodes, m), np.float32), np.empty((n_nodes, m), np.float32)
    for node in range(n_nodes - 1, -1, -1):
        if tile[node] >= 0:
            low[node], high[node] = lower[tile[node]], upper[tile[node]]
        else:
            low[node] = np.minimum(low[left[node]], low[right[node]])
            high[node] = np.maximum(high[left[node]], high[right[node]])
    return low, high
