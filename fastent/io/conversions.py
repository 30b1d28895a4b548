"""Files of activations that fastent does not read, and for each kind the line of Python that converts it."""

from collections.abc import Callable
from pathlib import Path

from fastent.io.reading import reading, require_file

__all__ = ["NOT_FEATURES", "how_to_convert"]

# What columns of numbers are called that are labels or row numbers, not features.
NOT_FEATURES = frozenset({"label", "labels", "y", "target", "targets", "class", "classes", "id", "index", "__index_level_0__"})

_TEXT = {".csv": ",", ".tsv": "\t", ".txt": None, ".dat": None}
# How much of a text file is read to find its columns.
_BEGINNING = 1 << 16


def how_to_convert(path: Path) -> str | None:
    """The line of Python that makes an .npy of a file; None for an unknown kind."""
    known: dict[str, Callable[[Path], str | None]] = {
        **dict.fromkeys(_TEXT, _of_text),
        **dict.fromkeys((".pt", ".pth"), _of_torch),
        **dict.fromkeys((".feather", ".arrow"), _of_arrow),
    }
    if path.suffix.lower() not in known:
        return None
    require_file(path)
    with reading(path, "write it again"):
        return known[path.suffix.lower()](path)


def _of_text(path: Path) -> str | None:
    """Reads delimiter, header and columns of numbers off the first two lines; None without such columns."""
    with open(path, "rb") as stream:
        lines = [line for line in stream.read(_BEGINNING).decode("utf-8-sig", "replace").splitlines() if line.strip()][:2]
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    delimiter = next((sign for sign in (_TEXT[path.suffix.lower()], ",", ";", "\t") if sign is not None and sign in last), None)
    header = not any(map(_is_number, first.split(delimiter))) and len(lines) > 1
    cells = last.split(delimiter)
    numbers = [i for i, cell in enumerate(cells) if _is_number(cell)]
    names = [name.strip().strip('"').lower() for name in first.split(delimiter)] if header else []
    labels = [i for i, name in enumerate(names) if name in NOT_FEATURES]
    columns = [i for i in numbers if i not in labels]
    if not columns:
        return None
    options = [f"delimiter={delimiter!r}"] if delimiter else []
    options += ["skiprows=1"] if header else []
    if len(columns) < len(cells):
        whole = columns == list(range(columns[0], columns[-1] + 1))
        options.append(f"usecols=range({columns[0]}, {columns[-1] + 1})" if whole else f"usecols={columns}")
    read = ", ".join([repr(str(path)), *options, "dtype='float32'", "ndmin=2", "encoding='utf-8-sig'"])
    return f"numpy.save({_npy(path)!r}, numpy.loadtxt({read}))"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_torch(path: Path) -> str:
    return f"numpy.save({_npy(path)!r}, torch.load({str(path)!r}, weights_only=True).float().numpy())"


def _of_arrow(path: Path) -> str:
    return f"pyarrow.parquet.write_table(pyarrow.feather.read_table({str(path)!r}), {str(path.with_suffix('.parquet'))!r})"


def _npy(path: Path) -> str:
    return str(path.with_suffix(".npy"))
