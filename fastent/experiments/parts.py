"""The parts of an experiment that are done: each in a file named after what it depends on, so that nothing is done twice."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastent
from fastent.files import atomic_path, output_folder, read_npz

__all__ = ["Parts", "identity"]

Arrays = dict[str, NDArray[Any]]


class Parts:
    """Keeps finished parts in a folder; without a folder they are made whenever they are asked for.

    A part's file is named after a digest of everything that its result depends on. A part of other data, options or another
    version is another file: nothing has to be compared, refused or cleared away to be right.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = None if folder is None else output_folder(Path(folder) / "parts")

    def keep(self, name: str, depends_on: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a part, made now unless an earlier call or process has finished it."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}-{identity(depends_on)}.npz"
        if path.exists():
            return read_npz(path, f"remove {str(path)!r}, so that it is made again")
        arrays = make()
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        return arrays

    def place(self, name: str, depends_on: dict[str, Any]) -> Path | None:
        """A folder for a part that keeps its own files."""
        return None if self._folder is None else self._folder / f"{name}-{identity(depends_on)}"


def identity(depends_on: dict[str, Any]) -> str:
    """12 hexadecimal digits that differ where options, the version or the number of threads do."""
    import torch

    threads = depends_on.get("threads") or torch.get_num_threads()
    everything = {**depends_on, "fastent": fastent.__version__, "threads": threads, "byteorder": sys.byteorder}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:12]
