"""Files for what does not fit in memory, gone when they are no longer needed: on a disk, or in an object store.

A file appears when it is whole, and is then read in pieces by any process that sees the folder. Object stores are reached by
fsspec, which finds credentials where their own tools do.
"""

import os
import re
import secrets
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.io.files import atomic_path, is_abandoned, output_folder, signature
from fastent.printable import first_line
from fastent.runtime.memory import readable_bytes

__all__ = [
    "NO_ROOM", "LocalFolder", "Piece", "ScratchFolder", "array_on_disk", "check_room", "check_scratch", "folder_of",
    "local_folder", "scratch_folder",
]  # fmt: skip

Array = NDArray[Any]

_PREFIX = "fastent-scratch-"
# There as long as a folder of an object store is used: such folders are not there by themselves.
_MARK = "in-use"
NO_ROOM = "make room, or name a folder on a larger disk as scratch (or TMPDIR), or use a larger memory_budget"


class Piece(NamedTuple):
    """Bytes begin..end of a file."""

    name: str
    begin: int
    end: int


class ScratchFolder(ABC):
    """A folder of files that are written as a whole and read in pieces, by several processes.

    Attributes
    ----------
    reads_pages : bool
        Whether pieces are mapped, so that only what is used of them is read.
    """

    reads_pages: bool

    @abstractmethod
    def names(self) -> list[str]:
        """Of the files that are there."""

    @abstractmethod
    def holds(self, name: str) -> bool: ...

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes."""

    @abstractmethod
    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file, whole or not at all."""

    @abstractmethod
    def write_arrays(self, name: str, arrays: dict[str, Array]) -> None:
        """The same for arrays by name, with a checksum."""

    @abstractmethod
    def read_arrays(self, name: str) -> dict[str, Array]:
        """Refuses what is damaged."""

    @abstractmethod
    def pieces(self, wanted: Sequence[Piece]) -> Sequence[NDArray[np.uint8]]:
        """Bytes of pieces that are not empty."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def check_seen(self) -> None:
        """Raise if this process does not see the folder."""

    def _not_seen(self) -> FastentError:
        return FastentError(
            f"a worker on {socket.gethostname()!r} does not see the scratch folder {str(self)!r}: name one that all workers "
            "share as scratch, or as the output folder or TMPDIR"
        )


class LocalFolder(ScratchFolder):
    """On a disk of this machine, or one that several share."""

    reads_pages = True

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # workers have other working directories

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        return [path.name for path in self.path.iterdir()]

    def holds(self, name: str) -> bool:
        return (self.path / name).exists()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def total(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.path.iterdir())

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        with self._writing(name) as path, atomic_path(path) as temporary, open(temporary, "wb") as stream:
            stream.writelines(parts)

    def write_arrays(self, name: str, arrays: dict[str, Array]) -> None:
        with self._writing(name) as path:
            write_checked_npz(path, arrays, compress=False)

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        try:
            yield self.path / name
        except OSError as error:
            raise FastentError(f"{name!r} cannot be written to {str(self)!r} ({error.strerror}): {NO_ROOM}") from error

    def read_arrays(self, name: str) -> dict[str, Array]:
        path = self.path / name
        return read_checked_npz(path, f"remove {str(path)!r}, so that it is made again")

    def pieces(self, wanted: Sequence[Piece]) -> Sequence[NDArray[np.uint8]]:
        return [np.memmap(self.path / name, np.uint8, "r", begin, (end - begin,)) for name, begin, end in wanted]

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def check_seen(self) -> None:
        if not self.path.is_dir():
            raise self._not_seen()


class RemoteFolder(ScratchFolder):
    """In an object store, by an address that fsspec knows, such as "s3://bucket/folder"."""

    reads_pages = False

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def __str__(self) -> str:
        return self.address

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address}  # another process connects by itself

    @cached_property
    def _system(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        with self._reaching():
            system, path = url_to_fs(self.address)
        return system, str(path).rstrip("/")

    @property
    def files(self) -> Any:
        """The store, as fsspec calls it a file system."""
        return self._system[0]

    def _at(self, name: str) -> str:
        return f"{self._system[1]}/{name}"

    def names(self) -> list[str]:
        with self._reaching():
            self.files.invalidate_cache()
            try:
                found = self.files.ls(self._system[1], detail=False)
            except FileNotFoundError:
                return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def holds(self, name: str) -> bool:
        with self._reaching():
            self.files.invalidate_cache()
            return bool(self.files.exists(self._at(name)))

    def size(self, name: str) -> int:
        with self._reaching():
            return int(self.files.size(self._at(name)))

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        with self._nearby() as near:
            near.write(name, parts)
            self._put(near, name)

    def write_arrays(self, name: str, arrays: dict[str, Array]) -> None:
        with self._nearby() as near:
            near.write_arrays(name, arrays)
            self._put(near, name)

    def _put(self, near: LocalFolder, name: str) -> None:
        self.check_seen()  # a worker may be the last to hear that the search has ended
        with self._reaching():
            self.files.put_file(str(near.path / name), self._at(name))

    def read_arrays(self, name: str) -> dict[str, Array]:
        with self._nearby() as near:
            with self._reaching():
                self.files.get_file(self._at(name), str(near.path / name))
            return read_checked_npz(near.path / name, f"it was read from {self._at(name)!r}; search again")

    def pieces(self, wanted: Sequence[Piece]) -> Sequence[NDArray[np.uint8]]:
        at = [self._at(each.name) for each in wanted]
        bounds = [each.begin for each in wanted], [each.end for each in wanted]
        with self._reaching():
            found = self.files.cat_ranges(at, *bounds, on_error="raise")
        return [np.frombuffer(each, np.uint8) for each in found]

    def remove(self, name: str) -> None:
        with self._reaching(), suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def check_seen(self) -> None:
        if not self.holds(_MARK):
            raise self._not_seen()

    def made(self) -> "RemoteFolder":
        """The same, once a file could be written to it."""
        with self._reaching():
            try:
                self.files.pipe_file(self._at(_MARK), signature().encode())
            except FileNotFoundError:  # no store without folders, or none of that name
                root = self._system[1].partition("/")[0]
                if root and not self.files.exists(root):
                    raise
                self.files.makedirs(self._system[1], exist_ok=True)
                self.files.pipe_file(self._at(_MARK), signature().encode())
        return self

    def removed(self) -> None:
        """Remove all of it; a store that does not answer any more keeps it."""
        with suppress(Exception):
            self.files.rm(self._system[1], recursive=True)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Whatever goes wrong on the way to a store, which raises errors of its own, is said in one line."""
        try:
            yield
        except FastentError:
            raise
        except ImportError as error:
            raise FastentError(f"scratch={self.address!r} needs a package: {first_line(error)}") from error
        except Exception as error:
            raise FastentError(
                f"scratch={self.address!r} cannot be used ({type(error).__name__}: {first_line(error)}): name a folder of a "
                "disk, or of a store that fsspec knows and that you may write to"
            ) from error

    @contextmanager
    def _nearby(self) -> Iterator[LocalFolder]:
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{signature()}-") as folder:
            yield LocalFolder(Path(folder))


def check_scratch(scratch: Any) -> str | None:
    """A folder or an address for scratch, as text; None if there is none."""
    if scratch is None:
        return None
    text = os.fspath(scratch) if isinstance(scratch, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise FastentError(f"scratch={scratch!r}: a folder, or an address such as 's3://bucket/folder', is needed")
    scheme, address = _LIKE_ADDRESS.search(text), _ADDRESS.fullmatch(text)
    if scheme and not (isinstance(scratch, str) and address):
        raise FastentError(
            f"scratch={scratch!r}: an address is text, PROTOCOL://FOLDER, such as 's3://bucket/folder', with one protocol and "
            "none of the characters *?[]"
        )
    if address and address["protocol"].lower() in ("file", "local"):
        return f"/{address['folder'].lstrip('/')}" if address["folder"].startswith("/") else _no_host(text)
    return text


# What looks like an address, and what is one. Stores take names with some characters for patterns.
_LIKE_ADDRESS = re.compile(r"://|::|^\s*[\w+.-]*:/|^(s3|gs|gcs|az|abfs|hdfs|memory|file|local):")
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://(?P<folder>(?!.*::)[^*?\[\]]*[^*?\[\]/][^*?\[\]]*)")


def _no_host(address: str) -> str:
    raise FastentError(f"scratch={address!r}: a folder of this machine is /FOLDER, or file:///FOLDER with three strokes")


def local_folder(scratch: str | None) -> Path:
    """A folder of this machine's for files of one process: the one that was named, if it is one; else `TMPDIR`."""
    if scratch is not None and not _ADDRESS.fullmatch(scratch):
        try:
            return output_folder(scratch).absolute()
        except FastentError as error:
            raise FastentError(f"scratch={scratch!r} is no folder that can be written to: {first_line(error)}") from error
    within, asked = Path(tempfile.gettempdir()), os.environ.get("TMPDIR")
    if asked and Path(asked).absolute() != within.absolute():
        raise FastentError(f"TMPDIR={asked!r} is no folder that can be written to: make it, or set TMPDIR to another")
    return within.absolute()


@contextmanager
def scratch_folder(scratch: str | None = None) -> Iterator[ScratchFolder]:
    """Yield a folder that is removed at the end; those of processes of this machine that were killed are removed first.

    Parameters
    ----------
    scratch : str, optional
        Where it is made: a folder, or an address of a store. Default among the system's temporary files (`TMPDIR`).
    """
    if scratch is not None and _ADDRESS.fullmatch(scratch):
        within = RemoteFolder(scratch)
        for name in _abandoned(within.names()):
            RemoteFolder(f"{within}/{name}").removed()
        remote = RemoteFolder(f"{within}/{_PREFIX}{signature()}-{secrets.token_hex(4)}").made()
        try:
            yield remote
        finally:
            remote.removed()
        return
    place = local_folder(scratch)
    for name in _abandoned(path.name for path in place.glob(f"{_PREFIX}*")):
        shutil.rmtree(place / name, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{signature()}-", dir=place))
    except OSError as error:
        raise FastentError(
            f"no scratch folder can be made in {str(place)!r} ({error.strerror}): name a folder with room as scratch, or TMPDIR"
        ) from error
    try:
        yield LocalFolder(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned(names: Iterable[str]) -> list[str]:
    """Names of scratch folders whose process, one of this machine, has ended."""
    return [name for name in names if name.startswith(_PREFIX) and is_abandoned(name.removeprefix(_PREFIX))]


def check_room(needed: Sequence[tuple[Path, float]], what: str) -> None:
    """Raise, with both figures, if a disk has no room for all the bytes that are to lie in folders of it."""
    for folder, _ in needed:
        disk = folder.stat().st_dev
        together = sum(size for other, size in needed if other.stat().st_dev == disk)
        free = shutil.disk_usage(folder).free
        if together > free:
            raise FastentError(
                f"{what} takes about {readable_bytes(together)} of disk in {str(folder)!r}, which has {readable_bytes(free)} "
                f"free: {NO_ROOM}"
            )


def array_on_disk(folder: Path, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose pages the system may write to disk: nothing of it is left when nobody refers to it any more.

    The file has no name, so that it vanishes with the process, however that ends.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        try:
            os.posix_fallocate(stream.fileno(), 0, size)  # writing to pages for which there is no room would end the process
        except OSError as error:
            raise FastentError(
                f"lists of {readable_bytes(size)} cannot be kept in {str(folder)!r} ({error.strerror}): {NO_ROOM}"
            ) from error
        mapped = np.memmap(stream, dtype, "r+", shape=shape)
    mapped.folder = folder  # type: ignore[attr-defined]
    return np.asarray(mapped)


def folder_of(array: Array) -> Path | None:
    """Where others can be made beside an `array_on_disk`; None for arrays in memory."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return getattr(base, "folder", None)
