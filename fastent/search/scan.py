"""Few queries: every row meets all of them as it lies in memory, and no index is built.

    X -- a batch of rows -- each thread its part, block by block where rows must be converted -- kernels.scan -- lists
             from sample of rows: how far each query has to search at most

Nothing of X is copied but such blocks, and every row is read once (those of the sample twice), which also tells whether its
values are in range.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.ranges import check_range, largest_in_range
from fastent.arrays.validation import BLOCK_BYTES, kernel_dtype, lies_ready, stays_on_disk
from fastent.io.sources import blocks_ahead
from fastent.kernels.differences import ROWS, SEVERAL
from fastent.kernels.distance import grid_bits, squared_lengths
from fastent.kernels.lists import rank_candidates
from fastent.kernels.scan import HALVES, Asked, Met, Tolerance, directions, scan, widen
from fastent.kernels.sharing import parallel_for
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.runtime.threads import working_threads
from fastent.search.exact_index import as_compared
from fastent.search.index import Among, ExternalQueries, Index, IndexQueries, NeighborLists, Wanted, Work, merged, with_points
from fastent.search.prices import entries, prices_for

__all__ = ["ScannedRows", "scan_bytes", "scan_seconds"]

Array = NDArray[Any]

# Of so many rows, and of at least so many for each neighbour, each query takes the distances first.
_SAMPLE, _SAMPLE_PER_NEIGHBOR = 96, 4
# Of rows that have to be read for it, no more than every so manieth.
_SPARED = 8
# Rows whose middle is the centre that directions are seen from.
_MIDDLE_ROWS = 65
# Queries lie so many values farther apart, or those of 1,024 features and many more would share few lines of the cache.
_APART = 16
# Where squared distances to the nearest are between these, their sums may be taken in single precision.
_LEAST, _MOST = 2.0**-60, 2.0**80
# Bytes of a block of converted rows; multiply-adds between two looks at interrupts, and below which one thread does it all;
# rows of which a batch consists at least.
_BLOCK_BYTES, _BATCH, _LITTLE = 1 << 20, 1 << 32, 1 << 25
_LEAST_ROWS = 4096
# What an entry in a list takes beside the features of its distance, and moving another, in nanoseconds (100,000 x 64, k from
# 100 to 1,000); a call (1,000 x 64, 10 queries).
_ENTERED, _MOVED, _CALL = 70.0, 2.5, 0.4e6
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
# Directions whose squared distances from the nearest are below this are taken in double precision, and scaled at most so that
# single precision tells apart what that does.
_NARROW, _LARGEST_SCALE = 2.0**-16, 2.0**44


class _View(NamedTuple):
    """How rows are met.

    given : dtype
        As which rows are taken: the same as their `kernel_dtype`, or float64.
    met : dtype
        As which they are compared.
    centre : (d,) float64
        Where directions are seen from; empty where rows are compared as they are.
    scale : float
    """

    given: np.dtype[Any]
    met: np.dtype[Any]
    centre: NDArray[np.float64]
    scale: float


class ScannedRows(Index):
    """Rows that are not prepared for anything: each search reads all of them. For few queries.

    Parameters
    ----------
    X : (n, d)
        From `as_features`. Values out of the range of `check_range` are refused when they are met; whole numbers of 64 bits,
        and the queries, must have been checked before.
    unit : bool, optional, default False
        As for `ExactIndex`.
    """

    def __init__(self, X: Array, *, unit: bool = False) -> None:
        self._X, self._unit, self._dtype = X, unit, kernel_dtype(X)

    def relabelled(self, classes: NDArray[np.int64]) -> "ScannedRows":
        return self  # it has no lists of a class

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        assert set(wanted) == {"all"}, "a scan knows no classes"
        n, k = len(self._X), wanted["all"]
        points, excluded = self._points(queries)
        asked = Asked(points, self._lengths(points), excluded, np.empty((0, k)), np.empty((0, k), np.int64))
        q, d = points.shape
        limits, view = self._sampled(asked, k)
        if within is not None:
            limits = np.minimum(limits, within)
        met, errors = self._queries_met(asked.points, view)
        tolerance = self._tolerance(points, view)
        lists = NeighborLists.empty((q, k), n)
        threads = working_threads() if n * d * max(q, SEVERAL) > _LITTLE else 1
        work = np.zeros(3, np.int64)
        with interruptible() as interrupted, reporting(progress, "neighbours", n) as report:
            for start, rows in self._batches(max(_LEAST_ROWS, _BATCH // (q * d))):
                found, counts = self._meet(rows, start, asked, Met(None, met, errors), view, tolerance, limits, threads)
                lists, work = merged([lists, *found]), work + counts
                farthest, last = lists.squared[:, -1], lists.indices[:, -1]
                # What follows has higher numbers, and none of it can enter a list that is full of distances of 0.
                limits = np.where((farthest == 0) & (last < n), -1, np.minimum(limits, farthest))
                report(start + len(rows), "")
                if interrupted():
                    raise KeyboardInterrupt
        if work[2]:
            check_range(self._X, unit=self._unit)
        self.work = Work(
            scanned=q * n,
            survivors=int(work[0]),
            near=int(work[1]),
            chosen="a scan of the rows as they lie",
            expected_seconds=scan_seconds(self._X, q, k),
        )
        return {"all": lists}

    def _points(self, queries: IndexQueries) -> tuple[Array, NDArray[np.int64]]:
        """Of the queries, as they are compared, and the rows that they leave out."""
        queries = with_points(queries)
        if isinstance(queries, ExternalQueries):
            points, excluded = queries.points, queries.excluded
        else:
            excluded = np.arange(len(self._X)) if queries is None else queries
            points = self._X[excluded]
        return self._compared(points), excluded

    def _compared(self, rows: Array) -> Array:
        return np.ascontiguousarray(as_compared(np.asarray(rows, self._dtype), self._unit))

    def _lengths(self, rows: Array) -> Array:
        return squared_lengths(rows) if self._unit else np.empty(0)

    def _sampled(self, asked: Asked, k: int) -> tuple[NDArray[np.float64], _View]:
        """How far each query has to search at most, and how rows are best met, from some of the rows."""
        n, d = self._X.shape
        least = 1 if isinstance(self._X, np.ndarray) else _SPARED
        step = max(least, n // max(_SAMPLE, _SAMPLE_PER_NEIGHBOR * k))
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            sample = self._compared(self._X[np.arange(0, n, step)])
            excluded = np.where(asked.excluded % step == 0, asked.excluded // step, -1)
            candidates = np.tile(np.arange(len(sample)), (len(excluded), 1))
            lengths = self._lengths(sample)
            wanted = min(k, len(sample))
            found, _ = rank_candidates(sample, lengths, asked.points, asked.lengths, excluded, candidates, wanted, self._unit)
            nearest, farthest = found[:, 0], found[:, -1]
            limits = np.where(farthest >= 0, farthest, np.inf) if wanted == k else np.full(len(found), np.inf)
            typical = nearest[(nearest > 0) & (nearest < np.inf)]
            size = float(np.median(typical)) if len(typical) else 1.0
            if not self._unit:
                given = self._dtype if _LEAST < size < _MOST else _DOUBLE
                return limits, _View(given, given, np.empty(0), 1.0)
            centre = np.zeros(d)
            middle = sample[:: -(-len(sample) // _MIDDLE_ROWS)]
            seen = np.empty(middle.shape, np.float32)
            directions(middle, centre, 1.0, seen)
            centre = np.median(seen, axis=0).astype(np.float64)
            centre[~np.isfinite(centre)] = 0
            if size > _NARROW:
                return limits, _View(self._dtype, _SINGLE, centre, 1.0)
            return limits, _View(_DOUBLE, _SINGLE, centre, min(2.0 ** -round(np.log2(size) / 2), _LARGEST_SCALE))

    def _queries_met(self, points: Array, view: _View) -> tuple[Array, NDArray[np.float64]]:
        """Queries as they are met, several at a time, and what that may take off their distances from rows."""
        q, d = points.shape
        met = np.zeros((q if q == 1 else -(-q // SEVERAL) * SEVERAL, d + _APART), view.met)
        if not self._unit:
            met[:q, :d] = points
            return met, np.zeros(q)
        seen = np.empty((q, d), view.met)
        directions(points.astype(view.given), view.centre, view.scale, seen)
        met[:q, :d] = seen
        # A row is rounded to single precision, which moves it by a share of its distance from the centre: at most of that of
        # the query and of the distance between both, for which there is room in the factor. What it is rounded from, and the
        # query, are off by two roundings of a row of length 1, and by that of the length.
        lengths = np.sqrt(np.einsum("ij,ij->i", met[:q], met[:q], dtype=np.float64))
        unit = 2.0**-20 if view.given == _SINGLE else 2.0**-49
        return met, 2.0**-22 * lengths + (unit + 2 * (d + 16) * 2.0**-52) * view.scale

    def _tolerance(self, points: Array, view: _View) -> Tolerance:
        d = points.shape[1]
        rounding = (d + 16) * 2.0 ** (-22 if view.met == _SINGLE else -51)  # twice what sums can lose, in any order
        factor = 1 + rounding if rounding < 0.5 else np.inf
        # Where a processor takes the smallest numbers for 0, each of the differences may lose some, and each of the squares.
        lost = d * 2.0 ** (-120 if view.met == _SINGLE else -1015)
        largest = float(np.finfo(view.met).max)
        if self._unit:
            return Tolerance(view.scale, factor, lost, largest, float(np.finfo(np.float64).max), True, grid_bits(d))
        most = largest_in_range(d)
        # A value that is farther from the query's than what the query's lacks to the largest adds at least so much.
        room = most - float(np.abs(points).max())
        doubt = min(max(room, 0.0) ** 2 * (1 - 2.0**-8), largest)
        return Tolerance(1.0, factor, lost, doubt, most, False, 0)

    def _batches(self, size: int) -> Iterator[tuple[int, Array]]:
        """Row numbers and rows, so many at a time; rows that are read or computed on demand are so a batch ahead."""
        X, (n, d) = self._X, self._X.shape
        if stays_on_disk(X) and not isinstance(X, np.ndarray):
            size = max(1, BLOCK_BYTES // (d * X.dtype.itemsize))
        bounds = [(start, min(start + size, n)) for start in range(0, n, size)]
        if isinstance(X, np.ndarray):
            yield from ((start, X[start:stop]) for start, stop in bounds)
        else:
            yield from blocks_ahead(lambda start, stop: X[start:stop], bounds)

    def _meet(
        self, rows: Array, start: int, asked: Asked, met: Met, view: _View, tolerance: Tolerance, limits: Array, threads: int
    ) -> tuple[list[tuple[Array, Array]], Array]:
        """What the queries find in a batch of rows, in lists of each thread, and the work that it took."""
        n, q, k = len(self._X), len(limits), asked.squared.shape[1]
        # As if each list were full of rows at the limit, with a number that no row has.
        squared = np.broadcast_to(limits[:, None], (threads, q, k)).copy()
        index, work = np.full((threads, q, k), n), np.zeros((threads, 3), np.int64)

        def meet(begin: int, end: int) -> None:
            for t in range(begin, end):
                first, last = len(rows) * t // threads, len(rows) * (t + 1) // threads
                mine = asked._replace(squared=squared[t], index=index[t])
                work[t] = self._scan(rows[first:last], start + first, mine, met, view, tolerance)

        parallel_for(meet, threads)
        squared[index == n] = np.inf
        return list(zip(squared, index, strict=True)), work.sum(0)

    def _scan(self, rows: Array, number: int, asked: Asked, met: Met, view: _View, tolerance: Tolerance) -> Array:
        """Let rows meet the queries as they are, or else block by block."""
        ready = lies_ready(rows, self._dtype)
        if ready and view.met == self._dtype and not self._unit:
            rows = rows.view(np.ndarray)
            return np.asarray(scan(rows, number, asked, met._replace(rows=rows), tolerance))
        halves = HALVES and lies_ready(rows, np.float16)
        if halves and view.met == _SINGLE and not self._unit and len(met.points) <= SEVERAL:  # more would widen them again
            words = rows.view(np.ndarray).view(np.uint16)
            return np.asarray(scan(words, number, asked, met._replace(rows=words), tolerance))
        d = rows.shape[1]
        size = ROWS * max(1, _BLOCK_BYTES // (ROWS * d * view.given.itemsize))
        room = _Room(*(np.empty((min(size, len(rows)), d), dtype) for dtype in (self._dtype, view.given, view.met)))
        work = np.zeros(3, np.int64)
        for begin in range(0, len(rows), size):
            given, seen = self._block(rows[begin : begin + size], view, room)
            work += scan(given, number + begin, asked, met._replace(rows=seen), tolerance)
        return work

    def _block(self, rows: Array, view: _View, room: "_Room") -> tuple[Array, Array]:
        """Rows as they are given to kernels, and as they are met, in some room."""
        given, wide, seen = (each[: len(rows)] for each in room)
        if rows.dtype == np.float16 and rows.dtype.isnative:
            widen(np.ascontiguousarray(rows), given)
        elif lies_ready(rows, self._dtype):
            given = rows.view(np.ndarray)
        else:
            given[:] = rows
        if view.given != self._dtype:
            wide[:] = given
        else:
            wide = given
        if not self._unit:
            return given, wide
        directions(wide, view.centre, view.scale, seen)
        return given, seen


class _Room(NamedTuple):
    """For a block of rows as they are given to kernels, in the precision that they are taken in, and as they are met."""

    given: Array
    wide: Array
    met: Array


def scan_seconds(X: Any, q: int, k: int) -> float:
    """Processor time that a scan of X by q queries for k neighbours is expected to take on this machine."""
    n, d = X.shape
    prices, words = prices_for(q * n, d), kernel_dtype(X).itemsize / _SINGLE.itemsize
    met = n * (d * words * (prices.read + (q - 1) * prices.scanned) + (q - 1) * prices.scanned_pair)
    entered = q * entries(n, k)
    each = _ENTERED + d * prices.feature + k / 4 * _MOVED  # lists are kept in order
    return float(_CALL + met + entered * each) * 1e-9


def scan_bytes(X: Any, q: int, k: int) -> int:
    """Memory that a scan of X for the k nearest rows of q queries takes at most, X itself not counted.

    Blocks of rows in each thread, and rows that are read ahead; the sample, its distances, and lists in each thread.
    """
    n, d = X.shape
    threads, sample = working_threads(), min(n, 2 * max(_SAMPLE, _SAMPLE_PER_NEIGHBOR * k))
    blocks = 4 * threads * max(_BLOCK_BYTES, 8 * SEVERAL * d) + 4 * BLOCK_BYTES * (not isinstance(X, np.ndarray))
    return int(blocks + 3 * 8 * d * (sample + 2 * q) + 8 * q * sample + (threads + 3) * q * (32 * k + 16))
