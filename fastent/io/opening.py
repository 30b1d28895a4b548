"""What lies on disk, opened as a source of rows. Each format says which paths it can open; the first that can does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastent.errors import FastentError
from fastent.io.arrow_files import ARROW, HUGGING_FACE
from fastent.io.conversions import how_to_convert
from fastent.io.csv_files import CSV
from fastent.io.image_folders import IMAGE_FOLDER, is_picture_file
from fastent.io.npy import is_npz, read_array
from fastent.io.parquet import PARQUET
from fastent.io.reading import as_path, is_there, nothing_at, reading
from fastent.io.safetensors_files import SAFETENSORS
from fastent.io.sources import NPY, Reader, Shards, Source
from fastent.io.store import CAPTURED
from fastent.io.store_manifest import MANIFEST
from fastent.io.zarr_arrays import ZARR
from fastent.printable import natural_key

__all__ = [
    "FOLDER",
    "NPY",
    "READERS",
    "Located",
    "located",
    "open",
    "open_source",
    "own_labels",
    "read_features",
    "read_labels",
    "reader_of",
]


def open_source(path: str | os.PathLike[str], name: str | None = None) -> Source:
    """Open activations that lie on disk, without reading them.

    Parameters
    ----------
    path : path
        `.npy`; tables, `.parquet`, `.csv`, `.tsv`, `.arrow`, `.feather`: one column of lists or tensors of numbers, or one
        column for each feature; `.safetensors`, `.zarr`; a folder of files of one of these kinds (but `.zarr`), which are read
        as one, in the order of their names (2.npy before 10.npy); a folder that `fe.capture` or, in Hugging Face's datasets,
        `Dataset.save_to_disk` wrote; or a folder of pictures of one size with a subfolder for each class, and none of the
        files above beside them. "FILE.parquet:NAME" gives the name with the path.
    name : str, optional
        Which tensor, zarr array or captured layer, if there are several; of a table which column, or several, separated by
        commas, or a pattern such as "f*". By default all columns are features but those called like labels or row numbers
        (label, target, y, id, index, ...), which `remarks` then says.

    Returns
    -------
    Source
        Can be passed as `X` to every public function. `source.shape`, `source.dtype`, `source[10:20]`, `source[[3, 1, 4]]`.

    Raises
    ------
    FastentError
        Nothing there; an unknown or damaged kind of file; several arrays and no name; columns that are no numbers; a missing
        package. For torch files (.pt) and text of other kinds (.txt), the message has the line that converts them. Reading rows
        raises it for damage, missing values and lists of another length further on in the file, and for chunks that are missing
        from a zarr array, which are not taken for zeros.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, fastent as fe
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "X.npy"
    >>> np.save(path, np.eye(3, dtype=np.float32))
    >>> fe.open(path)
    ArraySource(3 x 3, float32)
    """
    place = str(as_path(path, "a file or a folder; arrays are taken as they are, without fe.open"))
    if is_npz(place):
        raise FastentError(
            f"{place!r}: an .npz cannot be read in parts; load it with numpy.load, or save X alone with numpy.save"
        )
    found, part = (Path(place), name) if name is not None else located(place)[:2]
    if not is_there(found):
        raise nothing_at(found)
    reader = _reader(found)
    if reader is not None:
        return reader.open(found, part)
    line = how_to_convert(found)
    formats = ", ".join(each.name for each in READERS if each.name[0] == ".")
    raise FastentError(
        f"{str(found)!r} cannot be opened: {formats} or a folder of such files is needed"
        + ("" if line is None else f"; convert it with {line}")
    )


def reader_of(place: str | os.PathLike[str]) -> Reader | None:
    """The format that would open a place, whether or not anything is there; None if none would."""
    return located(os.fspath(place)).reader


def read_features(place: str, *, any_rank: bool = False) -> Any:
    """The activations that a command is given: a member of an .npz, in memory, or what `open_source` opens.

    With `any_rank` an .npy may have any number of axes, and is mapped.
    """
    return read_array(place, "X") if is_npz(place) or (any_rank and reader_of(place) is NPY) else open_source(place)


def own_labels(place: str) -> str | None:
    """Where the labels of what lies at a place are, if they lie with it: a captured folder, class folders, an .npz."""
    path, _, reader = located(place)
    if reader is None:
        return place if place.lower().endswith(".npz") else None
    return str(path) if reader.labels is not None and reader.table is None else None


def read_labels(place: str) -> Any:
    """Labels: an .npy, FILE.npz:NAME, a column of a table as FILE:NAME, those of a captured folder, or the class folders."""
    path, name, reader = located(str(as_path(place, "a file of labels")))
    return read_array(place, "y") if reader is None or reader.labels is None else reader.labels(path, name)


def _reader(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.can_open(path)), None)


class Located(NamedTuple):
    """A path, the part of it that was named, and the format that opens it."""

    path: Path
    name: str | None
    reader: Reader | None


def located(place: str) -> Located:
    """Split FILE:NAME or FOLDER:LAYER at the last colon that ends a path which can be opened: layers may be called a:b."""
    if ":" in place and not is_there(Path(place)):
        for at in range(len(place) - 1, 0, -1):
            if place[at] == ":" and (reader := _reader(Path(place[:at]))) is not None:
                return Located(Path(place[:at]), place[at + 1 :], reader)
    return Located(Path(place), None, _reader(Path(place)))


def _open_folder(folder: Path, name: str | None) -> Source:
    with reading(folder, "check the path"):
        there = sorted(os.listdir(folder), key=natural_key)
    readers = {folder / each: _shard_reader(folder / each) for each in there}
    shards = {path: reader for path, reader in readers.items() if reader is not None}
    if not shards:
        if any(map(is_picture_file, there)):
            raise FastentError(
                f"{str(folder)!r} holds pictures, but none in subfolders: put those of each class into a subfolder of its name"
            )
        formats = " or ".join([", ".join(_SHARDS[:-1]), _SHARDS[-1]])
        raise FastentError(
            f"{str(folder)!r} holds no {formats}: name a folder of shards, or of pictures with a subfolder for each class"
        )
    kinds = sorted({reader.name for reader in shards.values()})
    if len(kinds) > 1:
        raise FastentError(f"{str(folder)!r} holds {' and '.join(kinds)} files: a folder of one kind of shards is needed")
    opened = [reader.open_shard(path, name) for path, reader in shards.items() if reader.open_shard is not None]
    return Shards(opened, [repr(str(path)) for path in shards])


def _shard_reader(path: Path) -> Reader | None:
    """The format of a file that is one of many; None for other files, and hidden ones."""
    if path.name[0] == ".":
        return None
    return next((reader for reader in READERS if reader.open_shard is not None and reader.can_open(path)), None)


def _holds_shards(path: Path) -> bool:
    """Whether files in the folder itself are rows; tables beside folders of pictures may only describe these."""
    try:
        if next(_shards(path), None) is None:
            return False
        return not IMAGE_FOLDER.can_open(path) or not all(map(_describes_pictures, _shards(path)))
    except OSError:  # no folder; or opening it says why
        return False


def _shards(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_file() and _shard_reader(Path(entry.path)) is not None)


def _describes_pictures(path: Path) -> bool:
    """Whether a file is a table that names pictures in its first row, or has no features."""
    reader = _shard_reader(path)
    if reader is None or reader.table is None:
        return False
    try:
        table = reader.table(path)
    except FastentError:  # opening it says why
        return False
    texts = [field.name for field in table.schema if "string" in str(field.type)]
    return not table.has_features or any(is_picture_file(str(value)) for name in texts for value in table.first(name))


# Rows in the folder itself come before pictures in its subfolders, which may be plots or thumbnails of them.
SHARDS = Reader("folder", _holds_shards, _open_folder)
FOLDER = Reader("folder", os.path.isdir, _open_folder)
# A manifest of whatever kind, where nothing else can be read: the error says what is wrong with it.
_MANIFEST_ONLY = CAPTURED._replace(can_open=lambda path: os.path.exists(path / MANIFEST))
# In the order in which they are asked.
READERS = (
    NPY, PARQUET, CSV, ARROW, SAFETENSORS, ZARR, CAPTURED, HUGGING_FACE, SHARDS, IMAGE_FOLDER, _MANIFEST_ONLY, FOLDER,
)  # fmt: skip
_SHARDS = [reader.name for reader in READERS if reader.open_shard is not None]

open = open_source  # fastent.open
