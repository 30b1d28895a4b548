"""Records in a folder: one file of arrays with a checksum, and JSON and Parquet files for other programs."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.io.files import output_folder, write_parquet, write_text
from fastent.io.reading import as_path, is_there, name_list
from fastent.runtime.formatting import as_plain

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RecordFile", "check_codes", "check_shapes", "long_table", "with_config", "write_readable"]

Array = NDArray[Any]


class RecordFile(NamedTuple):
    """The file that holds all records of a run or a probe, and its names in messages."""

    name: str
    holds: str
    what: str
    written_by: str
    remedy: str

    def write(self, folder: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
        """Write everything into the folder, which is made if it is missing, and return that."""
        place = output_folder(folder)
        write_checked_npz(place / self.name, {"config": json.dumps(config), **arrays})
        return place

    def path(self, folder: str | os.PathLike[str]) -> Path:
        return as_path(folder, f"the folder of {self.what}") / self.name

    def read(self, folder: str | os.PathLike[str], required: Iterable[str]) -> dict[str, Array]:
        """All arrays, among them the required ones; those of earlier versions have no checksum."""
        path = self.path(folder)
        if not is_there(path):
            raise FastentError(
                f"no {self.holds} in {str(folder)!r}: {self.name} is missing; name a folder that {self.written_by}"
            )
        arrays = read_checked_npz(path, self.remedy, earlier=True)
        missing = [name for name in ("config", *required) if name not in arrays]
        if missing:
            raise FastentError(f"{str(path)!r} does not hold {self.what}, it lacks {name_list(missing)}: name another folder")
        return arrays


def write_readable(folder: Path, config: Mapping[str, Any], summary: Mapping[str, Any], **tables: "pa.Table") -> None:
    """Write `config.json`, `summary.json`, and each table as a Parquet file of its name."""
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "summary.json", json.dumps(as_plain(summary), indent=2, allow_nan=False) + "\n")
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table, compression="zstd")


def long_table(
    shape: tuple[int, ...], config: Mapping[str, Any], columns: Mapping[str, tuple[Any, tuple[int, ...]]]
) -> "pa.Table":
    """A table with a row for each place of `shape`; each column has values that vary along some of its axes. NaN is null."""
    import pyarrow as pa

    def column(values: Any, axes: tuple[int, ...]) -> Any:
        expanded = np.expand_dims(np.asarray(values), tuple(axis for axis in range(len(shape)) if axis not in axes))
        return pa.array(np.broadcast_to(expanded, shape).ravel(), from_pandas=True)

    return with_config(pa.table({name: column(*given) for name, given in columns.items()}), config)


def with_config(table: "pa.Table", config: Mapping[str, Any]) -> "pa.Table":
    return table.replace_schema_metadata({"fastent.config": json.dumps(config)})


def check_shapes(arrays: Mapping[str, Array], expected: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """ValueError for the first array that has another shape than expected, or a dtype of another kind."""
    for name in expected.keys() & arrays.keys():
        shape, kinds = expected[name]
        found = arrays[name]
        if found.shape != shape or found.dtype.kind not in kinds:
            raise ValueError(f"{name} is {found.dtype} of shape {found.shape}, where shape {shape} would fit the others")
        if kinds == "u" and found.dtype != np.uint8:
            raise ValueError(f"{name} is {found.dtype}")


def check_codes(codes: Array, n_classes: int) -> None:
    if codes.size and (codes.min() < 0 or codes.max() >= n_classes):
        raise ValueError(f"codes are from {codes.min()} to {codes.max()}, of {n_classes} classes")
