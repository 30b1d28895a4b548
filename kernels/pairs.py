"""All pairs of two blocks of points: squared distances from a matrix product, and what can be summed from them.

`|a - b|^2 = |a|^2 + |b|^2 - 2 ab`, with both blocks seen from a point between them, costs a multiply-add for each feature of a
pair and cancels where a pair is close. Those pairs, few unless points are equal, are taken again from differences. Everything
else here costs less than that product does: a pass over a block that lies in the caches, vectorised.

Single precision within a block, double precision across blocks; double precision within a block too where values differ so
much that single does not hold their distances. Points of one class lie together in a block, so that a sum over a class is a sum
over a segment. Counts stay in 32 bits at every step, eight to a vector.

Blocks are scaled. Rows and others, by which it is decided what rounding leaves open, are as they were given, and so are lists
and limits in double precision.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import read_only
from .distance import squared_distance
from .exponential import single_exponential
from .jit import FUSED, SUMS, driver, kernel, step
from .lists import insert

__all__ = [
    "Distances",
    "Lists",
    "Room",
    "block_distances",
    "count_nearer",
    "count_nearer_down",
    "cover",
    "nearest_across",
    "nearest_both",
    "rounding",
    "square_differences",
    "sum_distances",
    "sum_similarities",
    "tighten",
]

# A pair nearer than this share of its squared norms is taken from differences.
_CLOSE = np.float32(1 / 64)
# Rows after which column sums go from single into double precision.
_STRIP = 32
# How often the range in which a limit lies is halved.
_HALVINGS = 20
# More than single precision loses of a squared distance by underflow; nothing beside one that is a normal number.
_UNDERFLOW = np.float32(2.0**-100)
# A squared distance below that is not held to single precision: its terms may have vanished. Norms above that may overflow.
_LOST, _LARGEST = 2.0**-116, 2.0**120
# In place of a rate, which is at least 0: sum distances, not similarities.
_DISTANCES = -1.0
# What a limit may be rounded by on its way to single precision.
_ROUNDED = 1 + 2.0**-22


class Distances(NamedTuple):
    """Of all pairs of r points and c others, scaled.

    squared : (r, c) float32, or float64 where single precision does not hold them
        Squared distances, of points that were scaled.
    norms, other_norms : (r,), (c,)
        Squared norms of the scaled points.
    relative_error : float32 or float64
        Rounding changes a squared distance by no more than relative_error * (norm + other norm).
    rows, others : (r, d), (c, d)
        The points as they were given.
    scale : float
    """

    squared: Any
    norms: Any
    other_norms: Any
    relative_error: Any
    rows: Any
    others: Any
    scale: float

    def scaled(self, squared: Any) -> Any:
        """Squared distances of the points as they were given, (any,) float64, in the units and the precision of the block."""
        with np.errstate(over="ignore"):  # none of the block's comes near what overflows
            return ((np.sqrt(squared) * self.scale) ** 2).astype(self.squared.dtype)


class Room(NamedTuple):
    """Where the pairs of two blocks are measured: all of float32, or all of float64.

    centred, other_centred : (r, d), (c, d)
        For the points less an origin, scaled.
    norms, other_norms : (r,), (c,)
    squared : (r, c)
    """

    centred: Any
    other_centred: Any
    norms: Any
    other_norms: Any
    squared: Any


class Lists(NamedTuple):
    """The nearest points of each of r queries.

    squared : (r, k) float64
        Squared distances, ascending.
    index : (r, k) int64
        Their ids.
    limits : (r,) float32
        How far the lists reach, in the units of the block: their last entries, and what rounding and underflow may hide.
    """

    squared: Any
    index: Any
    limits: Any


def rounding(d: int, dtype: Any) -> float:
    """What a squared distance from `block_distances` may be off by, as a share of both squared norms."""
    return float((d + 8) * np.finfo(dtype).eps)


@step(fastmath=SUMS)
def _recentre_row(row: Any, origin: Any, scale: float, centred: Any) -> float:
    total = np.float32(0)
    for j in range(row.shape[0]):
        centred[j] = (row[j] - origin[j]) * scale
        total += centred[j] * centred[j]
    return total


@kernel()
def _recentre(rows: Any, origin: Any, scale: Any, centred: Any, norms: Any) -> bool:
    """Write rows less the origin, scaled, (r, d), and the squared norms of that, (r,); both of float32, or both of float64.

    Returns whether all norms are small enough for single precision.
    """
    held = True
    for i in range(rows.shape[0]):
        norms[i] = _recentre_row(rows[i], origin, scale, centred[i])
        held = held and not norms[i] >= _LARGEST
    return held


@step(fastmath=FUSED)
def _square_row(products: Any, norm: float, norms: Any) -> int:
    """How many are close. Counts vectorise where a minimum, which has to mind NaN, does not."""
    close = np.int32(0)
    zero, two = np.float32(0), np.float32(2)
    for j in range(products.shape[0]):
        both = norm + norms[j]
        squared = both - two * products[j]
        products[j] = squared if squared > zero else zero
        close = np.int32(close + (squared < both * _CLOSE + _UNDERFLOW))
    return close


@step(fastmath=SUMS)
def _difference(a: Any, b: Any, scale: Any) -> float:
    """Squared distance of two rows, in their precision."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = (a[j] - b[j]) * scale
        total += difference * difference
    return total


@kernel()
def _square_distances(products: Any, norms: Any, other_norms: Any, rows: Any, others: Any, scale: Any) -> int:
    """Turn inner products (r, c) into squared distances, in place; a point and itself are at 0.

    Returns how many of them are not held to single precision.
    """
    lost = 0
    for i in range(products.shape[0]):
        squared, norm = products[i], norms[i]
        if _square_row(squared, norm, other_norms) == 0:
            continue
        for j in range(squared.shape[0]):
            if squared[j] < (norm + other_norms[j]) * _CLOSE + _UNDERFLOW:
                squared[j] = _difference(rows[i], others[j], scale)
                if squared[j] < _LOST:
                    lost += squared_distance(rows[i], others[j]) > 0.0
    return lost


@driver(_square_distances)
def block_distances(rows: Any, others: Any, origin: Any, scale: float, room: Room) -> Distances | None:
    """Squared distances of all pairs, in the precision of the room; None where that is single and does not hold them.

    Parameters
    ----------
    rows, others : (r, d), (c, d) float32 or float64
        Where they are one array, half of the products do.
    origin : (d,)
        A point between them.
    scale : float
    room : Room
        Overwritten; norms and squared distances stay there.
    """
    same = others is rows
    rows, others = read_only(rows), read_only(others)
    centred, other_centred, norms, other_norms, squared = room
    factor, origin, single = squared.dtype.type(scale), origin.astype(rows.dtype), squared.dtype == np.float32
    held = _recentre(rows, origin, factor, centred, norms)
    if same:
        other_centred, other_norms = centred, norms  # of which numpy takes one triangle, and copies it
    else:
        held = _recentre(others, origin, factor, other_centred, other_norms) and held
    if single and not held:
        return None
    np.matmul(centred, other_centred.T, out=squared)
    lost = _square_distances(squared, norms, other_norms, rows, others, factor)
    if single and lost:
        return None
    relative_error = squared.dtype.type(rounding(rows.shape[1], squared.dtype))
    return Distances(squared, norms, other_norms, relative_error, rows, others, scale)


@kernel()
def _square_differences(rows: Any, others: Any, first: int, squared: Any) -> None:
    for i in range(rows.shape[0]):
        row, its_squared = rows[i], squared[i]
        for j in range(others.shape[0]):
            its_squared[first + j] = squared_distance(row, others[j])


@driver(_square_differences)
def square_differences(rows: Any, others: Any, first: int, squared: Any) -> None:
    """Write squared distances to others (c, d) from column `first` on, in double precision, from differences.

    For the few that need it.
    """
    _square_differences(read_only(rows), read_only(others), first, squared)


@step(fastmath=SUMS)
def _sum_terms(squared: Any, rate: Any) -> float:
    """Sum exp(-rate * squared distance) over pairs, or their distances where the rate is `_DISTANCES`."""
    total = np.float32(0)
    if rate == _DISTANCES:
        for j in range(squared.shape[0]):
            total += np.sqrt(squared[j])
    else:
        for j in range(squared.shape[0]):
            total += single_exponential(-squared[j] * rate)
    return total


@step(fastmath=SUMS)
def _sum_and_add_terms(squared: Any, rate: Any, strip: Any) -> float:
    """The same, each term added to a sum of its column too."""
    total = np.float32(0)
    if rate == _DISTANCES:
        for j in range(squared.shape[0]):
            term = np.sqrt(squared[j])
            total += term
            strip[j] += term
    else:
        for j in range(squared.shape[0]):
            term = single_exponential(-squared[j] * rate)
            total += term
            strip[j] += term
    return total


@step()
def _flush(strip: Any, total: Any) -> None:
    for j in range(strip.shape[0]):
        total[j] += strip[j]
        strip[j] = np.float32(0)


@kernel()
def _sum_classes(squared: Any, bounds: Any, other_bounds: Any, rate: Any, strip: Any, across: Any, down: Any) -> None:
    """Sum terms over each class, for rows and for columns; strip (c,) must be zeros, and is zeros again in the end."""
    mirrored = down.shape[0] > 0
    for s in range(bounds.shape[0] - 1):
        for i in range(bounds[s], bounds[s + 1]):
            row = squared[i]
            for t in range(other_bounds.shape[0] - 1):
                total, last = 0.0, other_bounds[t + 1]
                # In pieces, so that single precision does.
                for begin in range(other_bounds[t], last, 512):
                    end = begin + 512 if begin + 512 < last else last
                    if mirrored:
                        total += _sum_and_add_terms(row[begin:end], rate, strip[begin:end])
                    else:
                        total += _sum_terms(row[begin:end], rate)
                across[t, i] = total
            if mirrored and (i + 1 - bounds[s]) % _STRIP == 0:
                _flush(strip, down[s])
        if mirrored:
            _flush(strip, down[s])


@driver(_sum_classes)
def sum_distances(squared: Any, bounds: Any, other_bounds: Any, across: Any, down: Any) -> None:
    """Sum distances to each class.

    Parameters
    ----------
    squared : (r, c) float32 or float64
    bounds, other_bounds : (segments + 1,) int64
        Where classes begin among the rows, and among the columns.
    across : (segments of the columns, r) float64
        Written: from each row.
    down : (segments of the rows, c) float64
        Written: from each column; no segments where that is not wanted.
    """
    strip = np.zeros(squared.shape[1], squared.dtype)
    _sum_classes(squared, bounds, other_bounds, squared.dtype.type(_DISTANCES), strip, across, down)


@driver(_sum_classes)
def sum_similarities(squared: Any, themselves: Any, bounds: Any, other_bounds: Any, rates: Any, across: Any, down: Any) -> None:
    """Sum exp(-rate * squared distance) over each class, a point itself left out (its distance is infinite meanwhile).

    Parameters
    ----------
    squared : (r, c) float32
    themselves : (m,), (m,) int64
        Rows and columns of the pairs of a point and itself.
    rates : (J,) float32
        At least 0.
    across : (J, segments of the columns, r) float64
        Written: for each row. Terms below exp(-87) count as that.
    down : (J, segments of the rows, c) float64
        Written: for each column; no segments where that is not wanted.
    """
    squared[themselves] = np.inf
    strip = np.zeros(squared.shape[1], np.float32)
    for j, rate in enumerate(rates):
        _sum_classes(squared, bounds, other_bounds, rate, strip, across[j], down[j])
    squared[themselves] = 0


@step(fastmath=SUMS)
def _count_below(squared: Any, norm: float, norms: Any, limit: float, relative_error: float) -> Any:
    """How many are below the limit for certain, and how many may be."""
    certain = possible = np.int32(0)
    for j in range(squared.shape[0]):
        slack = (norm + norms[j]) * relative_error + _UNDERFLOW
        certain = np.int32(certain + (squared[j] + slack < limit))
        possible = np.int32(possible + (squared[j] - slack < limit))
    return certain, possible


@kernel()
def count_nearer(distances: Any, here: Any, there: Any, limits: Any, scaled: Any, count: Any) -> None:
    """Count, for some rows, those of some columns nearer than a limit; where rounding leaves that open, in double precision.

    Parameters
    ----------
    distances : Distances
    here, there : (int, int)
        Which rows and which columns: from, to.
    limits : (r,) float64
        Squared distances.
    scaled : (r,)
        The same in the units and the precision of the block.
    count : (r,) int64
        Added to.
    """
    squared, norms, other_norms = distances.squared, distances.norms, distances.other_norms
    rows, others, relative_error = distances.rows, distances.others, distances.relative_error
    first, last = there
    for i in range(here[0], here[1]):
        limit = scaled[i]
        certain, possible = _count_below(squared[i, first:last], norms[i], other_norms[first:last], limit, relative_error)
        if possible == certain:
            count[i] += certain
            continue
        # From nothing: another loop may round another way what is certain.
        for j in range(first, last):
            slack = (norms[i] + other_norms[j]) * relative_error + _UNDERFLOW
            if squared[i, j] - slack < limit:
                count[i] += squared[i, j] + slack < limit or squared_distance(rows[i], others[j]) < limits[i]


@step()  # not fused, to round as the loop that takes up what is undecided
def _add_below(squared: Any, norm: float, norms: Any, limits: Any, relative_error: float, certain: Any) -> int:
    """Add to each column's count if it is certain; how many are not."""
    undecided = np.int32(0)
    for j in range(squared.shape[0]):
        slack = (norm + norms[j]) * relative_error + _UNDERFLOW
        below = squared[j] + slack < limits[j]
        certain[j] += below
        undecided = np.int32(undecided + ((squared[j] - slack < limits[j]) & (not below)))
    return undecided


@kernel()
def _count_nearer_down(distances: Any, here: Any, there: Any, limits: Any, scaled: Any, certain: Any, count: Any) -> None:
    squared, norms, other_norms = distances.squared, distances.norms, distances.other_norms
    rows, others, relative_error = distances.rows, distances.others, distances.relative_error
    first, last = there
    some_norms, some_limits, some_certain = other_norms[first:last], scaled[first:last], certain[first:last]
    for i in range(here[0], here[1]):
        if _add_below(squared[i, first:last], norms[i], some_norms, some_limits, relative_error, some_certain) == 0:
            continue
        for j in range(first, last):
            slack = (norms[i] + other_norms[j]) * relative_error + _UNDERFLOW
            if squared[i, j] + slack >= scaled[j] and squared[i, j] - slack < scaled[j]:
                count[j] += squared_distance(rows[i], others[j]) < limits[j]
    for j in range(first, last):
        count[j] += certain[j]


@driver(_count_nearer_down)
def count_nearer_down(distances: Any, here: Any, there: Any, limits: Any, scaled: Any, count: Any) -> None:
    """The same for some columns among some rows: limits, scaled, count (c,)."""
    _count_nearer_down(distances, here, there, limits, scaled, np.zeros(len(limits), np.int32), count)


@kernel()
def cover(distances: Any, radii: Any, scaled: Any, covered: Any, same: bool) -> None:
    """Mark the columns that lie within the radius of a row; where rounding leaves that open, in double precision.

    Parameters
    ----------
    distances : Distances
    radii : (r,) float64
        Of the rows.
    scaled : (r,)
        Their squares in the units and the precision of the block.
    covered : (c,) bool
        Written.
    same : bool
        Whether rows and columns are the same points, of which only those cover that are not covered by one before them.
    """
    squared, norms, other_norms = distances.squared, distances.norms, distances.other_norms
    rows, others, relative_error = distances.rows, distances.others, distances.relative_error
    for i in range(squared.shape[0]):
        if same and covered[i]:
            continue
        first = i + 1 if same else 0
        limit = scaled[i]
        if _count_below(squared[i, first:], norms[i], other_norms[first:], limit, relative_error)[1] == 0:
            continue
        for j in range(first, squared.shape[1]):
            slack = (norms[i] + other_norms[j]) * relative_error + _UNDERFLOW
            if not covered[j] and squared[i, j] - slack < limit:
                certain = squared[i, j] + slack < limit
                covered[j] = certain or np.sqrt(squared_distance(rows[i], others[j])) < radii[i]


@step(fastmath=FUSED)
def _near(squared: Any, norms: Any, relative_error: float, limit: float) -> int:
    near = np.int32(0)
    for j in range(squared.shape[0]):
        near = np.int32(near + (squared[j] - norms[j] * relative_error <= limit))
    return near


@kernel()
def nearest_across(
    distances: Any, ids: Any, other_ids: Any, lists: Any, among: int, codes: Any, other_codes: Any, bounds: Any
) -> None:
    """Enter columns into each row's list of its nearest, by distances in double precision; ties by the lower id.

    Parameters
    ----------
    distances : Distances
    ids, other_ids : (r,), (c,) int64
    lists : Lists
        Of the rows.
    among : int
        Which columns: 0 all, 1 those of the row's class, 2 all others.
    codes : (r,) int64
        The rows' classes.
    other_codes, bounds : (segments,), (segments + 1,) int64
        The columns' classes, and where each begins.
    """
    squared, norms, other_norms = distances.squared, distances.norms, distances.other_norms
    rows, others, relative_error = distances.rows, distances.others, distances.relative_error
    nearest, index, limits, scale = lists.squared, lists.index, lists.limits, distances.scale
    for i in range(squared.shape[0]):
        slack, its_nearest, its_index, row = norms[i] * relative_error, nearest[i], index[i], rows[i]
        for s in range(other_codes.shape[0]):
            if among and (other_codes[s] == codes[i]) != (among == 1):
                continue
            for first in range(bounds[s], bounds[s + 1], 128):
                last = first + 128 if first + 128 < bounds[s + 1] else bounds[s + 1]
                if _near(squared[i, first:last], other_norms[first:last], relative_error, limits[i] + slack) == 0:
                    continue
                for j in range(first, last):
                    if squared[i, j] - other_norms[j] * relative_error <= limits[i] + slack and ids[i] != other_ids[j]:
                        insert(its_nearest, its_index, squared_distance(row, others[j]), other_ids[j])
                        limits[i] = _limit(its_nearest[its_nearest.shape[0] - 1], scale)


@step()
def _limit(farthest: float, scale: float) -> float:
    """How far a list reaches in the units of a block."""
    radius = np.sqrt(farthest) * scale
    return radius * radius * _ROUNDED + _UNDERFLOW


@step(fastmath=FUSED)
def _near_either(squared: Any, norm: float, norms: Any, relative_error: float, limit: float, limits: Any) -> int:
    near = np.int32(0)
    for j in range(squared.shape[0]):
        farther = limit if limit > limits[j] else limits[j]
        near = np.int32(near + (squared[j] - (norm + norms[j]) * relative_error <= farther))
    return near


@kernel()
def nearest_both(distances: Any, ids: Any, other_ids: Any, lists: Any, other_lists: Any, same: bool) -> None:
    """The same for rows and columns at once, each among all of the others.

    other_lists : Lists
        Of the columns.
    same : bool
        Whether rows and columns, and so their lists, are the same: each pair is met once, and no point itself.
    """
    squared, norms, other_norms = distances.squared, distances.norms, distances.other_norms
    rows, others, relative_error = distances.rows, distances.others, distances.relative_error
    nearest, index, limits = lists.squared, lists.index, lists.limits
    other_nearest, other_index, other_limits = other_lists.squared, other_lists.index, other_lists.limits
    scale, columns, last_one = distances.scale, squared.shape[1], nearest.shape[1] - 1
    for i in range(squared.shape[0]):
        its_nearest, its_index, row, norm = nearest[i], index[i], rows[i], norms[i]
        start = i + 1 if same else 0
        if not _near_either(squared[i, start:], norms[i], other_norms[start:], relative_error, limits[i], other_limits[start:]):
            continue
        for first in range(start, columns, 64):
            last = first + 64 if first + 64 < columns else columns
            some, some_norms, some_limits = squared[i, first:last], other_norms[first:last], other_limits[first:last]
            if _near_either(some, norms[i], some_norms, relative_error, limits[i], some_limits) == 0:
                continue
            for j in range(first, last):
                farther = limits[i] if limits[i] > other_limits[j] else other_limits[j]
                if squared[i, j] - (norm + other_norms[j]) * relative_error <= farther:
                    distance = squared_distance(row, others[j])
                    insert(its_nearest, its_index, distance, other_ids[j])
                    insert(other_nearest[j], other_index[j], distance, ids[i])
                    limits[i] = _limit(its_nearest[last_one], scale)
                    other_limits[j] = _limit(other_nearest[j, last_one], scale)


@step(fastmath=FUSED)
def _within(squared: Any, norm: float, norms: Any, relative_error: float, limit: float) -> int:
    """How many are within the limit for certain."""
    within = np.int32(0)
    for j in range(squared.shape[0]):
        within = np.int32(within + (squared[j] + (norm + norms[j]) * relative_error <= limit))
    return within


@kernel()
def tighten(distances: Any, lists: Any) -> None:
    """Lower lists that are empty to where they are certain to be filled by the pairs of a block with itself, (r, r).

    Those pairs must be entered next: till then such a list ends in distances without a neighbour.
    """
    squared, norms, relative_error = distances.squared, distances.norms, distances.relative_error
    nearest, limits, scale = lists.squared, lists.limits, distances.scale
    k, largest = nearest.shape[1], norms[0]
    for i in range(1, norms.shape[0]):
        largest = norms[i] if norms[i] > largest else largest
    farthest = np.float32(4) * largest
    for i in range(squared.shape[0]):
        row, norm, its_nearest = squared[i], norms[i], nearest[i]
        low, high = farthest * np.float32(0), farthest
        if its_nearest[0] < np.inf or _within(row, norm, norms, relative_error, high) <= k:
            continue  # the point itself is within any
        for _ in range(_HALVINGS):
            middle = (low + high) / np.float32(2)
            within = _within(row, norm, norms, relative_error, middle)
            if within > k:
                high = middle
                if within <= k + 1 + k // 16:
                    break
            else:
                low = middle
        radius = np.sqrt((high + _UNDERFLOW) * _ROUNDED) / scale
        for j in range(k):
            its_nearest[j] = radius * radius
        limits[i] = _limit(its_nearest[0], scale)
