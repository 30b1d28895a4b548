"""Rows of a zarr array, versions 2 and 3 of the format, sharded or not. Missing chunks are not taken for zeros.

To zarr, a chunk that is not there is full of the array's fill value: a lost file, a job that was killed and a chunk of zeros
look alike. So the fill value is exchanged, in memory, for one that hardly occurs. Where it turns up, the rows are read again
with yet another: values that change with the fill value are not stored.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import chosen_name, reading, refuse_name
from fastent.io.sources import Reader, Source, check_kind, flat_shape
from fastent.runtime.optional import needed

__all__ = ["ZARR", "ZarrSource"]

Array = NDArray[Any]
# Files that mark a folder as zarr's.
_OF_ZARR = ("zarr.json", ".zarray", ".zgroup")
# Bits of two values that data rarely hold; for floats they are NaNs.
_BITS = {
    ("f", 2): (0x7E5A, 0x7E5B), ("f", 4): (0x7FC5A5A1, 0x7FC5A5A2), ("f", 8): (0x7FF85A5A5A5A5A51, 0x7FF85A5A5A5A5A52),
    1: (0xA5, 0x5A), 2: (0x5AA5, 0xA55A), 4: (0x5AA55AA5, 0x7A5A5A57), 8: (0x5AA55AA55AA55AA5, 0x7A5A5A5A5A5A5A57),
}  # fmt: skip


class ZarrSource(Source):
    """One array of a zarr folder."""

    def __init__(self, path: Path, name: str | None) -> None:
        self._path = path
        self._open = needed("zarr", "open")
        with reading(path, "write it again", self._kind()):
            array, self._name = self._find(name)
            shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
        self._label = repr(str(path)) if self._name is None else f"{self._name} of {str(path)!r}"
        place = f"zarr.open({str(path)!r})" + ("" if self._name is None else f"[{self._name!r}]")
        self._loaded = f"{place}[:]"
        check_kind(self._label, shape, dtype, self._loaded)
        with reading(path, "write it again", self._kind()):
            self._first, self._second = _fills(dtype)
            self._arrays = _with_fill(array, self._first), _with_fill(array, self._second)
        self.shape, self.dtype = flat_shape(shape), dtype
        if len(shape) > 2:
            self.point_shape = shape[1:]

    def __reduce__(self) -> Any:
        return ZarrSource, (self._path.absolute(), self._name)

    def read(self, start: int, stop: int) -> Array:
        if start == stop:
            return np.empty((0, self.shape[1]), self.dtype)
        with reading(self._path, "write it again, or restore it from a copy", self._kind()):
            rows = self._rows(0, start, stop)
            suspect = _bits(rows) == _bits(np.asarray(self._first, self.dtype))
            if suspect.any():
                lost = suspect & (_bits(self._rows(1, start, stop)) == _bits(np.asarray(self._second, self.dtype)))
                if lost.any():
                    raise self._lost(start, lost)
            return rows

    def _rows(self, fill: int, start: int, stop: int) -> Array:
        rows = np.asarray(self._arrays[fill][start:stop])
        if rows.shape != (stop - start, *(self.point_shape or self.shape[1:])):
            raise ValueError(f"rows of shape {rows.shape}")
        return rows.reshape(stop - start, self.shape[1]).astype(self.dtype, copy=False)

    def _lost(self, start: int, lost: NDArray[np.bool_]) -> FastentError:
        rows = np.flatnonzero(lost.any(1))
        columns = np.flatnonzero(lost[rows[0]])
        place = f"row {start + rows[0]}" + ("" if len(columns) == self.shape[1] else f", column {columns[0]}")
        return FastentError(
            f"{self._label} lacks chunks, from {place} on: they are lost, or were never written, or hold nothing but the fill "
            "value, which zarr does not store. Restore or write them; or if the fill value is meant, "
            f"numpy.save('rows.npy', {self._loaded})"
        )

    def _find(self, name: str | None) -> tuple[Any, str | None]:
        # Opened by its absolute path, because a process in another folder would not find its chunks.
        opened = self._open(str(self._path.absolute()), mode="r")
        if not hasattr(opened, "array_keys"):
            refuse_name(self._path, name)
            return opened, None
        chosen = chosen_name(self._path, sorted(opened.array_keys()), name, "array")
        return opened[chosen], chosen

    @staticmethod
    def _kind() -> str:
        return f"no array that zarr {needed('zarr', '__version__')} reads"


def _fills(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "b":
        return np.True_, np.False_
    bits = _BITS[(dtype.kind, dtype.itemsize) if dtype.kind == "f" else dtype.itemsize]
    first, second = np.array(bits, f"u{dtype.itemsize}").view(dtype.newbyteorder("="))
    return first, second


def _bits(values: Array) -> Array:
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.dtype.itemsize}")


def _with_fill(array: Any, value: Any) -> Any:
    """The same array with another fill value, in this process only."""
    stored = getattr(array, "_async_array", None)
    if stored is None:  # zarr 2
        other = type(array)(array.store, path=array.path, read_only=True, chunk_store=array.chunk_store)
        other._fill_value = value
        return other
    metadata = dataclasses.replace(stored.metadata, fill_value=value)
    config = stored.config if hasattr(stored, "config") else stored._config  # before zarr 3.1.6
    return type(array)(type(stored)(metadata=metadata, store_path=stored.store_path, config=config))


def _can_open(path: Path) -> bool:
    return path.suffix.lower() == ".zarr" or any(os.path.exists(path / each) for each in _OF_ZARR)


ZARR = Reader(".zarr", _can_open, ZarrSource)
