"""Two tiles meet: products of the codes of some queries of one with all points of the other, and what becomes of the survivors.

    half a tile ----- products of codes, four queries at a time, compared at once with the limits of both ends
      a survivor ---- the distance in the precision of the rows, left early
        at last ----- the distance in double precision, which counts, and decides

The first half's survivors shorten lists, and so tighten limits, before the second half is compared.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import copy_row
from .distance import squared_angle
from .found import OWN_CLASS, may_take, take, threshold
from .jit import step
from .limits import NEVER, NO_POINT, set_limits, tighten_of_point, tighten_of_query
from .lists import refine
from .products import HALF, compare_four, multiply_four
from .selection import reached_by
from .tree import TILE
from .vectors import first_bit, prefetch

__all__ = ["NO", "YES", "Room", "meet_tile", "multiply", "no_room"]

# Words of each point that are multiplied in one go: half a tile of them, 24 KB, stays in a first cache of 32 KB. With a second
# cache of 1 MB it makes no difference (48, 192 and no limit, up to 8,192 features); half a tile of these takes 0.5 to 1 MB.
_WORDS = 96
_SHIFT = HALF.bit_length() - 1
# Of a row whose distance will be taken, so many bytes are asked for beforehand. Asking saves 1 to 6 % where rows do not fit in
# the caches (sentence embeddings, clusters); 512 and 16,384 do as well.
_AHEAD = 2048
# Half of what a distance in double precision takes, it takes in single: with that share of near pairs both ways are as long.
_MOSTLY = 0.55
# Flags: numba would compile a step once for True and once for False.
NO, YES = np.int64(0), np.int64(1)


class Room(NamedTuple):
    """Where one thread works.

    sums : (TILE * TILE,) int32
        Of half after half, query after query.
    pending : (TILE * HALF,) int64
        Places in half of the sums.
    words : (TILE * words,) int32
        Of the queries.
    masks : (4,) uint64
    keys : (TILE,) int32
        Sums of one query.
    active : (TILE,) int64
        Which queries of a tile meet another.
    work : (5,) int64
        Counts of what was done, as `search` returns them.
    """

    sums: Any
    pending: Any
    words: Any
    masks: Any
    keys: Any
    active: Any
    work: Any


def no_room(words: int) -> Room:
    """For points whose codes take so many words."""
    return Room(
        sums=np.empty(TILE * TILE, np.int32),
        pending=np.empty(TILE * HALF, np.int64),
        words=np.empty(TILE * words, np.int32),
        masks=np.empty(4, np.uint64),
        keys=np.empty(TILE, np.int32),
        active=np.empty(TILE, np.int64),
        work=np.zeros(5, np.int64),
    )


@step(counted=False)
def _gather(codes: Any, tile: int, active: Any, n_active: int, limits: Any, words: Any) -> None:
    """Queries' words and limits, one after the other."""
    n_words = codes.raised.shape[1]
    for i in range(n_active):
        limits.of_queries[i], limits.apart[i] = limits.of_queries[active[i]], limits.apart[active[i]]  # these ascend
        copy_row(codes.raised[tile * TILE + active[i]], words[i * n_words : (i + 1) * n_words])


@step(counted=False)
def multiply(data: Any, bits: int, other: int, half: int, begin: Any, n_active: int, words: Any, at: int, sums: Any) -> None:
    """Products of queries with half a tile, a block of features at a time."""
    n_words, packed = data.raised.shape[1], data.packed[other]
    for first in range(0, n_words, _WORDS):
        count = n_words - first if n_words - first < _WORDS else _WORDS
        points = first * TILE + half * HALF
        for i in range(0, n_active, 4):
            place, its_words = half * TILE * HALF + i * HALF, at + i * n_words + first
            if first == 0:
                multiply_four(bits, packed, points, words, its_words, n_words, count, begin, half * HALF, 0, sums, place)
            else:
                multiply_four(bits, packed, points, words, its_words, n_words, count, sums, place, HALF, sums, place)


@step(counted=False)
def _distance(queries: Any, query: int, data: Any, point: int, farthest: float) -> float:
    """The squared distance that decides, or infinity if it is seen on the way to exceed another."""
    a, b = queries.rows[query], data.rows[point]
    if queries.lengths.shape[0] > 0:
        return squared_angle(a, b, queries.lengths[query], data.lengths[point])
    return refine(a, b, farthest)


class _Meeting(NamedTuple):
    """Two tiles that meet: their numbers, their first points, and what `set_limits` returned.

    mostly : bool
        Whether survivors are mostly near: then nothing is saved by taking distances in the precision of the rows first.
    """

    tile: int
    other: int
    first: int
    other_first: int
    error: float
    other_error: float
    per_unit: float
    safe: bool
    mostly: bool


@step(counted=False)
def _meet_one(
    queries: Any, data: Any, found: Any, meeting: Any, i: int, t: int, s: int, total: int, among: int, mutual: int,
    limits: Any, work: Any,
) -> None:  # fmt: skip
    """Let query i, point t of its tile, meet point s of the other."""
    tile, other, first, other_first, error, other_error, per_unit, safe, mostly = meeting
    query, point = first + t, other_first + s
    query_wants = total >= limits.of_queries[i] and may_take(queries.rows, query, data.rows, point, among, found)
    point_wants = mutual and (total >= limits.shifts[i] + limits.of_points[s] or not safe)
    point_wants = point_wants and may_take(data.rows, point, queries.rows, query, among, found)
    if not (query_wants or point_wants):
        return
    work[3] += 1
    farthest = threshold(found, query) if query_wants else -1.0
    if point_wants and threshold(found, point) > farthest:
        farthest = threshold(found, point)
    squared = _distance(queries.rows, query, data.rows, point, np.inf if mostly else farthest)
    angular = queries.rows.lengths.shape[0] > 0
    if squared > farthest and not (angular and point_wants):  # an angle is rounded otherwise the other way round
        return
    work[4] += 1
    if query_wants:
        place = tile * TILE + t
        if take(queries.rows, query, place, squared, data.rows.ids[point], found) and safe:
            off = np.float64(queries.codes.errors[place]) + other_error
            tighten_of_query(i, found.radii[place], off, per_unit, limits)
    if point_wants:
        place = other * TILE + s
        if angular:
            squared = _distance(data.rows, point, queries.rows, query, np.inf)
        if take(data.rows, point, place, squared, queries.rows.ids[query], found) and safe:
            off = np.float64(data.codes.errors[place]) + error
            tighten_of_point(s, found.radii[place], off, per_unit, limits)


@step(counted=False)
def _lay_out(queries: Any, query: int, data: Any, first: int, width: int, among: int, i: int, sums: Any, keys: Any) -> None:
    """The sums of query i with the points of a tile, side by side; those of points of classes that it does not want are low."""
    for half in range(2):
        begin = half * TILE * HALF + i * HALF
        copy_row(sums[begin : begin + HALF], keys[half * HALF : (half + 1) * HALF])
    if among:
        for s in range(width):
            if (queries.classes[query] == data.classes[first + s]) != (among == OWN_CLASS):
                keys[s] = NO_POINT


@step(counted=False)
def _meet_first(
    queries: Any, data: Any, found: Any, meeting: Any, n_active: int, width: int, among: int, limits: Any, room: Any
) -> None:
    """Fill lists that are empty: from the least bounds first, so that the others find them short."""
    keys, k = room.keys, found.squared.shape[1]
    for i in range(n_active):
        t = room.active[i]
        query, nearest = meeting.first + t, NEVER
        _lay_out(queries.rows, query, data.rows, meeting.other_first, width, among, i, room.sums, keys)
        if found.squared[query, k - 1] == np.inf:  # one more, as it may be a query that leaves out itself
            nearest = reached_by(keys, k + 1, k + 1 + ((k + 1) >> 1))
            for s in range(width):
                if keys[s] >= nearest:
                    _meet_one(queries, data, found, meeting, i, t, s, keys[s], among, NO, limits, room.work)
        for s in range(width):
            if keys[s] < nearest and keys[s] >= limits.of_queries[i]:
                _meet_one(queries, data, found, meeting, i, t, s, keys[s], among, NO, limits, room.work)


@step(counted=False)
def _any_empty(found: Any, tile: int, active: Any, n_active: int) -> bool:
    for i in range(n_active):
        if found.radii[tile * TILE + active[i]] == np.inf:
            return found.squared.shape[1] > 0
    return False


@step(counted=False)
def _survivors(rows: Any, first_row: int, n_active: int, half: int, limits: Any, room: Any) -> int:
    """Note which pairs of queries and half a tile codes let pass, and ask for their rows; how many."""
    masks, pending, n_pending, values = room.masks, room.pending, np.int64(0), rows.rows
    asked = _AHEAD // values.itemsize
    for first in range(0, n_active, 4):
        place = half * TILE * HALF + first * HALF
        compare_four(room.sums, place, limits.of_queries, limits.shifts, first, limits.of_points, half * HALF, masks)
        for i in range(4 if n_active - first > 4 else n_active - first):
            survivors = masks[i]
            while survivors != 0:
                s = first_bit(survivors)
                survivors &= survivors - np.uint64(1)
                pending[n_pending] = ((first + i) << _SHIFT) + s
                n_pending += 1
                prefetch(values[first_row + half * HALF + s][:asked])
    return n_pending


@step(counted=False)
def meet_tile(
    queries: Any, tile: int, data: Any, other: int, mutual: int, n_active: int, bits: int, among: int, found: Any,
    limits: Any, room: Any,
) -> None:  # fmt: skip
    """Let queries of a tile, the first of `room.active`, meet all points of another, which may want them too.

    Parameters
    ----------
    queries, data : Points
    tile, other : int
    mutual : int
        Whether points of the other want queries, which then must be all of the tile.
    n_active : int
    bits : int
        Of the codes.
    among : int
        ALL, OWN_CLASS or OTHER_CLASSES.
    found : Found
    limits, room
        From `no_limits` and `no_room`.
    """
    sums, active, n_words, start = room.sums, room.active, data.codes.raised.shape[1], data.boxes.start
    width = start[other + 1] - start[other]
    error, other_error, per_unit, safe = set_limits(
        queries.codes, tile, data.codes, other, width, bits, mutual, found.radii, limits
    )
    mostly = room.work[4] > _MOSTLY * room.work[3]
    meeting = _Meeting(tile, other, queries.boxes.start[tile], start[other], error, other_error, per_unit, safe, mostly)
    words, at = queries.codes.raised.reshape(-1), tile * TILE * n_words
    if n_active < TILE:
        _gather(queries.codes, tile, active, n_active, limits, room.words)
        words, at = room.words, 0
    filling = not mutual and _any_empty(found, tile, active, n_active)
    room.work[2] += n_active * width
    for half in range(2):
        multiply(data.codes, bits, other, half, limits.begin, n_active, words, at, sums)
        if filling:
            continue
        n_pending = _survivors(data.rows, start[other], n_active, half, limits, room)
        for p in range(n_pending):
            i, s = room.pending[p] >> _SHIFT, half * HALF + (room.pending[p] & (HALF - 1))
            total = sums[half * TILE * HALF + room.pending[p]]
            _meet_one(queries, data, found, meeting, i, active[i], s, total, among, mutual, limits, room.work)
    if filling:
        _meet_first(queries, data, found, meeting, n_active, width, among, limits, room)
