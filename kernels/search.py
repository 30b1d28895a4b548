"""Exact neighbours: a walk through pairs of tiles that compares only what could matter.

    two tiles ------- box to box, then point to box: who can want a point of the other?        here
      half a tile --- products of codes; of the survivors, the distance that decides           `meeting`

A tile holds points that are near each other. Boxes are of *sketches*: the first coordinates in a rotated frame, and the norm of
the rest; norms differ by no more than vectors do, so that |a - b| >= |s(a) - s(b)|. *Codes* stand for points, or for longer
sketches, in whole numbers (`quantized`), and their products tell which distances must be taken (`limits`).

Where all rows search all rows, two tiles meet at one time for both. Rows are as they were given, and distances are
theirs. Rounding: every threshold is widened by more than sketches, codes, boxes and sums can lose, by underflow too, so no pair
is dropped that exact arithmetic would keep. What a query finds depends on no other query: neither threads nor tiles, nor the
order in which they meet, change it.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import read_only
from .boxes import NEAREST_TILES, box_to_box, largest, points_to_box
from .found import ALL, OWN_CLASS, Found, closed_to
from .jit import driver, kernel, step
from .limits import no_limits
from .lists import WIDENED
from .meeting import NO, YES, meet_tile, no_room
from .points import Points
from .selection import in_front
from .tree import TILE

__all__ = ["meet_all", "search"]

# From so many queries of both tiles on, all pairs of these are met in one go. Where most tiles overlap, 2 to 144 take the same
# time and never doing so takes 1.8 times as long (50,000 sentence embeddings); 2 takes 5 to 9 % longer for points in 8
# dimensions.
_MANY = 104
# After so many pairs of tiles that were, one after the other, only every so many are asked who wants whom. Asking takes 2 to 4
# % of a search in which all do; from 4 and from 64 pairs on, and every 16th, there is no difference.
_MANY_PAIRS, _LOOK = 16, 4


class _Walk(NamedTuple):
    """How far one thread has come.

    to_box : (TILE,) float32
    other_active : (TILE,) int64
        As `Room.active`, for the other of two tiles.
    gaps, sequence : (tiles,) float32, int64
        How far the tiles are, and in which order they are met.
    many : (1,) int64
        How many pairs of tiles have met as a whole, one after the other.
    """

    to_box: Any
    other_active: Any
    gaps: Any
    sequence: Any
    many: Any


@step(counted=False)
def _activate(queries: Any, tile: int, data: Any, other: int, found: Any, to_box: Any, active: Any) -> int:
    """Note which queries of a tile can want a point of another; how many."""
    boxes = data.boxes
    points_to_box(queries.boxes.tiled[tile], boxes.lower[other], boxes.upper[other], to_box)
    error, first, n_active = queries.boxes.sketch_error[tile], queries.boxes.start[tile], np.int64(0)
    lowest, radii = data.rows.ids[boxes.start[other]], found.radii[tile * TILE : (tile + 1) * TILE]
    for t in range(queries.boxes.start[tile + 1] - first):
        radius = radii[t] + error
        if to_box[t] <= radius * radius * WIDENED and not closed_to(found, first + t, lowest):
            active[n_active] = t
            n_active += 1
    return n_active


@step(counted=False)
def _meet_wanted(
    queries: Any, tile: int, data: Any, other: int, bits: int, among: int, found: Any, limits: Any, room: Any, walk: Any
) -> None:
    """Let those queries of a tile meet another tile that can want a point of it."""
    n_active = _activate(queries, tile, data, other, found, walk.to_box, room.active)
    if n_active:
        room.work[1] += 1
        meet_tile(queries, tile, data, other, NO, n_active, bits, among, found, limits, room)


@step(counted=False)
def _meet_pair(points: Any, tile: int, other: int, bits: int, found: Any, limits: Any, room: Any, walk: Any) -> None:
    """Let two tiles of the same points meet, for both of them."""
    boxes, active, radii = points.boxes, room.active, found.radii
    mine, theirs = largest(radii[tile * TILE : (tile + 1) * TILE]), largest(radii[other * TILE : (other + 1) * TILE])
    reach = (mine if mine > theirs else theirs) + boxes.sketch_error[tile] + boxes.sketch_error[other]
    room.work[0] += 1
    if box_to_box(boxes.lower[tile], boxes.upper[tile], boxes.lower[other], boxes.upper[other]) > reach * reach * WIDENED:
        return
    n_active, n_other, once = np.int64(TILE), np.int64(TILE), boxes.twin[other] != tile  # else it has met this tile already
    if walk.many[0] < _MANY_PAIRS or walk.many[0] % _LOOK == 0 or not once:
        n_active = _activate(points, tile, points, other, found, walk.to_box, active)
        n_other = np.int64(0)
        if once:
            n_other = _activate(points, other, points, tile, found, walk.to_box, walk.other_active)
        if n_active + n_other == 0:
            return
    room.work[1] += 1
    many = n_active + n_other >= _MANY and n_other > 0 and n_active > 0
    walk.many[0] = walk.many[0] + 1 if many else 0
    if many:
        n_active = boxes.start[tile + 1] - boxes.start[tile]
        for t in range(n_active):
            active[t] = t
        meet_tile(points, tile, points, other, YES, n_active, bits, ALL, found, limits, room)
        return
    if n_active:
        meet_tile(points, tile, points, other, NO, n_active, bits, ALL, found, limits, room)
    if n_other:
        for i in range(n_other):
            active[i] = walk.other_active[i]
        meet_tile(points, other, points, tile, NO, n_other, bits, ALL, found, limits, room)


@step(counted=False)
def _begin_tile(points: Any, tile: int, bits: int, found: Any, limits: Any, room: Any, walk: Any) -> None:
    """Let the points of a tile meet each other; and those of its twin, which have the lowest ids of all that are equal."""
    boxes, active = points.boxes, room.active
    n_active = boxes.start[tile + 1] - boxes.start[tile]
    for t in range(n_active):
        active[t] = t
    meet_tile(points, tile, points, tile, NO, n_active, bits, ALL, found, limits, room)
    if boxes.twin[tile] != tile:
        _meet_wanted(points, tile, points, boxes.twin[tile], bits, ALL, found, limits, room, walk)


@step(counted=False)
def _meet_twins(
    queries: Any, tile: int, data: Any, n_near: int, bits: int, among: int, found: Any, limits: Any, room: Any, walk: Any
) -> int:
    """Let queries meet the first tile of each run of equal points that they may lie in, which has the lowest ids of these.

    Returns how many tiles are left to meet.
    """
    gaps, sequence, twin, left = walk.gaps, walk.sequence, data.boxes.twin, np.int64(0)
    for i in range(n_near):
        other = sequence[i]
        if gaps[i] == 0 and other + 1 < twin.shape[0] and twin[other + 1] == other:
            _meet_wanted(queries, tile, data, other, bits, among, found, limits, room, walk)
        else:
            gaps[left], sequence[left] = gaps[i], sequence[i]
            left += 1
    return left


@step(counted=False)
def _search_tile(
    queries: Any, tile: int, data: Any, bits: int, among: int, found: Any, limits: Any, room: Any, walk: Any
) -> None:
    """Let a tile of queries meet all tiles that they reach, the nearest first."""
    boxes, theirs, gaps, sequence = queries.boxes, data.boxes, walk.gaps, walk.sequence
    own, n_tiles, n_near = boxes.classes[tile], theirs.classes.shape[0], np.int64(0)
    for other in range(n_tiles):
        known = own >= 0 and theirs.classes[other] >= 0
        if among and known and (theirs.classes[other] == own) != (among == OWN_CLASS):
            continue
        gaps[n_near] = box_to_box(boxes.lower[tile], boxes.upper[tile], theirs.lower[other], theirs.upper[other])
        sequence[n_near] = other
        n_near += 1
    room.work[0] += n_tiles
    n_near = _meet_twins(queries, tile, data, n_near, bits, among, found, limits, room, walk)
    ordered = in_front(gaps[:n_near], sequence[:n_near], NEAREST_TILES)
    for i in range(n_near):
        reach = largest(found.radii[tile * TILE : (tile + 1) * TILE]) + boxes.sketch_error[tile]
        if gaps[i] > reach * reach * WIDENED:
            if i < ordered:
                return
            continue
        _meet_wanted(queries, tile, data, sequence[i], bits, among, found, limits, room, walk)


@kernel(counted=False)
def _search(
    mutual: bool, here: Any, there: Any, queries: Any, data: Any, bits: int, among: int, found: Any, limits: Any, room: Any,
    walk: Any,
) -> None:  # fmt: skip
    if not mutual:
        for tile in range(here[0], here[1]):
            _search_tile(queries, tile, data, bits, among, found, limits, room, walk)
        return
    if here[0] == there[0]:
        for tile in range(here[0], here[1]):
            _begin_tile(data, tile, bits, found, limits, room, walk)
        for offset in range(1, here[1] - here[0]):
            for tile in range(here[0], here[1] - offset):
                _meet_pair(data, tile, tile + offset, bits, found, limits, room, walk)
        return
    for tile in range(here[0], here[1]):
        for other in range(there[0], there[1]):
            _meet_pair(data, tile, other, bits, found, limits, room, walk)


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
    """The same where all points search all: let two ranges of tiles meet, each two tiles at one time, for both.

    Where both ranges are the same, that one within itself, which should come first: it fills the lists. No two threads may
    write to one range.
    """
    return _run(True, here, there, points, points, bits, ALL, found)


def _run(mutual: bool, here: Any, there: Any, queries: Points, data: Points, bits: int, among: int, found: Found) -> Any:
    n_tiles = 0 if mutual else len(data.boxes.classes)
    room, limits = no_room(queries.codes.raised.shape[1]), no_limits(queries.codes.centre.shape[1])
    walk = _Walk(
        to_box=np.empty(TILE, np.float32),
        other_active=np.empty(TILE, np.int64),
        gaps=np.empty(n_tiles, np.float32),
        sequence=np.empty(n_tiles, np.int64),
        many=np.zeros(1, np.int64),
    )
    queries, data = _with_read_only_rows(queries), _with_read_only_rows(data)
    _search(mutual, here, there, queries, data, bits, among, found, limits, room, walk)
    return room.work


def _with_read_only_rows(points: Points) -> Points:
    """Callers' own rows may be among them."""
    return points._replace(rows=points.rows._replace(rows=read_only(points.rows.rows)))
