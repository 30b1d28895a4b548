"""Rows and labels of Parquet files, read one row group at a time."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.io.reading import reading, require_file
from fastent.io.sources import Source
from fastent.io.table_rows import Columns, stacked
from fastent.io.tables import Table, table_reader

__all__ = ["PARQUET", "ParquetSource", "ParquetTable"]

Array = NDArray[Any]
_REMEDY, _KIND = "write it again", "no Parquet file"


class ParquetTable(Table):
    """The columns of one Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, repr(str(path))
        require_file(path)
        with reading(path, _REMEDY, _KIND):
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as stored:
                self.schema, metadata = stored.schema_arrow, stored.metadata
                self.counts = [metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
            self.n = metadata.num_rows
            if min(self.counts, default=0) < 0 or sum(self.counts) != self.n:
                raise ValueError(f"its row groups have {sum(self.counts)} rows, the file {self.n}")

    def rows(self, asked: str | None = None, labels: str | None = None) -> "ParquetSource":
        return ParquetSource(self.path, self.chosen(asked, labels), self.counts)

    def read(self, columns: Sequence[str]) -> Any:
        import pyarrow.parquet as pq

        with reading(self.path, _REMEDY, _KIND), pq.ParquetFile(self.path) as stored:
            return _in_order(stored.read(columns=list(columns)), columns)

    def pieces(self, name: str) -> Iterator[Any]:
        return self._batches(name)

    def first(self, name: str) -> Any:
        return next(self._batches(name, 1), [])

    def head(self, names: Sequence[str]) -> Any:
        import pyarrow.parquet as pq

        with reading(self.path, _REMEDY, _KIND), pq.ParquetFile(self.path) as stored:
            return _in_order(next(stored.iter_batches(batch_size=3, columns=list(names))), names)

    def _batches(self, name: str, rows: int = 1 << 16) -> Iterator[Any]:
        """The values of a column, so many at a time; what is not asked for is not read."""
        import pyarrow.parquet as pq

        with reading(self.path, _REMEDY, _KIND), pq.ParquetFile(self.path) as stored:
            for batch in stored.iter_batches(batch_size=rows, columns=[name]):
                yield batch.column(batch.schema.get_field_index(name))


class ParquetSource(Source):
    """One column of lists or tensors, or columns of numbers, of one Parquet file; the row group read last is kept."""

    def __init__(self, path: Path, columns: Columns, counts: Sequence[int]) -> None:
        self._path, self._columns, self._counts = path, columns, list(counts)
        self._starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self.shape, self.dtype = (self._starts[-1], columns.width), columns.dtype
        columns.describe(self)
        self._last: tuple[int, Array] | None = None

    def __reduce__(self) -> Any:
        return ParquetSource, (self._path.absolute(), self._columns, self._counts)

    def _group(self, at: int) -> Array:
        last = self._last
        if last is None or last[0] != at:
            require_file(self._path)
            with reading(self._path, _REMEDY, _KIND):
                last = self._last = at, self._read_group(at)
        return last[1]

    def _read_group(self, at: int) -> Array:
        import pyarrow.parquet as pq

        names = self._columns.names
        # A reader of its own, because readers are not safe for several threads.
        with pq.ParquetFile(self._path) as stored:
            table = _in_order(stored.read_row_group(at, columns=list(names)), names)
        if table.num_rows != self._counts[at]:
            raise ValueError(f"row group {at} has {table.num_rows} rows, not {self._counts[at]}")
        return stacked(table, self._columns, repr(str(self._path)), self._starts[at])

    def read(self, start: int, stop: int) -> Array:
        done, at = start, bisect_right(self._starts, start) - 1
        if start < stop:
            self._group(at)  # before there is room for rows of a width that the values may contradict
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        while done < stop:
            begin, end = self._starts[at], min(self._starts[at + 1], stop)
            if end > done:
                rows[done - start : end - start] = self._group(at)[done - begin : end - begin]
                done = end
            at += 1
        return rows

    def take(self, rows: NDArray[np.int64]) -> Array:
        group = np.searchsorted(self._starts, rows, side="right") - 1
        if len(rows):
            self._group(int(group.min()))
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for at in np.unique(group):
            here = group == at
            found[here] = self._group(at)[rows[here] - self._starts[at]]
        return found


def _in_order(table: Any, names: Sequence[str]) -> Any:
    """Columns in the order in which they were asked for; Parquet gives them in its own."""
    return table.select([table.schema.get_field_index(name) for name in names])


PARQUET = table_reader(
    ".parquet", lambda path: path.suffix.lower() == ".parquet" and not os.path.isdir(path), ParquetTable, whole=False
)
