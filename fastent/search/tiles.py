"""How points lie in tiles: their order, and boxes around what is in a tile."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.kernels.points import Boxes
from fastent.kernels.tree import TILE, cut_into_tiles
from fastent.runtime.threads import in_parallel

__all__ = ["boxes_around", "classes_of_tiles", "keeps_classes_apart", "padded", "starts", "tile_order", "tile_order_by_class"]

Array = NDArray[Any]

_BLOCK_TILES = 64
# Rows of a class on average from which on classes are cut into tiles by themselves: of fewer, many tiles would not be full.
_ROWS_OF_CLASS = 1 << 11


def keeps_classes_apart(n: int, n_classes: int) -> bool:
    """Whether an index that serves lists of a class only cuts its n rows into tiles class by class."""
    return n >= _ROWS_OF_CLASS * n_classes


def starts(n: int, width: int = TILE) -> NDArray[np.int64]:
    """Where each of the tiles of n points begins, and n."""
    return np.append(np.arange(0, n, width), n)


def tile_order(sketch: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Row numbers (n,) tile by tile, ascending within each; near tiles lie side by side. And the sketches in that order.

    Where all points of several tiles have one sketch, they ascend through these too: the first holds the lowest numbers.
    """
    order: NDArray[np.int64] = cut_into_tiles(sketch)
    in_order, start = sketch[order], starts(len(order))
    firsts, counts = np.unique(_twins(in_order, start), return_counts=True)
    for first, count in zip(firsts[counts > 1], counts[counts > 1], strict=True):
        order[start[first] : start[first + count]].sort()  # which leaves the sketches as they are
    return order, in_order


def tile_order_by_class(
    sketch: NDArray[np.float32], classes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """The same class by class (n,), so that no tile holds points of two. And where each tile begins: not all are full."""
    orders, firsts = [], [np.zeros(1, np.int64)]
    by_class = np.argsort(classes, kind="stable")
    for rows in np.split(by_class, np.flatnonzero(np.diff(classes[by_class])) + 1):
        orders.append(rows[tile_order(sketch[rows])[0]])
        firsts.append(firsts[-1][-1] + starts(len(rows))[1:])
    order = np.concatenate(orders)
    return order, sketch[order], np.concatenate(firsts)


def _twins(sketch: Array, start: Array) -> NDArray[np.int64]:
    """Of each tile: the first of the run of tiles all of whose points have one sketch; else itself."""
    n_tiles = len(start) - 1
    lower, upper = np.minimum.reduceat(sketch, start[:-1]), np.maximum.reduceat(sketch, start[:-1])
    one = (lower == upper).all(1)
    begins = np.ones(n_tiles, bool)
    begins[1:] = ~(one[1:] & one[:-1] & (lower[1:] == lower[:-1]).all(1))
    first: NDArray[np.int64] = np.maximum.accumulate(np.where(begins, np.arange(n_tiles), 0))
    return first


def padded(start: NDArray[np.int64]) -> NDArray[np.int64]:
    """(tiles, TILE): the places of the points of each tile, the last one again and again where it is not full."""
    places: NDArray[np.int64] = np.minimum(start[:-1, None] + np.arange(TILE), start[1:, None] - 1)
    return places


def boxes_around(
    sketch: NDArray[np.float32], start: NDArray[np.int64], classes: NDArray[np.int64], sketch_error: float
) -> Boxes:
    """From sketches (n, m) and classes (n,) in tile order; a sketch may be off by a share of its norm."""
    n_tiles, m = len(start) - 1, sketch.shape[1]
    tiled = np.empty((n_tiles, m * TILE), np.float32)
    lower, upper = np.empty((n_tiles, m), np.float32), np.empty((n_tiles, m), np.float32)
    error, places = np.empty(n_tiles, np.float32), padded(start)

    def lay_out(begin: int) -> None:
        here = slice(begin, begin + _BLOCK_TILES)
        points = sketch[places[here]]
        norms = np.einsum("tij,tij->ti", points, points, dtype=np.float64)
        error[here] = np.sqrt(norms.max(1)) * sketch_error
        tiled[here] = points.transpose(0, 2, 1).reshape(len(points), -1)
        lower[here] = points.min(1) - error[here, None]
        upper[here] = points.max(1) + error[here, None]

    in_parallel(lay_out, range(0, n_tiles, _BLOCK_TILES))
    return Boxes(start, tiled, lower, upper, error, classes_of_tiles(classes, start), _twins(sketch, start))


def classes_of_tiles(classes: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of all points of a tile, -1 where they have several; classes (n,) in tile order."""
    lowest, highest = np.minimum.reduceat(classes, start[:-1]), np.maximum.reduceat(classes, start[:-1])
    of_tiles: NDArray[np.int64] = np.where(lowest == highest, lowest, -1)
    return of_tiles
