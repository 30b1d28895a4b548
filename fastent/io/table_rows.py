"""Rows (n, d) of columns of Arrow: numbers side by side, or lists and tensors unfolded; gaps are named by row and column."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.pictures import pictures_of, pixels
from fastent.io.reading import name_list
from fastent.io.sources import Source

__all__ = ["Columns", "dtype_of", "is_number", "one_of_lists", "point_shape", "stacked"]

Array = NDArray[Any]


class Columns(NamedTuple):
    """The columns that are features: one for each (`nested` False), or one of lists or pictures, which are points."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nested: bool
    remarks: tuple[str, ...] = ()
    pictures: bool = False

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def describe(self, rows: Source) -> None:
        """Say in a source what its rows were made from."""
        rows.columns = None if self.nested else self.names
        rows.point_shape = self.shape if len(self.shape) > 1 else None
        rows.remarks = self.remarks


def is_number(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def point_shape(kind: Any) -> tuple[int, ...] | None:
    """The shape of points in lists of fixed size and in tensors; None for anything else."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        if kind.permutation is not None and list(kind.permutation) != sorted(kind.permutation):
            raise FastentError(f"tensors of type {str(kind)[:80]} have their axes permuted: write them in order")
        return tuple(kind.shape)
    if not pa.types.is_fixed_size_list(kind):
        return None
    inner = point_shape(kind.value_type) if pa.types.is_nested(kind.value_type) else ()
    return None if inner is None else (kind.list_size, *inner)


def one_of_lists(kind: Any) -> bool:
    """Whether values are lists, or lists of lists, of numbers."""
    value = _value_type(kind)
    return value is not None and (is_number(value) or one_of_lists(value))


def dtype_of(field: Any, place: str) -> np.dtype[Any]:
    """What numpy makes of the numbers in a column."""
    import pyarrow as pa

    kind = field.type
    while (value := _value_type(kind)) is not None:
        kind = value
    if not is_number(kind):
        raise FastentError(f"{field.name!r} of {place} holds values of type {str(kind)[:80]}: real numbers are needed")
    if pa.types.is_decimal(kind):
        return np.dtype(np.float64)
    return pa.array([], kind).to_numpy(zero_copy_only=False).dtype  # type: ignore[no-any-return]


def stacked(table: Any, columns: Columns, place: str, first_row: int = 0) -> Array:
    """The rows (n, d) of a table that holds these columns; `first_row` is the number of its first one, for messages."""
    if columns.pictures:
        return _decoded(table.column(0), columns, place, first_row)
    if columns.nested:
        return _unfolded(table.column(0), columns, place, first_row)
    found = np.empty((table.num_rows, columns.width), columns.dtype)
    gaps = []
    for at, column in enumerate(table.columns):
        values = _numbers(column)
        # A null is NaN where there is one, and NaN stands for a missing value in most tables.
        if column.null_count or (values.dtype.kind == "f" and np.isnan(values).any()):
            gaps.append(at)
        else:
            found[:, at] = values
    if gaps:
        raise _missing(table, columns, gaps, place, first_row)
    return found


def _numbers(column: Any) -> Array:
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.to_numpy()  # type: ignore[no-any-return]


def _missing(table: Any, columns: Columns, gaps: list[int], place: str, first_row: int) -> FastentError:
    import pyarrow.compute as pc

    masks = [pc.is_null(table.column(at), nan_is_null=True).to_numpy() for at in gaps]
    rows = np.logical_or.reduce(masks)
    row = int(rows.argmax())
    where = next(at for at, mask in zip(gaps, masks, strict=True) if mask[row])
    many = int(rows.sum())
    in_all = f", and in {many} rows in all" if many > 1 else ""
    others = f"; columns with gaps: {name_list(repr(columns.names[at]) for at in gaps)}" if len(gaps) > 1 else ""
    return FastentError(
        f"{place} has no value in row {first_row + row}, column {columns.names[where]!r}{in_all}: drop those rows, or "
        f"fill them in{others}"
    )


def _value_type(kind: Any) -> Any:
    """What lists hold; None for anything else."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    types = pa.types
    lists = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return kind.value_type if lists else None


def _decoded(column: Any, columns: Columns, place: str, first_row: int) -> Array:
    found = np.empty((len(column), *columns.shape), columns.dtype)
    for row, picture in enumerate(pictures_of(column.chunks, columns.names[0], place, first_row)):
        found[row] = pixels(picture, columns.shape)
    return found.reshape(len(column), columns.width)


def _unfolded(column: Any, columns: Columns, place: str, first_row: int) -> Array:
    pieces, row = [], first_row
    for chunk in column.chunks:
        pieces.append(_values(chunk, columns, place, row))
        row += len(chunk)
    values = np.concatenate(pieces) if pieces else np.empty(0, columns.dtype)
    if len(values) != len(column) * columns.width:
        raise ValueError(f"{len(values)} values for {len(column)} rows of {columns.width}")
    return values.reshape(len(column), columns.width).astype(columns.dtype, copy=False)


def _values(chunk: Any, columns: Columns, place: str, first_row: int) -> Array:
    """All numbers of a chunk of lists, which must all be there and of one length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    per_row, sizes = 1, iter(columns.shape)
    while True:
        if isinstance(chunk, pa.ExtensionArray):
            chunk = chunk.storage
        if chunk.null_count:
            row = int(np.flatnonzero(chunk.is_null().to_numpy(zero_copy_only=False))[0]) // per_row
            raise FastentError(
                f"{place} has a null in row {first_row + row}, column {columns.names[0]!r}: drop such rows, or repair them"
            )
        if _value_type(chunk.type) is None:
            return chunk.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        size = next(sizes, 0)
        if pa.types.is_fixed_size_list(chunk.type):
            size = chunk.type.list_size  # of a tensor, all its values
        else:
            lengths = pc.list_value_length(chunk).to_numpy()
            odd = np.flatnonzero(lengths != size)
            if len(odd):
                raise FastentError(
                    f"{place} has {lengths[odd[0]]} values in row {first_row + odd[0] // per_row}, column "
                    f"{columns.names[0]!r}, and {size} in the first row: rows of one length are needed; pad or pool them first"
                )
        chunk, per_row = chunk.flatten(), per_row * size
