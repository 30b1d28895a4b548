"""Rows cell by cell: dealt out in one pass, and read a cell at a time, from memory or from scratch files.

    rows, a block at a time -- sketches -- which cell? -- the block's rows, cell after cell -- one scratch file for each block
                                                                                                          |
                                       a cell: its piece of each file, rows ascending by number <---------+

A block's file is written before the list of what is in it, and both only appear when they are whole: so blocks can be dealt in
any order, by any process, and what a killed one left is used again.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import DerivedRows, stays_on_disk
from fastent.errors import FastentError
from fastent.io.scratch import Piece, ScratchFolder
from fastent.io.sources import ArraySource, blocks_ahead
from fastent.search.cells.partition import CellBoxes, Partition, boxes_of_cells

__all__ = ["CellRows", "Dealt", "as_stored", "blocks", "deal_block", "dealt", "is_copy", "is_spooled"]

Array = NDArray[Any]

# Rows of so many bytes are read by their numbers where they lie: a page holds no others.
_PAGE = 4096
# A piece is read as a whole, and its checksum compared, unless less than this share of its rows is wanted, and it is mapped.
_FEW = 0.25
# So many bytes are asked for at once where pieces are not mapped: an object store serves them side by side.
_TOGETHER = 16 << 20


class Dealt(NamedTuple):
    """What became of the rows start..start + m of a block.

    order : (m,) uint32
        Places of the rows in the block, cell after cell and ascending within each.
    counts : (cells,) int64
    checksums : (cells,) uint32
        CRC-32 of the piece of each cell; 0 where rows stay where they are.
    lower, upper : (cells, s) float32
        Boxes, in coordinates of sketches, around the rows of each cell.
    """

    order: Array
    counts: NDArray[np.int64]
    checksums: Array
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]


def is_spooled(X: Array) -> bool:
    """Whether a cell's rows are copied to scratch files, as reading them where they lie would read most other rows too."""
    given = as_stored(X)
    array = given.array if isinstance(given, ArraySource) else given
    lies_by_rows = isinstance(array, np.memmap) and array.flags.c_contiguous and array.strides[0] >= _PAGE
    return stays_on_disk(given) and not lies_by_rows


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """Where blocks of rows begin and end."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def deal_block(X: Array, partition: Partition, folder: ScratchFolder, bounds: tuple[int, int]) -> None:
    """Deal the rows of one block and copy them to a file in the folder, unless that has been done."""
    if not (folder.holds(_contents(bounds[0])) and folder.holds(_copies(bounds[0]))):
        _deal(as_stored(X)[slice(*bounds)], _derivation(X), partition, folder, bounds[0])


def dealt(X: Array, partition: Partition, folder: ScratchFolder | None, size: int) -> Iterator[tuple[Dealt, bool]]:
    """Deal one block of rows after the other, unless that has been done, and say whether it had; the next is read meanwhile."""
    given, derive = as_stored(X), _derivation(X)
    there = set() if folder is None else set(folder.names())
    done = {start for start, _ in blocks(len(X), size) if {_contents(start), _copies(start)} <= there}
    left = [each for each in blocks(len(X), size) if each[0] not in done]
    ahead = blocks_ahead(lambda start, stop: given[start:stop], left)
    for start, _ in blocks(len(X), size):
        if folder is not None and start in done:
            yield Dealt(**folder.read_arrays(_contents(start))), True
        else:
            begin, rows = next(ahead)
            assert begin == start
            yield _deal(rows, derive, partition, folder, start), False


def is_copy(name: str) -> bool:
    """Whether a file holds copies of rows."""
    return name.startswith("rows-") and name.endswith(".bin")


def _deal(rows: Array, derive: "_Derive", partition: Partition, folder: ScratchFolder | None, start: int) -> Dealt:
    sketch = partition.sketch(rows if derive is None else derive(rows))
    order, counts = partition.dealt(sketch, start + np.arange(len(rows)))
    boxes = boxes_of_cells(partition, sketch[order], counts)
    checksums = np.zeros(len(counts), np.uint32)
    found = Dealt(order.astype(np.uint32), counts, checksums, *boxes)
    if folder is not None:
        folder.write(_copies(start), _pieces(rows, order, counts, checksums))
        folder.write_arrays(_contents(start), found._asdict())
    return found


def _pieces(rows: Array, order: NDArray[np.int64], counts: NDArray[np.int64], checksums: Array) -> Iterator[bytes]:
    """The rows of one cell after the other; their checksums are noted."""
    ends = np.cumsum(counts)
    for cell, (begin, end) in enumerate(zip(ends - counts, ends, strict=True)):
        piece = rows[order[begin:end]].tobytes()
        checksums[cell] = zlib.crc32(piece)
        yield piece


class CellRows:
    """Rows (n, d), a cell at a time.

    Parameters
    ----------
    X : (n, d)
    partition : Partition
    found : iterable of Dealt
        Of every block, in their order.
    folder : ScratchFolder, optional
        Where the blocks' files are, if rows were copied.
    size : int
        Rows of a block.

    Attributes
    ----------
    order : (n,) int64
        Row numbers cell after cell, ascending within each.
    start : (cells + 1,) int64
        Where each cell begins in that.
    boxes : CellBoxes
        Around the rows of each.
    bytes_read : int
        Since it was last set to 0; see `afresh`.
    bytes_copied : int
        In scratch files, whoever wrote them.
    """

    def __init__(self, X: Array, partition: Partition, found: "list[Dealt]", folder: ScratchFolder | None, size: int) -> None:
        self._given, self._derive, self._folder = as_stored(X), _derivation(X), folder
        self.partition, self.bytes_read = partition, 0
        self.bytes_copied = 0 if folder is None else len(X) * X.shape[1] * self._given.dtype.itemsize
        self._blocks = [start for start, _ in blocks(len(X), size)]
        self._counts = np.array([each.counts for each in found])  # (blocks, cells)
        self._checksums = [each.checksums for each in found]
        self.start = np.append(0, np.cumsum(self._counts.sum(0)))
        self.order = np.empty(len(X), np.int64)
        at = self.start[:-1].copy()
        for begin, each in zip(self._blocks, found, strict=True):
            ends = np.cumsum(each.counts)
            for cell, (first, last) in enumerate(zip(ends - each.counts, ends, strict=True)):
                self.order[at[cell] : at[cell] + last - first] = each.order[first:last]
                self.order[at[cell] : at[cell] + last - first] += begin
            at += each.counts
        self.boxes = CellBoxes(found[0].lower.copy(), found[0].upper.copy())
        for each in found[1:]:
            np.minimum(self.boxes.lower, each.lower, out=self.boxes.lower)
            np.maximum(self.boxes.upper, each.upper, out=self.boxes.upper)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which reads cells from their files: without the numbers of the rows."""
        return self.__dict__ | ({} if self._folder is None else {"order": np.empty(0, np.int64)})

    def afresh(self) -> "CellRows":
        """The same rows for one task, which counts what it reads by itself, as threads of a worker share these."""
        other = copy(self)
        other.bytes_read = 0
        return other

    @property
    def n_cells(self) -> int:
        return len(self.start) - 1

    def size(self, cell: int) -> int:
        """How many rows a cell has."""
        return int(self.start[cell + 1] - self.start[cell])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(cells,) how many rows each has."""
        return np.diff(self.start)

    def numbers(self, cell: int) -> NDArray[np.int64]:
        """Of the rows of a cell, ascending."""
        return self.order[self.start[cell] : self.start[cell + 1]]

    def read(self, cell: int) -> Array:
        """All rows of a cell, (m, d)."""
        if self._folder is None:
            return self._taken(self.numbers(cell))
        pieces = [piece for _, piece in self._whole(cell, range(len(self._blocks)))]
        return self._derived(np.concatenate(pieces))

    def take(self, cell: int, places: NDArray[np.int64]) -> Array:
        """Some rows of a cell, by their ascending places in it."""
        if self._folder is None:
            return self._taken(self.numbers(cell)[places])
        rows = np.empty((len(places), self._given.shape[1]), self._given.dtype)
        counts = self._counts[:, cell]
        ends = np.cumsum(counts)
        bounds = np.searchsorted(places, np.append(0, ends))
        wanted = np.diff(bounds)
        few = self._folder.reads_pages & (wanted <= _FEW * counts)
        for block in np.flatnonzero(few & (wanted > 0)).tolist():
            begin, end = bounds[block : block + 2]
            mapped = self._rows_of(self._folder.pieces([self._at(block, cell)])[0])
            rows[begin:end] = mapped[places[begin:end] - (ends[block] - counts[block])]
            self.bytes_read += rows[begin:end].nbytes
        for block, piece in self._whole(cell, np.flatnonzero(~few & (wanted > 0)).tolist()):
            begin, end = bounds[block : block + 2]
            rows[begin:end] = piece[places[begin:end] - (ends[block] - counts[block])]
        return self._derived(rows)

    def take_several(self, places: NDArray[np.int64]) -> Array:
        """Some rows of several cells, by their ascending places in the order of all cells."""
        bounds = np.searchsorted(places, self.start)
        pieces = [
            self.take(cell, places[begin:end] - self.start[cell])
            for cell, (begin, end) in enumerate(pairwise(bounds))
            if begin < end
        ]
        return np.concatenate(pieces)

    def _taken(self, numbers: NDArray[np.int64]) -> Array:
        rows = np.asarray(self._given[numbers])
        if stays_on_disk(self._given):
            self.bytes_read += rows.nbytes
        return self._derived(rows)

    def _whole(self, cell: int, wanted: Iterable[int]) -> Iterator[tuple[int, Array]]:
        """The rows of a cell from some blocks, one after the other, as far as the checksums of these agree."""
        assert self._folder is not None
        size = self._given.shape[1] * self._given.dtype.itemsize
        for blocks_together in _in_groups(wanted, self._counts[:, cell] * size):
            at = [self._at(block, cell) for block in blocks_together]
            for block, raw in zip(blocks_together, self._folder.pieces(at), strict=True):
                piece = np.array(raw)
                self.bytes_read += piece.nbytes
                if zlib.crc32(piece.data) != self._checksums[block][cell]:
                    raise FastentError(
                        f"{_copies(self._blocks[block])!r} in {str(self._folder)!r} is damaged, its checksum (CRC-32) does not "
                        "agree: remove that folder, if it is still there, and search again"
                    )
                yield block, self._rows_of(piece)

    def _at(self, block: int, cell: int) -> Piece:
        size = self._given.shape[1] * self._given.dtype.itemsize
        before = int(self._counts[block, :cell].sum()) * size
        return Piece(_copies(self._blocks[block]), before, before + int(self._counts[block, cell]) * size)

    def _rows_of(self, raw: Array) -> Array:
        rows: Array = raw.view(self._given.dtype).reshape(-1, self._given.shape[1])
        return rows

    def _derived(self, rows: Array) -> Array:
        return rows if self._derive is None else self._derive(rows)


_Derive = Callable[[Array], Array] | None


def as_stored(X: Array) -> Array:
    """The rows from which others are derived, or the rows themselves."""
    return X.given if isinstance(X, DerivedRows) else X


def _derivation(X: Array) -> _Derive:
    return X.derive if isinstance(X, DerivedRows) else None


def _in_groups(blocks: Iterable[int], sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    """Blocks whose pieces are read together, without those that have none."""
    group, total = [], 0
    for block in blocks:
        if sizes[block]:
            group.append(block)
            total += int(sizes[block])
        if total >= _TOGETHER:
            yield group
            group, total = [], 0
    if group:
        yield group


def _copies(start: int) -> str:
    return f"rows-{start:012d}.bin"


def _contents(start: int) -> str:
    return f"rows-{start:012d}.npz"
