"""Sources: rows that stay where they are until they are asked for, whatever they lie in.

    .npy, .zarr, .parquet, .safetensors, a folder of shards, a model with a loader
        -> Source: shape, dtype, rows from..to, rows by number
            -> `arrays.row_blocks`: the next block is read while the last is used

Statistics take a source wherever they take an array: it has an array's `shape`, `dtype`, `len` and `source[rows]`.
"""

import mmap
import os
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.files import first_line, read_array, read_npy

__all__ = [
    "ArraySource", "NpyFile", "Shards", "Source", "blocks_ahead", "open_source", "part_bytes", "parts", "read_features",
    "read_labels",
]  # fmt: skip

Array = NDArray[Any]
# Rows by number that lie this close are read as one piece.
_GAP = 64
_PART_BYTES = 64 << 20
_SAFETENSORS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "f4", "U8": "u1", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8",
}  # fmt: skip
_OF_ZARR = ("zarr.json", ".zarray", ".zgroup")


class Source(ABC):
    """Rows (n, d) that are read when they are asked for.

    A kind of source says `shape`, `dtype` and how to `read`; `take` too, where that can be done better than piece by piece. It
    may be asked by several threads at once.

    Attributes
    ----------
    shape : (n, d)
    dtype : numpy dtype
        Of the rows as they are handed out; bfloat16 on disk is handed out as float32.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    ndim = 2

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """Rows start..stop, 0 <= start <= stop <= n, as an array (stop - start, d) of `dtype`."""

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Rows by number, (m,) int64 in [0, n), in any order and with repeats, as an array (m, d)."""
        ascending, back = np.unique(rows, return_inverse=True)
        found = np.empty((len(ascending), self.shape[1]), self.dtype)
        rows_of_part = max(1, _PART_BYTES // (8 * self.shape[1]))
        begins = (np.diff(ascending) > _GAP) | (np.diff(ascending // rows_of_part) > 0)
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


class ArraySource(Source):
    """An array that lies on disk or elsewhere: a memory map, or anything with `shape`, `dtype` and slices."""

    def __init__(self, array: Any) -> None:
        if len(array.shape) != 2:
            raise FastentError(f"the array has shape {tuple(array.shape)}: a 2-D one (points, features) is needed")
        self._array = array
        self.shape, self.dtype = (int(array.shape[0]), int(array.shape[1])), np.dtype(array.dtype)

    def read(self, start: int, stop: int) -> Array:
        return np.asarray(self._array[start:stop])

    def take(self, rows: NDArray[np.int64]) -> Array:
        return np.asarray(self._array[rows]) if isinstance(self._array, np.ndarray) else super().take(rows)

    def __reduce__(self) -> Any:
        """A memory map of a file goes to another process as its place."""
        array = self._array
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

    With `bfloat16` it holds that, as uint16 since .npy has none, and hands out float32.
    """

    def __init__(self, path: Path, *, bfloat16: bool = False) -> None:
        stored = read_npy(path)
        if stored.ndim != 2:
            raise FastentError(f"{str(path)!r} has shape {stored.shape}: a 2-D array (points, features) is needed")
        self._path, self._bfloat16 = path.absolute(), bfloat16  # so that another process finds it too
        self.shape, self.dtype = (stored.shape[0], stored.shape[1]), np.dtype(np.float32) if bfloat16 else stored.dtype

    def read(self, start: int, stop: int) -> Array:
        return self._wide(np.array(read_npy(self._path)[start:stop]))

    def take(self, rows: NDArray[np.int64]) -> Array:
        return self._wide(np.asarray(read_npy(self._path)[rows]))

    def _wide(self, rows: Array) -> Array:
        return (rows.astype(np.uint32) << 16).view(np.float32) if self._bfloat16 else rows


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


class ParquetSource(Source):
    """A column of fixed-size lists, of one Parquet file; the row group read last is kept."""

    def __init__(self, path: Path, column: str | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        stored = _whole(path, lambda: pq.ParquetFile(path))
        lists = [field.name for field in stored.schema_arrow if pa.types.is_fixed_size_list(field.type)]
        if column is None and len(lists) == 1:
            column = lists[0]
        if column is None or column not in lists:
            wanted = "no column was named" if column is None else f"{column!r} is none"
            raise FastentError(
                f"{str(path)!r} has {len(lists)} columns of fixed-size lists ({', '.join(lists) or 'none'}) and {wanted}: "
                "name one as FILE.parquet:NAME"
            )
        kind = stored.schema_arrow.field(column).type
        self._column = column
        counts = [stored.metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(int).tolist()
        self.shape, self.dtype = (self._starts[-1], kind.list_size), np.dtype(kind.value_type.to_pandas_dtype())
        self._last: tuple[int, Array] | None = None

    def __reduce__(self) -> Any:
        return ParquetSource, (self._path.absolute(), self._column)

    def _group(self, at: int) -> Array:
        last = self._last
        if last is None or last[0] != at:
            import pyarrow.parquet as pq

            # A reader of its own: one reader is not for several threads.
            column = _whole(self._path, lambda: pq.ParquetFile(self._path).read_row_group(at, columns=[self._column]))
            column = column.column(0)
            nulls = column.null_count + sum(chunk.flatten().null_count for chunk in column.chunks)
            if nulls:
                raise FastentError(f"{str(self._path)!r} has {nulls} rows or values that are null: drop them or repair them")
            values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
            rows = (np.concatenate(values) if values else np.empty(0, self.dtype)).reshape(-1, self.shape[1])
            last = self._last = at, rows.astype(self.dtype, copy=False)
        return last[1]

    def read(self, start: int, stop: int) -> Array:
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        done, at = start, bisect_right(self._starts, start) - 1
        while done < stop:
            begin, end = self._starts[at], min(self._starts[at + 1], stop)
            if end > done:
                rows[done - start : end - start] = self._group(at)[done - begin : end - begin]
                done = end
            at += 1
        return rows

    def take(self, rows: NDArray[np.int64]) -> Array:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        group = np.searchsorted(self._starts, rows, side="right") - 1
        for at in np.unique(group):
            here = group == at
            found[here] = self._group(at)[rows[here] - self._starts[at]]
        return found


class SafetensorsSource(Source):
    """One tensor of a safetensors file."""

    def __init__(self, path: Path, name: str | None) -> None:
        open_file = _needed("safetensors", "safe_open")
        self._path = path

        def look() -> tuple[list[str], Any]:
            with open_file(path, framework="numpy") as stored:
                names = list(stored.keys())
                chosen = names[0] if name is None and len(names) == 1 else name
                kept = stored.get_slice(chosen) if chosen in names else None
                return names, None if kept is None else (chosen, tuple(kept.get_shape()), kept.get_dtype())

        names, found = _whole(path, look)
        if found is None:
            wanted = "none was named" if name is None else f"{name!r} is none of them"
            raise FastentError(
                f"{str(path)!r} holds {', '.join(names) or 'no tensor'}, and {wanted}: FILE.safetensors:NAME does"
            )
        self._name, shape, kind = found
        if len(shape) != 2:
            raise FastentError(f"{self._name} of {str(path)!r} has shape {shape}: a 2-D tensor (points, features) is needed")
        if kind not in _SAFETENSORS:
            raise FastentError(f"{self._name} of {str(path)!r} has dtype {kind}: one of {', '.join(_SAFETENSORS)} is needed")
        self.shape, self.dtype, self._bfloat16 = (shape[0], shape[1]), np.dtype(_SAFETENSORS[kind]), kind == "BF16"
        self._open = open_file

    def __reduce__(self) -> Any:
        return SafetensorsSource, (self._path.absolute(), self._name)

    def read(self, start: int, stop: int) -> Array:
        if start == stop:
            return np.empty((0, self.shape[1]), self.dtype)
        framework = "pt" if self._bfloat16 else "numpy"  # numpy has no bfloat16
        with self._open(self._path, framework=framework) as stored:
            rows = stored.get_slice(self._name)[start:stop]
        return rows.float().numpy() if self._bfloat16 else np.asarray(rows)


def part_bytes(source: Any) -> int:
    """What one of `parts` takes at most, in double precision."""
    n, d = source.shape
    return int(8 * d * min(n, max(1, _PART_BYTES // (8 * d))))


def parts(source: Any) -> list[tuple[int, int]]:
    """Where pieces of some 64 MiB begin and end: the same for the same rows, wherever and by whomever they are read."""
    n, d = source.shape
    rows = max(1, _PART_BYTES // (8 * d))  # in double precision
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def open_source(path: str | os.PathLike[str], name: str | None = None) -> Source:
    """Open activations that lie on disk, without reading them.

    Parameters
    ----------
    path : path
        `.npy`; `.parquet` (a column of fixed-size lists), `.safetensors`, `.zarr`; a folder of files of one of the first three
        kinds, which are taken as one in the order of their names (2.npy before 10.npy); or a folder that `fe.capture` wrote.
        "FILE.parquet:NAME" names a part as `name` does.
    name : str, optional
        Which column, tensor, zarr array or captured layer, where there are several.

    Returns
    -------
    Source
        To be passed as `X` to anything public. `source.shape`, `source.dtype`, `source[10:20]`, `source[[3, 1, 4]]`.

    Raises
    ------
    FastentError
        Nothing there; a kind of file that is not known, or damaged; several parts and no name; a missing package.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, fastent as fe
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "X.npy"
    >>> np.save(path, np.eye(3, dtype=np.float32))
    >>> fe.open(path)
    ArraySource(3 x 3, float32)
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise FastentError(f"{path!r} is no path: name a file or a folder; arrays are taken as they are, without fe.open")
    place = os.fspath(path)
    if ".npz" in place:
        raise FastentError(
            f"{place!r}: an .npz cannot be read in parts; load it with numpy.load, or save X alone with numpy.save"
        )
    if name is None and not Path(place).exists():
        for ending in (".parquet:", ".safetensors:", ".zarr:"):
            if ending in place:
                place, _, name = place.rpartition(":")
                break
        else:
            folder, _, layer = place.rpartition(":")
            if folder and Path(folder).is_dir():
                place, name = folder, layer
    found = Path(place)
    if not found.exists():
        raise FastentError(f"nothing at {place!r}: check the path")
    if found.is_dir() and (found / "manifest.json").is_file():
        from fastent.streaming.store import open_store

        return open_store(found).layer(name)
    if found.suffix == ".zarr" or any((found / each).exists() for each in _OF_ZARR):
        return _zarr(found, name)
    if found.is_dir():
        return _folder(found, name)
    return _file(found, name)


def read_features(place: str) -> Any:
    """What a command is given as activations: a member of an .npz, in memory, or what `open_source` opens."""
    return read_array(place, "X") if ".npz" in place else open_source(place)


def read_labels(place: str) -> Any:
    """Labels likewise: .npy, FILE.npz:NAME, a column as FILE.parquet:NAME, or those of a folder that `fe.capture` wrote."""
    if (Path(place) / "manifest.json").is_file():
        from fastent.streaming.store import open_store

        labels = open_store(Path(place)).labels
        if labels is None:
            raise FastentError(f"the loader that {place!r} was captured from had no labels: give a file of labels")
        return labels
    path, _, column = place.partition(".parquet:")
    if not column:
        return read_array(place, "y")
    import pyarrow.parquet as pq

    file = Path(f"{path}.parquet")
    if not file.is_file():
        raise FastentError(f"no file {str(file)!r}: check the path")
    return _whole(file, lambda: pq.read_table(file, columns=[column]).column(0).to_numpy())


def _file(path: Path, name: str | None) -> Source:
    if path.suffix == ".parquet":
        return ParquetSource(path, name)
    if path.suffix == ".safetensors":
        return SafetensorsSource(path, name)
    if path.suffix != ".npy":
        raise FastentError(f"{str(path)!r} is no source: .npy, .parquet, .safetensors, .zarr or a folder of these is needed")
    if name is not None:
        raise FastentError(f"{str(path)!r} is one array: it has no part {name!r}")
    return ArraySource(read_npy(path))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Names in the order that people mean: 2.npy before 10.npy."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _folder(folder: Path, name: str | None) -> Source:
    files = sorted(
        (path for path in folder.iterdir() if path.name[0] != "." and path.suffix in (".npy", ".parquet", ".safetensors")),
        key=_by_number,
    )
    if not files:
        raise FastentError(f"{str(folder)!r} holds no .npy, .parquet or .safetensors: name a folder of shards")
    kinds = sorted({path.suffix for path in files})
    if len(kinds) > 1:
        raise FastentError(f"{str(folder)!r} holds {' and '.join(kinds)} files: a folder of one kind of shards is needed")
    parts = [NpyFile(path) if path.suffix == ".npy" and name is None else _file(path, name) for path in files]
    return Shards(parts, [repr(str(path)) for path in files])


def _zarr(path: Path, name: str | None) -> Source:
    # By its absolute path: a process in another folder would find no chunks there, which to zarr are zeros.
    opened = _whole(path, lambda: _needed("zarr", "open")(str(path.absolute()), mode="r"))
    if hasattr(opened, "array_keys"):
        names = sorted(opened.array_keys())
        chosen = names[0] if name is None and len(names) == 1 else name
        if chosen not in names:
            wanted = "none was named" if name is None else f"{name!r} is none of them"
            raise FastentError(f"{str(path)!r} holds {', '.join(names) or 'no array'}, and {wanted}: {path.name}:NAME does")
        opened = opened[chosen]
    elif name is not None:
        raise FastentError(f"{str(path)!r} is one array: it has no part {name!r}")
    return ArraySource(opened)


def _whole(path: Path, read: Any) -> Any:
    """What a library reads of a file; anything that it cannot is one error."""
    try:
        return read()
    except FastentError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise FastentError(
            f"{str(path)!r} is damaged or not what its name says ({first_line(error)}): write it again"
        ) from error


def _needed(package: str, name: str) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(package), name)
    except ImportError:
        raise FastentError(f"{package} is not installed: pip install 'fastent[{package}]'") from None


def blocks_ahead(read: Any, bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Array]]:
    """Yield (start, read(start, stop)) for each of the bounds; the next is read on a thread while this one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="fastent-read") as reader:
        pending = reader.submit(read, *bounds[0]) if bounds else None
        for at, (start, _) in enumerate(bounds):
            assert pending is not None
            block = pending.result()
            pending = reader.submit(read, *bounds[at + 1]) if at + 1 < len(bounds) else None
            yield start, block
