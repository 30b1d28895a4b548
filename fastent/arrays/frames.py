"""Data frames as tables: pandas, polars, pyarrow and Hugging Face `datasets`, recognised without importing any of them."""

import sys
from collections.abc import Sequence
from typing import Any

from fastent.errors import FastentError
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

    def choose(names: Sequence[str]) -> str:
        if len(names) <= SHOWN_NAMES:
            return f"pass those of the features, as {name}[{list(names)}]"
        return f"pass those of the features, as {name}[[{', '.join(map(repr, names[:3]))}, ...]] with all {len(names)} of them"

    return ArrowTable(table, name, choose)


def _of_frame(value: Any, name: str) -> Any:
    # A caller who has a frame has imported what it is of; nobody else pays for it.
    pandas, polars, arrow, datasets = (sys.modules.get(each) for each in ("pandas", "polars", "pyarrow", "datasets"))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        import pyarrow

        try:
            return pyarrow.Table.from_pandas(value, preserve_index=False)
        except (pyarrow.ArrowException, ValueError, TypeError) as error:
            raise FastentError(
                f"{name} cannot be read as a table ({first_line(error)}): give each column one type and a name of its own"
            ) from error
    if polars is not None and isinstance(value, polars.LazyFrame):
        raise FastentError(f"{name} is a LazyFrame: call {name}.collect()")
    if polars is not None and isinstance(value, polars.DataFrame):
        return value.to_arrow()
    if arrow is not None and isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    if arrow is not None and isinstance(value, arrow.Table):
        return value
    if datasets is not None and isinstance(value, datasets.Dataset):
        return value.with_format("arrow")[:]
    return None
