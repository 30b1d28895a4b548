"""Exact neighbours: one way through pairs of tiles that compares only what could matter, and the reductions that plug into it.

    two tiles ------- box to box, then point to box: who can want a point of the other?
      half a tile --- products of codes, four queries at a time, compared at once
        a survivor -- the distance in the precision of the rows, left early
          at last --- the distance in double precision, which counts, and decides

A tile holds points that are near each other. Boxes are of *sketches*: the first coordinates in a rotated frame, and the norm of
the rest; norms differ by no more than vectors do, so that |a - b| >= |s(a) - s(b)|. *Codes* stand for points, or for longer
sketches, in whole numbers (`quantized`). Seen from the centres of two tiles, c apart,

    |a^ + c - b^|^2  =  (|a^|^2 + 2 a^c + |c|^2)  +  (|b^|^2 - 2 b^c)  -  2 a^b^

of which only the last depends on both. In units of twice the product of the tiles' steps it is a whole number, and so are,
rounded to the safe side, the others: a pair is wanted where its product reaches a limit of the one or of the other.

Where all rows search all rows, each pair is met once and counts for both. Rows are as they were given, and distances are
theirs. Rounding: every threshold is widened by more than sketches, codes, boxes and sums can lose, by underflow too, so no pair
is dropped that exact arithmetic would keep. What a query finds depends on no other query: neither threads nor tiles, nor the
order in which they meet, change it.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import copy_row, read_only
from .boxes import box_to_box, largest, points_to_box
from .distance import squared_angle
from .jit import FUSED, driver, kernel, prefetch, step
from .lists import WIDENED, enter, refine
from .quantized import HALF, LARGEST, Codes, first_bit, multiply_four, wanted_of_four
from .tree import TILE, select, sort_by_key

__all__ = ["ALL", "OTHER_CLASSES", "OWN_CLASS", "Boxes", "Found", "Points", "Rows", "meet_all", "search"]

# Which points a query wants.
ALL, OWN_CLASS, OTHER_CLASSES = np.int64(0), np.int64(1), np.int64(2)
# Words of each point that are multiplied in one go: half a tile of them stays in the first cache.
_WORDS = 96
_SHIFT = HALF.bit_length() - 1
# Of a row whose distance will be taken, so many bytes are asked for beforehand.
_AHEAD = 2048
# From so many queries of both tiles on, all pairs of these are met in one go.
_MANY = 104
# After so many pairs of tiles that were, one after the other, only every so many are asked who wants whom.
_MANY_PAIRS, _LOOK = 16, 4
# A query tile goes through so many tiles in the order of their distances, then through the others.
_NEAREST_TILES = 24
# Products of codes lie within 2^28, and so does what is taken off them; limits lie within 2^30, beyond any sum of these.
_LOWEST, _HIGHEST = -(2.0**30), 2.0**30
# A pad's sum is below every limit; a limit that no sum reaches.
_NO_POINT = np.int32(-(2**30) - 2**29)
_NEVER = np.int32(2**30)
# By how much an angle may be larger if it is taken the other way round.
_OTHER_WAY_ROUND = 1 + 2.0**-30
# Flags: numba would compile a step once for True and once for False.
_NO, _YES = np.int64(0), np.int64(1)
# What rounding may do to a product of a point with the distance between centres, for each feature, and to that distance.
_ROUNDING = 2.0**-22


# Numba unpacks a whole tuple wherever one of its fields is used; small tuples compile faster. So what kernels use comes in
# several, of which a step is passed those that it needs.


class Boxes(NamedTuple):
    """Where points lie, by their sketches.

    start : (tiles + 1,) int64
        Where each tile begins.
    tiled : (tiles, m * TILE) float32
        Coordinate j of point t at j * TILE + t.
    lower, upper : (tiles, m) float32
        Widened by what a sketch may be off.
    sketch_error : (tiles,) float32
        Largest error of a sketch in the tile.
    classes : (tiles,) int64
        The class of all of a tile's points; -1 where they have several.
    twin : (tiles,) int64
        Where all points of a run of tiles have one and the same sketch: the first tile of that run, else the tile itself.
    """

    start: Any
    tiled: Any
    lower: Any
    upper: Any
    sketch_error: Any
    classes: Any
    twin: Any


class Rows(NamedTuple):
    """What a pair of points needs, in tile order.

    ids : (n,) int64
        Numbers by which results are reported; ascending within a tile.
    rows : (n, d) float32 or float64
        As they were given; for angles each may be scaled.
    lengths : (n,) float64
        For angles, from `squared_lengths`; else of length 0.
    codes : (n,) int64
        Classes.
    scale, slack : float
        Two rows within a distance r lie within scale * r + slack in sketches and codes.
    """

    ids: Any
    rows: Any
    lengths: Any
    codes: Any
    scale: float
    slack: float


class Points(NamedTuple):
    """A set of points in tiles."""

    boxes: Boxes
    codes: Codes
    rows: Rows


class Found(NamedTuple):
    """What the search writes, in the queries' tile order.

    squared : (q, k) float64
        Squared distances, as `lists.enter` keeps them; infinity to begin with. For angles those of rows of unit length,
        2 (1 - cos). With k = 0 the search counts instead.
    index : (q, k) int64
        Ids of the data; ties by the lower.
    limits : (q,) float64
        For counting: squared distances.
    count : (q,) int64
        For counting: points nearer than the limit.
    excluded : (q,) int64
        The id that is left out, -1 for none.
    radii : (query tiles * TILE,) float32
        How far each query searches, in sketches; negative where there is none.
    """

    squared: Any
    index: Any
    limits: Any
    count: Any
    excluded: Any
    radii: Any


class _Limits(NamedTuple):
    """Of two tiles that meet, in units of twice the product of their steps.

    along, other_along : (TILE,) float32
        Products of the points with the distance between the centres, in steps.
    apart, other_apart : (TILE,) float64
        What of the squared distance depends on one end only, not above its value.
    limits, shifts : (TILE,) int32
        Of queries, in the order in which they are taken: products that reach the limit are wanted; what a shift adds to the
        limits of the points.
    others : (TILE,) int32
        From which sum on each point wants a query, less the query's shift.
    taken, begin : (TILE,) int32
        What is taken off a point's products; where these begin.
    nothing : (TILE,) int32
        Zeros.
    """

    along: Any
    other_along: Any
    apart: Any
    other_apart: Any
    limits: Any
    shifts: Any
    others: Any
    taken: Any
    begin: Any
    nothing: Any


class _Room(NamedTuple):
    """Where one thread works.

    sums : (TILE * TILE,) int32
        Of half after half, query after query.
    pending : (TILE * HALF,) int64
        Places in half of the sums.
    words : (TILE * words,) int32
        Of the queries.
    masks : (4,) uint64
    to_box : (TILE,) float32
    keys : (TILE,) int32
    active, other_active : (TILE,) int64
    between : (m,) float32
        From one centre to the other.
    gaps, sequence : (tiles,) float32, int64
        How far the tiles are, and in which order they are met.
    many : (1,) int64
        How many pairs of tiles have met as a whole, one after the other.
    work : (5,) int64
        Counts of what was done, as `search` returns them.
    """

    sums: Any
    pending: Any
    words: Any
    masks: Any
    to_box: Any
    keys: Any
    active: Any
    other_active: Any
    between: Any
    gaps: Any
    sequence: Any
    many: Any
    work: Any


@step(counted=False)
def _closed_to(found: Any, query: int, lowest: int) -> bool:
    """Whether a list is full of points at distance 0 with ids below this: then it has no room for any of a tile."""
    last = found.squared.shape[1] - 1
    return last >= 0 and found.squared[query, last] == 0 and found.index[query, last] < lowest


@step(counted=False)
def _activate(queries: Any, tile: int, data: Any, other: int, found: Any, to_box: Any, active: Any) -> int:
    """Note which queries of a tile can want a point of another; how many."""
    boxes = data.boxes
    points_to_box(queries.boxes.tiled[tile], boxes.lower[other], boxes.upper[other], to_box)
    error, first, n_active = queries.boxes.sketch_error[tile], queries.boxes.start[tile], np.int64(0)
    lowest, radii = data.rows.ids[boxes.start[other]], found.radii[tile * TILE : (tile + 1) * TILE]
    for t in range(queries.boxes.start[tile + 1] - first):
        radius = radii[t] + error
        if to_box[t] <= radius * radius * WIDENED and not _closed_to(found, first + t, lowest):
            active[n_active] = t
            n_active += 1
    return n_active


@step(counted=False)
def _difference(a: Any, b: Any, between: Any) -> float:
    """From one centre to another; how far that is, squared."""
    squared = 0.0
    for j in range(between.shape[0]):
        between[j] = a[j] - b[j]
        squared += np.float64(between[j]) * np.float64(between[j])
    return squared


@step(fastmath=FUSED, counted=False)
def _multiply_by(bits: int, packed: Any, between: Any, along: Any) -> None:
    """Products of the codes of a tile with a vector, in steps."""
    each, zero, right = 32 // bits, np.float32(0), np.int32(32 - bits)
    for t in range(TILE):
        along[t] = zero
    for w in range(between.shape[0] // each):
        words = packed[w * TILE : (w + 1) * TILE]
        for i in range(each):
            value, left = between[w * each + i], np.int32(32 - bits * (i + 1))
            for t in range(TILE):
                along[t] += np.float32(np.int32(words[t] << left) >> right) * value


@step(counted=False)
def _wanted_from(apart: float, radius: float, error: float, per_unit: float) -> float:
    """The least product of a point whose codes are wanted within a radius and what these may be off."""
    reach = np.float64(radius) + error
    return np.floor((apart - reach * reach * np.float64(WIDENED)) * per_unit) - 2


@step(counted=False)
def _limit(value: float) -> int:
    value = _LOWEST if value < _LOWEST else value
    return np.int32(_HIGHEST if value > _HIGHEST else value)


@step(fastmath=FUSED, counted=False)
def _set_apart(norms: Any, along: Any, factor: float, rounding: float, squared: float, apart: Any) -> None:
    """What of squared distances depends on the points of one tile only, not above its value."""
    if rounding == 0:
        for t in range(TILE):
            apart[t] = norms[t] + squared
    else:
        for t in range(TILE):
            apart[t] = norms[t] + factor * np.float64(along[t]) - rounding * np.sqrt(norms[t]) + squared


@step(fastmath=FUSED, counted=False)
def _set_taken(apart: Any, per_unit: float, taken: Any) -> bool:
    """What may be taken off products beforehand, in whole units; returns whether that holds for all."""
    beyond = np.int32(0)
    for t in range(TILE):
        value = np.floor(apart[t] * per_unit) - 1
        beyond = np.int32(beyond + (value < -LARGEST))
        value = -LARGEST if value < -LARGEST else value
        taken[t] = np.int32(LARGEST if value > LARGEST else value)
    return beyond == 0


@step(fastmath=FUSED, counted=False)
def _set_limits(apart: Any, radii: Any, errors: Any, error: float, per_unit: float, taken: Any, limits: Any) -> None:
    """From which product on each point wants another, less what is taken off."""
    for t in range(TILE):
        limits[t] = _limit(_wanted_from(apart[t], radii[t], np.float64(errors[t]) + error, per_unit) - taken[t])


@step(counted=False)
def _prepare(
    codes: Any, tile: int, data: Any, other: int, width: int, bits: int, same: int, mutual: int, found: Any, limits: Any,
    between: Any,
) -> Any:  # fmt: skip
    """What is known of two tiles before the products of their codes are.

    Returns what the distance between the centres may be off; how many units a squared distance of 1 is; and whether limits can
    tell: where centres are very far apart, in steps, they cannot, and all pairs are wanted.
    """
    step, other_step = codes.steps[tile], data.steps[other]
    here, there = tile * TILE, other * TILE
    per_unit = 0.5 / step / other_step
    squared = moved = rounding = 0.0
    if not same:
        squared = _difference(codes.centre[tile], data.centre[other], between)
    if squared > 0:
        moved = np.sqrt(squared) * _ROUNDING
        rounding = moved * (between.shape[0] + 8)
        _multiply_by(bits, codes.packed[tile], between, limits.along)
        _multiply_by(bits, data.packed[other], between, limits.other_along)
    _set_apart(codes.norms[here : here + TILE], limits.along, 2 * step, rounding, squared, limits.apart)
    _set_apart(data.norms[there : there + TILE], limits.other_along, -2 * other_step, rounding, 0.0, limits.other_apart)
    radii, errors, other_errors = found.radii[here : here + TILE], codes.errors[here : here + TILE], data.errors
    error, other_error = codes.largest_error[tile] + moved, data.largest_error[other] + moved
    safe = _set_taken(limits.other_apart, per_unit, limits.taken)
    _set_limits(limits.apart, radii, errors, other_error, per_unit, limits.nothing, limits.limits)
    raise_of, begin, taken, shifts, others = (
        data.raise_of[there : there + TILE],
        limits.begin,
        limits.taken,
        limits.shifts,
        limits.others,
    )
    if mutual:
        safe = _set_taken(limits.apart, per_unit, shifts) and safe
        radii, errors = found.radii[there : there + TILE], other_errors[there : there + TILE]
        _set_limits(limits.other_apart, radii, errors, error, per_unit, taken, others)
    else:
        for t in range(TILE):
            shifts[t], others[t] = 0, _NEVER
    for t in range(TILE):
        begin[t] = -taken[t] - raise_of[t] if safe else -raise_of[t]
    if not safe:
        for t in range(TILE):
            limits.limits[t] = np.int32(_LOWEST)
    for t in range(width, TILE):
        begin[t], others[t] = _NO_POINT, _NEVER
    return moved, per_unit, safe


@step(counted=False)
def _gather(codes: Any, tile: int, active: Any, n_active: int, limits: Any, words: Any) -> None:
    """Queries' words and limits, one after the other."""
    n_words = codes.raised.shape[1]
    for i in range(n_active):
        limits.limits[i], limits.apart[i] = limits.limits[active[i]], limits.apart[active[i]]  # these ascend
        copy_row(codes.raised[tile * TILE + active[i]], words[i * n_words : (i + 1) * n_words])


@step(counted=False)
def _multiply(data: Any, bits: int, other: int, half: int, begin: Any, n_active: int, words: Any, at: int, sums: Any) -> None:
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
def _distance(queries: Any, query: int, data: Any, point: int, threshold: float) -> float:
    """The squared distance that decides, or infinity if it is seen on the way to exceed the threshold."""
    a, b = queries.rows[query], data.rows[point]
    if queries.lengths.shape[0] > 0:
        return squared_angle(a, b, queries.lengths[query], data.lengths[point])
    return refine(a, b, threshold)


@step(counted=False)
def _wants(queries: Any, query: int, data: Any, point: int, among: int, found: Any) -> bool:
    """Whether a query may take a point that is near enough."""
    if among and (queries.codes[query] == data.codes[point]) != (among == OWN_CLASS):
        return False
    return data.ids[point] != found.excluded[query] and not _closed_to(found, query, data.ids[point])


@step(counted=False)
def _threshold(found: Any, query: int) -> float:
    """The squared distance beyond which a query wants nothing more."""
    k = found.squared.shape[1]
    return found.squared[query, k - 1] if k > 0 else found.limits[query]


@step(counted=False)
def _enter(queries: Any, query: int, place: int, squared: float, neighbour: int, found: Any) -> bool:
    """Enter a point in a query's list; or count it. Returns whether the radius may be shorter."""
    k = found.squared.shape[1]
    if k == 0:
        found.count[query] += squared < found.limits[query]
        return False
    its_squared = found.squared[query]
    if squared > its_squared[k - 1]:
        return False
    enter(its_squared, found.index[query], squared, neighbour)
    found.radii[place] = np.sqrt(its_squared[k - 1]) * queries.scale * np.float64(WIDENED) + queries.slack
    return True


class _Meeting(NamedTuple):
    """Two tiles that meet: their numbers, their first points, by how much codes of each may be off, and from `_prepare`."""

    tile: int
    other: int
    first: int
    other_first: int
    error: float
    other_error: float
    per_unit: float
    safe: bool


@step(counted=False)
def _meet_one(
    queries: Any, data: Any, found: Any, meeting: Any, i: int, t: int, s: int, total: int, among: int, mutual: int,
    limits: Any, work: Any,
) -> None:  # fmt: skip
    """Let query i, point t of its tile, meet point s of the other."""
    tile, other, first, other_first, error, other_error, per_unit, safe = meeting
    query, point = first + t, other_first + s
    wanted = total >= limits.limits[i] and _wants(queries.rows, query, data.rows, point, among, found)
    wants = mutual and (total >= limits.shifts[i] + limits.others[s] or not safe)
    wants = wants and _wants(data.rows, point, queries.rows, query, among, found)
    if not (wanted or wants):
        return
    work[3] += 1
    threshold = _threshold(found, query) if wanted else -1.0
    if wants and _threshold(found, point) > threshold:
        threshold = _threshold(found, point)
    squared = _distance(queries.rows, query, data.rows, point, threshold)
    if squared > threshold * _OTHER_WAY_ROUND:
        return
    work[4] += 1
    if wanted:
        place = tile * TILE + t
        if _enter(queries.rows, query, place, squared, data.rows.ids[point], found) and safe:
            off = np.float64(queries.codes.errors[place]) + other_error
            limits.limits[i] = _limit(_wanted_from(limits.apart[i], found.radii[place], off, per_unit))
    if wants:
        place = other * TILE + s
        if queries.rows.lengths.shape[0] > 0:
            squared = _distance(data.rows, point, queries.rows, query, np.inf)
        if _enter(data.rows, point, place, squared, queries.rows.ids[query], found) and safe:
            off = np.float64(data.codes.errors[place]) + error
            limits.others[s] = _limit(_wanted_from(limits.other_apart[s], found.radii[place], off, per_unit) - limits.taken[s])


@step(counted=False)
def _reached_by(keys: Any, number: int) -> int:
    """A value that so many of a tile's keys reach, or all do; hardly more, unless they are equal."""
    lowest, highest = keys[0], keys[0]
    for s in range(TILE):
        lowest = keys[s] if keys[s] < lowest else lowest
        highest = keys[s] if keys[s] > highest else highest
    below, beyond = np.int64(lowest), np.int64(highest) + 1
    while beyond - below > 1:
        middle, reach = np.int32((below + beyond) >> 1), np.int32(0)
        for s in range(TILE):
            reach = np.int32(reach + (keys[s] >= middle))
        if reach < number:
            beyond = np.int64(middle)
        else:
            below = np.int64(middle)
            if reach <= number + (number >> 1):
                break
    return np.int32(below)


@step(counted=False)
def _lay_out(queries: Any, query: int, data: Any, first: int, width: int, among: int, i: int, sums: Any, keys: Any) -> None:
    """The sums of query i with the points of a tile, side by side; those of points of classes that it does not want are low."""
    for half in range(2):
        begin = half * TILE * HALF + i * HALF
        copy_row(sums[begin : begin + HALF], keys[half * HALF : (half + 1) * HALF])
    if among:
        for s in range(width):
            if (queries.codes[query] == data.codes[first + s]) != (among == OWN_CLASS):
                keys[s] = _NO_POINT


@step(counted=False)
def _meet_first(
    queries: Any, data: Any, found: Any, meeting: Any, n_active: int, width: int, among: int, limits: Any, room: Any
) -> None:
    """Fill lists that are empty: from the least bounds first, so that the others find them short."""
    keys, k = room.keys, found.squared.shape[1]
    for i in range(n_active):
        t = room.active[i]
        query, nearest = meeting.first + t, _NEVER
        _lay_out(queries.rows, query, data.rows, meeting.other_first, width, among, i, room.sums, keys)
        if found.squared[query, k - 1] == np.inf:  # one more, as it may be a query that leaves out itself
            nearest = _reached_by(keys, k + 1)
            for s in range(width):
                if keys[s] >= nearest:
                    _meet_one(queries, data, found, meeting, i, t, s, keys[s], among, _NO, limits, room.work)
        for s in range(width):
            if keys[s] < nearest and keys[s] >= limits.limits[i]:
                _meet_one(queries, data, found, meeting, i, t, s, keys[s], among, _NO, limits, room.work)


@step(counted=False)
def _any_empty(found: Any, tile: int, active: Any, n_active: int) -> bool:
    for i in range(n_active):
        if found.radii[tile * TILE + active[i]] == np.inf:
            return found.squared.shape[1] > 0
    return False


@step(counted=False)
def _survivors(rows: Any, first_row: int, active: Any, n_active: int, half: int, limits: Any, room: Any) -> int:
    """Note which pairs of queries and half a tile codes let pass, and ask for their rows; how many."""
    masks, pending, n_pending, values = room.masks, room.pending, np.int64(0), rows.rows
    asked = _AHEAD // values.itemsize
    for first in range(0, n_active, 4):
        place = half * TILE * HALF + first * HALF
        wanted_of_four(room.sums, place, limits.limits, limits.shifts, first, limits.others, half * HALF, masks)
        for i in range(4 if n_active - first > 4 else n_active - first):
            wanted = masks[i]
            while wanted != 0:
                s = first_bit(wanted)
                wanted &= wanted - np.uint64(1)
                pending[n_pending] = ((first + i) << _SHIFT) + s
                n_pending += 1
                prefetch(values[first_row + half * HALF + s][:asked])
    return n_pending


@step(counted=False)
def _meet_tile(
    queries: Any, tile: int, data: Any, other: int, same: int, mutual: int, n_active: int, active: Any, bits: int, among: int,
    found: Any, limits: Any, room: Any,
) -> None:  # fmt: skip
    """Let some queries of a tile meet all points of another, which may want them too."""
    sums, n_words, start = room.sums, data.codes.raised.shape[1], data.boxes.start
    width = start[other + 1] - start[other]
    moved, per_unit, safe = _prepare(
        queries.codes, tile, data.codes, other, width, bits, same, mutual, found, limits, room.between
    )
    error, other_error = queries.codes.largest_error[tile] + moved, data.codes.largest_error[other] + moved
    meeting = _Meeting(tile, other, queries.boxes.start[tile], start[other], error, other_error, per_unit, safe)
    words, at = queries.codes.raised.reshape(-1), tile * TILE * n_words
    if n_active < TILE:
        _gather(queries.codes, tile, active, n_active, limits, room.words)
        words, at = room.words, 0
    filling = not mutual and _any_empty(found, tile, active, n_active)
    room.work[2] += n_active * width
    for half in range(2):
        _multiply(data.codes, bits, other, half, limits.begin, n_active, words, at, sums)
        if filling:
            continue
        n_pending = _survivors(data.rows, start[other], active, n_active, half, limits, room)
        for p in range(n_pending):
            i, s = room.pending[p] >> _SHIFT, half * HALF + (room.pending[p] & (HALF - 1))
            total = sums[half * TILE * HALF + room.pending[p]]
            _meet_one(queries, data, found, meeting, i, active[i], s, total, among, mutual, limits, room.work)
    if filling:
        _meet_first(queries, data, found, meeting, n_active, width, among, limits, room)


@step(counted=False)
def _meet_pair(points: Any, tile: int, other: int, bits: int, found: Any, limits: Any, room: Any) -> None:
    """Let two tiles of the same points meet, for both of them."""
    boxes, active, radii = points.boxes, room.active, found.radii
    mine, theirs = largest(radii[tile * TILE : (tile + 1) * TILE]), largest(radii[other * TILE : (other + 1) * TILE])
    reach = (mine if mine > theirs else theirs) + boxes.sketch_error[tile] + boxes.sketch_error[other]
    room.work[0] += 1
    if box_to_box(boxes.lower[tile], boxes.upper[tile], boxes.lower[other], boxes.upper[other]) > reach * reach * WIDENED:
        return
    n_active, n_other, once = np.int64(TILE), np.int64(TILE), boxes.twin[other] != tile  # else it has met this tile already
    if room.many[0] < _MANY_PAIRS or room.many[0] % _LOOK == 0 or not once:
        n_active = _activate(points, tile, points, other, found, room.to_box, active)
        n_other = np.int64(0)
        if once:
            n_other = _activate(points, other, points, tile, found, room.to_box, room.other_active)
        if n_active + n_other == 0:
            return
    room.work[1] += 1
    many = n_active + n_other >= _MANY and n_other > 0 and n_active > 0
    room.many[0] = room.many[0] + 1 if many else 0
    if many:
        n_active = boxes.start[tile + 1] - boxes.start[tile]
        for t in range(n_active):
            active[t] = t
        _meet_tile(points, tile, points, other, _NO, _YES, n_active, active, bits, ALL, found, limits, room)
        return
    if n_active:
        _meet_tile(points, tile, points, other, _NO, _NO, n_active, active, bits, ALL, found, limits, room)
    if n_other:
        for i in range(n_other):
            active[i] = room.other_active[i]
        _meet_tile(points, other, points, tile, _NO, _NO, n_other, active, bits, ALL, found, limits, room)


@step(counted=False)
def _begin_tile(points: Any, tile: int, bits: int, found: Any, limits: Any, room: Any) -> None:
    """Let the points of a tile meet each other; and those of its twin, which have the lowest ids of all that are equal."""
    boxes, active = points.boxes, room.active
    n_active = boxes.start[tile + 1] - boxes.start[tile]
    for t in range(n_active):
        active[t] = t
    _meet_tile(points, tile, points, tile, _YES, _NO, n_active, active, bits, ALL, found, limits, room)
    twin = boxes.twin[tile]
    if twin != tile:
        n_active = _activate(points, tile, points, twin, found, room.to_box, active)
        if n_active:
            _meet_tile(points, tile, points, twin, _NO, _NO, n_active, active, bits, ALL, found, limits, room)


@step(counted=False)
def _meet_twins(
    queries: Any, tile: int, data: Any, n_near: int, bits: int, among: int, found: Any, limits: Any, room: Any
) -> int:
    """Let queries meet the first tile of each run of equal points that they may lie in, which has the lowest ids of these.

    Returns how many tiles are left to meet.
    """
    gaps, sequence, twin, left = room.gaps, room.sequence, data.boxes.twin, np.int64(0)
    for i in range(n_near):
        other = sequence[i]
        if gaps[i] == 0 and other + 1 < twin.shape[0] and twin[other + 1] == other:
            n_active = _activate(queries, tile, data, other, found, room.to_box, room.active)
            if n_active:
                room.work[1] += 1
                _meet_tile(queries, tile, data, other, _NO, _NO, n_active, room.active, bits, among, found, limits, room)
        else:
            gaps[left], sequence[left] = gaps[i], sequence[i]
            left += 1
    return left


@step(counted=False)
def _search_tile(queries: Any, tile: int, data: Any, bits: int, among: int, found: Any, limits: Any, room: Any) -> None:
    """Let a tile of queries meet all tiles that they reach, the nearest first."""
    boxes, theirs, gaps, sequence = queries.boxes, data.boxes, room.gaps, room.sequence
    own, n_tiles, n_near = boxes.classes[tile], theirs.classes.shape[0], np.int64(0)
    for other in range(n_tiles):
        known = own >= 0 and theirs.classes[other] >= 0
        if among and known and (theirs.classes[other] == own) != (among == OWN_CLASS):
            continue
        gaps[n_near] = box_to_box(boxes.lower[tile], boxes.upper[tile], theirs.lower[other], theirs.upper[other])
        sequence[n_near] = other
        n_near += 1
    room.work[0] += n_tiles
    n_near = _meet_twins(queries, tile, data, n_near, bits, among, found, limits, room)
    ordered = n_near if n_near < _NEAREST_TILES else _NEAREST_TILES
    if ordered < n_near:
        select(gaps[:n_near], sequence[:n_near], ordered)
    sort_by_key(gaps[:ordered], sequence[:ordered])
    for i in range(n_near):
        reach = largest(found.radii[tile * TILE : (tile + 1) * TILE]) + boxes.sketch_error[tile]
        if gaps[i] > reach * reach * WIDENED:
            if i < ordered:
                return
            continue
        other = sequence[i]
        n_active = _activate(queries, tile, data, other, found, room.to_box, room.active)
        if n_active:
            room.work[1] += 1
            _meet_tile(queries, tile, data, other, _NO, _NO, n_active, room.active, bits, among, found, limits, room)


@kernel(counted=False)
def _search(
    mutual: bool, here: Any, there: Any, queries: Any, data: Any, bits: int, among: int, found: Any, limits: Any, room: Any
) -> None:
    if not mutual:
        for tile in range(here[0], here[1]):
            _search_tile(queries, tile, data, bits, among, found, limits, room)
        return
    if here[0] == there[0]:
        for tile in range(here[0], here[1]):
            _begin_tile(data, tile, bits, found, limits, room)
        for offset in range(1, here[1] - here[0]):
            for tile in range(here[0], here[1] - offset):
                _meet_pair(data, tile, tile + offset, bits, found, limits, room)
        return
    for tile in range(here[0], here[1]):
        for other in range(there[0], there[1]):
            _meet_pair(data, tile, other, bits, found, limits, room)


@driver(_search)
def search(here: tuple[int, int], queries: Points, data: Points, bits: int, among: int, found: Found) -> Any:
    """Find, for a range of tiles of queries, the nearest points, or count those nearer than a limit; by one thread.

    Parameters
    ----------
    here : (int, int)
        Tiles: from, to.
    queries, data : Points
    bits : int
        Of their codes.
    among : int
        ALL, OWN_CLASS or OTHER_CLASSES.
    found : Found

    Returns
    -------
    (5,) int64
        Boxes compared, pairs of tiles that met, pairs of points whose codes were multiplied, pairs that these let pass, pairs
        near enough.

    Notes
    -----
    Operations: a multiply-add of codes for each coordinate of two points that meet, at the rate of the processor's products.
    """
    return _run(False, here, here, queries, data, bits, among, found)


@driver(_search)
def meet_all(here: tuple[int, int], there: tuple[int, int], points: Points, bits: int, found: Found) -> Any:
    """The same where all points search all: let two ranges of tiles meet, each pair once, for the lists of both.

    Where both ranges are the same, that one within itself, which should come first: it fills the lists. No two threads may
    write to one range.
    """
    return _run(True, here, there, points, points, bits, ALL, found)


def _run(mutual: bool, here: Any, there: Any, queries: Points, data: Points, bits: int, among: int, found: Found) -> Any:
    words, n_tiles = queries.codes.raised.shape[1], len(data.boxes.classes)
    room = _Room(
        sums=np.empty(TILE * TILE, np.int32),
        pending=np.empty(TILE * HALF, np.int64),
        words=np.empty(TILE * words, np.int32),
        masks=np.empty(4, np.uint64),
        to_box=np.empty(TILE, np.float32),
        keys=np.empty(TILE, np.int32),
        active=np.empty(TILE, np.int64),
        other_active=np.empty(TILE, np.int64),
        between=np.empty(queries.codes.centre.shape[1], np.float32),
        gaps=np.empty(0 if mutual else n_tiles, np.float32),
        sequence=np.empty(0 if mutual else n_tiles, np.int64),
        many=np.zeros(1, np.int64),
        work=np.zeros(5, np.int64),
    )
    limits = _Limits(*np.empty((2, TILE), np.float32), *np.empty((2, TILE)), *np.zeros((6, TILE), np.int32))
    queries, data = _with_read_only_rows(queries), _with_read_only_rows(data)
    _search(mutual, here, there, queries, data, bits, among, found, limits, room)
    return room.work


def _with_read_only_rows(points: Points) -> Points:
    """Callers' own rows may be among them."""
    return points._replace(rows=points.rows._replace(rows=read_only(points.rows.rows)))
