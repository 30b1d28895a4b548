"""The index in memory: points are cut into tiles and coded once, then searched as often as needed.

`fastent.kernels.search` says how a search goes. Here its parts are made: tiles, boxes and codes, whose size `coding` chooses.
"""

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import joined, kernel_dtype, lies_ready, row_blocks
from fastent.kernels.distance import squared_lengths
from fastent.kernels.found import ALL, OTHER_CLASSES, OWN_CLASS, Found
from fastent.kernels.lists import WIDENED, sorted_lists
from fastent.kernels.points import Points, Rows
from fastent.kernels.quantized import Codes, encode, no_codes
from fastent.kernels.radii import radii_of_lists
from fastent.kernels.search import meet_all, search
from fastent.kernels.tree import TILE
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.runtime.threads import DisjointPairs, in_parallel, shared_out, single_blas_thread, working_threads
from fastent.search.coding import Coding, Expected, Pilot, cheapest, coding_in_order, codings, of_few, pair_distances
from fastent.search.index import Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, Work, with_points
from fastent.search.index_costs import (
    BOXED,
    CODED_BYTES,
    ROW_BYTES,
    axes_of_frame,
    index_seconds,
    is_piloted,
    pilot_points,
    tiles_met_first,
)
from fastent.search.prices import prices_for
from fastent.search.sketch import Frame, take_frame
from fastent.search.tiles import boxes_around, classes_of_tiles, starts, tile_order, tile_order_by_class

__all__ = ["ExactIndex", "PreparedQueries", "View", "as_compared"]

Array = NDArray[Any]

# Tiles that one thread takes at a time, unless there would be more ranges of tiles than that.
_BLOCK_TILES, _MOST_BLOCKS = 16, 128
# Neighbours in a sample from which farther or nearer ones are extrapolated.
_RANKS = 32
# Searches of fewer values take one thread.
_LITTLE = 1 << 30
# Queries and tiles of a pilot.
_PILOT_QUERIES, _PILOT_TILES = 64, 8
_AMONG: dict[Among, int] = {"all": ALL, "own class": OWN_CLASS, "other classes": OTHER_CLASSES}
# Coordinates of rows in single precision are taken as they are where none is larger, and the frame has no scale.
_LARGE = 2.0**40
# Points within this of a centre within this, in each of its coordinates, are not at 2^60, where points are drawn in.
_FAR_OUT = 2.0**40
# More than rounding to single precision, of bounds on distances, can take off their squares.
_ABOVE = 1 + 2.0**-16


class View(NamedTuple):
    """The frame that points are seen in, and how they are coded."""

    frame: Frame
    coding: Coding

    def fits(self, d: int, unit: bool) -> bool:
        """Whether rows of d features can be seen so, as they are or as unit rows."""
        return len(self.frame.origin) == d and self.frame.unit == unit


class PreparedQueries(NamedTuple):
    """Queries in tiles.

    points : Points
    ids : (q,) int64
        In tile order: their numbers among the queries.
    excluded : (q,) int64
        The row that each leaves out, in the order of the queries.
    """

    points: Points
    ids: Array
    excluded: Array

    def leaving_out(self, excluded: Array) -> "PreparedQueries":
        """The same, but leaving out other rows, (q,) in the order of the queries."""
        return self._replace(excluded=excluded)


class ExactIndex(Index):
    """Points prepared for exact search.

    Parameters
    ----------
    X : (n, d)
        From `as_features`, and within the range of `check_range`; any dtype and memory order.
    classes : (n,) int64, optional
        From 0. A search can be confined to a query's own class or to all others.
    unit : bool, optional, default False
        Compare rows by the angle between them: what is found are squared distances of rows of unit length, 2 (1 - cos).
    k : int, optional, default 10
        How long lists will be, for the choice of codes.
    seed : int, optional, default 0
        Of the samples from which frame and codes are taken. It cannot change what is found.
    view : View, optional
        How an index of other rows sees points: so does this one, unless those have other features or are compared otherwise.
    in_order : bool, optional, default False
        Leave the rows in their order, with no boxes to tell tiles apart: for few queries, which only the codes are to serve.
    by_class : bool, optional, default False
        Cut the rows of each class into tiles by themselves, so that lists of a class, or of all others, skip whole tiles.
    """

    work: Work = Work()

    def __init__(
        self,
        X: Array,
        *,
        classes: Array | None = None,
        unit: bool = False,
        k: int = 10,
        seed: int = 0,
        view: "View | None" = None,
        in_order: bool = False,
        by_class: bool = False,
    ) -> None:
        n, d = X.shape
        self._in_order = in_order
        n_axes = 0 if in_order else axes_of_frame(n, d)
        guide = view if view is not None and view.fits(d, unit) and (not n_axes or view.frame.axes.size) else None
        self._frame = take_frame(X, n_axes=n_axes, unit=unit, seed=seed) if guide is None else guide.frame
        sketch = np.zeros((n, 1), np.float32) if in_order else self._boxed(X)
        classes = np.zeros(n, np.int64) if classes is None else classes
        if by_class:
            self._order, tiled, start = tile_order_by_class(sketch, classes)
        else:
            (self._order, tiled), start = (np.arange(n), sketch) if in_order else tile_order(sketch), starts(n)
        self._position = np.empty(n, np.int64)
        self._position[self._order] = np.arange(n)
        rows, in_tiles = self._rows(X), classes[self._order]
        boxes = boxes_around(tiled, start, in_tiles, self._frame.bounds.error)
        del tiled
        self.expected: Expected | None = None
        if guide is not None:
            self.coding = guide.coding
        else:
            self.coding, self.expected = self._choose(X, rows, boxes, sketch, k, in_order, np.random.default_rng(seed))
        self._points = Points(boxes, self._coded(rows, start), self._as_rows(rows, in_tiles, self._order))

    def _boxed(self, X: Array) -> NDArray[np.float32]:
        """The sketches (n, at most `BOXED`) that boxes are of."""
        n_axes = self._frame.axes.shape[1]
        if X.shape[1] <= BOXED:
            return self._frame.whole(X)
        return self._frame.sketch(X, min(BOXED, n_axes + 1))

    def _known_sketches(self, places: Array) -> NDArray[np.float32]:
        """Those that boxes are of, of rows at some places in tile order."""
        tiled, start = self._points.boxes.tiled, self._points.boxes.start
        tiles = np.searchsorted(start, places, "right") - 1
        sketches: NDArray[np.float32] = tiled.reshape(len(tiled), -1, TILE)[tiles, :, places - start[tiles]]
        return sketches

    def _coded(self, rows: Array, start: Array) -> Codes:
        """Codes of rows in tile order, some tiles at a time."""
        (width, bits, centred), frame, d = self.coding, self._frame, rows.shape[1]
        codes: Codes = no_codes(len(start) - 1, width or d, bits)
        options = {"bits": bits, "share": frame.bounds.error, "centred": centred}
        if not width and _taken_as_they_are(rows, frame):
            encode(rows, start, frame.origin.astype(np.float32), codes, first_tile=0, **options)
            return codes
        origin, size = np.zeros(width or d, np.float32), max(1, CODED_BYTES // (4 * TILE * (width or d)))
        for tile in range(0, len(start) - 1, size):
            some = start[tile : tile + size + 1]
            block = rows[some[0] : some[-1]]
            points = frame.sketch(block, width) if width else frame.whole(block)
            encode(points, some - some[0], origin, codes, first_tile=tile, **options)
        return codes

    def _as_rows(self, rows: Array, classes: Array, ids: Array) -> Rows:
        lengths = squared_lengths(rows) if self._frame.unit else np.empty(0)
        return Rows(ids, rows, lengths, classes, self._frame.scale, self._frame.bounds.slack)

    def _choose(
        self, X: Array, rows: Array, boxes: Any, sketch: Array, k: int, in_order: bool, generator: np.random.Generator
    ) -> tuple[Coding, Expected | None]:
        """Price every coding on a sample of pairs, at the distances within which queries are expected to search."""
        n, d = X.shape
        if in_order:
            return coding_in_order(n, d, k), None
        if not is_piloted(n, d):
            return of_few(d), None
        queries = generator.choice(n, min(_PILOT_QUERIES, n), replace=False)
        points = np.sort(generator.choice(n, min(n, pilot_points(d)), replace=False))
        some_queries, some_points = (self._frame.whole(X[some]) for some in (queries, points))
        with single_blas_thread():
            radii = _radii(some_queries, some_points, queries[:, None] == points, min(k, n - 1), n)
            below, above = boxes.lower - sketch[queries][:, None], sketch[queries][:, None] - boxes.upper
            gaps = np.maximum(np.maximum(below, above), 0)
            scanned = float((np.einsum("qtj,qtj->qt", gaps, gaps) <= radii[:, None] ** 2).mean())
            start = boxes.start
            tiles = generator.choice(len(start) - 1, min(len(start) - 1, _PILOT_TILES), replace=False)
            norms = np.concatenate([_norms_about_mean(self._frame.whole(rows[start[i] : start[i + 1]])) for i in tiles])
            pilot = Pilot(some_queries, some_points, self._frame.axes.astype(np.float32), norms, radii, scanned, n, k)
            return cheapest(pilot, codings(d, self._frame.axes.shape[1], k), prices_for(n**2 * scanned, d))

    def _planned(self, prepared: PreparedQueries, wanted: Wanted) -> Work:
        """What was chosen, and what that is expected to take."""
        q, d = len(prepared.ids), self._points.rows.rows.shape[1]
        mutual = all(self._is_mutual(prepared, among) for among in wanted)
        width, bits, _ = self.coding
        of = f"{width} numbers for {d} features" if width else f"{d} features"
        chosen = f"far pairs excluded by {bits}-bit codes of {of}{', each two tiles met once' * mutual}"
        if self.expected is not None:
            times = [1 if self._is_mutual(prepared, among) else 2 for among in wanted]
            fixed = self.expected.distances + self.expected.radii
            seconds = q * sum(self.expected.products * each + fixed for each in times) * 1e-9
        else:
            expected = [index_seconds(self._points.rows.rows, q, k) for k in wanted.values()]
            seconds = sum(each.products + each.lists for each in expected)
        return Work(chosen=chosen, expected_seconds=seconds)

    def relabelled(self, classes: NDArray[np.int64]) -> "ExactIndex":
        other, (boxes, codes, rows) = copy(self), self._points
        in_tiles = classes[self._order]
        boxes = boxes._replace(classes=classes_of_tiles(in_tiles, boxes.start))
        other._points = Points(boxes, codes, rows._replace(classes=in_tiles))
        return other

    def _rows(self, X: Array) -> Array:
        """In tile order; X itself where it is that already."""
        dtype = kernel_dtype(X)
        keeps = not self._frame.unit or dtype == np.float32
        ready = keeps and type(X) is np.ndarray and lies_ready(X, dtype)
        if ready and np.array_equal(self._order, np.arange(len(X))):
            return X
        rows = np.empty(X.shape, dtype)

        size = max(1, ROW_BYTES // (dtype.itemsize * X.shape[1]))

        def put(begin: int) -> None:
            block = slice(begin, begin + size)
            if ready:
                np.take(X, self._order[block], 0, rows[block], "clip")
            else:
                rows[block] = as_compared(X[self._order[block]].astype(dtype, copy=False), self._frame.unit)

        in_parallel(put, range(0, len(X), size))
        return rows

    @property
    def order(self) -> NDArray[np.int64]:
        """Row numbers class by class; near ones lie side by side. (n,) int64."""
        order: NDArray[np.int64] = self._order[np.argsort(self._points.rows.classes, kind="stable")]
        return order

    @property
    def view(self) -> "View":
        """How it sees points."""
        return View(self._frame, self.coding)

    def search(
        self,
        wanted: Wanted,
        queries: "IndexQueries | PreparedQueries" = None,
        *,
        within: Array | None = None,
        progress: Progress = None,
    ) -> dict[Among, NeighborLists]:
        prepared, n = self.prepare(queries), len(self._order)
        self.work = self._planned(prepared, wanted)
        lists = {}
        for among, k in wanted.items():
            q = len(prepared.ids)
            farthest = np.full(q, np.inf) if within is None else within[prepared.ids]
            if among == "all" and np.isinf(farthest).any():
                farthest = np.minimum(farthest, self._squared_radii(prepared, k, progress))
            squared = np.repeat(farthest, k).reshape(q, k)
            index = np.full((q, k), n, np.int64)
            found = self._found(prepared, farthest, squared=squared, index=index)
            self._run(prepared, found, among, progress)
            sorted_lists(squared, index)
            squared[index == n] = np.inf
            lists[among] = NeighborLists(_scattered(squared, prepared.ids), _scattered(index, prepared.ids))
        return lists

    def count_nearer(
        self, squared: NDArray[np.float64], queries: "IndexQueries | PreparedQueries" = None, *, progress: Progress = None
    ) -> NDArray[np.int64]:
        """How many rows are nearer to each query than a distance, given by its square (q,); its excluded row does not count."""
        prepared = self.prepare(queries)
        nearer_than = np.asarray(squared, np.float64)[prepared.ids]
        count = np.zeros(len(nearer_than), np.int64)
        found = self._found(prepared, nearer_than, nearer_than=nearer_than, count=count)
        self.work = self._planned(prepared, {"all": 0})
        self._run(prepared, found, "all", progress)
        return _scattered(found.count, prepared.ids)

    def prepare(self, queries: "IndexQueries | PreparedQueries") -> PreparedQueries:
        """Queries made ready for several searches, of this index or of one that it guides."""
        if isinstance(queries, PreparedQueries):
            return queries
        known, queries, unit = self._points.rows, with_points(queries), self._frame.unit
        n = len(self._order)
        if queries is None or (not isinstance(queries, ExternalQueries) and np.array_equal(queries, np.arange(n))):
            return PreparedQueries(self._points, known.ids, np.arange(n))
        if isinstance(queries, ExternalQueries):
            points, excluded, classes = queries
            rows = joined([as_compared(block, unit) for _, block in row_blocks(points)])
            rows = rows.astype(known.rows.dtype, copy=False)
            sketch = np.zeros((len(points), 1), np.float32) if self._in_order else self._boxed(points)
        else:
            at = self._position[queries]
            rows, excluded, classes = known.rows[at], queries, known.classes[at]
            sketch = self._known_sketches(at)
        order, sketch = tile_order(sketch)
        start = starts(len(order), min(TILE, max(4, -(-len(order) // (4 * working_threads())))))
        rows, in_tiles = rows[order], classes[order]
        boxes = boxes_around(sketch, start, in_tiles, self._frame.bounds.error)
        prepared = Points(boxes, self._coded(rows, start), self._as_rows(rows, in_tiles, order))
        return PreparedQueries(prepared, order, excluded)

    def _squared_radii(self, prepared: PreparedQueries, k: int, progress: Progress = None) -> NDArray[np.float64]:
        """Squared distances (q,), in tile order, within which queries have k rows; infinity where that is not known."""
        (n, d), q, points = self._points.rows.rows.shape, len(prepared.ids), prepared.points
        reach, tiles = np.full(q, np.inf), len(self._points.boxes.start) - 1
        tiles = min(tiles, tiles_met_first(d, self.coding, k, prices_for(n * q, d)))
        if not tiles or any(_may_be_drawn_in(each.codes) for each in (points, self._points)):
            return reach
        known = self._points, self.coding.bits, prepared.excluded[prepared.ids], k, tiles, reach
        n_tiles = len(points.boxes.start) - 1
        tasks = ((b - a, partial(radii_of_lists, (a, b), points, *known)) for a, b in self._blocks(n_tiles))
        self._carry_out(tasks, n_tiles, q, "radii of lists", progress)
        with np.errstate(over="ignore"):
            radii: Array = (reach + self._points.rows.slack) / self._points.rows.scale
            return radii * radii * _ABOVE

    def _found(self, prepared: PreparedQueries, farthest: Array, **arrays: Array) -> Found:
        start = prepared.points.boxes.start
        radii = np.full((len(start) - 1, TILE), -1, np.float32)
        scale, slack = prepared.points.rows.scale, prepared.points.rows.slack
        place = _places(start)
        with np.errstate(over="ignore"):  # a radius beyond single precision is infinite
            radii.reshape(-1)[place] = np.sqrt(farthest) * (scale * float(WIDENED)) + slack
        nothing = {
            "squared": np.empty((len(place), 0)),
            "index": np.empty((len(place), 0), np.int64),
            "nearer_than": np.empty(0),
            "count": np.zeros(len(place), np.int64),
        }
        return Found(**(nothing | arrays), excluded=prepared.excluded[prepared.ids], radii=radii.reshape(-1))

    def _is_mutual(self, prepared: PreparedQueries, among: Among) -> bool:
        """Whether all rows search all rows, and so each pair is met for both its ends."""
        return prepared.points is self._points and among == "all"

    def _run(self, prepared: PreparedQueries, found: Found, among: Among, progress: Progress) -> None:
        mutual = self._is_mutual(prepared, among)
        total, tasks = self._meetings(found) if mutual else self._searches(prepared.points, found, _AMONG[among])
        self._carry_out(tasks, total, len(prepared.ids), "neighbours", progress)

    def _carry_out(self, tasks: Iterator["_Task"], total: int, q: int, what: str, progress: Progress) -> None:
        """Tasks of q queries that count for a total, by all threads; what they did is added to the work."""
        work, done = np.zeros(5, np.int64), 0

        def add(size: int, counts: Array) -> None:
            nonlocal work, done
            work, done = work + counts, done + size

        n, d = self._points.rows.rows.shape
        if q * n * d < _LITTLE:
            with reporting(progress, what, total) as report:
                for size, task in tasks:
                    add(size, task())
                report(done, "")
        else:
            with interruptible() as interrupted, reporting(progress, what, total) as report:

                def watch() -> None:
                    report(done, "")
                    if interrupted():
                        raise KeyboardInterrupt

                shared_out(lambda task: (task[0], task[1]()), tasks, lambda found: add(*found), watch)
        self.work = self.work.plus(work)

    def _meetings(self, found: Found) -> tuple[int, Iterator["_Task"]]:
        """Every pair of blocks of tiles."""
        blocks = self._blocks(len(self._points.boxes.start) - 1)
        pairs = DisjointPairs(len(blocks))

        def meet(pair: tuple[int, int]) -> Array:
            try:
                work: Array = meet_all(*(blocks[i] for i in pair), self._points, self.coding.bits, found)
            finally:
                pairs.free(pair)
            return work

        return len(pairs), ((1, partial(meet, pair)) for pair in pairs)

    def _searches(self, queries: Points, found: Found, among: int) -> tuple[int, Iterator["_Task"]]:
        """Tiles of queries, some at a time."""
        n_tiles = len(queries.boxes.start) - 1
        known = self._points, self.coding.bits, among, found
        return n_tiles, ((b - a, partial(search, (a, b), queries, *known)) for a, b in self._blocks(n_tiles))

    def _blocks(self, n_tiles: int) -> list[tuple[int, int]]:
        """Ranges of tiles: some for each thread, so many tiles that a range takes milliseconds, and not many ranges."""
        most = max(_BLOCK_TILES, -(-n_tiles // _MOST_BLOCKS))
        width = min(most, max(1, n_tiles // (4 * working_threads())))
        return [(begin, min(begin + width, n_tiles)) for begin in range(0, n_tiles, width)]


# What a task counts for, and the task, which returns what it did.
_Task = tuple[int, Callable[[], Array]]


def as_compared(rows: Array, unit: bool) -> Array:
    """Rows from which distances are taken: as they are; for angles, of a length whose square double precision can hold."""
    if not unit or rows.dtype == np.float32:
        return rows
    scaled: Array = np.ldexp(rows, -np.frexp(np.abs(rows).max(1, keepdims=True))[1])
    return scaled


def _may_be_drawn_in(codes: Codes) -> bool:
    """Whether points may be: then distances between them are shortened. They lie farther out than these could."""
    return float(codes.norms.max()) > _FAR_OUT**2 or max(float(codes.centre.max()), -float(codes.centre.min())) > _FAR_OUT


def _taken_as_they_are(rows: Array, frame: Frame) -> bool:
    """Whether rows of single precision can be seen from the origin in that precision: it holds the origin, and all squares."""
    if rows.dtype != np.float32 or frame.unit or frame.scale != 1 or np.abs(frame.origin).max() > _LARGE:
        return False
    held = np.array_equal(frame.origin.astype(np.float32), frame.origin)  # the frame may be that of other rows
    return held and float(rows.max()) < _LARGE and float(rows.min()) > -_LARGE


def _places(start: Array) -> NDArray[np.int64]:
    """Where in arrays of whole tiles the points lie that fill tiles from `start`."""
    tile = np.repeat(np.arange(len(start) - 1), np.diff(start))
    places: NDArray[np.int64] = tile * TILE + np.arange(start[-1]) - start[tile]
    return places


def _scattered(values: Array, ids: Array) -> Array:
    """In the order of the queries, what is in tile order."""
    scattered = np.empty_like(values)
    scattered[ids] = values
    return scattered


def _norms_about_mean(points: Array) -> Array:
    norms: Array = np.linalg.norm(points - points.mean(0), axis=1)
    return norms


def _radii(queries: Array, points: Array, same: Array, k: int, n: int) -> Array:
    """How far the k-th of n neighbours is expected to be, from some of the points; same (q, p) : where both are one row.

    Distances grow with a power of the rank, of which a sample shows the larger ranks only.
    """
    squared = pair_distances(queries, points)
    squared[same] = np.inf
    nearest = np.sqrt(np.sort(np.partition(squared, min(_RANKS, squared.shape[1] - 1), axis=1)[:, :_RANKS], axis=1))
    nearest = nearest[:, np.isfinite(nearest).all(0)]
    if not nearest.shape[1]:
        return np.zeros(len(queries))
    ranks = np.arange(1, nearest.shape[1] + 1)
    wanted = k * len(points) / n
    if wanted >= 1 and wanted <= len(ranks):
        between: Array = np.array([np.interp(wanted, ranks, each) for each in nearest])
        return between
    first, last = nearest[:, min(1, len(ranks) - 1)], nearest[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.log(last / first) / np.log(len(ranks) / 2)
        radii: Array = last * (wanted / len(ranks)) ** power
    radii[~np.isfinite(radii)] = last[~np.isfinite(radii)]
    return radii
