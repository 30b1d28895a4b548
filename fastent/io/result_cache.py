"""Finished parts of long work, each in a file named after what it depends on, so that nothing is done twice."""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.io.files import output_folder
from fastent.options import short_repr
from fastent.version import __version__

__all__ = ["Arrays", "PartialResult", "ResultCache", "cache_key"]

Arrays = dict[str, NDArray[Any]]

# Partial results are kept this often.
_SECONDS = 30.0
# The format of the files; parts in another format have other names. 2: with checksums.
_FORMAT = 2
_OURS = re.compile(r"\.?[\w-]+-[0-9a-f]{12}(\.unfinished)?\.npz(\..+)?")
_OUR_FOLDERS = re.compile(r"[\w-]+-[0-9a-f]{12}\.unfinished\.cells")


class ResultCache:
    """Keeps finished parts in a folder; without a folder they are made whenever they are requested.

    A part's file is named after a hash of everything that its result depends on. Other data, options or versions give another
    file, so nothing has to be compared or cleared away. A damaged part is refused.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, *, name: str = "parts", compress: bool = True) -> None:
        self._folder = None if folder is None else output_folder(Path(folder) / name)
        self._compress = compress
        self._threads: int | None = None

    def keep(self, name: str, depends_on: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a part, made now unless an earlier call or process has finished it."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}-{self._key(depends_on)}.npz"
        if path.exists():
            return read_checked_npz(path, f"remove {str(path)!r}, so that it is made again")
        arrays = make()
        write_checked_npz(path, arrays, compress=self._compress)
        return arrays

    def _key(self, depends_on: dict[str, Any]) -> str:
        """By the number of threads at the first part: a part may leave another number behind."""
        if self._threads is None:
            self._threads = _torch_threads()
        return cache_key({**depends_on, "threads": depends_on.get("threads") or self._threads})

    @property
    def keeps(self) -> bool:
        return self._folder is not None

    def clear(self) -> None:
        """Remove all that is kept, and what a killed process left half-written; other files stay."""
        if self._folder is None:
            return
        for path in self._folder.iterdir():
            if _OUR_FOLDERS.fullmatch(path.name):
                shutil.rmtree(path)
            elif _OURS.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):  # somebody else's files are left
            self._folder.rmdir()

    def unfinished(self, name: str, depends_on: dict[str, Any]) -> "PartialResult":
        """Where a part that is being made keeps its partial result."""
        return PartialResult(None if self._folder is None else self._folder / f"{name}-{self._key(depends_on)}.unfinished.npz")

    def place(self, name: str, depends_on: dict[str, Any]) -> Path | None:
        """A folder for a part that keeps its own files."""
        return None if self._folder is None else self._folder / f"{name}-{self._key(depends_on)}"


class PartialResult:
    """What a part has so far: kept twice a minute and at its end, and still there after the process was killed."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._kept = path, time.monotonic()

    @property
    def folder(self) -> Path | None:
        """For what has many files of its own; beside the file."""
        return None if self._path is None else self._path.with_suffix(".cells")

    @property
    def due(self) -> bool:
        """Whether it is time to keep it."""
        return self._path is not None and time.monotonic() - self._kept >= _SECONDS

    def keep(self, arrays: Arrays) -> None:
        if self._path is None:
            return
        write_checked_npz(self._path, arrays, compress=False)
        self._kept = time.monotonic()

    def kept(self) -> Arrays | None:
        """What was kept last, if anything."""
        if self._path is None or not self._path.exists():
            return None
        return read_checked_npz(self._path, f"remove {str(self._path)!r}, so that it is begun again")


def cache_key(depends_on: dict[str, Any]) -> str:
    """12 hexadecimal digits that differ where options, the version or the number of threads do."""
    threads = depends_on.get("threads") or _torch_threads()
    machine = {"threads": threads, "byteorder": sys.byteorder}
    everything = {**depends_on, **machine, "fastent": __version__, "format": _FORMAT}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=_told_apart).encode()).hexdigest()[:12]


def _told_apart(value: Any) -> Any:
    """What JSON has no form for, in one that differs where values do: the text of a long array leaves most of it out."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OV":
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": value.dtype.str, "shape": value.shape, "sha256": digest}
    raise FastentError(
        f"a {type(value).__name__} ({short_repr(value)}) cannot tell kept results apart: pass numbers, text, lists or arrays "
        "of numbers"
    )


def _torch_threads() -> int:
    import torch

    return int(torch.get_num_threads())
