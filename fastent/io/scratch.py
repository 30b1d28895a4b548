"""Files for what does not fit in memory, gone when they are no longer needed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.files import is_abandoned, output_folder, signature
from fastent.runtime.memory import readable_bytes

__all__ = ["array_on_disk", "check_room", "folder_of", "scratch_folder"]

_PREFIX = "fastent-scratch-"


@contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield a folder for what does not fit in memory.

    Parameters
    ----------
    place : Path, optional
        A folder that stays, for work that can be resumed; whoever named it removes it. Default a folder among the system's
        temporary files (`TMPDIR`), which is removed at the end; those of processes that were killed are removed first.
    """
    if place is not None:
        yield output_folder(place)
        return
    within, asked = Path(tempfile.gettempdir()), os.environ.get("TMPDIR")
    if asked and Path(asked).absolute() != within.absolute():
        raise FastentError(f"TMPDIR={asked!r} is no folder that can be written to: make it, or set TMPDIR to another")
    for found in within.glob(f"{_PREFIX}*"):
        if is_abandoned(found.name.removeprefix(_PREFIX)):
            shutil.rmtree(found, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{signature()}-"))
    except OSError as error:
        raise FastentError(f"no scratch folder can be made ({error.strerror}): set TMPDIR to a folder with room") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_room(folder: Path, needed: float, what: str) -> None:
    """Raise, with both figures, if the disk of a folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FastentError(
            f"{what} takes about {readable_bytes(needed)} of disk in {str(folder)!r}, which has {readable_bytes(free)} free: "
            "make room, set TMPDIR (or the output folder) to a larger disk, or use a larger memory_budget"
        )


def array_on_disk(folder: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array whose pages the system may write to disk: nothing of it is left when nobody refers to it any more.

    The file has no name, so that it vanishes with the process, however that ends.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        try:
            os.posix_fallocate(stream.fileno(), 0, size)  # writing to pages for which there is no room would end the process
        except OSError as error:
            raise FastentError(
                f"lists of {readable_bytes(size)} cannot be kept in {str(folder)!r} ({error.strerror}): make room, set TMPDIR "
                "(or the output folder) to a larger disk, or use a larger memory_budget"
            ) from error
        mapped = np.memmap(stream, dtype, "r+", shape=shape)
    mapped.beside = folder.parent  # type: ignore[attr-defined]
    return np.asarray(mapped)


def folder_of(array: NDArray[Any]) -> Path | None:
    """Where others can be made beside an `array_on_disk`, whose own folder may be gone; None for arrays in memory."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return getattr(base, "beside", None)
