"""Row numbers in files: an array of them, or a column of a table, such as the stragglers that a run wrote."""

import os
from typing import Any

from numpy.typing import NDArray

from fastent.io.npy import read_npy
from fastent.io.opening import located

__all__ = ["read_row_numbers"]

_COLUMN = "index"


def read_row_numbers(place: str | os.PathLike[str]) -> NDArray[Any]:
    """The numbers in an .npy, or in the column "index" of a table, or in another that is named, as FILE:COLUMN."""
    path, column, reader = located(os.fspath(place))
    if reader is None or reader.table is None:
        return read_npy(os.fspath(place))
    found: NDArray[Any] = reader.table(path).column(column or _COLUMN)
    return found
