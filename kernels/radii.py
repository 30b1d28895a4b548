"""How far queries have to search, from codes alone: lists that begin with a distance within which k points lie take few others.

From codes a^, b^ (`quantized`), whose squared distance is known up to rounding,

    |a - b|  <=  |a^ - b^| + e_a + e_b

so that the k-th least of these bounds, over the points of the nearest tiles, is no less than the k-th neighbour's distance.
"""

from typing import Any, NamedTuple

import numpy as np

from .boxes import box_to_box
from .found import OWN_CLASS
from .jit import driver, kernel, step
from .limits import NEVER, no_limits, set_limits, set_upper
from .meeting import NO, Room, multiply, no_room
from .points import Points
from .products import HALF, compare_four
from .quantized import LARGEST
from .tree import TILE, select, sort_by_key
from .vectors import first_bit

__all__ = ["radii_of_lists"]

# So many of the tiles are taken in the order of their distances; sorting takes the square of their number.
_NEAREST_TILES = 24
# Limits of products that no sum misses, and that hold up to this size.
_ALL, _HIGHEST = -(2.0**30), 2.0**30


class _Kept(NamedTuple):
    """The least bounds that one thread has met, of the queries of a tile.

    bounds : (TILE * room,) float32
        Those of query t from t * room on, in no order.
    bits : (TILE * room,) int32
        The same memory: numbers that are not negative have the order of their bits.
    count : (TILE,) int64
    reach : (TILE,) float64
        Beyond which none is kept; infinity where fewer than k are.
    upper : (TILE,) float64
        As `set_upper` leaves it.
    radii : (TILE,) float32
        Infinities.
    gaps, sequence : (tiles,) float32, int64
        How far tiles are, and in which order they are met.
    """

    bounds: Any
    bits: Any
    count: Any
    reach: Any
    upper: Any
    radii: Any
    gaps: Any
    sequence: Any


@step(counted=False)
def _least(bits: Any, count: int, k: int, most: int) -> int:
    """A value that the k least of some numbers, and no more than `most` unless they are equal, do not exceed."""
    lowest, highest = bits[0], bits[0]
    for s in range(count):
        lowest = bits[s] if bits[s] < lowest else lowest
        highest = bits[s] if bits[s] > highest else highest
    below, reached = np.int64(lowest) - 1, np.int64(highest)
    while reached - below > 1:
        middle, within = np.int32((below + reached) >> 1), np.int32(0)
        for s in range(count):
            within = np.int32(within + (bits[s] <= middle))
        if within < k:
            below = np.int64(middle)
        else:
            reached = np.int64(middle)
            if within <= most:
                break
    return np.int32(reached)


@step(counted=False)
def _drop_farthest(kept: Any, t: int, k: int, most: int) -> None:
    """Keep the k least bounds of a query, and no more than `most` unless they are equal."""
    room, count = kept.bounds.shape[0] // TILE, kept.count[t]
    bounds, bits = kept.bounds[t * room : (t + 1) * room], kept.bits[t * room : (t + 1) * room]
    value, left, reach = _least(bits, count, k, most), np.int64(0), np.float32(0)
    for s in range(count):
        wanted = bits[s] <= value
        bounds[left] = bounds[s]
        left += wanted
    left = left if left < room - HALF else room - HALF
    for s in range(left):
        reach = bounds[s] if bounds[s] > reach else reach
    kept.count[t], kept.reach[t] = left, np.float64(reach)


@step(counted=False)
def _limit(kept: Any, t: int, error: float, per_unit: float) -> int:
    """From which product on a point has a bound within reach of a query."""
    reach = kept.reach[t] - error
    if reach <= 0:
        return NEVER
    value = (kept.upper[t] - reach * reach) * per_unit
    value = _ALL if value < _ALL else value
    return np.int32(_HIGHEST if value > _HIGHEST else value)


@step(counted=False)
def _meet(
    queries: Any, tile: int, data: Any, other: int, bits: int, among: int, excluded: Any, k: int, limits: Any, room: Any,
    kept: Any,
) -> None:  # fmt: skip
    """Take the bounds of the points of a tile."""
    start, first, masks = data.boxes.start, queries.boxes.start[tile], room.masks
    width, n_queries = start[other + 1] - start[other], queries.boxes.start[tile + 1] - first
    words, size = queries.codes.raised.reshape(-1), kept.bounds.shape[0] // TILE
    at = tile * TILE * queries.codes.raised.shape[1]
    radii, own, theirs = kept.radii, queries.rows.classes, data.rows.classes
    _, error, per_unit, safe = set_limits(queries.codes, tile, data.codes, other, width, bits, NO, radii, limits)
    if not safe:
        return
    set_upper(queries.codes, tile, data.codes, other, per_unit, limits, kept.upper)
    for t in range(n_queries):
        limits.of_queries[t] = _limit(kept, t, error, per_unit)
    unit = 1 / per_unit
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
                    limits.of_queries[t] = _limit(kept, t, error, per_unit)
                count, upper = kept.count[t], kept.upper[t]
                while survivors != 0:
                    s = first_bit(survivors)
                    survivors &= survivors - np.uint64(1)
                    point = start[other] + half * HALF + s
                    if data.rows.ids[point] == excluded[first + t] or limits.taken[half * HALF + s] == LARGEST:
                        continue
                    if among and (own[first + t] == theirs[point]) != (among == OWN_CLASS):
                        continue
                    squared = upper - room.sums[place + i * HALF + s] * unit
                    bound = np.sqrt(squared if squared > 0 else 0.0) + error
                    kept.bounds[t * size + count] = np.float32(bound)
                    count += 1
                kept.count[t] = count


@step(counted=False)
def _nearest_tiles(queries: Any, tile: int, data: Any, among: int, wanted: int, kept: Any) -> int:
    """Note which tiles are nearest to one, these first; how many."""
    boxes, theirs, gaps, sequence = queries.boxes, data.boxes, kept.gaps, kept.sequence
    own, n_near = boxes.classes[tile], np.int64(0)
    for other in range(theirs.classes.shape[0]):
        known = own >= 0 and theirs.classes[other] >= 0
        if among and known and (theirs.classes[other] == own) != (among == OWN_CLASS):
            continue
        gaps[n_near] = box_to_box(boxes.lower[tile], boxes.upper[tile], theirs.lower[other], theirs.upper[other])
        sequence[n_near] = other
        n_near += 1
    if wanted < n_near:
        select(gaps[:n_near], sequence[:n_near], wanted)
        n_near = wanted
    ordered = n_near if n_near < _NEAREST_TILES else _NEAREST_TILES
    if ordered < n_near:
        select(gaps[:n_near], sequence[:n_near], ordered)
    sort_by_key(gaps[:ordered], sequence[:ordered])
    return n_near


@kernel(counted=False)
def _radii_of_lists(
    begin: int, end: int, queries: Any, data: Any, bits: int, among: int, excluded: Any, k: int, n_tiles: int, limits: Any,
    room: Any, kept: Any, reach: Any,
) -> None:  # fmt: skip
    for tile in range(begin, end):
        first, n_queries = queries.boxes.start[tile], queries.boxes.start[tile + 1] - queries.boxes.start[tile]
        for t in range(TILE):
            kept.count[t], kept.reach[t] = 0, np.inf
        n_near = _nearest_tiles(queries, tile, data, among, n_tiles, kept)
        room.work[0] += data.boxes.classes.shape[0]
        for i in range(n_near):
            farthest = kept.reach[0]
            for t in range(n_queries):
                farthest = kept.reach[t] if kept.reach[t] > farthest else farthest
            if kept.gaps[i] > farthest * farthest:
                continue
            _meet(queries, tile, data, kept.sequence[i], bits, among, excluded, k, limits, room, kept)
        for t in range(n_queries):
            if kept.count[t] >= k:
                _drop_farthest(kept, t, k, k)
                reach[first + t] = kept.reach[t] + queries.codes.errors[tile * TILE + t]


@driver(_radii_of_lists)
def radii_of_lists(
    here: tuple[int, int], queries: Points, data: Points, bits: int, among: int, excluded: Any, k: int, n_tiles: int, reach: Any
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
    among : int
        ALL, OWN_CLASS or OTHER_CLASSES.
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
    limits, size, tiles = no_limits(queries.codes.centre.shape[1]), 2 * k + 2 * HALF, len(data.boxes.classes)
    bounds = np.empty(TILE * size, np.float32)
    numbers = np.empty(TILE, np.int64), np.empty(TILE), np.empty(TILE), np.full(TILE, np.inf, np.float32)
    kept = _Kept(bounds, bounds.view(np.int32), *numbers, np.empty(tiles, np.float32), np.empty(tiles, np.int64))
    # Rows themselves are not asked for.
    queries, data = (each._replace(rows=each.rows._replace(rows=np.empty((0, 0), np.float32))) for each in (queries, data))
    _radii_of_lists(*here, queries, data, bits, among, excluded, k, n_tiles, limits, room, kept, reach)
    return room.work
