"""Bounds from box to box, and from the points of a tile to a box."""

from typing import Any

import numpy as np

from .jit import FUSED, step
from .tree import TILE

__all__ = ["NEAREST_TILES", "box_to_box", "largest", "points_to_box"]

# A query tile goes through so many tiles in the order of their distances, which fill its lists, then through the others. Of
# 1,250 tiles, 1 takes 8 % longer; 6, 96 and all of 400 take the same, but sorting takes the square of their number.
NEAREST_TILES = 24


@step(counted=False)
def _kept(m: int) -> float:
    """What is certain of a sum of m squares in single precision, taken one after another: rounding may add as much to each."""
    return np.float32(1 - (m + 8) * 2.0**-23)


@step(fastmath=FUSED)
def points_to_box(tile: Any, lower: Any, upper: Any, squared: Any) -> None:
    zero = np.float32(0)
    squared[:] = zero
    for j in range(lower.shape[0]):
        low, high = lower[j], upper[j]
        column = tile[j * TILE : (j + 1) * TILE]
        for t in range(TILE):
            below, above = low - column[t], column[t] - high
            gap = below if below > above else above
            gap = gap if gap > zero else zero
            squared[t] += gap * gap
    kept = _kept(lower.shape[0])
    for t in range(TILE):
        squared[t] *= kept


@step(fastmath=FUSED)
def box_to_box(lower: Any, upper: Any, low: Any, high: Any) -> float:
    squared = zero = np.float32(0)
    for j in range(lower.shape[0]):
        below, above = lower[j] - high[j], low[j] - upper[j]
        gap = below if below > above else above
        gap = gap if gap > zero else zero
        squared += gap * gap
    return squared * _kept(lower.shape[0])


@step(counted=False)
def largest(values: Any) -> float:
    largest = values[0]
    for i in range(1, values.shape[0]):
        largest = values[i] if values[i] > largest else largest
    return largest
