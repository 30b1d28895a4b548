"""Tables of Arrow: .feather and .arrow files, and the folders that Hugging Face `datasets` saves, read without that package."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.io.reading import name_list, read_json, reading, require_file
from fastent.io.tables import ArrowTable, table_reader

__all__ = ["ARROW", "HUGGING_FACE", "read_arrow", "read_dataset_folder"]

_REMEDY, _KIND = "write it again", "no file of Arrow"
_SUFFIXES = (".feather", ".arrow")
# What marks the folder of a data set, with what lies beside it or stands in it; and that of a training and a test set.
_STATE, _INFO, _FILES, _SEVERAL = "state.json", "dataset_info.json", "_data_files", "dataset_dict.json"


def read_arrow(path: Path) -> ArrowTable:
    """The table of one file, mapped where it is not compressed."""
    return ArrowTable(_mapped(path), repr(str(path)))


def _mapped(path: Path) -> Any:
    require_file(path)
    with reading(path, _REMEDY, _KIND):
        import pyarrow as pa

        with open(path, "rb") as stream:
            head = stream.read(6)
        if head[:4] == b"FEA1":
            from pyarrow import feather

            return feather.read_table(path)
        source = pa.memory_map(str(path))
        opened = pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)
        return opened.read_all()


def read_dataset_folder(folder: Path) -> ArrowTable:
    """The table of a data set that `Dataset.save_to_disk` wrote."""
    if not (folder / _STATE).is_file():
        parts = sorted(path.parent.name for path in folder.glob(f"*/{_STATE}"))
        raise FastentError(
            f"{str(folder)!r} holds the data sets {name_list(map(repr, parts))}: "
            + (f"name one, as {folder / parts[0]}" if parts else "save them again")
        )
    state = read_json(folder / _STATE, "save the data set again", "no state of a data set")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise FastentError(f"{str(folder)!r} is a selection of rows: save it again after dataset.flatten_indices()")
    with reading(folder, "save the data set again", "no data set"):
        import pyarrow as pa

        tables = [_mapped(folder / Path(name).name) for name in _files(state)]
        table = pa.concat_tables(tables)
    return ArrowTable(table, repr(str(folder)))


def _files(state: dict[str, Any]) -> Iterator[str]:
    for each in state[_FILES]:
        yield each["filename"]


def _is_arrow(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not os.path.isdir(path)


def _is_folder(path: Path) -> bool:
    """Many programs write a state.json: that of `datasets` has an info beside it, or names its files."""
    if os.path.isfile(path / _SEVERAL) or not os.path.isfile(path / _STATE):
        return os.path.isfile(path / _SEVERAL)
    try:
        return os.path.isfile(path / _INFO) or f'"{_FILES}"' in (path / _STATE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


ARROW = table_reader(".arrow", _is_arrow, read_arrow, whole=False)
HUGGING_FACE = table_reader("a data set of Hugging Face", _is_folder, read_dataset_folder, whole=False, shards=False)
