"""Row numbers in files: an array of them, or a column of a table, such as the stragglers that a run wrote."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.csv_files import NoRowsError
from fastent.io.npy import read_npy
from fastent.io.opening import located
from fastent.io.reading import is_there
from fastent.io.tables import Table

__all__ = ["COLUMN", "are_row_numbers", "labels_listed", "read_row_numbers", "run_that_listed"]

COLUMN = "index"


def read_row_numbers(place: str | os.PathLike[str]) -> NDArray[Any]:
    """The numbers in an .npy, or in the column "index" of a table, or in another that is named, as FILE:COLUMN.

    A table without rows has none.
    """
    path, column, reader = located(os.fspath(place))
    if reader is None or reader.table is None:
        return read_npy(os.fspath(place))
    try:
        found: NDArray[Any] = reader.table(path).column(column or COLUMN)
    except NoRowsError as error:
        if (column or COLUMN) not in error.columns:
            raise
        return np.empty(0, np.int64)
    return found


def are_row_numbers(table: Table, column: str | None = None) -> bool:
    """Whether a table is a list of row numbers rather than of points, or the column of it that is named."""
    return column == COLUMN or (column is None and table.schema.names == [COLUMN])


def labels_listed(place: str | os.PathLike[str]) -> NDArray[Any] | None:
    """The labels that a table of stragglers has beside its row numbers; None where it has none."""
    path, column, reader = located(os.fspath(place))
    if reader is None or reader.table is None or column not in (None, COLUMN):
        return None
    with suppress(FastentError):  # no rows, no such column, or labels that read as missing
        found: NDArray[Any] = reader.table(path).column("label")
        return found
    return None


def run_that_listed(place: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of the run that wrote a table of stragglers, in it or in its folder; empty where there is none."""
    path, _, reader = located(os.fspath(place))
    if reader is None or reader.table is None:
        return {}
    written = (getattr(reader.table(path).schema, "metadata", None) or {}).get(b"fastent.config")
    beside = path.parent / "config.json"
    with suppress(OSError, ValueError):
        if written is None and path.stem == "stragglers" and is_there(beside):
            written = Path(beside).read_bytes()
        found = {} if written is None else json.loads(written)
        return found if isinstance(found, dict) else {}
    return {}
