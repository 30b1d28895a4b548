"""Exact neighbours of a few queries, from rows as they lie in memory: no index, and every row is read once.

    four rows and up to four queries at a time --- squared distances, vectorised, from differences --- `differences.near_four`
      a pair within the query's limit ------------ the distance in double precision, which counts, and decides

A query's limit is its k-th distance so far, widened by more than rounding can add to a sum. Sums that are not finite, or too
large to tell that a row's values are in range, lead to that row.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .arrays import read_only
from .differences import HALVES, ROWS, SEVERAL, near_four, near_one
from .distance import inner, squared_angle, squared_distance, squared_length
from .jit import SUMS, driver, kernel, step
from .lists import insert
from .vectors import first_bit

__all__ = ["HALVES", "Asked", "Met", "Tolerance", "directions", "scan", "widen"]

# So many bytes of queries stay in the innermost cache beside four rows, and so many of rows in the next one.
_QUERY_BYTES, _ROW_BYTES = 1 << 14, 1 << 18
# Rows are asked for so many bytes before they are met.
_AHEAD = 4096
# Within these limits squared lengths keep their digits, and so do the factors that make lengths 1, in single precision.
_SHORTEST, _LONGEST = 1e-70, 1e70
# Flags: numba would compile a step once for True and once for False.
_NO, _YES = np.bool_(False), np.bool_(True)


class Asked(NamedTuple):
    """Queries, and what they have found so far.

    points : (q, d)
        As given, of the rows' type; for angles each may be scaled.
    lengths : (q,) float64
        For angles, from `squared_lengths`; else of length 0.
    excluded : (q,) int64
        The row that each leaves out, -1 for none.
    squared, index : (q, k) float64, int64
        Ascending; overwritten. What is farther than the last is not wanted, and where there is nothing yet the number is one
        that no row has.
    """

    points: Any
    lengths: Any
    excluded: Any
    squared: Any
    index: Any


class Met(NamedTuple):
    """Rows and queries as they are compared at first.

    rows : (m, d), points : (p, d)
        float32 or float64, both the same, C-contiguous; where `HALVES`, rows may be uint16 beside points of float32: words of
        half precision. Of the points as many as make up a multiple of `differences.SEVERAL`, the last of them any, if there is
        more than one; of features as many as rows have, or more, which do not count.
    errors : (q,) float64
        How much nearer a row may be to a query than they are here.
    """

    rows: Any
    points: Any
    errors: Any


class Tolerance(NamedTuple):
    """How sums bound distances.

    scale : float
        A distance of 1 between rows is so long where rows are met.
    factor, lost : float
        What rounding may add to a sum of squares: as a share, and as underflow.
    doubt : float
        A sum that is larger does not show that a row's values are in range.
    most : float
        The largest value in range.
    angular : bool
        Whether rows are compared by the angle between them.
    bits : int
        For angles, from `grid_bits`.
    """

    scale: float
    factor: float
    lost: float
    doubt: float
    most: float
    angular: bool
    bits: int


@step(counted=False)
def _limit(squared: float, error: float, tolerance: Any) -> float:
    """What the sum of a row may be that is no farther than this; negative, as no sum is, where nothing is wanted."""
    if squared < 0:
        return -1.0
    if tolerance.factor == np.inf:  # of so many features no sum tells
        return np.inf
    radius = np.sqrt(squared) * tolerance.scale + error
    return radius * radius * tolerance.factor + tolerance.lost


@step(counted=False)
def _set_limit(limits: Any, query: int, together: int, limit: float) -> None:
    its_limits = limits[query // together]
    for r in range(ROWS):
        its_limits[r * together + query % together] = limit


@step(counted=False)
def _refused(row: Any, most: float, angular: bool) -> bool:
    """Whether a row holds what is out of range, or has no direction where directions are compared."""
    directed = not angular
    for j in range(row.shape[0]):
        size = abs(row[j])
        if not size <= most:
            return True
        directed |= size > 0
    return not directed


@step(counted=False)
def _of_half(word: int) -> float:
    """A number in half precision."""
    size = np.uint32(word & np.uint32(0x7FFF))
    # An exponent is 112 more; that of infinity and NaN, the largest, remains the largest.
    more = np.uint32(112 << 23) if size < np.uint32(0x7C00) else np.uint32(224 << 23)
    value = np.uint32(np.uint32(size << np.uint32(13)) + more).view(np.float32)
    value = np.float32(np.int32(size)) * np.float32(2.0**-24) if size < np.uint32(0x0400) else value
    return -value if word > size else value


@step(counted=False)
def _put(row: Any, room: Any, scaled: bool) -> None:
    """Copy a row; if scaled, times a power of two, so that its largest value is about 1 and squares are in range."""
    if row.itemsize == 2:
        for j in range(row.shape[0]):
            room[j] = _of_half(np.uint32(row[j]))
        return
    first = second = 1.0
    if scaled:
        largest = 0.0
        for j in range(row.shape[0]):
            size = abs(row[j])
            largest = size if size > largest else largest
        exponent = -np.int64(math.frexp(largest)[1])
        first, second = math.ldexp(1.0, exponent // 2), math.ldexp(1.0, exponent - exponent // 2)
    for j in range(row.shape[0]):
        room[j] = row[j] * first * second


@step(counted=False)
def _decide(row: Any, number: int, query: int, asked: Any, errors: Any, tolerance: Any, limits: Any, together: int) -> int:
    """Enter a row, from `_put`, in a query's list if it is near enough, by its distance in double precision; whether it was."""
    if number == asked.excluded[query]:
        return 0
    point, its_squared, its_index = asked.points[query], asked.squared[query], asked.index[query]
    if tolerance.angular:
        squared = squared_angle(point, row, asked.lengths[query], squared_length(row, tolerance.bits))
    else:
        squared = squared_distance(point, row)
    k = its_squared.shape[0]
    if not squared <= its_squared[k - 1]:
        return 0
    insert(its_squared, its_index, squared, number)
    farthest = its_squared[k - 1]
    # Rows come in the order of their numbers: none that follow can enter a list that is full of distances of 0.
    full = farthest == 0 and its_index[k - 1] <= number
    _set_limit(limits, query, together, _limit(-1.0 if full else farthest, errors[query], tolerance))
    return 1


@step(counted=False)
def _meet(
    flags: int, first: int, query: int, rows: Any, number: int, asked: Any, errors: Any, tolerance: Any, limits: Any,
    together: int, room: Any, work: Any,
) -> None:  # fmt: skip
    """See to those of four rows, from `first`, and of some queries that are flagged."""
    pairs = ROWS * together
    strange = flags >> pairs
    if strange:
        for r in range(ROWS):
            if (strange >> (r * together)) & ((1 << together) - 1):
                _put(rows[first + r], room, _NO)
                work[2] += _refused(room, tolerance.most, tolerance.angular)
    near = np.uint64(flags & ((1 << pairs) - 1))
    while near != 0:
        bit = first_bit(near)
        near &= near - np.uint64(1)
        r, j = bit // together, bit % together
        if query + j < asked.excluded.shape[0]:
            work[0] += 1
            _put(rows[first + r], room, tolerance.angular and rows.itemsize == 8)
            work[1] += _decide(room, number + r, query + j, asked, errors, tolerance, limits, together)


@kernel(counted=False)
def _scan(rows: Any, number: int, asked: Any, met: Any, tolerance: Any, limits: Any, room: Any, work: Any) -> None:
    met_rows, points, errors = met
    m, q, d = met_rows.shape[0], asked.excluded.shape[0], met_rows.shape[1]
    together = SEVERAL if points.shape[0] > 1 else 1
    for query in range(q):
        squared = asked.squared[query]
        _set_limit(limits, query, together, _limit(squared[squared.shape[0] - 1], errors[query], tolerance))
    four, row_bytes = ROWS * d * met_rows.itemsize, d * met_rows.itemsize
    ahead = (_AHEAD + four - 1) // four * four
    block = ROWS * (1 + _ROW_BYTES // four)
    tile = SEVERAL * (1 + _QUERY_BYTES // (SEVERAL * row_bytes))
    whole = m - m % ROWS
    if together == 1:
        its_limits = limits[0]
        for first in range(0, whole, ROWS):
            flags = near_one(met_rows, first, points, 0, its_limits, tolerance.doubt, ahead)
            if flags:
                _meet(flags, first, 0, rows, number + first, asked, errors, tolerance, limits, together, room, work)
    else:
        for begin in range(0, whole, block):
            end = begin + block if begin + block < whole else whole
            for some in range(0, points.shape[0], tile):
                last = some + tile if some + tile < points.shape[0] else points.shape[0]
                for first in range(begin, end, ROWS):
                    for query in range(some, last, SEVERAL):
                        its_limits = limits[query // SEVERAL]
                        flags = near_four(met_rows, first, points, query, its_limits, tolerance.doubt, ahead)
                        if flags:
                            at = number + first
                            _meet(flags, first, query, rows, at, asked, errors, tolerance, limits, together, room, work)
    for row in range(whole, m):
        _put(rows[row], room, _NO)
        work[2] += _refused(room, tolerance.most, tolerance.angular)
        _put(rows[row], room, tolerance.angular and rows.itemsize == 8)
        for query in range(q):
            work[0] += 1
            work[1] += _decide(room, number + row, query, asked, errors, tolerance, limits, together)


@driver(_scan)
def scan(rows: Any, number: int, asked: Asked, met: Met, tolerance: Tolerance) -> Any:
    """Enter rows in the lists of queries; by one thread.

    Parameters
    ----------
    rows : (m, d) float32, float64 or uint16, words of half precision
        As given, C-contiguous.
    number : int
        Of the first of them.
    asked : Asked
    met : Met
    tolerance : Tolerance

    Returns
    -------
    (3,) int64
        Pairs that were near enough to be looked at again, pairs that entered a list, rows out of range (some more than once).

    Notes
    -----
    Reads the rows once. Operations: 2 d for each pair, about three quarters of what the machine's multiply-adds allow.
    """
    together = SEVERAL if len(met.points) > 1 else 1
    limits = np.full((-(-len(met.points) // together), ROWS * together), -1, met.points.dtype)
    room = np.empty(rows.shape[1], asked.points.dtype)
    work = np.zeros(3, np.int64)
    asked = asked._replace(points=read_only(asked.points))
    met = met._replace(rows=read_only(met.rows), points=read_only(met.points))
    _scan(read_only(rows), number, asked, met, tolerance, limits, room, work)
    return work


@step(fastmath=SUMS)
def _along(row: Any, factor: float, centre: Any, scale: float, to: Any) -> None:
    for j in range(row.shape[0]):
        to[j] = (row[j] * factor - centre[j]) * scale


@kernel(counted=False)
def _directions(rows: Any, centre: Any, factors: Any, room: Any, found: Any) -> None:
    scale = factors[0]
    for i in range(rows.shape[0]):
        row, to = rows[i], found[i]
        squared = inner(row, row)
        if _SHORTEST < squared < _LONGEST:
            factors[1] = 1 / np.sqrt(squared)
            _along(row, factors[1], centre, scale, to)
        else:
            _put(row, room, _YES)
            factors[1] = 1 / np.sqrt(inner(room, room))
            _along(room, factors[1], centre, scale, to)


@driver(_directions)
def directions(rows: Any, centre: Any, scale: float, found: Any) -> None:
    """Rows (m, d) at unit length, less a centre (d,), times a scale, into `found` (m, d) float32.

    In the rows' precision, but for their lengths, which are taken in double. NaN where a row has no direction or is not finite.
    """
    factors, room = np.array([scale, 0], rows.dtype), np.empty(rows.shape[1], rows.dtype)
    _directions(read_only(rows), centre.astype(rows.dtype), factors, room, found)


@kernel(counted=False)
def _widen(words: Any, found: Any) -> None:
    for i in range(words.shape[0]):
        row, to = words[i], found[i]
        for j in range(row.shape[0]):
            to[j] = _of_half(np.uint32(row[j]))


@driver(_widen)
def widen(rows: Any, found: Any) -> None:
    """Rows (m, d) float16, C-contiguous, as float32, into `found`: what numpy does, in a fortieth of the time."""
    _widen(read_only(rows.view(np.uint16)), found)
