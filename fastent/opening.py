"""What lies on disk, opened as a source of rows: files, folders of them, zarr, and what `fe.capture` wrote."""

import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.chunks import ArraySource, NpyFile, Shards, Source
from fastent.errors import FastentError
from fastent.files import first_line, read_array, read_npy
from fastent.lazy import needed

__all__ = ["open_source", "read_features", "read_labels"]

Array = NDArray[Any]
_SAFETENSORS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "f4", "U8": "u1", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8",
}  # fmt: skip
_OF_ZARR = ("zarr.json", ".zarray", ".zgroup")


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
            ends = (at for at in range(len(place) - 1, 0, -1) if place[at] == ":")  # layers may be called a:b
            end = next((at for at in ends if Path(place[:at]).is_dir()), None)
            if end is not None:
                place, name = place[:end], place[end + 1 :]
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
    opened = _whole(path, lambda: needed("zarr", "open")(str(path.absolute()), mode="r"))
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
        open_file = needed("safetensors", "safe_open")
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
