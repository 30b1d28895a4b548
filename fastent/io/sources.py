"""Sources: rows that stay where they are until they are requested, in whatever format.

    .npy, .zarr, .parquet, .safetensors, a folder of shards, a model with a loader
        -> Source: shape, dtype, rows from..to, rows by number
            -> `arrays.row_blocks`: the next block is read while the last is used

Statistics take a source wherever they take an array: it has an array's `shape`, `dtype`, `len` and `source[rows]`.
"""

import math
import mmap
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.npy import read_npy
from fastent.io.reading import name_list, refuse_name

__all__ = [
    "NPY", "ArraySource", "NpyFile", "Reader", "Shards", "Source", "blocks_ahead", "check_kind", "flat_shape",
    "part_bytes", "parts",
]  # fmt: skip

Array = NDArray[Any]
# Rows by number that lie this close are read as one piece.
_GAP = 64
_PART_BYTES = 64 << 20


class Source(ABC):
    """Rows (n, d) that are read when they are requested.

    A subclass sets `shape` and `dtype` and implements `read`; it may override `take` where that can be done better than piece
    by piece. Several threads may read at once.

    Attributes
    ----------
    shape : (n, d)
    dtype : numpy dtype
        The dtype of rows as they are returned; bfloat16 on disk is returned as float32.
    point_shape : tuple of int or None
        The shape of a point as it is stored, if that is not (d,): pictures (h, w) are returned as rows of h * w features.
    columns : tuple of str or None
        The names of the features, if the rows come from a table with a column for each.
    remarks : tuple of str
        What users should know of how these rows were made; `fe.measure` adds it to its notes, other functions warn.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    point_shape: tuple[int, ...] | None = None
    columns: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()
    ndim = 2

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """Rows start..stop, 0 <= start <= stop <= n, as an array (stop - start, d) of `dtype`."""

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Rows by number, (m,) int64 in [0, n), in any order and with repeats, as an array (m, d)."""
        ascending, back = np.unique(rows, return_inverse=True)
        found = np.empty((len(ascending), self.shape[1]), self.dtype)
        begins = (np.diff(ascending) > _GAP) | (np.diff(ascending // _rows_of_part(self.shape[1])) > 0)
        pieces = np.split(np.arange(len(ascending)), np.flatnonzero(begins) + 1)
        for piece in pieces:
            if len(piece):
                first, last = int(ascending[piece[0]]), int(ascending[piece[-1]])
                found[piece] = self.read(first, last + 1)[ascending[piece] - first]
        return found[back]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        n = len(self)
        if isinstance(rows, tuple):
            raise IndexError(f"{len(rows)} indices: a source takes rows only, as source[rows][:, columns]")
        if isinstance(rows, slice):
            start, stop, step = rows.indices(n)
            if step == 1:
                return self.read(start, max(start, stop))
            return self.take(np.arange(start, stop, step))
        wanted = np.asarray(rows)
        if wanted.dtype == bool:
            if wanted.shape != (n,):
                raise IndexError(f"a mask of shape {wanted.shape} for {n} rows")
            return self.take(np.flatnonzero(wanted))
        if wanted.dtype.kind not in "iu" and wanted.size:
            raise IndexError(f"row numbers of dtype {wanted.dtype}")
        numbers = wanted.astype(np.int64)
        outside = (numbers < -n) | (numbers >= n)
        if outside.any():
            raise IndexError(f"row {numbers[outside].flat[0]} of {n}")
        numbers[numbers < 0] += n
        return self.take(numbers.ravel()).reshape(*numbers.shape, self.shape[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]:,} x {self.shape[1]}, {self.dtype})"


def flat_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape (n, d) of points (n, ...) as rows."""
    return int(shape[0]), math.prod(map(int, shape[1:]))


def check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], loaded: str) -> None:
    """Refuse anything but points (n, ...) of real numbers, with the line that makes them of the expression `loaded`."""
    if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype.itemsize > 8):
        if dtype.names:
            remedy = f"choose one field, as numpy.save('rows.npy', {loaded}[{dtype.names[0]!r}])"
        elif dtype.kind == "c":
            remedy = f"choose a part, as numpy.save('rows.npy', {loaded}.real)"
        else:
            remedy = f"convert it, as numpy.save('rows.npy', {loaded}.astype('float32'))"
        raise FastentError(f"{name} has dtype {str(dtype)[:80]}: real numbers are needed; {remedy}")
    if len(shape) < 2:
        line = f"numpy.save('rows.npy', {loaded}.reshape({shape[0] if shape else 1}, -1))"
        raise FastentError(f"{name} has shape {shape}: a 2-D array (points, features) is needed; convert it with {line}")


_Open = Callable[[Path, str | None], Source]


class Reader(NamedTuple):
    """A format of stored rows: which paths it can open, and how. `opening.READERS` has them all.

    Parameters
    ----------
    name : str
        What messages call the format.
    can_open : function of a path
        Judges by the name, or by what is there.
    open : function of a path and a name or None
        Opens one array as a source.
    open_shard : the same, optional
        Opens one of many files in a folder that together are one source; without it such files are no shards.
    labels : the same, optional
        Reads labels (n,).
    table : function of a path, optional
        Opens a `tables.Table`, of whose columns one can be the labels.
    whole : bool
        Whether rows of this format fit into memory as a rule, so that training reads them at once.
    """

    name: str
    can_open: Callable[[Path], bool]
    open: _Open
    open_shard: _Open | None = None
    labels: Callable[[Path, str | None], Array] | None = None
    table: Callable[[Path], Any] | None = None
    whole: bool = False

    @classmethod
    def of_suffix(cls, suffix: str, open: _Open, **more: Any) -> "Reader":
        """A format of single files, told by their suffix, .npy or .NPY; a folder of such files is opened as one source."""
        return cls(
            suffix, lambda path: path.suffix.lower() == suffix and not os.path.isdir(path), open, **{"open_shard": open, **more}
        )


class ArraySource(Source):
    """An array that lies on disk or elsewhere: a memory map, or anything with `shape`, `dtype` and slices."""

    def __init__(self, array: Any, name: str = "the array") -> None:
        file = getattr(array, "filename", None) if isinstance(array, np.memmap) else None
        check_kind(name, tuple(array.shape), np.dtype(array.dtype), "X" if file is None else f"numpy.load({str(file)!r})")
        if len(array.shape) > 2:
            self.point_shape = tuple(map(int, array.shape[1:]))
        self.array = array
        self.shape, self.dtype = flat_shape(array.shape), np.dtype(array.dtype)

    def read(self, start: int, stop: int) -> Array:
        self._see_that_it_is_whole()
        return np.asarray(self.array[start:stop]).reshape(stop - start, self.shape[1])

    def take(self, rows: NDArray[np.int64]) -> Array:
        self._see_that_it_is_whole()
        if isinstance(self.array, np.ndarray):
            return np.asarray(self.array[rows]).reshape(len(rows), self.shape[1])
        return super().take(rows)

    def _see_that_it_is_whole(self) -> None:
        """Reading pages that a file lost after it was mapped would end the process."""
        mapped = getattr(self.array, "base", None)
        if isinstance(mapped, mmap.mmap) and isinstance(self.array, np.memmap):
            begin = self.array.offset - self.array.offset % mmap.ALLOCATIONGRANULARITY
            there = mapped.size()
            if there < begin + len(mapped):
                raise FastentError(
                    f"{str(self.array.filename)!r} has been cut off since it was opened, to {there} of {begin + len(mapped)} "
                    "bytes: write it again, and do not write to a file that is being measured"
                )

    def __reduce__(self) -> Any:
        """A memory map of a file goes to another process as its path and offset."""
        array = self.array
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename is not None:
            order = "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else None
            if order is not None:
                place = os.path.abspath(array.filename), array.dtype, array.offset, array.shape, order
                return _mapped, place
        return ArraySource, (array,)


def _mapped(path: str, dtype: Any, offset: int, shape: tuple[int, int], order: Any) -> ArraySource:
    return ArraySource(np.memmap(path, dtype, "r", offset, shape, order))


class NpyFile(Source):
    """An .npy that is open only while rows are read: thousands of shards would run out of file descriptors.

    With `bfloat16` the file holds bfloat16 as uint16, because .npy has no such dtype, and rows are returned as float32.
    """

    def __init__(self, path: Path, *, bfloat16: bool = False, remedy: str = "write it again") -> None:
        stored = read_npy(path, remedy)
        self._remedy = remedy
        check_kind(repr(str(path)), stored.shape, stored.dtype, f"numpy.load({str(path)!r})")
        self._path, self._bfloat16 = path.absolute(), bfloat16  # so that another process finds it too
        self._kind = stored.shape, stored.dtype
        if stored.ndim > 2:
            self.point_shape = stored.shape[1:]
        self.shape, self.dtype = flat_shape(stored.shape), np.dtype(np.float32) if bfloat16 else stored.dtype

    def read(self, start: int, stop: int) -> Array:
        return self._wide(np.array(self._stored()[start:stop])).reshape(stop - start, self.shape[1])

    def take(self, rows: NDArray[np.int64]) -> Array:
        return self._wide(np.asarray(self._stored()[rows])).reshape(len(rows), self.shape[1])

    def _stored(self) -> Array:
        stored = read_npy(self._path, self._remedy)
        if (stored.shape, stored.dtype) != self._kind:
            raise FastentError(
                f"{str(self._path)!r} has shape {stored.shape} and dtype {stored.dtype}, it had {self._kind[0]} and "
                f"{self._kind[1]} when it was opened: do not write to a file that is being measured"
            )
        return stored

    def _wide(self, rows: Array) -> Array:
        return (rows.astype(np.uint32) << 16).view(np.float32) if self._bfloat16 else rows


def _open_npy(path: Path, name: str | None) -> Source:
    refuse_name(path, name)
    return ArraySource(read_npy(path), repr(str(path)))


def _open_npy_shard(path: Path, name: str | None) -> Source:
    refuse_name(path, name)
    return NpyFile(path)


NPY = Reader.of_suffix(".npy", _open_npy, open_shard=_open_npy_shard)


class Shards(Source):
    """Sources of the same width and dtype, one after the other."""

    def __init__(self, parts: Sequence[Source], names: Sequence[str] | None = None) -> None:
        kinds = [(part.shape[1], part.dtype) for part in parts]
        for i, kind in enumerate(kinds):
            if kind != kinds[0]:
                which = names or [f"shard {j}" for j in range(len(parts))]
                raise FastentError(
                    f"{which[i]} has {kind[0]} features of {kind[1]}, {which[0]} {kinds[0][0]} of {kinds[0][1]}: "
                    "shards of one kind are needed"
                )
        self.point_shape, self.columns, self.remarks = parts[0].point_shape, parts[0].columns, parts[0].remarks
        for i, part in enumerate(parts):
            if (part.point_shape, part.columns) != (self.point_shape, self.columns):
                which = names or [f"shard {j}" for j in range(len(parts))]
                raise FastentError(
                    f"{which[i]} has other {'columns' if part.columns else 'points'} than {which[0]}, "
                    f"{_features_of(part)} and {_features_of(parts[0])}: shards of one kind are needed"
                )
        self._parts = list(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).tolist()
        self.shape, self.dtype = (self._starts[-1], kinds[0][0]), kinds[0][1]

    def read(self, start: int, stop: int) -> Array:
        pieces = []
        at = bisect_right(self._starts, start) - 1
        while start < stop:
            begin, end = self._starts[at], min(self._starts[at + 1], stop)
            if end > start:
                pieces.append(self._parts[at].read(start - begin, end - begin))
                start = end
            at += 1
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, self.shape[1]), self.dtype)

    def take(self, rows: NDArray[np.int64]) -> Array:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        for at in np.unique(shard):
            here = shard == at
            found[here] = self._parts[at].take(rows[here] - self._starts[at])
        return found


def _features_of(part: Source) -> str:
    return f"points of shape {part.point_shape or part.shape[1:]}" if part.columns is None else name_list(part.columns)


def part_bytes(source: Any) -> int:
    """What one of `parts` takes at most, in double precision."""
    n, d = source.shape
    return 8 * int(d) * min(int(n), _rows_of_part(d))


def parts(source: Any) -> list[tuple[int, int]]:
    """Where pieces of some 64 MiB begin and end: the same for the same rows, on every machine and in every process."""
    n, d = source.shape
    rows = _rows_of_part(d)
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _rows_of_part(d: int) -> int:
    return max(1, _PART_BYTES // (8 * int(d)))  # in double precision


def blocks_ahead(read: Any, bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Array]]:
    """Yield (start, read(start, stop)) for each of the bounds; the next is read on a thread while this one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="fastent-read") as reader:
        pending = reader.submit(read, *bounds[0]) if bounds else None
        for at, (start, _) in enumerate(bounds):
            assert pending is not None
            block = pending.result()
            pending = reader.submit(read, *bounds[at + 1]) if at + 1 < len(bounds) else None
            yield start, block
