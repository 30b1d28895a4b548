"""Freed memory that stays with the process while work goes on, instead of going back to the system after every array.

Dask's workers start with MALLOC_TRIM_THRESHOLD_ = 65536, so that they give back what they free. Then each large array is new
memory, which the system clears first: a fifth of the processor time of a search (500,000 x 128, on a virtual machine).
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["freed_memory_kept"]

# Parameters of glibc's `mallopt`, what it takes at most, and what it begins with.
_TRIM, _MMAP = -1, -3
_MOST_TRIM, _MOST_MMAP = 2**31 - 1, 32 << 20
_BEGINNING = 128 << 10
_VARIABLE, _OTHER = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"


class _Kept:
    """How many tasks of this process want it."""

    def __init__(self) -> None:
        self.lock, self.tasks = threading.Lock(), 0


_kept = _Kept()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Where the environment has glibc give back what is freed, keep it until the last task of the process is through."""
    library = _glibc() if _VARIABLE in os.environ and _OTHER not in os.environ else None
    if library is None:
        yield
        return
    with _kept.lock:
        _kept.tasks += 1
        if _kept.tasks == 1:
            library.mallopt(_TRIM, _MOST_TRIM)
            library.mallopt(_MMAP, _MOST_MMAP)
    try:
        yield
    finally:
        with _kept.lock:
            _kept.tasks -= 1
            if not _kept.tasks:
                library.mallopt(_TRIM, _asked())
                library.mallopt(_MMAP, _BEGINNING)
                library.malloc_trim(0)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None


def _asked() -> int:
    try:
        return max(0, min(int(os.environ[_VARIABLE]), _MOST_TRIM))
    except (KeyError, ValueError):
        return _BEGINNING
