"""Every query meets every row, block by block: one sweep over all pairs, and the reductions that plug into it.

    rows, class by class ---- blocks of rows ---- pairs of blocks ---- squared distances ---- reductions

Where all rows are queries each pair is met once and counts for both its ends. Otherwise rows are read in the order they have,
each once, so that X may be a memory map far larger than memory. Workers reduce blocks, what they found is added up in the order
of the blocks: no number depends on how many workers there are.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype, row_blocks
from fastent.io.result_cache import PartialResult
from fastent.kernels.pairs import Distances, Room, block_distances
from fastent.runtime.cluster import map_on_cluster
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.runtime.threads import in_parallel, single_blas_thread, working_threads
from fastent.search.index import ExternalQueries

__all__ = [
    "BLOCK_ROWS",
    "ClassBlock",
    "DistanceWorkspace",
    "LabelledPoints",
    "PairBlock",
    "Reduction",
    "Sums",
    "distances_in_double",
    "shared_classes",
    "shared_segments",
    "sweep",
    "sweep_bytes",
]

Array = NDArray[Any]

BLOCK_ROWS = 1024
# Rows read at a time, so that their classes make segments of some length.
_READ_BYTES = 16 << 20


class LabelledPoints(NamedTuple):
    """What is swept: (n, d) rows, their class codes (n,), their `typical_scale`, classes in all."""

    X: Array
    codes: NDArray[np.int64]
    scale: float
    n_classes: int

    def take(self, ids: Array) -> Array:
        """Some rows as kernels take them."""
        return self.X[ids].astype(kernel_dtype(self.X), copy=False)


class ClassBlock(NamedTuple):
    """Some points, class by class.

    ids : (r,) int64
        Row numbers.
    place : (r,) int64
        Their positions among the queries.
    start : int
        How many points of the same kind lie in blocks before this.
    rows : (r, d) float32 or float64
        As they were given.
    classes : (segments,) int64
    bounds : (segments + 1,) int64
        Where each class begins.
    mean : (d,) float64
    """

    ids: Array
    place: Array
    start: int
    rows: Array
    classes: Array
    bounds: Array
    mean: Array


class PairBlock(NamedTuple):
    """All pairs of two blocks of points.

    mirrored : bool
        Whether the columns are queries too, which meet these rows only here.
    """

    distances: Distances
    rows: ClassBlock
    columns: ClassBlock
    mirrored: bool


# What a block adds to a reduction's arrays: for its rows, and for its columns.
Sums = tuple[dict[str, Array], dict[str, Array]]


# The rows and the columns of a block, and whether the columns are queries that meet these rows only here.
BlockPair = tuple[ClassBlock, ClassBlock, bool]


class DistanceWorkspace:
    """Where one thread measures distances between blocks of at most `BLOCK_ROWS` points; the next block overwrites the last."""

    def __init__(self, features: int, scale: float) -> None:
        self.features, self.scale = features, scale
        self._rows = [np.empty((BLOCK_ROWS, features), np.float32) for _ in range(2)]
        self._norms = [np.empty(BLOCK_ROWS, np.float32) for _ in range(2)]
        self._squared = np.empty(BLOCK_ROWS**2, np.float32)

    def measure(self, rows: Array, others: Array, origin: Array | None = None) -> Distances:
        """Seen from a point between both blocks, by default halfway between their means."""
        if origin is None:
            origin = (rows.mean(0, dtype=np.float64) + others.mean(0, dtype=np.float64)) / 2
        r, c = len(rows), len(others)
        room = Room(
            self._rows[0][:r],
            self._rows[1][:c],
            self._norms[0][:r],
            self._norms[1][:c],
            self._squared[: r * c].reshape(r, c),
        )
        found: Distances | None = block_distances(rows, others, origin, self.scale, room)
        return found or distances_in_double(rows, others, origin, self.scale)


def distances_in_double(rows: Array, others: Array, origin: Array, scale: float) -> Distances:
    """The same in room of their own, in double precision."""
    (r, d), c = rows.shape, len(others)
    room = Room(np.empty((r, d)), np.empty((c, d)), np.empty(r), np.empty(c), np.empty((r, c)))
    in_double = rows.astype(np.float64, copy=False)
    others_in_double = in_double if others is rows else others.astype(np.float64, copy=False)
    found = block_distances(in_double, others_in_double, origin, scale, room)
    assert found is not None
    return found


class Reduction:
    """What a sweep finds for each query, in arrays that lie as queries are swept: a block adds to one piece of each.

    A subclass says in `reduce` what a block holds; what that adds up to, it reads with `by_query`.

    Parameters
    ----------
    n_queries : int
    arrays : by their names
        Their last axis, or the first of all of them where `query_axis` is 0, is that of the queries.
    """

    query_axis = -1

    def __init__(self, n_queries: int, **arrays: Array) -> None:
        self._arrays = arrays
        self._place = np.full(n_queries, -1)

    def reduce(self, block: PairBlock) -> Sums:
        """What a block adds to the arrays, by their names: for its rows, and for its columns where these are queries too.

        Called by any thread.
        """
        raise NotImplementedError

    def entry(self, others: ClassBlock) -> Any:
        """Which part of the leading axes is added to where queries have met others: all of it."""
        return ...

    def add(self, rows: ClassBlock, columns: ClassBlock, mirrored: bool, sums: Sums) -> None:
        """Add what `reduce` returned; called block after block."""
        for queries, others, found in ((rows, columns, sums[0]), (columns, rows, sums[1]))[: 1 + mirrored]:
            piece = self._piece(queries)
            for name, values in found.items():
                self._arrays[name][self.entry(others), piece] += values

    def state(self) -> dict[str, Array]:
        """The arrays that are added to, themselves; asked for where no block is being reduced."""
        return self._arrays | {"place": self._place}

    def where(self, queries: ClassBlock) -> Any:
        """Where in each of these arrays lies what belongs to some queries."""
        piece = self._piece(queries)
        return piece if self.query_axis == 0 else (..., piece)

    def by_query(self, name: str) -> Array:
        """A copy of an array whose axis of length q is in the order of the queries."""
        array = self._arrays[name]
        result = np.empty_like(array)
        np.moveaxis(result, self.query_axis, 0)[self._place] = np.moveaxis(array, self.query_axis, 0)
        return result

    def _piece(self, queries: ClassBlock) -> slice:
        """Where what belongs to some queries lies; notes whose that is."""
        piece = slice(queries.start, queries.start + len(queries.place))
        self._place[piece] = queries.place
        return piece


def sweep(
    points: LabelledPoints,
    queries: "NDArray[np.int64] | ExternalQueries | None",
    reductions: Sequence[Reduction],
    *,
    within_classes: bool = False,
    order: NDArray[np.int64] | None = None,
    progress: Progress = None,
    description: str = "all pairs",
    unfinished: PartialResult | None = None,
    client: Any = None,
) -> None:
    """Let every query meet every row of X, itself included.

    Parameters
    ----------
    queries : (q,) int64, or ExternalQueries, optional, default all rows
    within_classes : bool
        Leave out blocks that have no class on both sides.
    order : (n,) int64, optional
        Where all rows are queries: row numbers, class by class, best with near ones side by side.
    unfinished : PartialResult, optional
        Where the reductions' state is kept on the way, and taken up from.
    client : distributed.Client, optional
        Whose workers take a block of the queries each; not where all rows are queries.
    """
    unfinished = PartialResult() if unfinished is None else unfinished
    if client is not None and queries is not None:
        _sweep_on_cluster(points, queries, reductions, within_classes, progress, description, unfinished, client)
        return
    pairs, total = _mirrored(points, order) if queries is None else _streamed(points, _query_blocks(points, queries))
    _go_through(pairs, total, reductions, points, within_classes, progress, description, unfinished)


def _sweep_on_cluster(
    points: LabelledPoints,
    queries: "NDArray[np.int64] | ExternalQueries",
    reductions: Sequence[Reduction],
    within_classes: bool,
    progress: Progress,
    description: str,
    unfinished: PartialResult,
    client: Any,
) -> None:
    blocks = _query_blocks(points, queries)
    kept, begin = unfinished.kept(), 0
    if kept is not None:
        begin = int(kept["sides"])
        _restore(reductions, kept)
    work = partial(_one_query_block, points, queries, reductions, within_classes)
    with interruptible() as interrupted, reporting(progress, description, len(blocks)) as report:
        for number, found in enumerate(map_on_cluster(client, work, range(begin, len(blocks))), begin):
            for i, reduction in enumerate(reductions):
                place = reduction.where(blocks[number])
                for name, array in reduction.state().items():
                    array[place] = found[f"{i}/{name}"]
            report(number + 1, "")
            if unfinished.due or number + 1 == len(blocks):
                unfinished.keep(_state(reductions) | {"sides": np.array(number + 1)})
            if interrupted():
                raise KeyboardInterrupt


def _one_query_block(
    points: LabelledPoints, queries: Any, reductions: Sequence[Reduction], within_classes: bool, number: int
) -> dict[str, Array]:
    """What one block of the queries finds among all rows."""
    reductions = deepcopy(reductions)  # tasks of one process are given the same objects
    block = _query_blocks(points, queries)[number]
    pairs, total = _streamed(points, [block])
    _go_through(pairs, total, reductions, points, within_classes, None, "", PartialResult())
    return {name: array[reductions[int(name.split("/")[0])].where(block)] for name, array in _state(reductions).items()}


def _state(reductions: Sequence[Reduction]) -> dict[str, Array]:
    return {f"{i}/{name}": array for i, each in enumerate(reductions) for name, array in each.state().items()}


def _restore(reductions: Sequence[Reduction], kept: dict[str, Array]) -> None:
    for name, array in _state(reductions).items():
        array[...] = kept[name]


def _go_through(
    pairs: Iterator[BlockPair],
    total: int,
    reductions: Sequence[Reduction],
    points: LabelledPoints,
    within_classes: bool,
    progress: Progress,
    description: str,
    unfinished: PartialResult,
) -> None:
    if within_classes:
        pairs = (pair for pair in pairs if np.intersect1d(pair[0].classes, pair[1].classes).size)
    workspaces = threading.local()

    def reduce(rows: ClassBlock, columns: ClassBlock, mirrored: bool) -> list[Sums]:
        if not hasattr(workspaces, "mine"):
            workspaces.mine = DistanceWorkspace(points.X.shape[1], points.scale)
        distances = workspaces.mine.measure(rows.rows, columns.rows, (rows.mean + columns.mean) / 2)
        block = PairBlock(distances, rows, columns, mirrored)
        return [reduction.reduce(block) for reduction in reductions]

    threads = working_threads()
    with (
        interruptible() as interrupted,
        reporting(progress, description, total) as report,
        single_blas_thread(),
        ThreadPoolExecutor(threads) as pool,
    ):
        pending: deque[tuple[ClassBlock, ClassBlock, bool, Future[list[Sums]]]] = deque()
        added = done = 0
        kept = unfinished.kept()
        if kept is not None:
            added = int(kept["added"])
            done = sum(len(rows.ids) * len(columns.ids) for rows, columns, _ in islice(pairs, added))
            _restore(reductions, kept)

        def submit(how_many: int) -> None:
            for rows, columns, mirrored in islice(pairs, how_many):
                pending.append((rows, columns, mirrored, pool.submit(reduce, rows, columns, mirrored)))

        def keep() -> None:
            unfinished.keep(_state(reductions) | {"added": np.array(added)})

        submit(3 * threads)
        while pending:
            rows, columns, mirrored, future = pending.popleft()
            found = future.result()
            if not unfinished.due:  # else what is under way comes to its end first
                submit(1)
            for reduction, sums in zip(reductions, found, strict=True):
                reduction.add(rows, columns, mirrored, sums)
            done, added = done + len(rows.ids) * len(columns.ids), added + 1
            report(done, "")
            if not pending and unfinished.due:
                keep()
                submit(3 * threads)
            if interrupted():
                pool.shutdown(cancel_futures=True)
                raise KeyboardInterrupt
        keep()


def shared_classes(block: ClassBlock, other: ClassBlock) -> Iterator[tuple[int, int]]:
    """Which segments of the one and of the other are of one class."""
    places = {each: t for t, each in enumerate(other.classes.tolist())}  # as a rule there are few
    for s, each in enumerate(block.classes.tolist()):
        if each in places:
            yield s, places[each]


def shared_segments(block: ClassBlock, other: ClassBlock) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a class lies that both blocks have, from and to: in the one, in the other."""
    for s, t in shared_classes(block, other):
        yield (block.bounds[s], block.bounds[s + 1]), (other.bounds[t], other.bounds[t + 1])


def sweep_bytes(X: Array, n_queries: int) -> int:
    """Memory that a sweep takes at most, what the reductions keep not counted."""
    d, item = X.shape[1], kernel_dtype(X).itemsize
    # Of each thread: two blocks as they are read, and seen in single or, beside that, in double precision.
    blocks = working_threads() * BLOCK_ROWS * (12 * BLOCK_ROWS + (40 + 4 * item) * d)
    return int(n_queries * (item * d + 32) + blocks + 4 * _READ_BYTES)


def _mirrored(points: LabelledPoints, order: NDArray[np.int64] | None) -> tuple[Iterator[BlockPair], int]:
    if order is None:
        order = np.argsort(points.codes, kind="stable")
    blocks = _class_blocks(_rows(points, order), points.codes[order], order, order)

    def pairs() -> Iterator[BlockPair]:
        yield from ((block, block, False) for block in blocks)
        # Pairs that are reduced at the same time have no block in common that both would wait for.
        for offset in range(1, len(blocks)):
            for rows, columns in zip(blocks, blocks[offset:], strict=False):
                yield rows, columns, True

    return pairs(), sum(len(a.ids) * len(b.ids) for i, a in enumerate(blocks) for b in blocks[i:])


def _query_blocks(points: LabelledPoints, queries: "NDArray[np.int64] | ExternalQueries") -> list[ClassBlock]:
    if isinstance(queries, ExternalQueries):
        place = np.argsort(queries.classes, kind="stable")
        rows, ids, codes = (each[place] for each in queries)
    else:
        place = np.argsort(points.codes[queries], kind="stable")
        ids = queries[place]
        rows, codes = _rows(points, ids), points.codes[ids]
    return _class_blocks(rows, codes, ids, place)


def _streamed(points: LabelledPoints, queries: list[ClassBlock]) -> tuple[Iterator[BlockPair], int]:
    def pairs() -> Iterator[BlockPair]:
        for start, read in row_blocks(points.X, block_bytes=_READ_BYTES):
            for begin in range(0, len(read), 8 * BLOCK_ROWS):
                part = read[begin : begin + 8 * BLOCK_ROWS]
                ids = np.arange(start + begin, start + begin + len(part))
                order = np.argsort(points.codes[ids], kind="stable")
                for columns in _class_blocks(part[order], points.codes[ids[order]], ids[order], ids[order]):
                    for rows in queries:
                        yield rows, columns, False

    return pairs(), sum(len(rows.ids) for rows in queries) * len(points.X)


def _rows(points: LabelledPoints, ids: Array) -> Array:
    """`points.take`, in parallel."""
    rows = np.empty((len(ids), points.X.shape[1]), kernel_dtype(points.X))

    def take(begin: int) -> None:
        block = slice(begin, begin + BLOCK_ROWS)
        rows[block] = points.take(ids[block])

    in_parallel(take, range(0, len(ids), BLOCK_ROWS))
    return rows


def _class_blocks(rows: Array, codes: Array, ids: Array, place: Array) -> list[ClassBlock]:
    """Cut points that lie class by class into blocks of about the same size."""
    n_blocks = max(1, -(-len(rows) // BLOCK_ROWS), min(8, len(rows) // 64))
    blocks = []
    for part in np.array_split(np.arange(len(rows)), n_blocks):
        here = slice(part[0], part[-1] + 1)
        starts = np.flatnonzero(np.diff(codes[here], prepend=-1))
        bounds = np.append(starts, len(part))
        mean = rows[here].mean(0, dtype=np.float64)
        blocks.append(ClassBlock(ids[here], place[here], int(part[0]), rows[here], codes[here][starts], bounds, mean))
    return blocks
