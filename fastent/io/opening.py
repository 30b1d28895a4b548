"""What lies on disk, opened as a source of rows: files, folders of them, zarr, and what `fe.capture` wrote."""

import os
import re
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.io.conversions import how_to_convert
from fastent.io.npy import read_array, read_npy
from fastent.io.parquet import ParquetSource, read_column
from fastent.io.reading import as_path, is_there, reading
from fastent.io.safetensors_files import SafetensorsSource
from fastent.io.sources import ArraySource, NpyFile, Shards, Source
from fastent.io.zarr_arrays import ZarrSource, is_zarr

__all__ = ["open", "open_source", "read_features", "read_labels"]


def open_source(path: str | os.PathLike[str], name: str | None = None) -> Source:
    """Open activations that lie on disk, without reading them.

    Parameters
    ----------
    path : path
        `.npy`; `.parquet` (a column of fixed-size lists, or of Arrow's tensors of one axis), `.safetensors`, `.zarr`; a folder
        of files of one of the first three kinds, which are taken as one in the order of their names (2.npy before 10.npy); or
        a folder that `fe.capture` wrote. "FILE.parquet:NAME" names a part as `name` does.
    name : str, optional
        Which column, tensor, zarr array or captured layer, where there are several.

    Returns
    -------
    Source
        To be passed as `X` to anything public. `source.shape`, `source.dtype`, `source[10:20]`, `source[[3, 1, 4]]`.

    Raises
    ------
    FastentError
        Nothing there; a kind of file that is not known, or damaged; several parts and no name; a missing package. For lists
        without a fixed size, tables with a column for each feature, text (.csv), torch files (.pt) and arrays of more than
        two axes, the error has the line that converts them. Reading rows raises it for what is damaged further on, and for
        chunks that a zarr array lacks, which are not taken for zeros.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, fastent as fe
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "X.npy"
    >>> np.save(path, np.eye(3, dtype=np.float32))
    >>> fe.open(path)
    ArraySource(3 x 3, float32)
    """
    place = str(as_path(path, "a file or a folder; arrays are taken as they are, without fe.open"))
    if ".npz" in place:
        raise FastentError(
            f"{place!r}: an .npz cannot be read in parts; load it with numpy.load, or save X alone with numpy.save"
        )
    if name is None and not is_there(Path(place)):
        place, name = _part_of(place)
    found = Path(place)
    if not is_there(found):
        raise _nothing_at(found)
    if found.is_dir() and is_there(found / "manifest.json"):
        from fastent.io.store import open_store

        return open_store(found).layer(name)
    if is_zarr(found):
        return ZarrSource(found, name)
    return _folder(found, name) if found.is_dir() else _file(found, name)


def _part_of(place: str) -> tuple[str, str | None]:
    """FILE:NAME or FOLDER:LAYER, taken apart."""
    for ending in (".parquet:", ".safetensors:", ".zarr:"):
        if ending in place:
            at = place.index(ending) + len(ending)
            return place[: at - 1], place[at:]
    ends = (at for at in range(len(place) - 1, 0, -1) if place[at] == ":")  # layers may be called a:b
    end = next((at for at in ends if Path(place[:at]).is_dir()), None)
    return (place, None) if end is None else (place[:end], place[end + 1 :])


def _nothing_at(path: Path) -> FastentError:
    if path.is_symlink():
        return FastentError(f"nothing at {str(path)!r}: it is a link to {os.readlink(path)!r}, where nothing is")
    expanded = "; ~ is not expanded here, use os.path.expanduser" if str(path).startswith("~") else ""
    return FastentError(f"nothing at {str(path)!r}: check the path{expanded}")


def read_features(place: str) -> Any:
    """What a command is given as activations: a member of an .npz, in memory, or what `open_source` opens."""
    return read_array(place, "X") if ".npz" in place else open_source(place)


def read_labels(place: str) -> Any:
    """Labels likewise: .npy, FILE.npz:NAME, a column as FILE.parquet:NAME, or those of a folder that `fe.capture` wrote."""
    if is_there(as_path(place, "a file of labels") / "manifest.json"):
        from fastent.io.store import open_store

        labels = open_store(Path(place)).labels
        if labels is None:
            raise FastentError(f"the loader that {place!r} was captured from had no labels: give a file of labels")
        return labels
    path, _, column = place.partition(".parquet:")
    return read_column(Path(f"{path}.parquet"), column) if column else read_array(place, "y")


def _file(path: Path, name: str | None) -> Source:
    if path.suffix == ".parquet":
        return ParquetSource(path, name)
    if path.suffix == ".safetensors":
        return SafetensorsSource(path, name)
    if path.suffix != ".npy":
        line = how_to_convert(path)
        raise FastentError(
            f"{str(path)!r} is no source: .npy, .parquet, .safetensors, .zarr or a folder of these is needed"
            + ("" if line is None else f"; convert it with {line}")
        )
    if name is not None:
        raise FastentError(f"{str(path)!r} is one array: it has no part {name!r}")
    return ArraySource(read_npy(path), repr(str(path)))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Names in the order that people mean: 2.npy before 10.npy."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _folder(folder: Path, name: str | None) -> Source:
    with reading(folder, "check the path"):
        there = sorted(folder.iterdir(), key=_by_number)
    files = [path for path in there if path.name[0] != "." and path.suffix in (".npy", ".parquet", ".safetensors")]
    if not files:
        raise FastentError(f"{str(folder)!r} holds no .npy, .parquet or .safetensors: name a folder of shards")
    kinds = sorted({path.suffix for path in files})
    if len(kinds) > 1:
        raise FastentError(f"{str(folder)!r} holds {' and '.join(kinds)} files: a folder of one kind of shards is needed")
    parts = [NpyFile(path) if path.suffix == ".npy" and name is None else _file(path, name) for path in files]
    return Shards(parts, [repr(str(path)) for path in files])


open = open_source  # fastent.open
