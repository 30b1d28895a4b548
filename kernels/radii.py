"""Upper bounds on the k-th distance, from codes alone: a list that begins with one takes in few points but its neighbours.

From codes a^, b^ (`quantized`), whose squared distance is known up to rounding,

    |a - b|  <=  |a^ - b^| + e_a + e_b

so that the k-th least of these bounds, over the points of the nearest tiles, is no less than the k-th neighbour's distance.
"""

from typing import Any, NamedTuple

import numpy as np

from .boxes import NEAREST_TILES, box_to_box, largest
from .jit import driver, kernel, step
from .limits import LOWEST, NEVER, limit_at, no_limits, set_products, set_upper
from .meeting import Room, multiply, no_room
from .points import Points
from .products import HALF, compare_four
from .quantized import LARGEST
from .selection import in_front, least, select
from .tree import TILE
from .vectors import first_bit

__all__ = ["radii_of_lists"]


class _Kept(NamedTuple):
    """The least bounds that the queries of a tile have met, without the errors e_a of their own codes.

    bounds : (widest * room,) float32
        Those of query t from t * room on, in no order; room for those that are kept and half a tile, for the widest tile.
    bits : (widest * room,) int32
        The same memory: numbers that are not negative have the order of their bits.
    count : (widest,) int64
    reach : (widest,) float32
        The largest that is kept; infinity until there is no room for more, when the k least, or somewhat more, are kept.
    upper : (TILE,) float64
        As `set_upper` leaves it.
    """

    bounds: Any
    bits: Any
    count: Any
    reach: Any
    upper: Any


class _Walk(NamedTuple):
    """How far tiles are, and in which order they are met: (tiles,) float32, int64."""

    gaps: Any
    sequence: Any


@step(counted=False)
def _drop_farthest(kept: Any, t: int, k: int, most: int) -> None:
    """Keep the k least bounds of a query, and no more than `most` unless they are equal; of so many that are, any will do."""
    room, count = kept.bounds.shape[0] // kept.count.shape[0], kept.count[t]
    bounds, bits = kept.bounds[t * room : (t + 1) * room], kept.bits[t * room : (t + 1) * room]
    value, left = least(bits[:count], k, most), np.int64(0)
    for s in range(count):
        wanted = bits[s] <= value
        bounds[left] = bounds[s]
        left += wanted
    left = left if left < room - HALF else room - HALF
    kept.count[t], kept.reach[t] = left, largest(bounds[:left])


@step(counted=False)
def _limit(kept: Any, t: int, other_error: float, per_unit: float) -> int:
    """From which sum on a point has a bound below reach of a query: one that has the same changes nothing."""
    reach = np.float64(kept.reach[t]) - other_error
    if reach == np.inf:
        return LOWEST
    return limit_at(np.floor((kept.upper[t] - reach * reach) * per_unit) + 1) if reach > 0 else NEVER


@step(counted=False)
def _meet(
    queries: Any, tile: int, data: Any, other: int, bits: int, excluded: Any, k: int, limits: Any, room: Any, kept: Any
) -> None:
    """Take the bounds of the points of a tile."""
    start, first, masks, taken = data.boxes.start, queries.boxes.start[tile], room.masks, limits.taken
    width, n_queries = start[other + 1] - start[other], queries.boxes.start[tile + 1] - first
    words, size = queries.codes.raised.reshape(-1), kept.bounds.shape[0] // kept.count.shape[0]
    at = tile * TILE * queries.codes.raised.shape[1]
    moved, rounding, per_unit, safe = set_products(queries.codes, tile, data.codes, other, width, bits, limits)
    if not safe:
        return
    set_upper(queries.codes, tile, data.codes, other, rounding, per_unit, limits, kept.upper)
    other_error, unit = data.codes.largest_error[other] + moved, 1 / per_unit
    for t in range(n_queries):
        limits.of_queries[t] = _limit(kept, t, other_error, per_unit)
    room.work[1] += 1
    room.work[2] += n_queries * width
    for half in range(2):
        multiply(data.codes, bits, other, half, limits.begin, n_queries, words, at, room.sums)
        for four in range(0, n_queries, 4):
            place = half * TILE * HALF + four * HALF
            compare_four(room.sums, place, limits.of_queries, limits.shifts, four, limits.of_points, half * HALF, masks)
            for i in range(4 if n_queries - four > 4 else n_queries - four):
                t, survivors = four + i, masks[i]
                if survivors == 0:
                    continue
                if kept.count[t] > size - HALF:
                    _drop_farthest(kept, t, k, k + (k >> 2))
                    limits.of_queries[t] = _limit(kept, t, other_error, per_unit)
                count, upper = kept.count[t], kept.upper[t]
                while survivors != 0:
                    s = first_bit(survivors)
                    survivors &= survivors - np.uint64(1)
                    point = half * HALF + s
                    # More than that could not be taken off, and the sum is too large to bound the distance.
                    if taken[point] == LARGEST or data.rows.ids[start[other] + point] == excluded[first + t]:
                        continue
                    squared = upper - room.sums[place + i * HALF + s] * unit
                    bound = np.sqrt(squared if squared > 0 else 0.0) + other_error
                    kept.bounds[t * size + count] = np.float32(bound)
                    count += 1
                kept.count[t] = count


@step(counted=False)
def _nearest_tiles(queries: Any, tile: int, data: Any, wanted: int, walk: Any) -> int:
    """Note which tiles are nearest to one, these first; how many."""
    boxes, theirs, gaps, sequence = queries.boxes, data.boxes, walk.gaps, walk.sequence
    for other in range(gaps.shape[0]):
        gaps[other] = box_to_box(boxes.lower[tile], boxes.upper[tile], theirs.lower[other], theirs.upper[other])
        sequence[other] = other
    if wanted < gaps.shape[0]:
        select(gaps, sequence, wanted)
    n_near = wanted if wanted < gaps.shape[0] else gaps.shape[0]
    in_front(gaps[:n_near], sequence[:n_near], NEAREST_TILES)
    return n_near


@kernel(counted=False)
def _radii_of_lists(
    begin: int, end: int, queries: Any, data: Any, bits: int, excluded: Any, k: int, n_tiles: int, limits: Any, room: Any,
    kept: Any, walk: Any, reach: Any,
) -> None:  # fmt: skip
    for tile in range(begin, end):
        first, n_queries = queries.boxes.start[tile], queries.boxes.start[tile + 1] - queries.boxes.start[tile]
        for t in range(n_queries):
            kept.count[t], kept.reach[t] = 0, np.float32(np.inf)
        n_near = _nearest_tiles(queries, tile, data, n_tiles, walk)
        room.work[0] += data.boxes.classes.shape[0]
        for i in range(n_near):
            farthest = largest(kept.reach[:n_queries])
            if walk.gaps[i] <= farthest * farthest:
                _meet(queries, tile, data, walk.sequence[i], bits, excluded, k, limits, room, kept)
        for t in range(n_queries):
            if kept.count[t] >= k:
                _drop_farthest(kept, t, k, k)
                reach[first + t] = np.float64(kept.reach[t]) + queries.codes.errors[tile * TILE + t]


@driver(_radii_of_lists)
def radii_of_lists(
    here: tuple[int, int], queries: Points, data: Points, bits: int, excluded: Any, k: int, n_tiles: int, reach: Any
) -> Any:
    """How far, for a range of tiles of queries, the k-th nearest point is at most; by one thread.

    Parameters
    ----------
    here : (int, int)
        Tiles: from, to.
    queries, data : Points
        Whose codes are of whole points.
    bits : int
        Of their codes.
    excluded : (q,) int64
        The id that each query leaves out, -1 for none.
    k : int
        From 1.
    n_tiles : int
        How many tiles, the nearest, each tile of queries meets.
    reach : (q,) float64
        Written, in tile order, in the frame of the codes; left as it is where these tiles have fewer than k points.

    Returns
    -------
    (5,) int64
        As `search.search`; nothing survives.
    """
    room: Room = no_room(queries.codes.raised.shape[1])
    limits, tiles, widest = (
        no_limits(queries.codes.centre.shape[1]),
        len(data.boxes.classes),
        np.diff(queries.boxes.start).max(),
    )
    bounds = np.empty(widest * (2 * k + 2 * HALF), np.float32)
    kept = _Kept(bounds, bounds.view(np.int32), np.empty(widest, np.int64), np.empty(widest, np.float32), np.empty(TILE))
    walk = _Walk(np.empty(tiles, np.float32), np.empty(tiles, np.int64))
    # Rows themselves are not asked for.
    queries, data = (each._replace(rows=each.rows._replace(rows=np.empty((0, 0), np.float32))) for each in (queries, data))
    _radii_of_lists(*here, queries, data, bits, excluded, k, n_tiles, limits, room, kept, walk, reach)
    return room.work
