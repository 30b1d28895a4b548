"""Tables, wherever they lie: which columns are features, which one holds the labels, and rows (n, d) of them.

    Parquet   CSV   Arrow files   data sets of Hugging Face   data frames
        -> Table: .schema   .rows(which columns, label column) -> Source   .column(name) -> labels (n,)
            -> Columns: one column whose values are points (lists, tensors), or one column of numbers for each feature

Row numbers and labels are no features: a column that is called so is left out, and a remark says that it is.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.class_labels import named_classes
from fastent.io.pictures import is_picture, pictures_of, shared_shape
from fastent.io.reading import name_list
from fastent.io.sources import ArraySource, Reader, Source
from fastent.io.table_rows import Columns, dtype_of, is_number, one_of_lists, point_shape, stacked
from fastent.runtime.memory import check_fits

__all__ = ["SHOWN_NAMES", "ArrowTable", "Table", "TableRows", "table_reader"]

Array = NDArray[Any]

# So many columns are named where users are to choose; of more the first.
SHOWN_NAMES = 20
# Fewer rows than this may count by chance.
_FEWEST_COUNTED = 3
_LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}
_ROW_NUMBERS = re.compile(r"|id|idx|index|row|row_?id|row_?number|unnamed: ?\d+|__index_level_\d+__", re.IGNORECASE)


class Table(ABC):
    """Columns of equal length, by name; a subclass sets `name` (for messages), `schema` and `n`, and implements `read`."""

    name: str
    schema: Any
    n: int

    @abstractmethod
    def read(self, columns: Sequence[str]) -> Any:
        """These columns of all rows, as a pyarrow.Table."""

    def rows(self, asked: str | None = None, labels: str | None = None) -> Source:
        """The features: the column of lists, or columns of numbers, that is `asked` for; `labels` is a column of other use."""
        columns = self.chosen(asked, labels)
        needed = self.n * columns.width * columns.dtype.itemsize
        check_fits(needed, f"the features of {self.name}", "name fewer columns, or write it as Parquet, which is read in parts")
        return TableRows(stacked(self.read(columns.names), columns, self.name), columns)

    def column(self, name: str) -> Array:
        """Labels: a column of one value for each row. "a.b" is the column of that name, or else field b of the column a."""
        import pyarrow as pa

        names = self.schema.names
        top, *inner = [name] if name in names else name.split(".")
        if top not in names:
            raise self._without(name)
        self._refuse_twins(top)
        values = self.read([top]).column(0)
        for field in inner:
            if not pa.types.is_struct(values.type) or values.type.get_field_index(field) < 0:
                raise FastentError(f"{self.name} has no column {name!r}: {top!r} is of type {values.type}")
            chunks = [pa.compute.struct_field(chunk, field) for chunk in values.chunks]
            values = pa.chunked_array(chunks, values.type.field(field).type)
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
            raise FastentError(
                f"{name!r} of {self.name} has type {str(kind)[:80]}, a list or structure: one label for each row is needed, a "
                "number or text"
            )
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy())[0])
            raise FastentError(
                f"{name!r} of {self.name} is null in {values.null_count} of {len(values)} rows, first row {row}: drop those "
                "rows, or give them a label"
            )
        if pa.types.is_date(kind):
            kind = pa.string()  # days, as 2026-01-31
        if kind != values.type:
            values = values.cast(kind)
        return named_classes(values.to_numpy(), self.schema, name, self.name)

    def how_to_choose(self, names: Sequence[str]) -> str:
        """How users say which columns are the features."""
        return f"name those of the features, as {self.name.strip(chr(39))}:{_short_form(names)}"

    def chosen(self, asked: str | None, labels: str | None) -> Columns:
        """Which columns are the features."""
        if asked is None:
            others = [field for field in self.schema if field.name != labels]
            lists = [field for field in others if point_shape(field.type) is not None or is_picture(field.type)]
            lists = lists or [field for field in others if one_of_lists(field.type)]
            if len(lists) == 1:
                return self._points(lists[0])
            if lists:
                names = [field.name for field in lists]
                raise FastentError(
                    f"{self.name} holds {name_list(map(repr, names))}, and no name was given: "
                    f"name one, as {self.name.strip(chr(39))}:{names[0]}"
                )
            return self._features(labels)
        names = self._named(asked)
        if len(names) == 1 and not is_number(self._field(names[0]).type):
            return self._points(self._field(names[0]))
        return self._of_numbers(names, None)

    def _field(self, name: str) -> Any:
        return self.schema.field(self.schema.names.index(name))

    def _named(self, asked: str) -> list[str]:
        """The columns of this name, or of these names or patterns, separated by commas."""
        names = self.schema.names
        if asked in names:
            return [asked]
        found: list[str] = []
        for each in asked.split(","):
            fitting = [each] if each in names else [name for name in names if fnmatchcase(name, each)]
            if not fitting:
                self._refuse_field_of_struct(each)
                raise self._without(each)
            found += [name for name in fitting if name not in found]
        return found

    def _without(self, name: str) -> FastentError:
        there = name_list(map(repr, self.schema.names))
        return FastentError(f"{self.name} has the columns {there}, and {name!r} is not among them: name one of these")

    def _refuse_field_of_struct(self, name: str) -> None:
        import pyarrow as pa

        top = name.split(".")[0]
        if top in self.schema.names and pa.types.is_struct(self._field(top).type):
            raise FastentError(f"{top!r} is a struct: flatten it with table.flatten(), and write that in place of {self.name}")

    def _refuse_twins(self, name: str) -> None:
        twins = self.schema.names.count(name)
        if twins > 1:
            raise FastentError(f"{self.name} has {twins} columns named {name!r}: rename them")

    def _points(self, field: Any) -> Columns:
        """One column, whose values are points."""
        self._refuse_twins(field.name)
        if is_picture(field.type):
            pictures = pictures_of(self.pieces(field.name), field.name, self.name)
            return Columns((field.name,), shared_shape(pictures), np.dtype(np.uint8), nested=True, pictures=True)
        shape = point_shape(field.type)
        if shape is None and one_of_lists(field.type):
            shape = self._shape_of_first(field.name)
        if shape is None:
            raise FastentError(
                f"{field.name!r} of {self.name} has type {str(field.type)[:80]}: numbers, lists of numbers, or pictures are "
                "needed"
            )
        return Columns((field.name,), shape, dtype_of(field, self.name), nested=True)

    def _shape_of_first(self, name: str) -> tuple[int, ...]:
        """The shape of the first point of a column of lists without a fixed size: that of all points, as is checked later."""
        first = next((value.as_py() for value in self.first(name)), None)
        shape: list[int] = []
        while isinstance(first, list):
            shape.append(len(first))
            first = first[0] if first else None
        if not shape or 0 in shape:
            raise FastentError(f"{name!r} of {self.name} has no values in its first row: rows of numbers are needed")
        return tuple(shape)

    def pieces(self, name: str) -> Iterable[Any]:
        """The arrays of Arrow that make up a column, one after the other."""
        return self.read([name]).column(0).chunks  # type: ignore[no-any-return]

    def first(self, name: str) -> Any:
        """The first row of a column, at least."""
        return self.read([name]).column(0)[:1]

    def head(self, names: Sequence[str]) -> Any:
        """The first row of some columns, and one or two more."""
        return self.read(names)[:_FEWEST_COUNTED]

    @property
    def has_features(self) -> bool:
        """Whether some column may be one of points, or of numbers that are no labels and no row numbers."""
        aside = _aside(self.schema.names)
        return any(
            is_number(field.type) or point_shape(field.type) is not None or one_of_lists(field.type) or is_picture(field.type)
            for field in self.schema
            if field.name not in aside
        )

    def _features(self, labels: str | None) -> Columns:
        """All columns but those that are called like labels or row numbers, or hold row numbers."""
        names = [name for name in self.schema.names if name != labels]
        aside = _aside(names)
        features = [name for name in names if name not in aside]
        if len(features) > 1 and features[0] == names[0] and self.counts_rows(names[0]):
            aside.add(features.pop(0))
        if not features:
            raise FastentError(
                f"{self.name} has no columns of features ({name_list(map(repr, names), 'no columns')}): "
                + self.how_to_choose(names or ["COLUMN"])
            )
        found = self._of_numbers(features, labels)
        remarks = [
            f"{counter!r} of {self.name} counts the rows, and is one of the features: if it should not be, "
            + self.how_to_choose([name for name in features if name != counter])
            for counter in self._counters(features)
        ]
        if aside:
            left_out = name_list(repr(name) if name else "the column without a name" for name in names if name in aside)
            are, s = "is" if len(aside) == 1 else "are", "s" * (len(features) > 1)
            remarks.insert(
                0,
                f"{left_out} of {self.name} {are} taken for labels or row numbers, and left out: the features are the other "
                f"{len(features)} column{s}",
            )
        return found._replace(remarks=tuple(remarks))

    def _counters(self, features: Sequence[str]) -> list[str]:
        """Those of several features that hold row numbers; whether one is meant as a feature, such as time, users know."""
        import pyarrow as pa

        whole = [name for name in features if pa.types.is_integer(self._field(name).type)]
        if self.n < _FEWEST_COUNTED or len(features) < 2 or not whole:
            return []
        first = {name: values.to_pylist() for name, values in zip(whole, self.head(whole).columns, strict=True)}
        likely = [name for name, values in first.items() if values in ([*range(len(values))], [*range(1, len(values) + 1)])]
        return [name for name in likely if self.counts_rows(name)]

    def counts_rows(self, name: str) -> bool:
        """Whether a column holds the row numbers, from 0 or from 1."""
        import pyarrow as pa

        if self.n < _FEWEST_COUNTED or not pa.types.is_integer(self._field(name).type):
            return False
        self._refuse_twins(name)
        at, first = 0, -1
        for piece in filter(len, self.pieces(name)):
            numbers = piece.to_numpy(zero_copy_only=False)
            first = int(numbers[0]) if at == 0 and not piece.null_count else first
            if piece.null_count or first not in (0, 1) or (numbers != np.arange(at + first, at + first + len(numbers))).any():
                return False
            at += len(numbers)
        return True

    def _of_numbers(self, names: list[str], labels: str | None) -> Columns:
        """One column for each feature."""
        other = [field for name in names if not is_number((field := self._field(name)).type)]
        if other:
            kinds = name_list(f"{field.name!r} ({_kind(field.type)})" for field in other)
            numbers = [name for name in names if is_number(self._field(name).type)]
            label = "" if labels else f"if {other[0].name!r} is the label, pass labels={other[0].name!r}; otherwise "
            raise FastentError(
                f"{self.name} has columns that are no numbers, {kinds}: {label}leave them out, or "
                + self.how_to_choose(numbers or names)
            )
        for name in names:
            self._refuse_twins(name)
        dtype = np.result_type(*(dtype_of(self._field(name), self.name) for name in names))
        return Columns(tuple(names), (len(names),), dtype, nested=False)


def _aside(names: Sequence[str]) -> set[str]:
    """The names by which columns are taken for labels or row numbers."""
    aside = {name for name in names if name.lower() in _LABELS or _ROW_NUMBERS.fullmatch(name)}
    coordinates = {"x", "y"} <= {name.lower() for name in names}
    return aside - {"y", "Y"} if coordinates else aside


def _short_form(names: Sequence[str]) -> str:
    """Names as users write them in a place: a pattern where many begin alike."""
    begin = os.path.commonprefix(list(names))  # noqa: RUF071 (of names, not of paths)
    if len(names) > 3 and begin:
        return f"{begin}*"
    return ",".join(names) if len(names) <= SHOWN_NAMES else f"{','.join(names[:3])},... (all {len(names)} of them)"


def _kind(kind: Any) -> str:
    text = str(kind)
    return "categories" if text.startswith("dictionary") else "text" if "string" in text else text[:40]


class TableRows(ArraySource):
    """Rows (n, d) that were read from a table, in memory."""

    def __init__(self, array: Array, columns: Columns) -> None:
        super().__init__(array)
        columns.describe(self)


class ArrowTable(Table):
    """A table in memory, or mapped."""

    def __init__(self, table: Any, name: str, choose: Callable[[Sequence[str]], str] | None = None) -> None:
        self.table, self.name, self.schema, self.n = table, name, table.schema, table.num_rows
        self._choose = choose

    def read(self, columns: Sequence[str]) -> Any:
        return self.table.select([self.schema.names.index(name) for name in columns])

    def how_to_choose(self, names: Sequence[str]) -> str:
        return super().how_to_choose(names) if self._choose is None else self._choose(names)


def table_reader(
    name: str, can_open: Callable[[Path], bool], open_table: Callable[[Path], Table], *, whole: bool, shards: bool = True
) -> Reader:
    """The format of files that are tables; `whole` if opening one reads all of it."""

    def open_rows(path: Path, asked: str | None) -> Source:
        return open_table(path).rows(asked)

    def labels(path: Path, column: str | None) -> Array:
        table = open_table(path)
        if column is None:
            raise FastentError(f"{str(path)!r} is a table: name the column of labels, as {path.name}:{_label_of(table)}")
        return table.column(column)

    return Reader(name, can_open, open_rows, open_rows if shards else None, labels, open_table, whole)


def _label_of(table: Table) -> str:
    return next((name for name in table.schema.names if name.lower() in _LABELS), "label")
