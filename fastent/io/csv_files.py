"""Tables of text: .csv and .tsv, compressed or not, with a header or without, read by pyarrow."""

import codecs
import csv
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import name_list, reading, require_file
from fastent.io.table_rows import Columns
from fastent.io.tables import ArrowTable, table_reader
from fastent.printable import shortened
from fastent.runtime.memory import check_fits

__all__ = ["CSV", "NoRowsError", "is_number", "read_csv"]

Array = NDArray[Any]

_NAME = re.compile(r"\.(csv|tsv)(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
_REMEDY, _KIND = "write it again", "no table of text"
# How much of a file is read to find its delimiter and header.
_BEGINNING = 1 << 16
# Bytes of memory for each byte of text: the table, and the rows made of it; compressed files hold more.
_GROWTH, _UNPACKED = 3, 5
_LARGEST_BLOCK = 1 << 30
# What pyarrow says of rows of another length, and how much of a row is shown in a message.
_UNEVEN, _LONGEST_ROW = re.compile(r"Expected (\d+) columns, got (\d+): (.*)", re.DOTALL), 80
# How numbers of classes are written, and up to where all whole numbers differ in double precision.
_WHOLE, _LARGEST_EXACT = re.compile(r"[+-]?(0|[1-9][0-9]*)([.,]0*)?"), 2.0**53
_NOTHING = {"", "na", "n/a", "nan", "null", "none", "#n/a"}


class NoRowsError(FastentError):
    """A header with nothing below it."""

    def __init__(self, message: str, columns: list[str]) -> None:
        super().__init__(message)
        self.columns = columns


def read_csv(path: Path) -> ArrowTable:
    """All of a file. Columns are named by the header; without one they are f0, f1, ..."""
    size = require_file(path)
    packed = path.suffix.lower() not in (".csv", ".tsv")
    check_fits(
        size * _GROWTH * (_UNPACKED if packed else 1), f"{str(path)!r}, which is read whole,", "write it as Parquet, which is "
        "read in parts, or use a machine with more memory",
    )  # fmt: skip
    with reading(path, _REMEDY, _KIND):
        import pyarrow as pa

        lines, delimiter, encoding = _beginning(path)
        decimal = _decimal(lines) if delimiter == ";" else "."
        named = _is_header(lines[0], lines[min(1, len(lines) - 1)], decimal)
        read = partial(_read, path, delimiter=delimiter, encoding=encoding, decimal=decimal, named=named)
        try:
            table = read()
        except pa.ArrowInvalid:  # the kinds of columns are told from the first block, which may hold whole numbers only
            table = read(block=min(_LARGEST_BLOCK, size * (_UNPACKED**2 if packed else 1) + 1))
        try:
            names = table.schema.names  # which is where a header in another encoding is noticed
        except UnicodeDecodeError as error:
            raise _not_utf8(path, "a header") from error
    if table.num_rows == 0:
        raise NoRowsError(f"{str(path)!r} has a header ({name_list(map(repr, names))}) and no rows: write rows below it", names)
    remark = ""
    if named and _may_be_a_row(lines[0], lines[min(1, len(lines) - 1)], decimal):
        remark = (
            f"the first row of {str(path)!r} ({name_list(names)}) counts, and is taken for the names of the columns: if it is "
            "a row of the table, write a header above it"
        )
    return TextTable(table, path, lambda name: read(text=name), remark)


class TextTable(ArrowTable):
    """A table whose numbers were made of text, which labels keep."""

    def __init__(self, table: Any, path: Path, text: Callable[[str], Any], remark: str = "") -> None:
        super().__init__(table, repr(str(path)))
        self._path, self._text, self._remark = path, text, remark

    def _features(self, labels: str | None) -> Columns:
        found = super()._features(labels)
        return found._replace(remarks=(self._remark, *found.remarks)) if self._remark else found

    def column(self, name: str) -> Array:
        """Labels: numbers and truth values only if that loses nothing of the text: 007, 1e5 and dates stay as they are."""
        found, kind = super().column(name), str(self._field(name).type)
        if "binary" in kind:
            raise _not_utf8(self._path, f"text in column {name!r}")
        if "string" in kind:
            return found
        with reading(self._path, _REMEDY, _KIND):
            texts = self._text(name).column(0)
        return found if _nothing_is_lost(found, texts.unique().to_pylist()) else texts.to_numpy()  # type: ignore[no-any-return]


def _nothing_is_lost(values: Array, texts: list[str]) -> bool:
    """Whether these values are what the distinct texts say: each another one, and numbers in their usual form."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.floor(values)).any():
            return True  # measured, and no classes: such labels are refused
        if np.abs(values).max() >= _LARGEST_EXACT:
            return False
    seen = {text.strip() for text in texts}
    if values.dtype.kind != "b" and not all(_WHOLE.fullmatch(text) for text in seen):
        return False
    return values.dtype.kind in "iufb" and len(np.unique(values)) == len(seen)


def _not_utf8(path: Path, what: str) -> FastentError:
    return FastentError(f"{str(path)!r} has {what} that is not in UTF-8: convert the file, as with iconv -f latin1 -t utf-8")


def _read(
    path: Path, *, delimiter: str, encoding: str, decimal: str, named: bool, block: int | None = None, text: str | None = None
) -> Any:
    """The columns as pyarrow takes them, or one of them as `text`."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    try:
        return arrow.read_csv(
            path,
            arrow.ReadOptions(autogenerate_column_names=not named, block_size=block, encoding=encoding),
            arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow.ConvertOptions(
                decimal_point=decimal,
                include_columns=None if text is None else [text],
                column_types=None if text is None else {text: pa.string()},
            ),
        )
    except pa.ArrowInvalid as error:
        uneven = _UNEVEN.search(str(error))
        if uneven is None:
            raise
        expected, found, row = uneven.groups()
        raise FastentError(
            f"{str(path)!r} has {found} cells in the row {shortened(row, _LONGEST_ROW)!r}, and {expected} in its first row: "
            f"put cells that hold {delimiter!r} in quotes, or repair that row"
        ) from error


def _beginning(path: Path) -> tuple[list[list[str]], str, str]:
    """The cells of the first lines, what stands between them, and how text is encoded."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(_BEGINNING)
    encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    lines = start.decode("utf-8-sig" if encoding == "utf-8" else encoding, "replace").splitlines()
    lines = [line for line in lines if line.strip()] or [""]
    usual = "\t" if ".tsv" in path.name.lower() else ","
    delimiter = max((usual, *",;\t"), key=lambda sign: min(line.count(sign) for line in lines[:2]))
    return list(csv.reader(lines, delimiter=delimiter)), delimiter, encoding


def _decimal(lines: list[list[str]]) -> str:
    """What stands before decimals: a comma, if some number in these lines has one and none has a point."""
    points, commas = (
        any(sign in cell and is_number(cell, sign) for line in lines[1:] or lines for cell in line) for sign in (".", ",")
    )
    return "," if commas and not points else "."


def _is_header(first: list[str], second: list[str], decimal: str) -> bool:
    """Whether the first line has names: no numbers, or words above numbers, or the numbers of columns as pandas writes them."""

    def known(cell: str) -> bool:
        return cell.strip().lower() not in _NOTHING and is_number(cell, decimal)

    numbers = [float(cell.replace(decimal, ".")) for cell in first if known(cell)]
    if not numbers:
        return True
    words = [cell for cell in first if not known(cell)]
    below = zip(first, second, strict=False)
    if any(known(b) and not known(a) and a.strip().lower() not in _NOTHING for a, b in below):
        return True
    counted = len(numbers) + len(words[:1]) > 2 and numbers[0] in (0, 1)
    return counted and numbers == [numbers[0] + i for i in range(len(numbers))]


def _may_be_a_row(header: list[str], second: list[str], decimal: str) -> bool:
    """Whether a header is of numbers only, and some number below is as whole as they are."""
    return all(is_number(cell, decimal) for cell in header) and any(_WHOLE.fullmatch(cell.strip()) for cell in second)


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell of a table is a number, "nan" and "inf" among them; 0_1 and digits of other scripts are none here."""
    if "_" in cell or not cell.isascii() or (decimal != "." and "." in cell):
        return False
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return False
    return True


def _can_open(path: Path) -> bool:
    return _NAME.search(path.name) is not None and not os.path.isdir(path)


CSV = table_reader(".csv", _can_open, read_csv, whole=True)
