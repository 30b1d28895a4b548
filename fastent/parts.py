"""Parts of long work that are done: each in a file named after what it depends on, so that nothing is done twice."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastent
from fastent.files import atomic_path, output_folder, read_npz

__all__ = ["Arrays", "Parts", "Unfinished", "identity"]

Arrays = dict[str, NDArray[Any]]

# What long work has so far is kept this often.
_SECONDS = 30.0
_OURS = re.compile(r"\.?[\w-]+-[0-9a-f]{12}(\.unfinished)?\.npz(\..+)?")


class Parts:
    """Keeps finished parts in a folder; without a folder they are made whenever they are asked for.

    A part's file is named after a digest of everything that its result depends on. A part of other data, options or another
    version is another file: nothing has to be compared, refused or cleared away to be right.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, *, name: str = "parts", compress: bool = True) -> None:
        self._folder = None if folder is None else output_folder(Path(folder) / name)
        self._save = np.savez_compressed if compress else np.savez

    def keep(self, name: str, depends_on: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a part, made now unless an earlier call or process has finished it."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}-{identity(depends_on)}.npz"
        if path.exists():
            return read_npz(path, f"remove {str(path)!r}, so that it is made again")
        arrays = make()
        with atomic_path(path) as temporary:
            self._save(temporary, **arrays)  # type: ignore[arg-type]
        return arrays

    @property
    def keeps(self) -> bool:
        return self._folder is not None

    def clear(self) -> None:
        """Remove what is kept, and what a kill has left half-written; nothing that is not ours."""
        if self._folder is None:
            return
        for path in self._folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):  # somebody else's files are left
            self._folder.rmdir()

    def unfinished(self, name: str, depends_on: dict[str, Any]) -> "Unfinished":
        """Where a part that is being made keeps what it has so far."""
        return Unfinished(None if self._folder is None else self._folder / f"{name}-{identity(depends_on)}.unfinished.npz")

    def place(self, name: str, depends_on: dict[str, Any]) -> Path | None:
        """A folder for a part that keeps its own files."""
        return None if self._folder is None else self._folder / f"{name}-{identity(depends_on)}"


class Unfinished:
    """What a part has so far: kept twice a minute and at its end, there again after a kill."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._kept = path, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to keep."""
        return self._path is not None and time.monotonic() - self._kept >= _SECONDS

    def keep(self, arrays: Arrays) -> None:
        if self._path is None:
            return
        with atomic_path(self._path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        self._kept = time.monotonic()

    def kept(self) -> Arrays | None:
        """What was kept last, if anything."""
        if self._path is None or not self._path.exists():
            return None
        return read_npz(self._path, f"remove {str(self._path)!r}, so that it is begun again")


def identity(depends_on: dict[str, Any]) -> str:
    """12 hexadecimal digits that differ where options, the version or the number of threads do."""
    import torch

    threads = depends_on.get("threads") or torch.get_num_threads()
    everything = {**depends_on, "fastent": fastent.__version__, "threads": threads, "byteorder": sys.byteorder}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:12]
