"""Tables of text: .csv and .tsv, compressed or not, with a header or without, read by pyarrow."""

import csv
import os
import re
from pathlib import Path

from fastent.io.reading import reading, require_file
from fastent.io.tables import ArrowTable, table_reader
from fastent.runtime.memory import check_fits

__all__ = ["CSV", "read_csv"]

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

        first, second, delimiter = _beginning(path)
        decimal = "," if delimiter == ";" and any(re.fullmatch(r"-?\d+,\d+", cell) for cell in second) else "."
        parsing = {
            "parse_options": arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            "convert_options": arrow.ConvertOptions(decimal_point=decimal),
        }
        names = {"autogenerate_column_names": not _is_header(first, second)}
        try:
            table = arrow.read_csv(path, arrow.ReadOptions(**names), **parsing)
        except pa.ArrowInvalid:  # the kinds of columns are told from the first block, which may hold whole numbers only
            block = min(_LARGEST_BLOCK, size * (_UNPACKED**2 if packed else 1) + 1)
            table = arrow.read_csv(path, arrow.ReadOptions(block_size=block, **names), **parsing)
    return ArrowTable(table, repr(str(path)))


def _beginning(path: Path) -> tuple[list[str], list[str], str]:
    """The cells of the first two lines, and what stands between them."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        lines = stream.read(_BEGINNING).decode("utf-8-sig", "replace").splitlines()
    lines = [line for line in lines if line.strip()] or [""]
    usual = "\t" if ".tsv" in path.name.lower() else ","
    delimiter = max((usual, *",;\t"), key=lambda sign: min(line.count(sign) for line in lines[:2]))
    cells = list(csv.reader(lines[:20], delimiter=delimiter))
    return cells[0], cells[min(1, len(cells) - 1)], delimiter


def _is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line has names: no numbers, or words above numbers, or the numbers of columns as pandas writes them."""
    numbers = [float(cell) for cell in first if _is_number(cell)]
    if not numbers:
        return True
    words = [cell for cell in first if not _is_number(cell)]
    below = zip(first, second, strict=False)
    if any(_is_number(b) and not _is_number(a) and a.strip().lower() not in _NOTHING for a, b in below):
        return True
    counted = len(numbers) + len(words[:1]) > 2 and numbers[0] in (0, 1)
    return counted and numbers == [numbers[0] + i for i in range(len(numbers))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in _NOTHING


def _can_open(path: Path) -> bool:
    return _NAME.search(path.name) is not None and not os.path.isdir(path)


CSV = table_reader(".csv", _can_open, read_csv, whole=True)
