"""Which points S networks misclassify, where most are known to be classified as they were when they were last passed.

A point's margin, its own logit less the largest other, moves no further than the parameters allow. What it has left is held as
a level: as long as the movement of its network has not reached it, the point stays on its side and is not passed again.
"""

from typing import Any

import numpy as np

from .exponential import single_tanh_of_strip
from .head import TANH, add_scaled
from .jit import driver, kernel, step, unowned
from .sharing import parallel_for
from .sparse import VECTOR, add_one_vector, add_three_vectors

__all__ = ["LANES", "judge"]

# Numbers of single precision in a vector: a network's units are padded to a multiple.
LANES = VECTOR // 4
# Points that one thread takes at a time: their entries stay in the second cache while network after network passes.
_TILE = 256


@step()
def _rectify(values: Any) -> None:
    for i in range(values.shape[0]):
        values[i] = np.float32(0.0) if values[i] < np.float32(0.0) else values[i]


@step()
def _find_reached(spans: Any, constant: float, slope: float, level: Any, first: int, last: int, reached: Any) -> int:
    """Write which of the points first..last the line over their spans has reached; how many."""
    count = 0
    for i in range(first, last):
        reached[count] = i
        count += not constant + slope * spans[i] < level[i]
    return count


@step()
def _add_entries(row: Any, table: Any, features: Any, values: Any, first: int, last: int) -> None:
    """Add to a point's units the weights of its entries."""
    width, column = row.shape[0], 0
    while column + 3 * LANES <= width:
        add_three_vectors(row, table, width, column, features, values, first, last)
        column += 3 * LANES
    while column < width:
        add_one_vector(row, table, width, column, features, values, first, last)
        column += LANES


@step()
def _margin(scores: Any, n_outputs: int, stride: int, own: int) -> Any:
    """A point's own logit less the largest other, NaN where one is not finite; and whether it is lost, as in `head`."""
    score = scores[own * stride]
    margin, lost, finite = np.inf, False, np.isfinite(score)
    for c in range(n_outputs):
        if c != own:
            other = scores[c * stride]
            finite &= np.isfinite(other)
            difference = np.float64(score) - np.float64(other)
            margin = difference if difference < margin else margin
            lost |= other > score or (other == score and c < own)
    return margin if finite else np.nan, lost


@kernel()
def _judge(
    begin: int, end: int, network: Any, points: Any, moved: Any, rounding: Any, activation: int, levels: Any, wrong: Any
) -> None:
    weight, base, head, bias = network
    starts, features, values, codes, spans = points
    n_networks, width = base.shape
    n_outputs, n_units, n = head.shape[1], head.shape[2], levels.shape[1]
    tables, bases, heads, biases = unowned(weight), unowned(base), unowned(head), unowned(bias)
    all_levels, all_wrong, own, entries = unowned(levels), unowned(wrong), unowned(features), unowned(values)
    reached, row = np.empty(_TILE, np.int64), np.empty(width, np.float32)
    # The units of one point side by side while its entries pass, then the points of one unit.
    all_units, all_scores = np.empty(n_units * _TILE, np.float32), np.empty(n_outputs * _TILE, np.float32)
    for tile in range(begin, end):
        first = tile * _TILE
        last = first + _TILE if first + _TILE < n else n
        for s in range(n_networks):
            table, start, factors, offsets = tables[s], bases[s], heads[s], biases[s]
            level, lost, off = all_levels[s], all_wrong[s], rounding[s]
            constant, slope = moved[s, 0], moved[s, 1]
            count = _find_reached(spans, constant + off[0], slope + off[1], level, first, last, reached)
            if count == 0:
                continue
            units, scores = all_units[: n_units * count], all_scores[: n_outputs * count]
            for k in range(count):
                for j in range(width):
                    row[j] = start[j]
                _add_entries(row, table, own, entries, starts[reached[k]], starts[reached[k] + 1])
                for j in range(n_units):
                    units[j * count + k] = row[j]
            if activation == TANH:
                single_tanh_of_strip(units)
            else:
                _rectify(units)
            for c in range(n_outputs):
                of_class = scores[c * count : (c + 1) * count]
                of_class[:] = offsets[c]
                for j in range(n_units):
                    add_scaled(units[j * count : (j + 1) * count], factors[c, j], of_class)
            for k in range(count):
                i = reached[k]
                margin, lost[i] = _margin(scores[k:], n_outputs, count, codes[i])
                left = abs(margin) - (off[0] + off[1] * spans[i])
                level[i] = constant + slope * spans[i] + left if left == left else -np.inf


@driver(_judge)
def judge(network: Any, points: Any, moved: Any, rounding: Any, activation: int, levels: Any, wrong: Any) -> None:
    """Pass the points whose level is reached, and write whether each is wrong and its new level.

    Parameters
    ----------
    network : (weight, base, head, bias)
        weight (S, d * W) float32: of each feature a row of W units, those beyond the network's zero; W is a multiple of LANES.
        base (S, W): what the first layer gives a point without entries. head (S, C, h), bias (S, C).
    points : (starts, features, values, codes, spans)
        The first three as in `sparse.times`. codes (n,) int64: classes. spans (n,) float64: norms of the points' entries.
    moved, rounding : (S, 2) float64
        Constant and slope of a line over the span: how far a margin may have moved since training began, and by how much one
        computed now may be off.
    activation : TANH or RELU
    levels : (S, n) float64
        How far a margin's movement may go; minus infinity for a point not passed yet, or whose logits were not finite. Written
        here.
    wrong : (S, n) bool
        Written here.
    """
    parallel_for(_judge, (levels.shape[1] + _TILE - 1) // _TILE, network, points, moved, rounding, activation, levels, wrong)
