"""Data frames as tables: pandas, polars, pyarrow and Hugging Face `datasets`, recognised without importing any of them."""

import sys
from collections.abc import Sequence
from typing import Any

from fastent.errors import FastentError
from fastent.io.reading import name_list
from fastent.io.tables import SHOWN_NAMES, ArrowTable
from fastent.printable import first_line

__all__ = ["frame_table"]


def frame_table(value: Any, name: str) -> ArrowTable | None:
    """The table that a data frame holds; None for anything else. `name` is what messages call it."""
    if isinstance(value, ArrowTable):
        return value
    table = _of_frame(value, name)
    if table is None:
        return None

    as_given = {str(each): each for each in getattr(value, "columns", ()) if isinstance(each, str | int | tuple)}

    def choose(names: Sequence[str]) -> str:
        columns = [as_given.get(each, each) for each in names]
        if len(columns) <= SHOWN_NAMES:
            return f"pass those of the features, as {name}[{columns}]"
        return (
            f"pass those of the features, as {name}[[{', '.join(map(repr, columns[:3]))}, ...]] with all {len(columns)} of them"
        )

    return ArrowTable(table, name, choose)


def _of_frame(value: Any, name: str) -> Any:
    # A caller who has a frame has imported what it is of; nobody else pays for it.
    pandas, polars, arrow, datasets = (sys.modules.get(each) for each in ("pandas", "polars", "pyarrow", "datasets"))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        import pyarrow

        _refuse_what_arrow_has_not(value, name, pandas)
        try:
            return pyarrow.Table.from_pandas(value, preserve_index=False)
        except (pyarrow.ArrowException, ValueError, TypeError) as error:
            raise FastentError(
                f"{name} cannot be read as a table ({first_line(error)}): give each column one type and a name of its own"
            ) from error
    if polars is not None and isinstance(value, polars.LazyFrame):
        raise FastentError(f"{name} is a LazyFrame: call {name}.collect()")
    if polars is not None and isinstance(value, polars.DataFrame):
        try:
            return value.to_arrow()
        except Exception as error:  # of polars or pyarrow, over types that Arrow does not have
            raise FastentError(
                f"{name} cannot be read as a table ({first_line(error)}): cast such columns, as with {name}.cast(polars.Int64)"
            ) from error
    if arrow is not None and isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    if arrow is not None and isinstance(value, arrow.Table):
        return value
    if datasets is not None and isinstance(value, datasets.Dataset):
        return value.with_format("arrow")[:]
    if hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns"):  # relations of duckdb, tables of other packages
        import pyarrow

        return pyarrow.table(value)
    return None


def _refuse_what_arrow_has_not(frame: Any, name: str, pandas: Any) -> None:
    """Columns of the same name, and sparse ones, of a frame of pandas."""
    if not frame.columns.is_unique:
        twins = name_list(map(repr, frame.columns[frame.columns.duplicated()].unique()))
        raise FastentError(f"{name} cannot be read as a table (several columns are called {twins}): give each its own name")
    sparse = [isinstance(dtype, pandas.SparseDtype) for dtype in frame.dtypes]
    if any(sparse):
        dense = "X.sparse.to_dense()" if all(sparse) else "pandas.DataFrame({name: numpy.asarray(X[name]) for name in X})"
        first = frame.columns[sparse.index(True)]
        raise FastentError(f"{name} has sparse columns, first {first!r}: pass {dense.replace('X', name)}")
