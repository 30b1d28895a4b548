"""Which points S networks misclassify, where most are known to be classified as they were when they were last looked at.

A point's margin, its own logit less the largest other, moves no further than the parameters allow. What it has left is held as
a level: as long as the movement of its network has not reached it, the point stays on its side and is not passed again.
"""

from typing import Any

import numpy as np
from numba import prange

from .exponential import tanh_of_strip
from .head import TANH
from .jit import FUSED, kernel, unowned
from .sparse import add_one_vector, add_three_vectors

__all__ = ["VECTOR", "judge"]

# Numbers in a vector of single precision: a network's units are padded to a multiple.
VECTOR = 8
# Points that one thread takes at a time.
_TILE = 256


@kernel()
def _rectify(values: Any) -> None:
    for i in range(values.shape[0]):
        values[i] = max(values[i], np.float32(0.0))


@kernel(fastmath=FUSED)
def _add_scaled(values: Any, factor: Any, total: Any) -> None:
    for i in range(total.shape[0]):
        total[i] += factor * values[i]


@kernel()
def _margin(scores: Any, stride: int, n_outputs: int, own: int) -> Any:
    """The point's own logit less the largest other, and whether it is lost: of equal logits the first counts."""
    score = scores[own * stride]
    margin, lost = np.inf, False
    for c in range(n_outputs):
        if c != own:
            other = scores[c * stride]
            margin = min(margin, np.float64(score) - np.float64(other))
            lost |= other > score or (other == score and c < own)
    return margin, lost


@kernel(parallel=True)
def judge(
    weight: Any,
    base: Any,
    head: Any,
    bias: Any,
    starts: Any,
    features: Any,
    values: Any,
    codes: Any,
    spans: Any,
    moved: Any,
    rounding: Any,
    activation: int,
    levels: Any,
    wrong: Any,
) -> None:
    """Pass the points whose level is reached, and write whether each is wrong and its new level.

    Parameters
    ----------
    weight : (S, d * W) float32
        Of each feature a row of W units, those beyond the network's zero; W is a multiple of VECTOR.
    base : (S, W)
        What the first layer gives a point without entries.
    head : (S, C, h), bias : (S, C)
    starts (n + 1,) int64, features (entries,) int32, values (entries,)
        Points by their entries, as in `sparse.times`.
    codes : (n,) int64
    spans : (n,) float64
        Norm of each point's entries.
    moved, rounding : (S, 2) float64
        Constant and slope of a line over the span: how far a margin may have moved since training began, and by how much one
        computed now may be off.
    activation : TANH or RELU
    levels : (S, n) float64
        How far a margin's movement may go; minus infinity for a point not passed yet. Written here.
    wrong : (S, n) bool
        Written here.
    """
    n_networks, width = base.shape
    n_outputs, n_units, n = head.shape[1], head.shape[2], levels.shape[1]
    n_tiles = (n + _TILE - 1) // _TILE
    for tile in prange(n_tiles):
        tables, own, entries = unowned(weight), unowned(features), unowned(values)
        for s in range(n_networks):
            table, start, level, lost = tables[s], unowned(base)[s], unowned(levels)[s], unowned(wrong)[s]
            factors, offsets = unowned(head)[s], unowned(bias)[s]
            reached = np.empty(_TILE, np.int64)
            count = 0
            for i in range(tile * _TILE, min((tile + 1) * _TILE, n)):
                now = moved[s, 0] + rounding[s, 0] + (moved[s, 1] + rounding[s, 1]) * spans[i]
                reached[count] = i
                count += not now < level[i]
            # Units of one point side by side while its entries pass, then points of one unit.
            row = np.empty(width, np.float32)
            units = np.empty(n_units * count, np.float32)
            for k in range(count):
                i = reached[k]
                for j in range(width):
                    row[j] = start[j]
                column = 0
                while column + 3 * VECTOR <= width:
                    add_three_vectors(row, table, width, column, own, entries, starts[i], starts[i + 1])
                    column += 3 * VECTOR
                while column < width:
                    add_one_vector(row, table, width, column, own, entries, starts[i], starts[i + 1])
                    column += VECTOR
                for j in range(n_units):
                    units[j * count + k] = row[j]
            if activation == TANH:
                tanh_of_strip(units)
            else:
                _rectify(units)
            scores = np.empty(n_outputs * count, np.float32)
            for c in range(n_outputs):
                scores[c * count : (c + 1) * count] = offsets[c]
                for j in range(n_units):
                    _add_scaled(units[j * count : (j + 1) * count], factors[c, j], scores[c * count : (c + 1) * count])
            for k in range(count):
                i = reached[k]
                margin, lost[i] = _margin(scores[k:], count, n_outputs, codes[i])
                level[i] = abs(margin) - rounding[s, 0] - rounding[s, 1] * spans[i] + moved[s, 0] + moved[s, 1] * spans[i]
