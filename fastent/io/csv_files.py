"""Tables of text: .csv and .tsv, compressed or not, with a header or without, read by pyarrow."""

import csv
import os
import re
from pathlib import Path

from fastent.errors import FastentError
from fastent.io.reading import reading, require_file
from fastent.io.tables import ArrowTable, table_reader
from fastent.runtime.memory import check_fits

__all__ = ["CSV", "is_number", "read_csv"]

_NAME = re.compile(r"\.(csv|tsv)(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
_REMEDY, _KIND = "write it again", "no table of text"
# How much of a file is read to find its delimiter and header.
_BEGINNING = 1 << 16
# Bytes of memory for each byte of text: the table, and the rows made of it; compressed files hold more.
_GROWTH, _UNPACKED = 3, 5
_LARGEST_BLOCK = 1 << 30
_NOTHING = {"", "na", "n/a", "nan", "null", "none", "#n/a"}


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
        from pyarrow import csv as arrow

        lines, delimiter = _beginning(path)
        decimal = _decimal(lines) if delimiter == ";" else "."
        parsing = {
            "parse_options": arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            "convert_options": arrow.ConvertOptions(decimal_point=decimal),
        }
        names = {"autogenerate_column_names": not _is_header(lines[0], lines[min(1, len(lines) - 1)], decimal)}
        try:
            table = arrow.read_csv(path, arrow.ReadOptions(**names), **parsing)
        except pa.ArrowInvalid:  # the kinds of columns are told from the first block, which may hold whole numbers only
            block = min(_LARGEST_BLOCK, size * (_UNPACKED**2 if packed else 1) + 1)
            table = arrow.read_csv(path, arrow.ReadOptions(block_size=block, **names), **parsing)
        try:
            table.schema.names  # noqa: B018 - which is where a header in another encoding is noticed
        except UnicodeDecodeError as error:
            raise FastentError(
                f"{str(path)!r} has a header that is not in UTF-8: convert the file, as with iconv -f latin1 -t utf-8"
            ) from error
    return ArrowTable(table, repr(str(path)))


def _beginning(path: Path) -> tuple[list[list[str]], str]:
    """The cells of the first lines, and what stands between them."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        lines = stream.read(_BEGINNING).decode("utf-8-sig", "replace").splitlines()
    lines = [line for line in lines if line.strip()] or [""]
    usual = "\t" if ".tsv" in path.name.lower() else ","
    delimiter = max((usual, *",;\t"), key=lambda sign: min(line.count(sign) for line in lines[:2]))
    return list(csv.reader(lines, delimiter=delimiter)), delimiter


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
