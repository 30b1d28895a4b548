"""An index in memory before it is built: what it pays to find out for it, the time that it takes, and the memory."""

from typing import Any, NamedTuple

import numpy as np

from fastent.arrays.validation import BLOCK_BYTES, kernel_dtype
from fastent.kernels.lists import LONG, SORTED
from fastent.kernels.quantized import coded_coordinates
from fastent.kernels.tree import TILE
from fastent.runtime.threads import working_threads
from fastent.search.coding import Coding, coding_bytes, coding_in_order, codings, of_few, pair_price, survivor_price
from fastent.search.prices import Prices, entries, prices_for
from fastent.search.sketch import sample_rows

__all__ = [
    "BOXED",
    "CODED_BYTES",
    "ROW_BYTES",
    "IndexSeconds",
    "Like",
    "axes_of_frame",
    "index_bytes",
    "index_seconds",
    "is_piloted",
    "pilot_points",
    "tiles_met_first",
]

# Numbers in the sketches that boxes are of; points of no more coordinates are their own.
BOXED = 16
# Bytes of rows that are converted at a time, and of points that are coded.
ROW_BYTES, CODED_BYTES = 1 << 20, 1 << 21
# Axes of a frame are taken for so many rows, or more, and for at most so many numbers of a code.
_FEW_POINTS, _FINEST = 2048, 128
# Searches of fewer values take no pilot, which would take longer (2,000 to 8,000 rows of ten kinds); of fewer than that, no
# codes of sketches, whose axes would.
_PILOTED, _SKETCHED = 1 << 33, 1 << 35
# Points of a pilot: so many values, but no fewer, and no more points than that.
_PILOT_VALUES, _PILOT_POINTS = 1 << 20, (1024, 4096)
# What building takes, and coding rows in their order: for a value, in times of what encoding does, and for a row beside that,
# in nanoseconds; any index; and pilot and frame, where these are taken (2,000 to 100,000 rows of 64 to 768 features).
_BUILT, _CODED = (2.8, 100.0), (1.1, 50.0)
_ANY, _PILOT, _FRAME = 1.2e6, 15e6, 40e6
# What an entry in a list takes there beside the features of its distance, in nanoseconds: 85 to 170 (1,000 to 100,000 rows of
# 64 to 384 features, k from 50 to 1,000); and what radii take in any case (1,000 x 64, 100 queries).
_ENTERED, _RADII = 130.0, 0.8e6


class Like(NamedTuple):
    """What formulas ask of an array."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]


class IndexSeconds(NamedTuple):
    """Processor time that an index is expected to take on this machine.

    built, coded : float
        To build one; to code rows in their order only.
    products, lists : float
        For all queries to meet all codes; to fill their lists.
    """

    built: float
    coded: float
    products: float
    lists: float


def axes_of_frame(n: int, d: int) -> int:
    """How many axes are worth what they take, for n rows of d features that all search."""
    if n < _FEW_POINTS or d <= BOXED:
        return 0
    return min(d, (_FINEST if _is_sketched(n, d) else BOXED) - 1)


def is_piloted(n: int, d: int) -> bool:
    """Whether a pilot is worth what it takes."""
    return n * n * d >= _PILOTED and n >= TILE


def pilot_points(d: int) -> int:
    """Points of a pilot."""
    return min(max(_PILOT_VALUES // d, _PILOT_POINTS[0]), _PILOT_POINTS[1])


def tiles_met_first(d: int, coding: Coding, k: int, prices: Prices) -> int:
    """How many tiles a query meets for the radius of its list alone: as many as save more distances than their products take.

    Where m points of n are met first, k (1 + log(n / m)) enter the list, so that the last of them saves k / m.
    """
    if k <= LONG or coding.width:  # sketches bound distances from below only
        return 0
    pair = pair_price(prices, coding, d)
    points = max(k + 1, int(k * survivor_price(prices, d, k) / pair))
    return -(-int(points) // int(TILE))


def index_seconds(X: Any, q: int, k: int) -> IndexSeconds:
    """Of an index of X, and of q queries for k neighbours."""
    n, d = X.shape
    prices, coding = prices_for(q * n, d), coding_in_order(n, d, k)
    pair = pair_price(prices, coding, d)
    built, coded = (_ANY + n * (d * times * prices.encoded + row) for times, row in (_BUILT, _CODED))
    built += _FRAME if _is_sketched(n, d) and axes_of_frame(n, d) else _PILOT if is_piloted(n, d) else 0
    first = min(n, TILE * tiles_met_first(d, coding, k, prices))
    entered = k * entries(n / first, 1) if first else entries(n, k)
    lists = q * entered * (_ENTERED + d * prices.feature) + _RADII * (k > LONG)
    return IndexSeconds(*(1e-9 * each for each in (built, coded, q * (n + first) * pair, lists)))


def index_bytes(X: Any, q: int, k: int) -> int:
    """Memory that an index of X and a search for the k nearest rows of q queries take at most, X itself not counted.

    For each row: the row itself in tile order; its codes, point by point and tile by tile; its sketch, which boxes are of,
    twice; 80 bytes of numbers and norms; and its list, first in tile order and then in that of the queries. The same for each
    query, if these are not all rows. Blocks of rows; and samples, before there are codes.
    """
    n, d = X.shape
    row = kernel_dtype(X).itemsize * d + 8 * min(d, BOXED) + 80
    choices = codings(d, _FINEST if _is_sketched(n, d) else 0, k) if is_piloted(n, d) else [of_few(d)]
    coded = coding_bytes(choices, d) + 4 * coded_coordinates(d) // TILE  # a tile's codes are about its centre
    frame_rows, pilot_rows = (min(n, size) for size in (sample_rows(d), pilot_points(d)))
    converted = BLOCK_BYTES if X.dtype != kernel_dtype(X) else 0  # where rows are checked
    blocks = min(2 * working_threads() * ROW_BYTES + max(2 * CODED_BYTES, 20 * d * TILE) + converted, 12 * n * d)
    if k > LONG:  # bounds for radii; lists that are sorted
        blocks += 8 * working_threads() * min(q, TILE) * (k + TILE // 2) + 40 * min(q * k, max(k, SORTED))
    searching = (n + (q if q != n else 0)) * (row + coded) + 36 * q * k + blocks
    return int(max(20 * d * frame_rows, n * row + 12 * d * pilot_rows, searching))


def _is_sketched(n: int, d: int) -> bool:
    """Whether codes of sketches are worth the axes that they take."""
    return n * n * d >= _SKETCHED
