"""Points in tiles."""

import numpy as np
import pytest
from fastent.kernels.tree import TILE

from fastent.search.tiles import boxes_around, padded, starts, tile_order, tile_order_by_class


def cut(sketch, rows):
    """Halve at the widest variance, at a multiple of the size of a tile."""
    tiles = -(-len(rows) // TILE)
    if tiles == 1:
        return [np.sort(rows)]
    by_widest = rows[np.argsort(sketch[rows, sketch[rows].astype(np.float64).var(0).argmax()])]
    middle = tiles // 2 * TILE
    return cut(sketch, by_widest[:middle]) + cut(sketch, by_widest[middle:])


@pytest.mark.parametrize("n", [1, 127, 128, 129, 1000, 3000])
def test_tiles_are_cut_at_the_widest_variance(n):
    sketch = np.random.default_rng(n).standard_normal((n, 5)).astype(np.float32) * np.float32([1, 5, 1, 2, 3])
    order, in_order = tile_order(sketch)
    np.testing.assert_array_equal(order, np.concatenate(cut(sketch, np.arange(n))))
    np.testing.assert_array_equal(in_order, sketch[order])


def test_equal_points_ascend_through_tiles():
    """So that the first tile of equal points holds the neighbours of all, whatever cutting did to their order."""
    rng = np.random.default_rng(0)
    sketch = np.repeat(rng.standard_normal((3, 4)).astype(np.float32), [700, 100, 900], axis=0)[rng.permutation(1700)]
    order, in_order = tile_order(sketch)
    np.testing.assert_array_equal(in_order, sketch[order])
    boxes = boxes_around(in_order, starts(1700), np.zeros(1700, np.int64), 0.0)
    assert sorted(order) == list(range(1700))
    for first in np.unique(boxes.twin):
        run = np.flatnonzero(boxes.twin == first)
        rows = order[run[0] * TILE : (run[-1] + 1) * TILE]
        assert (np.diff(rows) > 0).all()
        assert len(run) == 1 or (sketch[rows] == sketch[rows[0]]).all()
    assert (np.bincount(boxes.twin) > 3).sum() == 2


def test_boxes_hold_their_points():
    rng = np.random.default_rng(0)
    sketch, start = rng.standard_normal((300, 6)).astype(np.float32), np.array([0, 100, 228, 300])
    codes = np.repeat([4, 7], [100, 200])
    boxes = boxes_around(sketch, start, codes, 2.0**-10)
    assert boxes.classes.tolist() == [4, 7, 7]
    for tile, (first, last) in enumerate(zip(start[:-1], start[1:], strict=True)):
        error = np.sqrt((sketch[first:last] ** 2).sum(1).max()) * 2.0**-10
        np.testing.assert_allclose(boxes.lower[tile], sketch[first:last].min(0) - error, rtol=1e-6)
        np.testing.assert_allclose(boxes.upper[tile], sketch[first:last].max(0) + error, rtol=1e-6)
        np.testing.assert_array_equal(boxes.tiled[tile].reshape(6, TILE).T, sketch[padded(start)[tile]])


def test_tiles_of_classes_hold_points_of_one_class_each():
    rng = np.random.default_rng(0)
    sketch, classes = rng.standard_normal((1500, 4)).astype(np.float32), rng.choice([0, 0, 0, 2, 5], 1500)
    order, tiled, start = tile_order_by_class(sketch, classes)
    np.testing.assert_array_equal(np.sort(order), np.arange(1500))
    np.testing.assert_array_equal(tiled, sketch[order])
    assert start[0] == 0
    assert start[-1] == 1500
    assert (np.diff(start) <= TILE).all()
    boxes = boxes_around(tiled, start, classes[order], 0.0)
    assert (boxes.classes >= 0).all()
    for each in (0, 2, 5):
        rows = np.flatnonzero(classes == each)
        np.testing.assert_array_equal(order[classes[order] == each], rows[tile_order(sketch[rows])[0]])
