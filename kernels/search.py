"""Exact neighbours: one traversal that compares only pairs that could matter, and the reductions that plug into it.

Every point x (centred) has a *sketch* s(x) of m numbers: its first m - 1 coordinates in a rotated frame, and the norm of the
rest. For any two points

    |a - b|  >=  |s(a) - s(b)|

because norms differ by no more than the vectors do. A pair whose right side exceeds what the query still wants (its k-th
distance so far, or its radius) is not compared any further. The same bound, from box to box and from point to box, discards
tiles and subtrees:

    a tile of queries --- descends the tree, nearer child first ------- box to box
      its queries ------- which of them can want this tile ------------ point to box
        four at a time -- all TILE points of the tile, vectorised ----- inner products about the tile's centre
          a survivor ---- the same bound from a finer sketch ---------- differences
            then -------- the distance in the precision of the rows --- differences, left early
              at last --- the distance in double precision ------------ which counts, and decides

Sketches are scaled; the rows are as they were given, and distances are theirs. Rounding: every threshold is widened by more
than the sketch, the boxes and the sums can lose, by underflow too, so no pair is dropped that exact arithmetic would keep. What
a query finds depends on no other query: neither threads nor tiles change it.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import read_only
from .bounds import QUERIES, WORDS, bounds_of_four, first_bit
from .distance import squared_angle, squared_distance
from .jit import FUSED, SUMS, driver, kernel, step
from .sharing import parallel_for
from .tree import TILE, Tree, kept_of_products, select

__all__ = [
    "Compared",
    "Found",
    "SearchedPoints",
    "SketchBounds",
    "TiledPoints",
    "TiledQueries",
    "Tiles",
    "insert",
    "rank_candidates",
    "search",
]

# Survivors' distances are left early after so many features.
_STRIDE = 128

# What a sum of at most 128 squares in single precision can lose or gain, in whatever order it is taken: as a factor, and by
# underflow, even where a processor takes numbers below 2^-126 for 0. Longer sums are corrected where they are taken.
_WIDENED, _LOST_TO_UNDERFLOW = np.float32(1 + 2.0**-16), 128 * 2.0**-126
# Sums of squares in single precision may overflow only beyond this.
_LARGE = 2.0**126
# No id is higher.
_ANY = np.iinfo(np.int64).max


# Numba unpacks a whole tuple wherever one of its fields is used; small tuples compile faster. So what kernels use comes in
# several, of which a step is passed those that it needs.


class Tiles(NamedTuple):
    """What a tile of points needs.

    start : (tiles + 1,) int64
        Where each tile begins.
    tiled : (tiles, m * TILE) float32
        Sketches less the tile's centre, transposed: coordinate j of point t at j * TILE + t.
    norms : (tiles, TILE) float32
        Squared norms of those, less what the sum of inner products can lose; NaN, within no radius, where a tile is not full.
    centre, lower, upper : (tiles, m) float32
        The tiles' boxes, widened by the sketch error, and their centres.
    sketch_error : (tiles,) float32
        How far a sketch of the tile may be from where exact arithmetic puts it.
    """

    start: Any
    tiled: Any
    norms: Any
    centre: Any
    lower: Any
    upper: Any
    sketch_error: Any


class Compared(NamedTuple):
    """What a pair of points needs, in tile order.

    ids : (n,) int64
        Numbers by which results are reported (data), or under which they are written (queries).
    rows : (n, d) float32 or float64
        As they were given; for angles each may be scaled.
    lengths : (n,) float64
        For angles, from `squared_lengths`; else of length 0.
    sketch : (n, m) float32
    fine : (n, p) float32
        A finer sketch; p = 0 for none.
    """

    ids: Any
    rows: Any
    lengths: Any
    sketch: Any
    fine: Any


class TiledPoints(NamedTuple):
    """A set of points in tile order."""

    tiles: Tiles
    compared: Compared


class SearchedPoints(NamedTuple):
    """The data: points, and the tree over their tiles."""

    points: TiledPoints
    tree: Tree


class TiledQueries(NamedTuple):
    """Queries, and what each of them may find.

    points : TiledPoints
    excluded : (q,) int64
        In tile order: the id that is left out, -1 for none.
    root, excluded_root : (query tiles,) int64
        The node to begin at, and one to leave out (-1 for none): how a search is confined to a group, or to all others.
    """

    points: TiledPoints
    excluded: Any
    root: Any
    excluded_root: Any


class Found(NamedTuple):
    """What the search writes, a row for each query, by its id.

    squared : (q, k) float64
        Squared distances, ascending; infinity to begin with. For angles those of rows of unit length, 2 (1 - cos). With k = 0
        the search counts instead.
    index : (q, k) int64
        Ids of the data; ties by the lower.
    limits : (q,) float64
        For counting: squared distances.
    count : (q,) int64
        For counting: points nearer than the limit.
    """

    squared: Any
    index: Any
    limits: Any
    count: Any


class SketchBounds(NamedTuple):
    """How distances between sketches bound distances between rows.

    scale : float
        Of the sketch: a distance of 1 between rows is so long there.
    slack : float
        What underflow, and the scaling of rows to unit length, may do to a sketch, in its units.
    angular : bool
        Whether rows are compared by the angle between them.
    error : float
        A sketch is where exact arithmetic puts it, but for this share of its norm.
    """

    scale: float
    slack: float
    angular: bool
    error: float


class _Reach(NamedTuple):
    """How far the queries of the tile at hand search.

    radius, sketch_error : (TILE,) float32
        Their search radii, in the sketch, and how far their sketches may be off.
    last : (TILE,) int64
        The highest id that can still enter a query's list: any, until the list is full of points at distance 0.
    """

    radius: Any
    sketch_error: Any
    last: Any


class _Four(NamedTuple):
    """The four queries at hand, and how they and a tile are bound.

    active : (TILE,) int64
        All queries that meet the tile, of which these are four.
    twice : (4 * m,) float32
        -2 s(a) about the tile's centre.
    norm, limits : (4,) float32
        Their squared norms about it; what their bounds may be.
    bounds : (4 * TILE,) float32
    masks : (4 * WORDS,) uint64
        From `bounds_of_four`.
    """

    active: Any
    twice: Any
    norm: Any
    limits: Any
    bounds: Any
    masks: Any


class _Room(NamedTuple):
    """Where one thread works.

    tiled : (m * TILE,) float32
        The queries' sketches, transposed.
    to_box : (TILE,) float32
        Of each query its squared distance to a box.
    keys, numbers : (TILE,) float32, int64
        Bounds to select from.
    origin : (m,) float32
        Zeros.
    stack, distance : (128,) int64, float32
        Nodes to visit, and how far they are from the queries' box.
    """

    tiled: Any
    to_box: Any
    keys: Any
    numbers: Any
    origin: Any
    stack: Any
    distance: Any


class _Thread(NamedTuple):
    """What belongs to one thread.

    work : (5,) int64
        Counts of what was done, as `search` returns them.
    """

    reach: _Reach
    four: _Four
    room: _Room
    work: Any


@step(counted=False)
def _kept(m: int) -> float:
    """What is certain of a sum of m squares in single precision, taken one after another: rounding may add as much to each."""
    return np.float32(1 - (m + 8) * 2.0**-23)


@step(fastmath=FUSED)
def _points_to_box(tile: Any, lower: Any, upper: Any, squared: Any) -> None:
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
def _box_to_box(lower: Any, upper: Any, low: Any, high: Any) -> float:
    squared = zero = np.float32(0)
    for j in range(lower.shape[0]):
        below, above = lower[j] - high[j], low[j] - upper[j]
        gap = below if below > above else above
        gap = gap if gap > zero else zero
        squared += gap * gap
    return squared * _kept(lower.shape[0])


@step(fastmath=FUSED)
def _centre_to_centre(lower: Any, upper: Any, low: Any, high: Any) -> float:
    squared = np.float32(0)
    for j in range(lower.shape[0]):
        gap = (lower[j] + upper[j]) - (low[j] + high[j])
        squared += gap * gap
    return squared


@step(fastmath=SUMS)
def _about(sketch: Any, centre: Any, twice: Any) -> float:
    """Write -2 (s - centre), return the squared norm of s - centre."""
    total = np.float32(0)
    for j in range(sketch.shape[0]):
        difference = sketch[j] - centre[j]
        twice[j] = np.float32(-2) * difference
        total += difference * difference
    return total


@step(fastmath=SUMS)
def _squared(a: Any, b: Any) -> float:
    """In the precision of the rows."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@step(counted=False)
def insert(squared: Any, index: Any, distance: float, neighbour: int) -> None:
    """Insert into an ascending list, ties by the lower number; the last entry falls out."""
    position = squared.shape[0] - 1
    if distance > squared[position] or (distance == squared[position] and neighbour > index[position]):
        return
    while position > 0 and (
        squared[position - 1] > distance or (squared[position - 1] == distance and index[position - 1] > neighbour)
    ):
        squared[position], index[position] = squared[position - 1], index[position - 1]
        position -= 1
    squared[position], index[position] = distance, neighbour


@step(counted=False)
def _refine(a: Any, b: Any, threshold: float) -> float:
    """The squared distance, or infinity if it is seen on the way to exceed the threshold."""
    d = a.shape[0]
    limit = threshold * np.float64(_WIDENED) + _LOST_TO_UNDERFLOW if threshold < _LARGE else np.inf
    so_far = 0.0
    for j in range(0, d, _STRIDE):
        so_far += _squared(a[j : j + _STRIDE], b[j : j + _STRIDE])
        if so_far > limit:
            return np.inf
    return squared_distance(a, b)


@step(counted=False)
def _seed(bounds: Any, width: int, k: int, room: Any) -> float:
    """The bound that k of a tile's points do not exceed: with these a list is filled, so that the others find it short."""
    keys, numbers = room.keys[:width], room.numbers[:width]
    for t in range(width):
        keys[t] = bounds[t]
    select(keys, numbers, k)
    return keys[k]


@step(counted=False)
def _search_radius(threshold: float, sketch: Any, error: float) -> float:
    """How far from a query's sketch those of points within a squared distance may lie."""
    return np.sqrt(threshold) * sketch.scale * np.float64(_WIDENED) + (error + sketch.slack)


@step(counted=False)
def _largest(values: Any) -> float:
    largest = values[0]
    for i in range(1, values.shape[0]):
        largest = values[i] if values[i] > largest else largest
    return largest


@step(counted=False)
def _bound_four(
    tiles: Any, tile: int, sketches: Any, first_query: int, begin: int, present: int, reach: Any, four: Any
) -> None:
    """Bounds of up to four active queries from all points of a tile, and which points are within their limits."""
    centre, error = tiles.centre[tile], tiles.sketch_error[tile]
    active, twice, norms, limits = four.active, four.twice, four.norm, four.limits
    m = centre.shape[0]
    kept = np.float32(kept_of_products(m))
    for i in range(QUERIES):
        limits[i] = np.float32(-np.inf)
    for i in range(present):
        t = active[begin + i]
        norm = kept * _about(sketches[first_query + t], centre, twice[i * m : (i + 1) * m])
        radius = reach.radius[t] + error
        norms[i] = norm
        limits[i] = radius * radius * _WIDENED - norm
    bounds_of_four(tiles.tiled[tile], tiles.norms[tile], twice, limits, four.bounds, four.masks)


@step(counted=False)
def _distance(data: Any, point: int, queries: Any, query: int, threshold: float, angular: bool) -> float:
    """The squared distance that decides, or infinity if it is seen on the way to exceed the threshold."""
    a, b = queries.rows[query], data.rows[point]
    return squared_angle(a, b, queries.lengths[query], data.lengths[point]) if angular else _refine(a, b, threshold)


@step(counted=False)
def _enter(found: Any, place: int, squared: float, neighbour: int, t: int, sketch: Any, reach: Any) -> None:
    """Enter a point in a query's list, which may shorten its radius; or count it."""
    k = found.squared.shape[1]
    if k > 0:
        its_squared, its_index = found.squared[place], found.index[place]
        insert(its_squared, its_index, squared, neighbour)
        farthest = its_squared[k - 1]
        reach.radius[t] = _search_radius(farthest, sketch, reach.sketch_error[t])
        reach.last[t] = its_index[k - 1] if farthest == 0 else _ANY
    else:
        found.count[place] += squared < found.limits[place]


@step(counted=False)
def _threshold(found: Any, place: int) -> float:
    """The squared distance beyond which a query wants nothing more."""
    k = found.squared.shape[1]
    return found.squared[place, k - 1] if k > 0 else found.limits[place]


@step(counted=False)
def _meet_survivors(
    data: Any, first: int, width: int, error: float, queries: Any, query: int, excluded: int, t: int, i: int, sketch: Any,
    found: Any, thread: Any,
) -> None:  # fmt: skip
    """Let one query meet the points of a tile that its bounds leave over."""
    reach, four, room, work = thread
    bounds, masks = four.bounds[i * TILE : (i + 1) * TILE], four.masks[i * WORDS : (i + 1) * WORDS]
    norm, limit, radii, last = four.norm[i], four.limits[i], reach.radius, reach.last
    place, fine, radius, k = queries.ids[query], queries.fine[query], radii[t] + error, found.squared.shape[1]
    # A list that is empty is first filled with the points of the least bounds.
    seeding = radius == np.inf and width > k + 1
    first_few = _seed(bounds, width, k, room) if seeding else np.float32(np.inf)
    seen = near = 0
    for others in range(1 + seeding):
        for word in range(WORDS):
            bits = masks[word]
            while bits != 0:
                s = 64 * word + first_bit(bits)
                bits &= bits - np.uint64(1)
                point = first + s
                neighbour = data.ids[point]
                if bounds[s] > limit or (bounds[s] > first_few) != others:
                    continue
                if neighbour == excluded or neighbour > last[t]:
                    continue
                seen += 1
                if fine.shape[0] > 0 and _squared(fine, data.fine[point]) > radius * radius * _WIDENED:
                    continue
                squared = _distance(data, point, queries, query, _threshold(found, place), sketch.angular)
                if squared == np.inf:
                    continue
                near += 1
                _enter(found, place, squared, neighbour, t, sketch, reach)
                radius = radii[t] + error
                limit = radius * radius * _WIDENED - norm
    work[3] += seen
    work[4] += near


@step(counted=False)
def _scan(
    tiles: Any, tile: int, data: Any, queries: Any, excluded: Any, first_query: int, n_active: int, sketch: Any, found: Any,
    thread: Any,
) -> None:  # fmt: skip
    """Let the active queries of a tile meet all points of a tile of data."""
    reach, four, _, work = thread
    first, error, active, masks = tiles.start[tile], tiles.sketch_error[tile], four.active, four.masks
    width = tiles.start[tile + 1] - first
    for begin in range(0, n_active, QUERIES):
        present = n_active - begin if n_active - begin < QUERIES else QUERIES
        _bound_four(tiles, tile, queries.sketch, first_query, begin, present, reach, four)
        for i in range(present):
            if masks[i * WORDS] | masks[i * WORDS + 1] != 0:
                t = active[begin + i]
                query = first_query + t
                _meet_survivors(data, first, width, error, queries, query, excluded[query], t, i, sketch, found, thread)
    work[2] += n_active


@step(counted=False)
def _prepare(queries: Any, first: int, width: int, sketch: Any, found: Any, thread: Any) -> None:
    """Transpose the sketches of a tile of queries, and set their search radii."""
    reach, _, room, _ = thread
    radius, sketch_error, last = reach.radius, reach.sketch_error, reach.last
    tiled, origin = room.tiled, room.origin
    radius[:] = np.float32(-1)
    for t in range(width):
        coordinates = queries.sketch[first + t]
        for j in range(coordinates.shape[0]):
            tiled[j * TILE + t] = coordinates[j]
        error = np.float32(np.sqrt(_squared(coordinates, origin)) * sketch.error)
        sketch_error[t] = error
        radius[t] = _search_radius(_threshold(found, queries.ids[first + t]), sketch, error)
        last[t] = _ANY


@step(counted=False)
def _push_children(tree: Any, node: int, lower: Any, upper: Any, depth: int, stack: Any, distance: Any) -> None:
    """Put both children of a node on the stack, the one nearer to a box on top."""
    near, far = tree.left[node], tree.right[node]
    near_lower, near_upper, far_lower, far_upper = tree.lower[near], tree.upper[near], tree.lower[far], tree.upper[far]
    to_near, to_far = _box_to_box(lower, upper, near_lower, near_upper), _box_to_box(lower, upper, far_lower, far_upper)
    swap = to_near > to_far
    if to_near == to_far:  # as where both boxes meet the queries'
        between_near = _centre_to_centre(lower, upper, near_lower, near_upper)
        swap = between_near > _centre_to_centre(lower, upper, far_lower, far_upper)
    if swap:
        near, far, to_near, to_far = far, near, to_far, to_near
    stack[depth], distance[depth] = far, to_far
    stack[depth + 1], distance[depth + 1] = near, to_near


@step(counted=False)
def _activate(tiles: Any, tile: int, lowest: int, width: int, thread: Any) -> int:
    """Note which queries can want a point of a tile, where its lowest id is this; how many."""
    reach, four, room, _ = thread
    active, to_box, radii, last = four.active, room.to_box, reach.radius, reach.last
    _points_to_box(room.tiled, tiles.lower[tile], tiles.upper[tile], to_box)
    n_active = np.int64(0)
    for t in range(width):
        radius = radii[t]
        if to_box[t] <= radius * radius * _WIDENED and lowest <= last[t]:
            active[n_active] = t
            n_active += 1
    return n_active


@kernel(counted=False)
def _search(chosen: Any, searched_points: Any, tiled_queries: Any, sketch: Any, found: Any, stop: Any, thread: Any) -> None:
    (tiles, data), tree = searched_points
    (query_tiles, queries), excluded, root, excluded_root = tiled_queries
    reach, _, room, work = thread
    start, stack, distance = query_tiles.start, room.stack, room.distance
    for i in range(chosen.shape[0]):
        query_tile = chosen[i]
        first = start[query_tile]
        width = start[query_tile + 1] - first
        _prepare(queries, first, width, sketch, found, thread)
        lower, upper = query_tiles.lower[query_tile], query_tiles.upper[query_tile]
        farthest, left_out = _largest(reach.radius), excluded_root[query_tile]
        stack[0], distance[0] = root[query_tile], np.float32(0)
        depth = 1
        while depth > 0:
            if stop[0]:
                return
            depth -= 1
            node = stack[depth]
            if distance[depth] > farthest * farthest * _WIDENED or node == left_out:
                continue
            tile = tree.tile[node]
            if tile < 0:
                _push_children(tree, node, lower, upper, depth, stack, distance)
                work[0] += 2
                depth += 2
                continue
            work[1] += 1
            lowest = data.ids[tiles.start[tile]]  # ids ascend within a tile
            n_active = _activate(tiles, tile, lowest, width, thread)
            if n_active:
                _scan(tiles, tile, data, queries, excluded, first, n_active, sketch, found, thread)
                farthest = _largest(reach.radius)


@driver(_search)
def search(data: SearchedPoints, queries: TiledQueries, chosen: Any, sketch: SketchBounds, found: Found, stop: Any) -> Any:
    """Find, for some tiles of queries, the nearest points, or count those nearer than a limit; by one thread.

    Parameters
    ----------
    data : SearchedPoints
    queries : TiledQueries
    chosen : (any,) int64
        Which tiles of queries.
    sketch : SketchBounds
    found : Found
    stop : (1,) uint8
        Any other thread may set it to end the search before the next tile.

    Returns
    -------
    (5,) int64
        Boxes compared, tiles visited, queries that met a tile, pairs that the sketch let pass, pairs near enough.

    Notes
    -----
    Operations: 2 m for each query and point that meet, at about three quarters of what the machine's multiply-adds allow.
    """
    m, single = data.points.compared.sketch.shape[1], np.float32
    reach = _Reach(radius=np.empty(TILE, single), sketch_error=np.zeros(TILE, single), last=np.empty(TILE, np.int64))
    four = _Four(
        active=np.empty(TILE, np.int64),
        twice=np.zeros(QUERIES * m, single),
        norm=np.empty(QUERIES, single),
        limits=np.empty(QUERIES, single),
        bounds=np.empty(QUERIES * TILE, single),
        masks=np.empty(QUERIES * WORDS, np.uint64),
    )
    room = _Room(
        tiled=np.zeros(m * TILE, single),
        to_box=np.empty(TILE, single),
        keys=np.empty(TILE, single),
        numbers=np.empty(TILE, np.int64),
        origin=np.zeros(m, single),
        # A search goes down one path and leaves one node aside at each level: no tree of 2^60 tiles will come.
        stack=np.empty(128, np.int64),
        distance=np.empty(128, single),
    )
    data = data._replace(points=_with_read_only_rows(data.points))
    queries = queries._replace(points=_with_read_only_rows(queries.points))
    work = np.zeros(5, np.int64)
    _search(chosen, data, queries, sketch, found, stop, _Thread(reach, four, room, work))
    return work


def _with_read_only_rows(points: TiledPoints) -> TiledPoints:
    """Callers' own rows may be among them."""
    compared = points.compared
    return points._replace(compared=compared._replace(rows=read_only(compared.rows)))


@kernel()
def _rank_candidates(
    begin: int, end: int, rows: Any, lengths: Any, queries: Any, query_lengths: Any, excluded: Any, candidates: Any,
    angular: bool, squared: Any, index: Any,
) -> None:  # fmt: skip
    for i in range(begin, end):
        its_squared, its_index, query, its_candidates = squared[i], index[i], queries[i], candidates[i]
        for j in range(its_candidates.shape[0]):
            candidate = its_candidates[j]
            if candidate < 0 or candidate == excluded[i]:
                continue
            if angular:
                distance = squared_angle(query, rows[candidate], query_lengths[i], lengths[candidate])
            else:
                distance = squared_distance(query, rows[candidate])
            insert(its_squared, its_index, distance, candidate)


@driver(_rank_candidates)
def rank_candidates(
    rows: Any, lengths: Any, queries: Any, query_lengths: Any, excluded: Any, candidates: Any, k: int, angular: bool
) -> Any:
    """Keep the k nearest of some candidates, by distances in double precision, ties by the lower row number.

    Parameters
    ----------
    rows : (n, d), queries : (q, d)
        float32 or float64, C-contiguous.
    lengths, query_lengths : (n,), (q,) float64
        For angles, from `squared_lengths`.
    excluded : (q,) int64
        The row that is left out, -1 for none.
    candidates : (q, c) int64
        Row numbers without repetition; negative ones are no candidates.

    Returns
    -------
    squared : (q, k) float64
        Infinity where there are fewer.
    index : (q, k) int64
    """
    q = len(queries)
    squared, index = np.full((q, k), np.inf), np.full((q, k), len(rows), np.int64)
    rows, queries, candidates = read_only(rows), read_only(queries), np.ascontiguousarray(candidates, np.int64)
    parallel_for(_rank_candidates, q, rows, lengths, queries, query_lengths, excluded, candidates, angular, squared, index)
    return squared, index
