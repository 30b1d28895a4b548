"""The index in memory: points are sketched and cut into tiles once, then searched as often as needed.

`fastent.kernels.search` says how a search goes. Here its parts are made: sketches, tiles and their tree, and a price list that
decides how fine the sketches are.
"""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import joined, kernel_dtype, row_blocks
from fastent.kernels.bounds import QUERIES
from fastent.kernels.distance import squared_lengths
from fastent.kernels.search import Compared, Found, SearchedPoints, TiledPoints, TiledQueries, Tiles, search
from fastent.kernels.tree import TILE, Tree, bounding_boxes, build_tree, lay_out_tiles
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.runtime.threads import in_parallel, working_threads
from fastent.search.index import Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, Work, with_points
from fastent.search.sketch import FINEST, Frame, take_frame

__all__ = ["ExactIndex", "PreparedQueries", "View", "as_compared", "index_bytes"]

Array = NDArray[Any]

# With fewer points, features or queries than this all pairs are scanned: a frame would cost more than it saves.
_FEW_POINTS, _FEW_FEATURES, _FEW_QUERIES = 4096, 16, 512
_BLOCK_ROWS = 8192
_PILOT_QUERIES, _PILOT_POINTS, _PILOT_K = 64, 4096, 10
# Nanoseconds on one core of Zen 4: a coordinate of a scanned pair, a scanned pair, a survivor, a coordinate of its finer
# sketch, a pair whose distance is taken. Only ratios matter, and only to the choice of sizes.
_COORDINATE, _PAIR, _SURVIVOR, _FINER, _DISTANCE = 0.03, 0.15, 12.0, 0.12, 60.0


class Sizes(NamedTuple):
    """Numbers in a sketch and in the finer one; without a finer one the sketch is the whole point."""

    sketch: int
    fine: int


# A pilot picks one of them, or the whole point. It searches with the first, which is best where few pairs have to be compared.
_SIZES = (Sizes(16, 64), Sizes(32, 64), Sizes(32, 96), Sizes(32, 128), Sizes(48, 128))


class View(NamedTuple):
    """The frame that points are seen in, and the sizes of their sketches."""

    frame: Frame
    sizes: Sizes

    def fits(self, d: int, unit: bool) -> bool:
        """Whether rows of d features can be seen so, as they are or as unit rows."""
        return len(self.frame.origin) == d and self.frame.unit == unit


class PreparedQueries(NamedTuple):
    """Queries in tiles; the row that each leaves out, in tile order; each tile's class."""

    points: TiledPoints
    excluded: Array
    classes: Array

    def leaving_out(self, excluded: Array) -> "PreparedQueries":
        """The same, but leaving out other rows, (q,) in the order of the queries."""
        return self._replace(excluded=excluded[self.points.compared.ids])


class ExactIndex(Index):
    """Points prepared for exact search.

    Parameters
    ----------
    X : (n, d)
        From `as_features`, and within the range of `check_range`; any dtype and memory order.
    codes : (n,) int64, optional
        Classes, from 0. Tiles then hold one class each, and a search can be confined to a query's own class or to all others.
    unit : bool, optional, default False
        Compare rows by the angle between them: what is found are squared distances of rows of unit length, 2 (1 - cos).
    seed : int, optional, default 0
        Of the samples from which frame and sizes are taken. It cannot change what is found.
    n_queries : int, optional
        How many queries will come, if that is known: for few, every point is scanned, in the order they have.
    view : View, optional
        How an index of other rows sees points: so does this one, unless those have other features or are compared otherwise.
    """

    work: Work = Work(0, 0, 0, 0, 0)

    def __init__(
        self,
        X: Array,
        *,
        codes: Array | None = None,
        unit: bool = False,
        seed: int = 0,
        n_queries: int | None = None,
        view: "View | None" = None,
    ) -> None:
        n, d = X.shape
        whole = Sizes(-(-d // 8) * 8, 0)
        once = codes is None and n_queries is not None and n_queries <= _FEW_QUERIES
        scan = once or n < _FEW_POINTS or d <= _FEW_FEATURES
        guided = view is not None and view.fits(d, unit) and (view.sizes == whole if scan else view.frame.axes.size > 0)
        if view is not None and guided:
            self._frame, self.sizes = view
        else:
            self._frame = take_frame(X, n_axes=0 if scan else min(d, FINEST - 1), unit=unit, seed=seed)
            self.sizes = whole if scan else _SIZES[0]
        sketches = self._sketches(X, self.sizes)
        self._cut_into_tiles(np.zeros(n, np.int64) if codes is None else codes, sketches[0], in_order=once)
        rows = self._rows(X)
        lengths = squared_lengths(rows) if unit else np.empty(0)
        self._lay_out(rows, lengths, _taken_each(sketches, self._order))
        if not scan and not guided:
            best = self._cheapest([*_SIZES, whole], X, np.random.default_rng(seed))
            if best != self.sizes:
                self.sizes = best
                del self._points  # before the next takes its room
                self._lay_out(rows, lengths, _taken_each(self._sketches(X, best), self._order))

    def _cut_into_tiles(self, codes: Array, sketch: Array, *, in_order: bool) -> None:
        """The order of the rows in tiles, each of one class, and the tree over these; in_order: as the rows are numbered."""
        self._codes = codes
        self._order, groups, classes = _by_class(codes, sketch)
        *self._nodes, self._start, root = build_tree(sketch[:, :0] if in_order else sketch, self._order, groups)
        self._root = np.full(codes.max() + 1, -1, np.int64)  # of each class; none where it has no points
        self._root[classes] = root
        self._position = np.empty(len(codes), np.int64)
        self._position[self._order] = np.arange(len(codes))

    def _lay_out(self, rows: Array, lengths: Array, sketches: list[Array]) -> None:
        """The points, from what is in tile order, and the boxes of the tree."""
        self._points = _points(self._start, self._order, rows, lengths, sketches, self._frame.bounds.error)
        self._tree = Tree(*self._nodes, *bounding_boxes(*self._nodes, self._points.tiles.lower, self._points.tiles.upper))

    def relabelled(self, codes: NDArray[np.int64]) -> "ExactIndex":
        other, known = copy(self), self._points.compared
        other._cut_into_tiles(codes, _taken(known.sketch, self._position), in_order=False)
        at = self._position[other._order]
        lengths = known.lengths[at] if self._frame.unit else known.lengths
        other._lay_out(_taken(known.rows, at), lengths, [_taken(known.sketch, at), _taken(known.fine, at)])
        return other

    def _rows(self, X: Array) -> Array:
        """In tile order; X itself where it is that already."""
        dtype = kernel_dtype(X)
        ready = type(X) is np.ndarray and X.dtype == dtype and X.flags.c_contiguous and X.flags.aligned
        keeps = not self._frame.unit or dtype == np.float32
        if ready and keeps and np.array_equal(self._order, np.arange(len(X))):
            return X
        rows = np.empty(X.shape, dtype)

        def put(begin: int) -> None:
            block = slice(begin, begin + _BLOCK_ROWS)
            rows[self._position[block]] = as_compared(X[block].astype(dtype, copy=False), self._frame.unit)

        in_parallel(put, range(0, len(X), _BLOCK_ROWS))
        return rows

    def _sketches(self, X: Array, sizes: Sizes) -> list[Array]:
        if sizes.fine:
            return self._frame.sketches(X, *sizes)
        return [self._frame.whole(X), np.empty((len(X), 0), np.float32)]

    @property
    def order(self) -> NDArray[np.int64]:
        """Row numbers tile by tile, and so class by class: near ones lie side by side. (n,) int64."""
        order: NDArray[np.int64] = self._order
        return order

    @property
    def view(self) -> "View":
        """How it sees points."""
        return View(self._frame, self.sizes)

    def search(
        self,
        wanted: Wanted,
        queries: "IndexQueries | PreparedQueries" = None,
        *,
        within: Array | None = None,
        progress: Progress = None,
    ) -> dict[Among, NeighborLists]:
        prepared, n = self.prepare(queries), len(self._order)
        self.work = Work(0, 0, 0, 0, 0)
        lists = {}
        for among, k in wanted.items():
            n_queries = len(prepared.excluded)
            found = Found(
                squared=np.full((n_queries, k), np.inf),
                index=np.full((n_queries, k), n, np.int64),
                limits=np.empty(0),
                count=np.empty(0, np.int64),
            )
            if within is not None:
                found.squared[:] = within[:, None]
            self._traverse(prepared, found, among, progress)
            if within is not None:
                found.squared[found.index == n] = np.inf
            lists[among] = NeighborLists(found.squared, found.index)
        return lists

    def count_nearer(
        self, squared: NDArray[np.float64], queries: "IndexQueries | PreparedQueries" = None, *, progress: Progress = None
    ) -> NDArray[np.int64]:
        """How many rows are nearer to each query than a distance, given by its square (q,); its excluded row does not count."""
        prepared = self.prepare(queries)
        found = Found(
            squared=np.empty((0, 0)),
            index=np.empty((0, 0), np.int64),
            limits=np.asarray(squared, np.float64),
            count=np.zeros(len(prepared.excluded), np.int64),
        )
        self.work = Work(0, 0, 0, 0, 0)
        self._traverse(prepared, found, "all", progress)
        count: NDArray[np.int64] = found.count
        return count

    def prepare(self, queries: "IndexQueries | PreparedQueries") -> PreparedQueries:
        """Queries made ready for several searches, of this index or of one that it guides."""
        if isinstance(queries, PreparedQueries):
            return queries
        known, queries, unit = self._points.compared, with_points(queries), self._frame.unit
        if queries is None or (
            not isinstance(queries, ExternalQueries) and np.array_equal(queries, np.arange(len(self._order)))
        ):
            return PreparedQueries(self._points, known.ids, self._codes[self._order[self._start[:-1]]])
        if isinstance(queries, ExternalQueries):
            points, excluded, codes = queries
            sketches = self._sketches(points, self.sizes)
            rows = joined([as_compared(block, unit) for _, block in row_blocks(points)])
            rows = rows.astype(known.rows.dtype, copy=False)
            lengths = squared_lengths(rows) if unit else known.lengths
        else:
            at = self._position[queries]
            sketches, rows, excluded, codes = [known.sketch[at], known.fine[at]], known.rows[at], queries, self._codes[queries]
            lengths = known.lengths[at] if unit else known.lengths
        order, groups, _ = _by_class(codes, sketches[0])
        start = _pieces(build_tree(sketches[0], order, groups)[3])
        lengths = lengths[order] if unit else lengths
        tiled = _points(start, order, rows[order], lengths, _taken_each(sketches, order), self._frame.bounds.error)
        return PreparedQueries(tiled, excluded[order], codes[order[start[:-1]]])

    def _traverse(self, queries: PreparedQueries, found: Found, among: Among, progress: Progress) -> None:
        n_tiles = len(queries.classes)
        known = queries.classes < len(self._root)
        roots = np.where(known, self._root[np.where(known, queries.classes, 0)], -1)
        root = roots if among == "own class" else np.zeros(n_tiles, np.int64)
        excluded_root = roots if among == "other classes" else np.full(n_tiles, -1, np.int64)
        tiled = TiledQueries(queries.points, queries.excluded, root, excluded_root)
        data = SearchedPoints(self._points, self._tree)
        stop = np.zeros(1, np.uint8)

        def search_tiles(chosen: Array) -> tuple[int, Array]:
            return len(chosen), search(data, tiled, chosen, self._frame.bounds, found, stop)

        threads = working_threads()
        batches = np.array_split(np.flatnonzero(root >= 0), min(n_tiles, max(32 * threads, n_tiles // 16)))
        work, done = np.zeros(5, np.int64), 0
        with (
            interruptible() as interrupted,
            reporting(progress, "neighbours", n_tiles) as report,
            ThreadPoolExecutor(threads) as pool,
        ):
            pending = {pool.submit(search_tiles, chosen) for chosen in batches}
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                if interrupted():
                    stop[0] = 1
                    pool.shutdown(cancel_futures=True)
                    raise KeyboardInterrupt
                for batch in finished:
                    n_done, its_work = batch.result()
                    done, work = done + n_done, work + its_work
                report(done, "")
        work[2] *= TILE  # queries that met a tile have met all of its points
        self.work = Work(*(np.array(self.work) + work).tolist())

    def _cheapest(self, choices: list[Sizes], X: Array, generator: np.random.Generator) -> Sizes:
        """Price every size of sketch on a sample of pairs, at the distances within which some queries really have to search."""
        n, d = X.shape
        queries = generator.choice(n, min(_PILOT_QUERIES, n), replace=False)
        points = np.sort(generator.choice(n, min(_PILOT_POINTS, n), replace=False))
        k = min(_PILOT_K, n - 1)
        radius = (np.sqrt(self.nearest(k, queries).squared[:, -1:]) * self._frame.scale) ** 2
        scanned = self.work.scanned / (len(queries) * n)
        sizes = sorted({size for each in choices if each.fine for size in each})
        passed = {
            size: float(((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T <= radius).mean())
            for size, a, b in zip(
                sizes, self._frame.sketches(X[queries], *sizes), self._frame.sketches(X[points], *sizes), strict=True
            )
        }

        def price(choice: Sizes) -> float:
            pair: float = scanned * (_PAIR + _COORDINATE * choice.sketch)
            if not choice.fine:
                return pair
            finer, distance = _SURVIVOR + _FINER * choice.fine, _DISTANCE + _FINER * min(d, 2 * TILE)
            return float(pair + passed[choice.sketch] * finer + passed[choice.fine] * distance)

        return min(choices, key=price)


def as_compared(rows: Array, unit: bool) -> Array:
    """Rows from which distances are taken: as they are; for angles, of a length whose square double precision can hold."""
    if not unit or rows.dtype == np.float32:
        return rows
    scaled: Array = np.ldexp(rows, -np.frexp(np.abs(rows).max(1, keepdims=True))[1])
    return scaled


def _points(start: Array, order: Array, rows: Array, lengths: Array, sketches: list[Array], sketch_error: float) -> TiledPoints:
    """Points from rows and sketches, plain and finer, that are in tile order."""
    sketch, fine = sketches
    tiles = Tiles(start, *lay_out_tiles(sketch, start, sketch_error))
    return TiledPoints(tiles, Compared(order, rows, lengths, sketch, fine))


def _pieces(start: Array) -> Array:
    """Tiles cut smaller where they are too few to keep all threads at work."""
    width = min(TILE, max(QUERIES, -(-int(start[-1]) // (4 * working_threads()))))
    return np.unique(np.concatenate([start, *(np.arange(a, b, width) for a, b in pairwise(start))]))


def _taken_each(arrays: list[Array], order: Array) -> list[Array]:
    """Each array[order]; the arrays are let go one by one."""
    return [_taken(arrays.pop(0), order) for _ in range(len(arrays))]


def _taken(array: Array, order: Array) -> Array:
    """array[order], in parallel; the array itself where that is its order."""
    if np.array_equal(order, np.arange(len(array))):
        return array
    taken = np.empty_like(array)

    def take(begin: int) -> None:
        block = slice(begin, begin + _BLOCK_ROWS)
        np.take(array, order[block], 0, taken[block], "clip")

    in_parallel(take, range(0, len(order), _BLOCK_ROWS))
    return taken


def _by_class(codes: Array, sketch: Array) -> tuple[Array, Array, Array]:
    """Row numbers class by class, where each class begins, and the classes in that sequence: near ones side by side."""
    counts = np.bincount(codes)
    if np.count_nonzero(counts) == 1:
        return np.arange(len(codes)), np.array([0, len(codes)]), codes[:1]
    present = np.flatnonzero(counts)
    sums = np.stack([np.bincount(codes, column) for column in sketch.T], 1)
    sequence = _neighbouring(present, sums[present] / counts[present, None])
    rank = np.empty(len(counts), np.int64)
    rank[sequence] = np.arange(len(sequence))
    return np.argsort(rank[codes], kind="stable"), np.concatenate([[0], np.cumsum(counts[sequence])]), sequence


def _neighbouring(classes: Array, means: Array) -> Array:
    """Halve at the widest coordinate of the means, and each half again."""
    if len(classes) <= 2:
        return classes
    order = np.argsort(means[:, means.var(0).argmax()], kind="stable")
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    return np.concatenate([_neighbouring(classes[half], means[half]) for half in halves])


def index_bytes(X: Any, q: int, k: int) -> int:
    """Memory that an index of X and a search for the k nearest rows of q queries take at most, X itself not counted.

    For each row: the row itself in tile order; its sketch and its finer one, one of them twice while it is put in order, or
    the whole point twice; 104 bytes of numbers, boxes and norms. The same for each query, if these are not all rows. In
    addition the queries' lists, in double precision and as returned.
    """
    n, d = X.shape
    whole = -(-d // 8) * 8
    largest = 0 if n < _FEW_POINTS or d <= _FEW_FEATURES else max(sketch + 2 * fine for sketch, fine in _SIZES)
    row = kernel_dtype(X).itemsize * d + 4 * max(2 * whole, largest) + 104
    return int((n + (q if q != n else 0)) * row + q * (32 * k + 16))
