"""Rows and labels of Parquet files; columns that hold rows in another form are refused with the line that converts them."""

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.conversions import NOT_FEATURES
from fastent.io.reading import chosen_name, name_list, reading, require_file
from fastent.io.sources import Reader, Source

__all__ = ["PARQUET", "ParquetSource", "read_column"]

Array = NDArray[Any]
_REMEDY, _KIND = "write it again", "no Parquet file"


class ParquetSource(Source):
    """A column of fixed-size lists or of tensors of one axis, of one Parquet file; the row group read last is kept."""

    def __init__(self, path: Path, column: str | None) -> None:
        self._path = path
        require_file(path)
        with reading(path, _REMEDY, _KIND):
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as stored:
                schema, metadata = stored.schema_arrow, stored.metadata
                counts = [metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
                names = schema.names
            widths = {i: width for i in range(len(names)) if (width := _width(schema.field(i).type)) is not None}
            at = _chosen(path, schema, widths, column)
            field = schema.field(at)
            if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
                raise ValueError(f"its row groups have {sum(counts)} rows, the file {metadata.num_rows}")
            self._column, self.dtype = field.name, _numpy_dtype(path, field)
        self._starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self.shape = self._starts[-1], widths[at]
        self._last: tuple[int, Array] | None = None

    def __reduce__(self) -> Any:
        return ParquetSource, (self._path.absolute(), self._column)

    def _group(self, at: int) -> Array:
        last = self._last
        if last is None or last[0] != at:
            count = self._starts[at + 1] - self._starts[at]
            require_file(self._path)
            with reading(self._path, _REMEDY, _KIND):
                last = self._last = at, self._read_group(at, count)
        return last[1]

    def _read_group(self, at: int, count: int) -> Array:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A reader of its own, because readers are not safe for several threads.
        with pq.ParquetFile(self._path) as stored:
            table = stored.read_row_group(at, columns=[self._column])
        column = table.column(table.schema.get_field_index(self._column))
        chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
        nulls = sum(chunk.null_count + chunk.flatten().null_count for chunk in chunks)
        if nulls:
            raise FastentError(f"{str(self._path)!r} has {nulls} rows or values that are null: drop them or repair them")
        values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
        rows = np.concatenate(values) if values else np.empty(0, self.dtype)
        if len(rows) != count * self.shape[1]:
            raise ValueError(f"row group {at} has {len(rows)} values for {count} rows of {self.shape[1]}")
        return rows.reshape(count, self.shape[1]).astype(self.dtype, copy=False)

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


def read_column(path: Path, column: str | None) -> Array:
    """Labels: a column of one value for each row. "a.b" is the column of that name, or else field b of the column a."""
    require_file(path)
    if column is None:
        raise FastentError(f"{str(path)!r} is a table: name the column of labels, as {path.name}:label")
    with reading(path, _REMEDY, _KIND):
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as stored:
            names = stored.schema_arrow.names
            top, *inner = [column] if column in names else column.split(".")
            if top not in names:
                raise FastentError(f"{str(path)!r} has the columns {name_list(names)}, and {column!r} is not among them")
            values = stored.read(columns=[top])
            values = values.column(values.schema.get_field_index(top))
        for name in inner:
            if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
                raise FastentError(f"{str(path)!r} has no column {column!r}: {top!r} is of type {values.type}")
            values = pa.chunked_array(
                [pa.compute.struct_field(chunk, name) for chunk in values.chunks], values.type.field(name).type
            )
        if pa.types.is_nested(values.type) or isinstance(values.type, pa.BaseExtensionType):
            raise FastentError(
                f"{column!r} of {str(path)!r} has type {values.type}, a list or structure: one label for each row is needed"
            )
        if values.null_count:
            raise FastentError(
                f"{column!r} of {str(path)!r} is null in {values.null_count} of {len(values)} rows: drop those rows, or give "
                "them a label"
            )
        return values.to_numpy()  # type: ignore[no-any-return]


def _width(kind: Any) -> int | None:
    """The width of rows in fixed-size lists or tensors of one axis; None for anything else."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.shape[0] if len(kind.shape) == 1 else None
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else None


def _numpy_dtype(path: Path, field: Any) -> np.dtype[Any]:
    import pyarrow as pa

    kind = field.type.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return pa.array([], kind).to_numpy(zero_copy_only=False).dtype  # type: ignore[no-any-return]
    raise FastentError(f"{field.name!r} of {str(path)!r} holds values of type {str(kind)[:80]}: real numbers are needed")


def _chosen(path: Path, schema: Any, widths: dict[int, int], column: str | None) -> int:
    """Which column is meant; an error that says how to make one where none can be."""
    names = schema.names
    fitting = [names[at] for at in widths]
    if column is None and len(widths) == 1:
        return next(iter(widths))
    if column is None and not fitting:
        raise FastentError(_no_rows(path, schema))
    if column is not None and names.count(column) > 1:
        raise FastentError(f"{str(path)!r} has {names.count(column)} columns named {column!r}: rename them")
    if column in names and column not in fitting:
        raise FastentError(_conversion(path, schema.field(names.index(column)), schema))
    if column is not None and "." in column and column not in fitting:
        _refuse_field_of_struct(path, schema, column.split(".")[0])
    return int(names.index(chosen_name(path, fitting, column, "column of fixed-size lists")))


def _refuse_field_of_struct(path: Path, schema: Any, top: str) -> None:
    import pyarrow as pa

    if top in schema.names and pa.types.is_struct(schema.field(schema.get_field_index(top)).type):
        raise FastentError(f"{top!r} is a struct: flatten it with table.flatten(), and write that in place of {str(path)!r}")


def _conversion(path: Path, field: Any, schema: Any) -> str:
    import pyarrow as pa

    said, kind = f"{field.name!r} of {str(path)!r} has type {str(field.type)[:80]}", field.type
    table = f"t = pyarrow.parquet.read_table({str(path)!r})"
    if isinstance(kind, pa.FixedShapeTensorType):
        values = f"t[{field.name!r}].combine_chunks().to_numpy_ndarray()"
        rows = f"X = {values}; numpy.save('rows.npy', X.reshape(len(X), -1))"
        return f"{said}: points of one axis are needed; convert them with {table}; {rows}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        width, uneven = _common_width(path, field.name)
        if uneven:
            return f"{said}, lists of {uneven}: rows of one length without nulls are needed; pad or pool them first"
        value = "pyarrow.float32()" if not pa.types.is_float64(kind.value_type) else "pyarrow.float64()"
        cast = f"t[{field.name!r}].cast(pyarrow.list_({value}, {width}))"
        return (
            f"{said}, and each list could have another length; all have {width}: {table}; "
            f"pyarrow.parquet.write_table(pyarrow.table({{{field.name!r}: {cast}}}), 'rows.parquet')"
        )
    if pa.types.is_struct(kind):
        return f"{said}: flatten it with table.flatten(), and name one of the columns that this gives"
    if _is_number(kind):
        return _no_rows(path, schema, field.name)
    return f"{said}: a column of fixed-size lists of numbers is needed"


def _common_width(path: Path, name: str) -> tuple[int, str]:
    """The length of all lists in a column; or else, in words, which lengths there are."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with reading(path, _REMEDY, _KIND), pq.ParquetFile(path) as stored:
        least, most, nulls = [], [], 0
        for batch in stored.iter_batches(columns=[name], batch_size=4096):
            lists = batch.column(batch.schema.get_field_index(name))
            nulls += lists.null_count + pc.list_flatten(lists).null_count
            found = pc.min_max(pc.list_value_length(lists)).as_py()
            if found["min"] is not None:
                least.append(found["min"])
                most.append(found["max"])
    if not least or nulls:
        return 0, f"which {nulls} rows or values are null" if nulls else "no row"
    low, high = min(least), max(most)
    return low, "" if low == high and low > 0 else f"{low} to {high} values"


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _no_rows(path: Path, schema: Any, named: str | None = None) -> str:
    """For a table without a column of rows: how to stack its columns of numbers, or convert its one column of lists."""
    import pyarrow as pa

    lists = [field for field in schema if pa.types.is_nested(field.type) or isinstance(field.type, pa.FixedShapeTensorType)]
    start = f"{str(path)!r} has no column of fixed-size lists"
    if len(lists) == 1 and named is None:
        return f"{start}; {_conversion(path, lists[0], schema)}"
    if lists and named is None:
        others = name_list([field.name for field in lists])
        return f"{start} (of other nested types: {others}): name one, as {path}:{lists[0].name}"
    labels = [field.name for field in schema if not _is_number(field.type) or field.name.lower() in NOT_FEATURES]
    features = [name for name in schema.names if name not in labels]
    if not features:
        return f"{start}, and none of numbers: name a file of activations"
    line = (
        f"t = pyarrow.parquet.read_table({str(path)!r}).drop_columns({labels!r})"
        if len(labels) <= 12
        else f"t = pyarrow.parquet.read_table({str(path)!r}).select([... the columns of features ...])"
    )
    remaining = f"; labels can be read from it as they are, as {path}:{labels[0]}" if labels else ""
    return (
        f"{start}, but one column for each feature ({name_list(features)}): stack them with "
        f"{line}; numpy.save('rows.npy', numpy.stack([c.to_numpy() for c in t.columns], 1)){remaining}"
    )


PARQUET = Reader.of_suffix(".parquet", ParquetSource, labels=read_column)
