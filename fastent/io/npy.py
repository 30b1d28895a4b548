"""Readers of .npy and .npz that trust no header: what it promises is compared with the bytes before anything is allocated."""

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import as_path, chosen_name, name_list, reading, require_file
from fastent.runtime.memory import available_bytes, readable_bytes

__all__ = ["USUAL_NAMES", "has_labels", "is_npz", "read_array", "read_npy", "read_npz"]

Array = NDArray[Any]
_MAGIC = b"\x93NUMPY"
# What may stand between members of a zip.
_DESCRIPTOR = 24
_OBJECTS = "save numbers with numpy.save, or where every row has a label, y.astype(str)"
_PLAIN = "no .npz of plain arrays"
# What points and labels are called in an .npz and in mappings.
USUAL_NAMES = {
    "X": ("x_train", "X", "x", "data", "features", "activations", "embeddings"),
    "y": ("y_train", "y", "labels", "label", "targets", "target"),
}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def end(self) -> int:
        """Where the values end, in a Python int, which does not overflow."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: str | os.PathLike[str], remedy: str = "save it with numpy.save") -> Array:
    """Map an .npy into memory; a file that is missing, damaged or holds pickled objects is refused with the `remedy`."""
    path = as_path(path, "an .npy")
    size = require_file(path, remedy)
    with reading(path, remedy, "no .npy of numbers"):
        with open(path, "rb") as stream:
            head = stream.read(len(_MAGIC))
            if head != _MAGIC:
                zipped = head[:4] == b"PK\x03\x04"
                raise FastentError(f"{str(path)!r} is no .npy{', it is an .npz: rename it' if zipped else f': {remedy}'}")
            stream.seek(0)
            header = _header(stream, str(path))
        if header.end > size:
            raise ValueError(f"its header promises {header.end} bytes, there are {size}")
        order = "F" if header.fortran else "C"
        return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)  # type: ignore[call-overload,no-any-return]


def _header(stream: IO[bytes], name: str) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise NotImplementedError(f"version {version[0]}.{version[1]} of the format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        # numpy's own message suggests allow_pickle=True, which runs any code that the file holds.
        raise FastentError(f"{name!r} holds Python objects: {_OBJECTS}")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    if dtype.itemsize == 0 and dtype.kind not in "US":
        raise ValueError(f"dtype {dtype}")
    return _Header(tuple(map(int, shape)), bool(fortran), dtype, stream.tell())


def read_npz(path: str | os.PathLike[str], remedy: str) -> dict[str, Array]:
    """Read all arrays of an .npz; a file that is damaged, or holds pickled objects, is refused with the `remedy`."""
    path = as_path(path, "an .npz")
    with _opened(path, remedy) as members:
        return members.read(list(members.places))


def is_npz(place: str | os.PathLike[str]) -> bool:
    """Whether a place names an .npz, FILE.npz, or one of its members, FILE.npz:NAME."""
    text = os.fspath(place).lower()
    return text.endswith(".npz") or ".npz:" in text


def read_array(place: str, usual: str) -> Array:
    """An .npy, mapped; or one member of an .npz, named as FILE.npz:NAME, or else called as `usual`, or else the only one."""
    text = str(as_path(place, "an .npy, or FILE.npz:NAME"))
    if not is_npz(text):
        return read_npy(text)
    end = text.lower().find(".npz:") + len(".npz")
    name = text[end + 1 :] if end >= len(".npz") else ""
    path = Path(text[:end] if name else text)
    with _opened(path, "save it with numpy.savez") as members:
        names = list(members.places)
        called = (each for each in USUAL_NAMES.get(usual, (usual,)) if each in names)
        chosen = chosen_name(path, names, name or next(called, None), "array")
        return members.read([chosen])[chosen]


def has_labels(place: str) -> bool:
    """Whether a place is an .npz, no member of one, which holds labels under one of their usual names."""
    if not place.lower().endswith(".npz"):
        return False
    with _opened(Path(place), "save it with numpy.savez") as members:
        return any(name in members.places for name in USUAL_NAMES["y"])


class _Members:
    """The arrays of an open .npz by name."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self.places: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename and archive.open(info).read(len(_MAGIC)) != _MAGIC:
                raise FastentError(
                    f"{str(path)!r} holds {name_list([name])}, which is no array: save arrays alone, with numpy.savez"
                )
            if info.flag_bits & 1:
                raise NotImplementedError("it is encrypted")
            if name in self.places:
                raise ValueError(f"it holds {name_list([name])} twice")
            self.places[name] = info

    def read(self, names: list[str]) -> dict[str, Array]:
        """Read these, once it is known that their arrays fit into memory."""
        needed = sum(self._header(name).end for name in names)
        available = available_bytes()
        if needed > available:
            raise FastentError(
                f"{str(self._path)!r} unpacks to {readable_bytes(needed)}, and {readable_bytes(available)} of memory are "
                "available: save the arrays as .npy, which are read in parts, or use a machine with more memory"
            )
        found = {}
        for name in names:
            with self._archive.open(self.places[name]) as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # which also reads to the end, where the checksum is compared
                    raise ValueError(f"{name_list([name])} has bytes after its end")
        return found

    def _header(self, name: str) -> _Header:
        info = self.places[name]
        with self._archive.open(info) as stream:
            header = _header(stream, f"{self._path}:{name}")
        if header.end != info.file_size:
            raise ValueError(f"the header of {name_list([name])} promises {header.end} bytes, there are {info.file_size}")
        return header


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[_Members]:
    require_file(path, remedy)
    with reading(path, remedy, _PLAIN), open(path, "rb") as stream:
        if stream.read(len(_MAGIC)) == _MAGIC:
            raise FastentError(f"{str(path)!r} is an .npy, not an .npz: rename it to {path.with_suffix('.npy').name!r}")
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            _see_that_none_is_lost(stream, archive)
            yield _Members(path, archive)


def _see_that_none_is_lost(stream: IO[bytes], archive: zipfile.ZipFile) -> None:
    """The members that the directory names must fill the file: zipfile reads a damaged directory as one of fewer members."""
    at = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if not at <= info.header_offset <= at + _DESCRIPTOR:
            break
        stream.seek(info.header_offset + 26)
        at = info.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4))) + info.compress_size
    if not at <= archive.start_dir <= at + _DESCRIPTOR:
        raise ValueError("its directory lacks members")
